"""The client program's part: split the jobs, keep shards on the cluster, merge outcomes."""

import math
import uuid
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Any

import anyio
import attrs
from anyio.streams.memory import MemoryObjectSendStream

from .. import InvalidInputError
from ..batch import (
    BatchPolicy,
    InvalidJobsError,
    Job,
    JobOutcome,
    UncertainSubmissionsError,
    UnconfirmedSubmission,
)
from ..batch._admission import each_job
from ..batch._driver import Emit, Jobs
from ._counts import ShardCounts
from ._dask import Calls
from ._errors import CONTINUES, ClusterError
from ._folder import Plan, settle
from ._messages import News, ShardResult, ShardTask, heard
from ._sharding import Intake, shard_count, split
from ._tasks import run_shard, stop_shards


@attrs.frozen(kw_only=True)
class Course:
    """
    What a run over a cluster is told once.

    Attributes:
        run_id: Names what belongs to it on the cluster.
        plugin: The name of the worker plugin.
        folder: The folder that all workers share.
        parts: How many shards run at once.
        shard_size: About how many jobs a shard has.
        policy: The policy of one shard.
    """

    run_id: str
    plugin: str
    folder: str
    parts: int
    shard_size: int
    policy: BatchPolicy

    def task(
        self, plan: Plan, shard: int, jobs: tuple[Job, ...] = (), topic: str = ""
    ) -> ShardTask:
        """Return what a worker needs for a shard."""
        return ShardTask(
            run_id=self.run_id,
            plugin=self.plugin,
            folder=self.folder,
            plan=plan,
            shard=shard,
            jobs=jobs,
            policy=self.policy,
            topic=topic,
        )


class ClusterDriver:
    """Does the work of one run."""

    def __init__(self, calls: Calls, course: Course, counts: ShardCounts) -> None:
        self._calls = calls
        self._course = course
        self._counts = counts
        self._futures: dict[int, Any] = {}
        self._failure: Exception | None = None
        self._undecided: list[UnconfirmedSubmission] = []
        self._finished: set[int] = set()
        # Dask takes two tasks of one name for one, and a block may have many runs.
        self._name = f"cyberun-{uuid.uuid4().hex}"

    async def drive(self, jobs: Jobs | None, emit: Emit) -> None:
        """
        Lead all jobs to their outcomes.

        Raises:
            CyberunError: What stops the batch.
        """
        if jobs is None:
            raise InvalidInputError("give the jobs: a batch over a cluster keeps no list of them")
        intake = await _taken_in(jobs)
        if not intake.jobs:
            return
        wanted = shard_count(len(intake.jobs), self._course.shard_size)
        plan = await self._plan(wanted)
        shards = split(intake.jobs, plan.shards)
        self._counts.begin({number: len(each) for number, each in shards.items()})
        try:
            await self._work(plan, shards, emit)
        finally:
            if self._futures:
                await self._stop()
        self._conclude(shards)

    async def _plan(self, wanted: int) -> Plan:
        key = f"{self._name}-plan"
        plan = await self._calls.call(settle, self._course.folder, wanted, key=key)
        assert isinstance(plan, Plan)  # noqa: S101 - what Dask brings has no type
        return plan

    async def _stop(self) -> None:
        futures = list(self._futures.values())
        self._futures.clear()
        course = self._course
        try:
            await self._calls.stop(futures, stop_shards, course.plugin, course.run_id)
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
        # What has been told already is held by the cluster no more, so nothing bounds it here.
        send, receive = anyio.create_memory_object_stream[JobOutcome](math.inf)

        def hear(message: Mapping[str, Any]) -> None:
            self._hear(heard(message), send)

        self._calls.listen(self._name, hear)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._keep_busy, plan, shards, send)
                async for outcome in receive:
                    await emit(outcome)
        finally:
            self._calls.ignore(self._name)
            send.close()
            receive.close()

    def _hear(self, news: News, send: MemoryObjectSendStream[JobOutcome]) -> None:
        if self._counts.hear(news) and news.outcome is not None:
            # What comes when all is over has no reader; the ledger has it.
            with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                send.send_nowait(news.outcome)

    async def _keep_busy(
        self,
        plan: Plan,
        shards: Mapping[int, list[Job]],
        send: MemoryObjectSendStream[JobOutcome],
    ) -> None:
        room = anyio.Semaphore(self._course.parts)
        async with anyio.create_task_group() as group:
            for number, jobs in shards.items():
                await room.acquire()
                task = self._course.task(plan, number, tuple(jobs), self._name)
                group.start_soon(self._lead, task, send, room, group.cancel_scope)
        if self._failure is not None:
            # At once: the reader may have a lot to read yet, and shards go on submitting.
            await self._stop()
        # Nothing is told any more, so that the reader comes to its end.
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
        future = self._calls.submit(run_shard, task, key=key)
        self._futures[task.shard] = future
        result = await self._calls.result(future)
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
            news = News(task.run_id, task.shard, result.epoch, outcome, result.counts)
            self._hear(news, send)


async def _taken_in(jobs: Jobs) -> Intake:
    """
    Return the jobs, each checked by itself.

    Raises:
        InvalidJobsError: Some cannot be run.
    """
    intake = Intake()
    async with aclosing(each_job(jobs)) as found:
        async for job in found:
            intake.take(job)
    if intake.faults:
        raise InvalidJobsError(intake.faults)
    return intake
