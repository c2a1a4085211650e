"""Where a job's files go, and what an earlier try may have left there."""

import hashlib
import os
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Literal

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
    TaskResult,
    TaskSnapshot,
    TaskStatus,
)
from ._counts import Counts
from ._errors import LedgerError
from ._ledger import queries as records
from ._ledger.ledger import Ledger
from ._ledger.queries import JobRow
from ._outcomes import JobOutcome, JobState, OutcomeState
from ._patience import Patience
from ._policy import BatchPolicy
from ._submitting import Accepted, Refused, Submitter


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


async def remove_parts(folder: Path) -> None:
    """Remove files in the making, which a killed process left in a job's folder."""
    await anyio.to_thread.run_sync(_remove_parts, folder)


def _remove_parts(folder: Path) -> None:
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


class Worker:
    """Leads jobs to their outcomes."""

    def __init__(
        self,
        client: CyberunClient,
        ledger: Ledger,
        policy: BatchPolicy,
        submitter: Submitter,
        counts: Counts,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._policy = policy
        self._submitter = submitter
        self._counts = counts

    async def work(self, row: JobRow, *, may_retry: bool) -> JobOutcome | None:
        """
        Lead a job on from where it stands, and return its outcome.

        None means that the fate of its submission is unknown.

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
                if not isinstance(answer, Accepted):
                    return None
                fresh = answer.task
                row = attrs.evolve(
                    row, state=JobState.RUNNING, task_id=fresh.id, accepted=row.accepted + 1
                )
                self._counts.accepted(row.key, fresh.id)
            if (outcome := await self._lead(row, fresh, may_retry=may_retry)) is not None:
                return outcome
            row = attrs.evolve(row, state=JobState.PLANNED, task_id=None)

    async def _lead(
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
            # A handle tells how old the task is: a new one may not be found for a moment.
            snapshot = await self._client.wait(fresh or row.task_id or "")
            return await self.ended(row, snapshot, may_retry=may_retry)
        except STOPPERS:
            raise
        except TaskEndedError as error:
            if error.snapshot is None:
                raise
            # It has ended, in a state that nobody here knows: following it again is no use.
            return await self._ended_unknown(row, error.snapshot, str(error))
        except CyberunError as error:
            # Some trouble with this one task.
            await self._ledger.write(partial(records.lose, job=row.number, why=str(error)))
            return self._outcome(row, JobState.LOST, error=str(error))

    async def ended(
        self, row: JobRow, snapshot: TaskSnapshot, *, may_retry: bool
    ) -> JobOutcome | None:
        """Note the end of the job's task and do what follows from it."""
        state = self._state_after(row, snapshot, may_retry=may_retry)
        end = partial(
            records.end,
            job=row.number,
            task_id=snapshot.id,
            status=str(snapshot.status),
            error=snapshot.error,
            state=state,
        )
        await self._ledger.write(end)
        if state is JobState.PLANNED:
            return None
        if state is JobState.SAVING:
            self._counts.move(row.key, state)
            return await self._save(row, snapshot, is_resumed=False)
        error = None if state is JobState.COMPLETED else snapshot.error or str(snapshot.status)
        return self._outcome(row, state, error=error, snapshot=snapshot)

    async def _ended_unknown(self, row: JobRow, snapshot: TaskSnapshot, why: str) -> JobOutcome:
        end = partial(
            records.end,
            job=row.number,
            task_id=snapshot.id,
            status=str(snapshot.status),
            error=why,
            state=JobState.FAILED,
        )
        await self._ledger.write(end)
        return self._outcome(row, JobState.FAILED, error=why, snapshot=snapshot)

    def _state_after(
        self, row: JobRow, snapshot: TaskSnapshot, *, may_retry: bool
    ) -> OutcomeState | Literal[JobState.PLANNED, JobState.SAVING]:
        state = _ENDS[TaskStatus(snapshot.status)]
        if state is JobState.COMPLETED and self._policy.download_to is not None:
            return JobState.SAVING
        has_tries = row.accepted < self._policy.max_submissions_per_job
        return JobState.PLANNED if state is JobState.FAILED and may_retry and has_tries else state

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
        saved = partial(
            records.saved, job=row.number, task_id=row.task_id or "", paths=paths, problem=problem
        )
        await self._ledger.write(saved)
        files = tuple(paths)
        return self._outcome(row, JobState.COMPLETED, error=problem, files=files, snapshot=snapshot)

    async def _download(
        self, row: JobRow, base: str | os.PathLike[str], *, is_resumed: bool
    ) -> list[Path]:
        folder = folder_of(base, row.key).absolute()
        if is_resumed:
            await remove_parts(folder)
        result = await self._result(row.task_id or "")
        # Names are free for this job alone; what an earlier try left under them is replaced.
        return await result.download_to(folder, overwrite=True)

    async def _result(self, task_id: str) -> TaskResult:
        """Return the task's result; a proxy's page in its place is waited out."""
        patience = Patience(self._policy.patience)
        while True:
            try:
                return await self._client.result(task_id)
            except RequestRejectedError as error:
                if error.from_service:
                    raise
                pause = patience.pause_after(error)
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
