"""One shard on one worker: a batch whose ledger is held by a lease."""

from collections.abc import Callable, Collection
from pathlib import Path

import anyio
import anyio.to_thread
import attrs

from .. import CyberunClient
from ..batch import (
    Batch,
    InvalidJobsError,
    JobFault,
    JobOutcome,
    LedgerWriteError,
    UncertainSubmissionsError,
    UnconfirmedSubmission,
)
from ..batch._environment import Environment
from ._errors import LeaseLostError
from ._folder import confirm
from ._lease import Lease, claim
from ._messages import Counts, News, ShardResult, ShardTask
from ._other_ledgers import claimed_by_others
from ._takeover import take_over


# A check that took longer was interrupted, and says nothing about now.
_FRESH_SECONDS = 1.0
_MOST_LOOKS = 10
# How often a holder that submits nothing checks its lease.
_CHECK_SECONDS = 5.0
_REPORT_SECONDS = 1.0


class LeasedBatch(Batch):
    """A batch that submits only while its lease stands."""

    def __init__(self, client: CyberunClient, lease: Lease, task: ShardTask) -> None:
        super().__init__(client, lease.ledger, policy=task.setup.policy)
        self._lease = lease
        self._environment = Environment(
            is_shared=True,
            permit=self._permit,
            claimed_elsewhere=self._claimed_elsewhere,
            # Each run has a topic of its own.
            run_marker=task.topic or None,
        )

    async def _permit(self) -> None:
        for _ in range(_MOST_LOOKS):
            began = anyio.current_time()
            await anyio.to_thread.run_sync(self._lease.check)
            if anyio.current_time() - began < _FRESH_SECONDS:
                return
        problem = f"took longer than {_FRESH_SECONDS:g} s to be read, {_MOST_LOOKS} times in a row"
        raise LedgerWriteError(self._lease.path, f"{problem}; the folder is too slow")

    async def _claimed_elsewhere(self, task_ids: Collection[str]) -> Collection[str]:
        lease = self._lease
        return await anyio.to_thread.run_sync(
            claimed_by_others, lease.folder, lease.shard, tuple(task_ids)
        )


async def take(task: ShardTask, worker: str) -> Lease:
    """
    Claim the task's shard and take its ledger over.

    Raises:
        ClusterError: The folder is not shared.
        LedgerError: It, or the ledger in it, cannot be used.
    """

    def work() -> Lease:
        folder = Path(task.setup.folder)
        confirm(folder, task.plan)
        lease = claim(folder, task.shard, worker)
        take_over(lease)
        return lease

    return await anyio.to_thread.run_sync(work)


@attrs.define(eq=False)
class ShardRun:
    """The work on one shard, in one epoch of it."""

    _client: CyberunClient
    _task: ShardTask
    _lease: Lease
    _report: Callable[[News], None]
    _outcomes: list[JobOutcome] = attrs.field(init=False, factory=list[JobOutcome])
    _failure: Exception | None = attrs.field(init=False, default=None)

    async def run(self) -> ShardResult:
        """
        Work the shard through.

        Raises:
            LeaseLostError: The shard is another worker's now.
            CyberunError: What stops a batch, except for what the result says.
        """
        result: ShardResult | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._stop_when_overtaken, group.cancel_scope)
            try:
                result = await self._work(group)
            except Exception as error:  # noqa: BLE001 - raised when all has stopped
                self._failure = self._failure or error
            group.cancel_scope.cancel()
        if self._failure is not None:
            raise self._failure
        if result is None:
            raise LeaseLostError(self._lease.path, self._lease.epoch, "the work was stopped")
        return result

    async def _stop_when_overtaken(self, scope: anyio.CancelScope) -> None:
        while True:
            await anyio.sleep(_CHECK_SECONDS)
            try:
                await anyio.to_thread.run_sync(self._lease.check)
            except LeaseLostError as error:
                self._failure = self._failure or error
                scope.cancel()
                return

    async def _work(self, group: anyio.abc.TaskGroup) -> ShardResult:
        async with LeasedBatch(self._client, self._lease, self._task) as batch:
            group.start_soon(self._report_counts, batch)
            undecided: tuple[UnconfirmedSubmission, ...] = ()
            faults: tuple[JobFault, ...] = ()
            try:
                async for outcome in batch.run(self._task.jobs):
                    # A snapshot would be most of what travels.
                    self._outcomes.append(attrs.evolve(outcome, snapshot=None))
                    self._report(self._news(batch, self._outcomes[-1]))
            except UncertainSubmissionsError as error:
                undecided = error.fates
            except InvalidJobsError as error:
                faults = error.faults
            return ShardResult(
                epoch=self._lease.epoch,
                outcomes=tuple(self._outcomes),
                counts=batch.progress.counts,
                undecided=undecided,
                faults=faults,
            )

    async def _report_counts(self, batch: Batch) -> None:
        last: Counts | None = None
        while True:
            news = self._news(batch)
            if news.counts != last:
                self._report(news)
            last = news.counts
            await anyio.sleep(_REPORT_SECONDS)

    def _news(self, batch: Batch, outcome: JobOutcome | None = None) -> News:
        return News(self._task.shard, self._lease.epoch, outcome, batch.progress.counts)
