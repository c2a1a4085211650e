"""The way in: every job is checked, and all faults are reported, before anything is sent."""

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from contextlib import aclosing
from difflib import get_close_matches
from functools import partial

import anyio
import anyio.to_thread

from .. import CyberunClient, CyberunError, InvalidInputError, NotFoundError, Workflow
from .._iteration import each
from ._errors import InvalidJobsError
from ._jobs import JobFault, PreparedJob, prepared
from ._ledger import queries
from ._ledger.ledger import Ledger
from ._ledger.queries import Known
from ._outcomes import JobState
from ._patience import patiently
from ._policy import BatchPolicy


# A job in the form the ledger keeps, or what is wrong with it by itself.
Read = PreparedJob | list[JobFault]

_CHUNK = 500
_IN_ONE_GO = 100
_KEPT_FAULTS = 1000
_OTHER_JOB = (
    "the ledger has this key for a job with another workflow, other parameters or other "
    "files; give the new job a new key"
)


class Admission:
    """Takes the jobs of one run in, all of them or none."""

    def __init__(self, client: CyberunClient, ledger: Ledger, policy: BatchPolicy) -> None:
        self._client = client
        self._ledger = ledger
        self._patience = policy.patience
        self._definitions: dict[str, Workflow | str] = {}
        self._slugs: list[str] | None = None
        self._faults: list[JobFault] = []
        self._count = 0

    async def admit(self, jobs: Iterable[object] | AsyncIterable[object]) -> int:
        """
        Read and check *jobs*, put them into the ledger, and return the number of the run.

        The jobs are held on disk meanwhile, so they may be many.

        Raises:
            InvalidJobsError: Some cannot be run. The ledger is as it was.
        """
        await self._ledger.write(queries.begin_staging)
        chunk: list[Read] = []
        index = 0
        async with aclosing(each(jobs, in_one_go=_IN_ONE_GO)) as found:
            async for job in found:
                chunk.append(prepared(job, index))
                index += 1
                if len(chunk) == _CHUNK:
                    await self._take(chunk)
                    chunk = []
        await self._take(chunk)
        if self._count:
            raise InvalidJobsError(self._faults, count=self._count)
        return await self._ledger.write(queries.accept_staged)

    async def _take(self, chunk: Sequence[Read]) -> None:
        sound = [job for job in chunk if isinstance(job, PreparedJob)]
        known = await self._ledger.read(queries.known, keys=[job.key for job in sound])
        for job in sound:
            if job.key not in known and job.workflow not in self._definitions:
                self._definitions[job.workflow] = await self._definition(job.workflow)
        found = await anyio.to_thread.run_sync(self._faults_of, chunk, known)
        found += await self._ledger.write(queries.stage, jobs=self._rows(chunk))
        faults = [fault for _, fault in sorted(found, key=lambda one: one[0])]
        self._count += len(faults)
        self._faults += faults[: max(_KEPT_FAULTS - len(self._faults), 0)]

    def _rows(self, chunk: Sequence[Read]) -> list[tuple[int, PreparedJob, str | None]]:
        """Return what is staged: of a faulty job only its key, which no other may have."""
        rows: list[tuple[int, PreparedJob, str | None]] = []
        for place, job in enumerate(chunk):
            if isinstance(job, PreparedJob):
                definition = self._definitions.get(job.workflow)
                workflow_id = definition.id if isinstance(definition, Workflow) else None
                rows.append((place, job, workflow_id))
            elif job[0].key is not None:
                rows.append((place, PreparedJob.of_key(job[0].key, job[0].place), None))
        return rows

    async def _definition(self, workflow: str) -> Workflow | str:
        try:
            return await patiently(self._patience, partial(self._client.workflows.get, workflow))
        except NotFoundError as error:
            if not error.from_service:
                raise
            meant = await self._meant(workflow)
            return f"there is no workflow {workflow!r}, or it is not yours{meant}"
        except InvalidInputError as error:
            return str(error)

    async def _meant(self, workflow: str) -> str:
        if self._slugs is None:
            try:
                self._slugs = [one.slug async for one in self._client.workflows.list() if one.slug]
            except CyberunError:
                self._slugs = []
        near = get_close_matches(workflow.partition("@")[0][:100], self._slugs, n=1)
        return f" (did you mean {near[0]!r}?)" if near else ""

    # In a thread

    def _faults_of(
        self, chunk: Sequence[Read], known: Mapping[str, Known]
    ) -> list[tuple[int, JobFault]]:
        found: list[tuple[int, JobFault]] = []
        for place, job in enumerate(chunk):
            if isinstance(job, PreparedJob):
                problems = self._problems(job, known.get(job.key))
                found += [(place, JobFault(job.place, job.key, one)) for one in problems]
            else:
                found += [(place, fault) for fault in job]
        return found

    def _problems(self, job: PreparedJob, known: Known | None) -> list[str]:
        if known is not None and known.digest != job.digest:
            return [_OTHER_JOB]
        if known is not None:
            return job.missing_files() if known.state == JobState.PLANNED else []
        definition = self._definitions[job.workflow]
        if isinstance(definition, str):
            return [definition, *job.missing_files()]
        return [*job.misfits(definition), *job.missing_files()]
