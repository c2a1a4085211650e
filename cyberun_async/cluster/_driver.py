"""The client program's part: split the jobs, keep shards on the cluster, merge outcomes."""

import math
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectSendStream

from .. import InvalidInputError
from ..batch import (
    InvalidJobsError,
    Job,
    JobOutcome,
    UncertainSubmissionsError,
    UnconfirmedSubmission,
)
from ..batch._jobs import Jobs
from ..batch._run import Emit
from ._counts import ShardCounts
from ._dask import Cluster
from ._errors import CONTINUES, ClusterError
from ._folder import Plan, settle
from ._messages import News, Setup, ShardResult, ShardTask, from_plain
from ._sharding import shard_count, split, taken_in
from ._tasks import run_shard, stop_shards


class ClusterDriver:
    """Does the work of one run."""

    def __init__(self, cluster: Cluster, setup: Setup, counts: ShardCounts) -> None:
        self._cluster = cluster
        self._setup = setup
        self._counts = counts
        self._futures: dict[int, Any] = {}
        self._failure: Exception | None = None
        self._undecided: list[UnconfirmedSubmission] = []
        self._finished: set[int] = set()
        # Dask takes two tasks of one name for the same, and a block may have many runs.
        self._name = f"cyberun-{uuid.uuid4().hex}"

    async def drive(self, jobs: Jobs | None, emit: Emit) -> None:
        """
        Lead all jobs to their outcomes.

        Raises:
            CyberunError: What stops the batch.
        """
        if jobs is None:
            raise InvalidInputError("give the jobs: a batch over a cluster keeps no list of them")
        taken = await taken_in(jobs)
        if not taken:
            return
        wanted = shard_count(len(taken), self._setup.shard_size)
        plan = await self._cluster.call(
            settle, self._setup.folder, wanted, key=f"{self._name}-plan"
        )
        assert isinstance(plan, Plan)  # noqa: S101 - what Dask brings has no type
        shards = split(taken, plan.shards)
        self._counts.begin({number: len(each) for number, each in shards.items()})
        try:
            await self._work(plan, shards, emit)
        finally:
            if self._futures:
                await self._stop()
        self._conclude(shards)

    async def _stop(self) -> None:
        futures = list(self._futures.values())
        self._futures.clear()
        setup = self._setup
        try:
            await self._cluster.stop(futures, stop_shards, setup.plugin, setup.run_id)
        except ClusterError as error:
            self._failure = self._failure or error

    def _conclude(self, shards: Mapping[int, list[Job]]) -> None:
        if self._failure is not None:
            raise self._failure
        if lost := sorted(shards.keys() - self._finished):
            raise ClusterError(f"the cluster lost {len(lost)} shards: {lost}; {CONTINUES}")
        if self._undecided:
            raise UncertainSubmissionsError(self._undecided)

    # Shards

    async def _work(self, plan: Plan, shards: Mapping[int, list[Job]], emit: Emit) -> None:
        # The cluster does not hold what it has reported, so nothing bounds it here.
        send, receive = anyio.create_memory_object_stream[JobOutcome](math.inf)

        def handle(message: Mapping[str, Any]) -> None:
            self._handle(from_plain(message), send)

        self._cluster.subscribe(self._name, handle)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._keep_busy, plan, shards, send)
                async for outcome in receive:
                    await emit(outcome)
        finally:
            self._cluster.unsubscribe(self._name)
            send.close()
            receive.close()

    def _handle(self, news: News, send: MemoryObjectSendStream[JobOutcome]) -> None:
        if self._counts.add(news) and news.outcome is not None:
            # What arrives when all is over has no reader; the ledger has it.
            with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                send.send_nowait(news.outcome)

    async def _keep_busy(
        self,
        plan: Plan,
        shards: Mapping[int, list[Job]],
        send: MemoryObjectSendStream[JobOutcome],
    ) -> None:
        room = anyio.Semaphore(self._setup.parts)
        async with anyio.create_task_group() as group:
            for number, jobs in shards.items():
                await room.acquire()
                task = ShardTask(
                    setup=self._setup, plan=plan, shard=number, jobs=tuple(jobs), topic=self._name
                )
                group.start_soon(self._lead, task, send, room, group.cancel_scope)
        if self._failure is not None:
            # At once: the reader may have a lot to read yet, while shards keep submitting.
            await self._stop()
        # Nothing more is reported, so that the reader comes to its end.
        send.close()

    async def _lead(
        self,
        task: ShardTask,
        send: MemoryObjectSendStream[JobOutcome],
        room: anyio.Semaphore,
        scope: anyio.CancelScope,
    ) -> None:
        try:
            self._take(task, await self._run_shard(task), send)
        except Exception as error:  # noqa: BLE001 - raised when all have stopped
            self._failure = self._failure or error
            scope.cancel()
        finally:
            room.release()

    async def _run_shard(self, task: ShardTask) -> ShardResult:
        key = f"{self._name}-shard-{task.shard:05}"
        future = self._cluster.submit(run_shard, task, key=key)
        self._futures[task.shard] = future
        result = await self._cluster.result(future)
        del self._futures[task.shard]
        assert isinstance(result, ShardResult)  # noqa: S101 - what Dask brings has no type
        return result

    def _take(
        self, task: ShardTask, result: ShardResult, send: MemoryObjectSendStream[JobOutcome]
    ) -> None:
        if result.faults:
            raise InvalidJobsError(result.faults)
        self._finished.add(task.shard)
        self._undecided += result.undecided
        for outcome in (*result.outcomes, None):
            news = News(task.shard, result.epoch, outcome, result.counts)
            self._handle(news, send)
