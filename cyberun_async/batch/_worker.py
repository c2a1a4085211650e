"""One job: from its submission to its recorded outcome and its files."""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.to_thread
import attrs

from .. import (
    AuthenticationError,
    ClientStateError,
    ConfigurationError,
    CyberunClient,
    CyberunError,
    RequestRejectedError,
    ServiceUnavailableError,
    TaskEndedError,
    TaskHandle,
    TaskSnapshot,
    TaskStatus,
)
from ._counts import Counts
from ._errors import LedgerError
from ._ledger import queries
from ._ledger.ledger import Ledger
from ._ledger.queries import JobRow
from ._outcomes import JobOutcome, JobState, OutcomeState
from ._patience import Patience
from ._policy import BatchPolicy
from ._submitting import Refused, Submitter


_SAFE = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")


def folder_of(base: str | os.PathLike[str], key: str) -> Path:
    """
    Return the folder for the job *key*: its own, on any file system, and inside *base*.

    A key that is no plain name in lower case gets a number behind what is left of it.
    """
    if _SAFE.fullmatch(key) and not key.endswith(".") and not _RESERVED.fullmatch(key):
        return Path(base, key)
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", key).strip("-")[:60]
    return Path(base, f"{plain}~{hashlib.sha256(key.encode()).hexdigest()[:12]}")


def _remove_parts(folder: Path) -> None:
    """Remove partial files that a killed process left in a job's folder."""
    if folder.is_dir():
        for part in folder.glob(".*.part"):
            part.unlink(missing_ok=True)


# What ends the whole batch: going on would meet the same with every job.
STOPPERS = (
    AuthenticationError,
    ClientStateError,
    ConfigurationError,
    LedgerError,
    ServiceUnavailableError,
)


_ENDS: Mapping[TaskStatus, OutcomeState] = {
    TaskStatus.COMPLETED: JobState.COMPLETED,
    TaskStatus.FAILED: JobState.FAILED,
    TaskStatus.CANCELLED: JobState.CANCELLED,
}


@attrs.frozen(eq=False)
class Worker:
    """Takes jobs to their outcomes."""

    _client: CyberunClient
    _ledger: Ledger
    _policy: BatchPolicy
    _submitter: Submitter
    _counts: Counts

    async def work(self, row: JobRow, *, may_retry: bool) -> JobOutcome | None:
        """
        Take a job on from its present state, and return its outcome.

        None means that its submission is unconfirmed.

        Args:
            row: The job.
            may_retry: Whether it may be submitted again where its task failed.

        Raises:
            CyberunError: The batch cannot go on; the job can be taken up later.
        """
        fresh: TaskHandle | None = None
        while True:
            if row.state == JobState.PLANNED:
                self._counts.move(row.key, JobState.SENDING)
                answer = await self._submitter.submit(row)
                if isinstance(answer, Refused):
                    return self._outcome(row, JobState.REJECTED, error=answer.reason)
                if answer is None:
                    return None
                fresh = answer
                row = attrs.evolve(
                    row, state=JobState.RUNNING, task_id=fresh.id, accepted=row.accepted + 1
                )
                self._counts.accepted(row.key, fresh.id)
            if (outcome := await self._follow(row, fresh, may_retry=may_retry)) is not None:
                return outcome
            row = attrs.evolve(row, state=JobState.PLANNED, task_id=None)

    async def _follow(
        self, row: JobRow, fresh: TaskHandle | None, *, may_retry: bool
    ) -> JobOutcome | None:
        """
        Return the outcome of a task, or None where the job is to be submitted again.

        Args:
            row: The job.
            fresh: The task's handle where it was submitted in this run.
            may_retry: As for `work`.
        """
        try:
            if row.state == JobState.SAVING:
                return await self._save(row, None, is_resumed=True)
            # A handle knows how old the task is: a new one may not be found at first.
            snapshot = await self._client.wait(fresh or row.task_id or "")
            return await self.ended(row, snapshot, may_retry=may_retry)
        except STOPPERS:
            raise
        except TaskEndedError as error:
            if error.snapshot is None:
                raise
            # It has ended in a state that this version does not know: watching again is no use.
            return await self._end(row, error.snapshot, JobState.FAILED, str(error))
        except CyberunError as error:
            # Some trouble with this one task.
            await self._ledger.write(queries.lose, row.number, str(error))
            return self._outcome(row, JobState.LOST, error=str(error))

    async def ended(
        self, row: JobRow, snapshot: TaskSnapshot, *, may_retry: bool
    ) -> JobOutcome | None:
        """Note the end of the job's task and do what follows from it."""
        state = _ENDS[TaskStatus(snapshot.status)]
        has_tries = row.accepted < self._policy.max_submissions_per_job
        if state is JobState.FAILED and may_retry and has_tries:
            await self._note_end(row, snapshot, JobState.PLANNED, snapshot.error)
            return None
        if state is JobState.COMPLETED and self._policy.download_to is not None:
            await self._note_end(row, snapshot, JobState.SAVING, snapshot.error)
            self._counts.move(row.key, JobState.SAVING)
            return await self._save(row, snapshot, is_resumed=False)
        return await self._end(row, snapshot, state, snapshot.error)

    async def _end(
        self, row: JobRow, snapshot: TaskSnapshot, state: OutcomeState, why: str | None
    ) -> JobOutcome:
        await self._note_end(row, snapshot, state, why)
        error = None if state is JobState.COMPLETED else why or str(snapshot.status)
        return self._outcome(row, state, error=error, snapshot=snapshot)

    async def _note_end(
        self, row: JobRow, snapshot: TaskSnapshot, state: JobState, why: str | None
    ) -> None:
        status = str(snapshot.status)
        await self._ledger.write(
            queries.end, row.number, snapshot.id, status=status, error=why, state=state
        )

    async def _save(
        self, row: JobRow, snapshot: TaskSnapshot | None, *, is_resumed: bool
    ) -> JobOutcome:
        paths: list[Path] = []
        problem: str | None = None
        if self._policy.download_to is not None:
            try:
                paths = await self._download(row, self._policy.download_to, is_resumed=is_resumed)
            except STOPPERS:
                raise
            except CyberunError as error:
                problem = f"completed, but its files were not downloaded: {error}"
        await self._ledger.write(queries.saved, row.number, row.task_id or "", paths, problem)
        files = tuple(paths)
        return self._outcome(row, JobState.COMPLETED, error=problem, files=files, snapshot=snapshot)

    async def _download(
        self, row: JobRow, base: str | os.PathLike[str], *, is_resumed: bool
    ) -> list[Path]:
        folder = folder_of(base, row.key).absolute()
        if is_resumed:
            await anyio.to_thread.run_sync(_remove_parts, folder)
        patience = Patience(self._policy.patience)
        while True:
            try:
                result = await self._client.result(row.task_id or "")
            except RequestRejectedError as error:
                # A proxy's page in the place of the result is waited out.
                if error.from_service:
                    raise
                pause = patience.pause_after(error)
            else:
                # Names are free for this job alone; what an earlier try left there is replaced.
                return await result.download_to(folder, overwrite=True)
            await anyio.sleep(pause)

    def _outcome(
        self,
        row: JobRow,
        state: OutcomeState,
        *,
        error: str | None = None,
        files: tuple[Path, ...] = (),
        snapshot: TaskSnapshot | None = None,
    ) -> JobOutcome:
        self._counts.move(row.key, state)
        return JobOutcome(
            key=row.key,
            state=state,
            task_id=row.task_id,
            error=error,
            files=files,
            submissions=row.accepted,
            snapshot=snapshot,
        )
