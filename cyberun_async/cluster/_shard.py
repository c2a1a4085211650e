"""One shard on one worker: a batch whose ledger is held by a lease."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread

from .. import CyberunClient
from ..batch import Batch, InvalidJobsError, JobOutcome, LedgerWriteError, UncertainSubmissionsError
from ..batch._environment import Environment
from ._errors import LeaseLostError
from ._folder import confirm
from ._lease import Holder, Lease, claim
from ._messages import Counts, News, ShardResult, ShardTask, without_snapshot
from ._other_ledgers import claimed_by_others
from ._takeover import take_over


T = TypeVar("T")

# A check that took longer was interrupted, and says nothing about now.
_FRESH_SECONDS = 1.0
_MOST_LOOKS = 10
# How often a holder that submits nothing looks whether it still holds.
_LOOK_SECONDS = 5.0
_TELL_SECONDS = 1.0


class LeasedBatch(Batch):
    """A batch that submits only while its lease stands."""

    def __init__(self, client: CyberunClient, lease: Lease, task: ShardTask) -> None:
        super().__init__(client, lease.ledger, policy=task.policy)
        self._lease = lease
        self._environment = Environment(
            is_shared=True,
            permit=self._permit,
            claimed_elsewhere=self._claimed_elsewhere,
            # Each run has a topic of its own.
            sitting=task.topic or None,
        )

    async def _permit(self) -> None:
        for _ in range(_MOST_LOOKS):
            began = anyio.current_time()
            await check(self._lease)
            if anyio.current_time() - began < _FRESH_SECONDS:
                return
        problem = f"took longer than {_FRESH_SECONDS:g} s to be read, {_MOST_LOOKS} times in a row"
        raise LedgerWriteError(self._lease.path, f"{problem}; the folder is too slow")

    async def _claimed_elsewhere(self, task_ids: Collection[str]) -> Collection[str]:
        lease = self._lease
        look = partial(claimed_by_others, lease.folder, lease.shard, tuple(task_ids))
        return await _in_thread(look)


async def check(lease: Lease) -> None:
    """Raise `LeaseLostError` unless *lease* stands."""
    await _in_thread(lease.check)


async def _in_thread(function: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(function)


async def take(folder: str, task: ShardTask, worker: str) -> Lease:
    """
    Claim the task's shard and take its ledger over.

    Raises:
        ClusterError: The folder is not shared.
        LedgerError: It, or the ledger in it, cannot be used.
    """
    holder = Holder.here(worker)

    def work() -> Lease:
        confirm(Path(folder), task.plan)
        lease = claim(Path(folder), task.shard, holder)
        take_over(lease)
        return lease

    return await _in_thread(work)


class ShardRun:
    """The work on one shard, in one epoch of it."""

    def __init__(
        self, client: CyberunClient, task: ShardTask, lease: Lease, tell: Callable[[News], None]
    ) -> None:
        self._client = client
        self._task = task
        self._lease = lease
        self._tell = tell
        self._outcomes: list[JobOutcome] = []
        self._failure: Exception | None = None

    async def run(self) -> ShardResult:
        """
        Work the shard through.

        Raises:
            LeaseLostError: The shard is another worker's now.
            CyberunError: What stops a batch, but for what the result tells.
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
            await anyio.sleep(_LOOK_SECONDS)
            try:
                await check(self._lease)
            except LeaseLostError as error:
                self._failure = self._failure or error
                scope.cancel()
                return

    async def _work(self, group: anyio.abc.TaskGroup) -> ShardResult:
        async with LeasedBatch(self._client, self._lease, self._task) as batch:
            group.start_soon(self._tell_now_and_then, batch)
            try:
                async for outcome in batch.run(self._task.jobs):
                    self._outcomes.append(without_snapshot(outcome))
                    self._say(batch, self._outcomes[-1])
            except UncertainSubmissionsError as error:
                return await self._result(batch, undecided=error)
            except InvalidJobsError as error:
                return await self._result(batch, invalid=error)
            return await self._result(batch)

    async def _result(
        self,
        batch: Batch,
        undecided: UncertainSubmissionsError | None = None,
        invalid: InvalidJobsError | None = None,
    ) -> ShardResult:
        return ShardResult(
            epoch=self._lease.epoch,
            outcomes=tuple(self._outcomes),
            report=await batch.report(),
            counts=batch.progress.counts,
            undecided=() if undecided is None else undecided.fates,
            faults=() if invalid is None else invalid.faults,
        )

    async def _tell_now_and_then(self, batch: Batch) -> None:
        last: Counts | None = None
        while True:
            counts = batch.progress.counts
            if counts != last:
                self._say(batch, None)
            last = counts
            await anyio.sleep(_TELL_SECONDS)

    def _say(self, batch: Batch, outcome: JobOutcome | None) -> None:
        task, counts = self._task, batch.progress.counts
        self._tell(News(task.run_id, task.shard, self._lease.epoch, outcome, counts))
