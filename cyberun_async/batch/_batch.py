"""The batch: a client, a ledger and a policy, and what one does with them."""

import os
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self

import anyio
import anyio.abc

from .. import ClientStateError, CyberunClient, InvalidInputError
from ._counts import Counts
from ._driver import Driver, Jobs
from ._environment import ALONE, Environment
from ._ledger import queries as records
from ._ledger.ledger import Ledger
from ._ledger.queries import OpenFate
from ._outcomes import BatchProgress, BatchReport
from ._policy import BatchPolicy
from ._run import BatchRun


class Batch:
    """
    Many runs that survive the program which submits them.

    Every step is in the ledger before the next is made: the intent to submit before the
    request leaves, then the task's id, its end, its files. The same program, run again
    after a crash, goes on where the ledger ends. One batch at a time may have a ledger.

    Use it as an async context manager inside that of its client, in one task. Leaving
    the block stops the work; the remote tasks go on, and the next run takes them up.

    Args:
        client: An open client. It is not closed.
        ledger: The ledger's file; made if there is none.
        policy: What is done when something goes wrong.

        durable:
            Let every step reach the disk itself, so that also the loss of power forgets
            none. Without it a step is safe from everything that ends the process only.

    Raises:
        LedgerError: The ledger cannot be used; its kinds say why.
    """

    def __init__(
        self,
        client: CyberunClient,
        ledger: str | os.PathLike[str],
        *,
        policy: BatchPolicy | None = None,
        durable: bool = False,
    ) -> None:
        self._client = client
        self._path = ledger
        self._policy = policy or BatchPolicy()
        self._durable = durable
        self._environment: Environment = ALONE
        self._ledger: Ledger | None = None
        self._group: anyio.abc.TaskGroup | None = None
        self._counts = Counts()
        self._run: BatchRun | None = None

    def __repr__(self) -> str:
        return f"<Batch {os.fspath(self._path)} {'open' if self._ledger else 'not open'}>"

    async def __aenter__(self) -> Self:
        if self._ledger is not None:
            raise ClientStateError("this batch is open already")
        self._client.statistics()  # raises unless it is open, here
        shared = self._environment.is_shared
        ledger = await Ledger(self._path, durable=self._durable, shared=shared).open()
        try:
            self._counts.reset(await ledger.read(records.counts))
            self._group = await anyio.create_task_group().__aenter__()
        except BaseException:
            await ledger.aclose()
            raise
        self._ledger = ledger
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        group, self._group = self._group, None
        ledger, self._ledger = self._ledger, None
        try:
            if self._run is not None:
                await self._run.aclose()
        finally:
            try:
                if group is not None:
                    group.cancel_scope.cancel()
                    await group.__aexit__(None, None, None)
            finally:
                if ledger is not None:
                    await ledger.aclose()

    def run(self, jobs: Jobs | None = None) -> BatchRun:
        """
        Return an async iterator over the outcomes of *jobs*, as they come.

        First all jobs are read and checked; a fault in one means that none is sent. Then
        submissions whose answer was never read are looked into; where the policy leaves them
        to you, tasks that are known to run are followed to their ends and their outcomes
        yielded, and nothing is submitted. Then the outcomes that
        the ledger has already are yielded, and those that come in this run after them,
        each exactly once and after it was recorded. A job that failed does not raise.

        A job whose key the ledger knows is not submitted again, unless it certainly never
        was, or has failed and the policy allows more submissions. A job that the ledger
        knows and that is not among *jobs* is followed if it is under way, and otherwise
        left as it is.

        Args:
            jobs:
                Read once, lazily, to the end; they may be many and are held on disk. A
                :class:`JobFault` among them is reported with the faults found here. None
                takes all jobs of the ledger.

        Raises:
            InvalidJobsError: Jobs cannot be run; all are named, nothing was sent.
            UncertainSubmissionsError: The policy leaves decisions to you.
            BatchStoppedError: A job did not complete and the policy says ``fail_fast``.
            LedgerError: A step could not be written.
            AuthenticationError: The key is not accepted.
            ServiceUnavailableError: The service could not be reached for too long.
            ClientStateError: Another run of this batch is not over.
        """
        ledger, group = self._open_parts()
        self._check_between_runs()
        driver = Driver(self._client, ledger, self._policy, self._counts, self._environment)

        def spawn(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
            self._client.statistics()  # raises unless it is open, here
            group.start_soon(function)

        self._run = BatchRun(spawn, driver, jobs)
        return self._run

    @property
    def progress(self) -> BatchProgress:
        """How far the whole batch is, without asking anything."""
        return self._counts.progress()

    @property
    def in_flight(self) -> Mapping[str, str]:
        """The keys of the jobs being worked on, by the ids of their tasks; it keeps up."""
        return self._counts.keys

    async def report(self) -> BatchReport:
        """Return what the ledger has: jobs by state, and every submission of unknown fate."""
        ledger, _ = self._open_parts()
        return await ledger.read(records.report)

    async def decide(
        self, key: str, choice: Literal["resubmit", "skip", "adopt"], *, task: str | None = None
    ) -> None:
        """
        Decide about a job whose submission may or may not have been accepted.

        The next run does accordingly. Decide between runs.

        Args:
            key: The job's.

            choice:
                ``resubmit`` submits it again, and may pay twice; ``skip`` leaves it at
                that; ``adopt`` takes *task* for what it became.

            task: The id of the task to adopt.

        Raises:
            InvalidInputError: There is nothing to decide about the job, or *task* is
                another job's.
            TaskNotFoundError: No such task.
            ClientStateError: A run of this batch is not over.
        """
        ledger, _ = self._open_parts()
        # The submissions of a run look as if their answers were never read.
        self._check_between_runs()
        if choice not in {"resubmit", "skip", "adopt"}:
            raise InvalidInputError(f"choice must be 'resubmit', 'skip' or 'adopt', not {choice!r}")
        if (choice == "adopt") != (task is not None):
            raise InvalidInputError("task is given with 'adopt', and only with it")
        fates = await ledger.write(records.open_fates)
        fate = next((one for one in fates if one.key == key), None)
        if fate is None:
            raise InvalidInputError(f"there is nothing to decide about the job {key!r}")
        await self._decide(ledger, fate, choice, task)
        self._counts.reset(await ledger.read(records.counts))

    async def _decide(self, ledger: Ledger, fate: OpenFate, choice: str, task: str | None) -> None:
        if task is not None:
            snapshot = await self._client.tasks.get(task)
            if await self._is_claimed(ledger, snapshot.id):
                raise InvalidInputError(f"task {snapshot.id} is another job's")
            adopt = partial(
                records.adopt, job=fate.job, submission=fate.submission, task_id=snapshot.id
            )
            await ledger.write(adopt)
            return
        step = records.resubmit if choice == "resubmit" else records.skip
        await ledger.write(partial(step, job=fate.job, submission=fate.submission))

    async def _is_claimed(self, ledger: Ledger, task: str) -> bool:
        own = await ledger.read(partial(records.claimed, task_ids=[task]))
        return bool(own or await self._environment.claimed_elsewhere([task]))

    def _check_between_runs(self) -> None:
        if self._run is not None and not self._run.is_closed:
            raise ClientStateError("the last run of this batch is not over; read or close it")

    def _open_parts(self) -> tuple[Ledger, anyio.abc.TaskGroup]:
        if self._ledger is None or self._group is None:
            raise ClientStateError("the batch is not open; use `async with Batch(...) as batch:`")
        return self._ledger, self._group
