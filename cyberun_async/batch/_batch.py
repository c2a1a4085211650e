"""The batch: a client, a ledger and a policy."""

import os
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Literal

from .. import CyberunClient, InvalidInputError
from ._counts import Counts
from ._driver import Driver
from ._environment import ALONE, Environment
from ._jobs import Jobs
from ._ledger import queries
from ._ledger.ledger import Ledger
from ._outcomes import BatchProgress, BatchReport
from ._policy import BatchPolicy
from ._run import BatchBlock, BatchRun, check_choice


class Batch(BatchBlock[Ledger]):
    """
    Many runs that survive the program which submits them.

    Every step is in the ledger before the next is made: the intent to submit before the
    request leaves, then the task's id, its end, its files. The same program, run again
    after a crash, continues where the ledger ends. One batch at a time may have a ledger.

    Use it as an async context manager inside that of its client, in one task. Leaving
    the block stops the work; the remote tasks keep running, and the next run takes them up.

    Args:
        client: An open client. It is not closed.
        ledger: The ledger's file, which is made if it is missing.
        policy: What is done when something goes wrong.

        durable:
            Whether every step reaches the disk itself, so that none is lost with the
            power. Otherwise a step survives whatever ends the process only.

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
        super().__init__()
        self._client = client
        self._path = ledger
        self._policy = policy or BatchPolicy()
        self._durable = durable
        self._environment: Environment = ALONE
        self._counts = Counts()

    def __repr__(self) -> str:
        return f"<Batch {os.fspath(self._path)} {'open' if self._opened else 'not open'}>"

    async def _open(self) -> Ledger:
        self._client.statistics()  # raises unless it is open, here
        shared = self._environment.is_shared
        ledger = await Ledger(self._path, durable=self._durable, shared=shared).open()
        try:
            self._counts.reset(await ledger.read(queries.counts))
        except BaseException:
            await ledger.aclose()
            raise
        return ledger

    async def _close(self, opened: Ledger) -> None:
        await opened.aclose()

    def _spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._client.statistics()  # raises unless it is open, here
        super()._spawn(function)

    def run(self, jobs: Jobs | None = None) -> BatchRun:
        """
        Return an async iterator over the outcomes of *jobs*, as they come.

        First all jobs are read and checked; a fault in one means that none is sent. Then
        unconfirmed submissions are looked for in the task list. If the policy leaves them to
        you, known tasks are followed to their ends and their outcomes yielded, and nothing
        is submitted. Otherwise the outcomes that the ledger has already are yielded, and
        after them those of this run, each exactly once and after it was recorded. A job
        that failed does not raise.

        A job whose key the ledger knows is not submitted again, unless it certainly never
        was, or has failed and the policy allows more submissions. A job that the ledger
        knows and that is not among *jobs* is followed if it is in flight, and otherwise
        left as it is.

        Args:
            jobs:
                Read once, lazily, to the end; they may be many and are held on disk. A
                :class:`JobFault` among them is reported with the faults found here. None
                means all jobs of the ledger.

        Raises:
            InvalidJobsError: Jobs cannot be run; all are named, nothing was sent.
            UncertainSubmissionsError: The policy leaves decisions to you.
            BatchStoppedError: A job did not complete and the policy says ``fail_fast``.
            LedgerError: A step could not be written.
            AuthenticationError: The key is not accepted.
            ServiceUnavailableError: The service could not be reached for too long.
            ClientStateError: Another run of this batch is not over.
        """
        ledger = self._check_between_runs()
        driver = Driver(self._client, ledger, self._policy, self._counts, self._environment)
        return self._begin(partial(driver.drive, jobs))

    @property
    def progress(self) -> BatchProgress:
        """How far the whole batch is, without a request."""
        return self._counts.progress()

    @property
    def in_flight(self) -> Mapping[str, str]:
        """The keys of the jobs in flight, by the ids of their tasks; a live view."""
        return self._counts.keys

    async def report(self) -> BatchReport:
        """Return what the ledger has: jobs by state, and every unconfirmed submission."""
        return await self._check_open().read(queries.report)

    async def decide(
        self, key: str, choice: Literal["resubmit", "skip", "adopt"], *, task: str | None = None
    ) -> None:
        """
        Decide about a job whose submission may or may not have been accepted.

        The next run does accordingly. Decide between runs.

        Args:
            key: The job's.

            choice:
                ``resubmit`` submits it again, and may be billed twice; ``skip`` gives
                the job up; ``adopt`` says that it became *task*.

            task: The id of the task to adopt.

        Raises:
            InvalidInputError: There is nothing to decide about the job, or *task* is
                another job's.
            TaskNotFoundError: No such task.
            ClientStateError: A run of this batch is not over.
        """
        ledger = self._check_between_runs()
        check_choice(choice, task)
        submissions = await ledger.write(queries.open_submissions)
        found = next((one for one in submissions if one.key == key), None)
        if found is None:
            raise InvalidInputError(f"there is nothing to decide about the job {key!r}")
        if task is not None:
            task_id = (await self._client.tasks.get(task)).id
            if await self._is_claimed(ledger, task_id):
                raise InvalidInputError(f"task {task_id} is another job's")
            await ledger.write(queries.adopt, found.job, found.id, task_id)
        else:
            step = queries.resubmit if choice == "resubmit" else queries.skip
            await ledger.write(step, found.job, found.id)
        self._counts.reset(await ledger.read(queries.counts))

    async def _is_claimed(self, ledger: Ledger, task: str) -> bool:
        own = await ledger.read(queries.claimed, [task])
        return bool(own or await self._environment.claimed_elsewhere([task]))
