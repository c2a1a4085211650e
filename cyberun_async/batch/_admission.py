"""The way in: every job is checked, and all faults are told, before anything is sent."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from functools import partial

import anyio
import anyio.to_thread

from .. import CyberunClient, InvalidInputError, NotFoundError, Workflow
from . import _records as records
from ._errors import InvalidJobsError
from ._jobs import JobFault, PreparedJob, prepared
from ._ledger import Ledger
from ._outcomes import JobState
from ._records import Known


_CHUNK = 500
_KEPT_FAULTS = 1000
_OTHER_JOB = (
    "the ledger has this key for a job with another workflow, other parameters or other "
    "files; give the new job a new key"
)


class Admission:
    """Takes the jobs of one run in, all of them or none."""

    def __init__(self, client: CyberunClient, ledger: Ledger) -> None:
        self._client = client
        self._ledger = ledger
        self._definitions: dict[str, Workflow | str] = {}
        self._faults: list[JobFault] = []
        self._count = 0

    async def admit(self, jobs: Iterable[object] | AsyncIterable[object]) -> int:
        """
        Read and check *jobs*, put them into the ledger, and return the number of the run.

        The jobs are held on disk meanwhile, so they may be many.

        Raises:
            InvalidJobsError: Some cannot be run. The ledger is as it was.
        """
        await self._ledger.write(records.begin_staging)
        chunk: list[PreparedJob] = []
        index = 0
        async for job in _each(jobs):
            ready = prepared(job, index)
            index += 1
            if isinstance(ready, PreparedJob):
                chunk.append(ready)
            else:
                self._blame(ready)
            if len(chunk) == _CHUNK:
                await self._take(chunk)
                chunk = []
        await self._take(chunk)
        if self._count:
            raise InvalidJobsError(self._faults, count=self._count)
        return await self._ledger.write(records.accept_staged)

    async def _take(self, chunk: Sequence[PreparedJob]) -> None:
        keys = [job.key for job in chunk]
        known = await self._ledger.read(partial(records.known, keys=keys))
        for job in chunk:
            if job.key not in known and job.workflow not in self._definitions:
                self._definitions[job.workflow] = await self._definition(job.workflow)
        self._blame(await anyio.to_thread.run_sync(self._misfits, chunk, known))
        rows = [(job, self._id_of(job.workflow)) for job in chunk]
        self._blame(await self._ledger.write(partial(records.stage, jobs=rows)))

    async def _definition(self, workflow: str) -> Workflow | str:
        try:
            return await self._client.workflows.get(workflow)
        except NotFoundError:
            return f"there is no workflow {workflow!r}, or it is not yours"
        except InvalidInputError as error:
            return str(error)

    def _id_of(self, workflow: str) -> str | None:
        found = self._definitions.get(workflow)
        return found.id if isinstance(found, Workflow) else None

    # In a thread

    def _misfits(self, chunk: Sequence[PreparedJob], known: Mapping[str, Known]) -> list[JobFault]:
        return [
            JobFault(job.place, job.key, problem)
            for job in chunk
            for problem in self._problems(job, known.get(job.key))
        ]

    def _problems(self, job: PreparedJob, known: Known | None) -> list[str]:
        if known is not None and known.digest != job.digest:
            return [_OTHER_JOB]
        if known is not None:
            return job.missing_files() if known.state == JobState.PLANNED else []
        definition = self._definitions[job.workflow]
        if isinstance(definition, str):
            return [definition, *job.missing_files()]
        return [*job.misfits(definition), *job.missing_files()]

    def _blame(self, faults: Sequence[JobFault]) -> None:
        self._count += len(faults)
        self._faults += faults[: _KEPT_FAULTS - len(self._faults)]


async def _each(jobs: Iterable[object] | AsyncIterable[object]) -> AsyncIterator[object]:
    if isinstance(jobs, AsyncIterable):
        async for job in jobs:
            yield job
        return
    for number, job in enumerate(jobs):
        yield job
        if number % 100 == 0:
            await anyio.lowlevel.checkpoint()
