"""The batch over a cluster: Dask's client, a folder, and what one does with them."""

import hashlib
import os
import uuid
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self

import anyio
import anyio.abc

from .. import ClientStateError, ConfigurationError, CyberunClient, InvalidInputError, Limits
from ..batch import BatchPolicy, BatchProgress, BatchRun
from ..batch._driver import Jobs
from ._counts import ShardCounts
from ._credentials import brings_credential
from ._dask import Calls, the_library
from ._driver import ClusterDriver, Course
from ._errors import ClusterError
from ._folder import known
from ._host import from_environment
from ._limits import Division, divided, whole
from ._reports import ClusterReport
from ._sharding import shard_of
from ._tasks import decide_job, report_on, run_of


SHARD_SIZE = 200


class ClusterBatch:
    """
    Many runs, submitted and followed by the workers of a Dask cluster.

    The jobs are split into shards of some hundred. Each shard is one Dask task, which
    runs a :class:`~cyberun_async.batch.Batch` on its worker's event loop, with the one
    client that the worker has and a ledger of the shard's own in a folder that all
    workers share. A shard whose worker is lost is run again elsewhere and goes on from
    its ledger; the same program, run again, goes on where the ledgers end.

    Use it as an async context manager inside that of Dask's client, in one task, on
    asyncio. Leaving the block stops the shards and closes the clients of the workers; the
    remote tasks go on. One program at a time may work on a folder.

    Args:
        dask: An open ``distributed.Client`` made with ``asynchronous=True``.
        folder: Its path on the workers. It has to exist, and to be the same for all.
        policy: What is done when something goes wrong; ``concurrency`` is the account's.
        limits: The account's; each worker's client gets a part of them.

        workers:
            Into how many parts the account's limits are divided, which is also how many
            shards run at once; no more than the policy's ``concurrency``, or the limits'
            ``max_connections`` (20) or ``max_streams`` (100), so raise ``max_connections``
            for more than 20 workers. None counts the workers when the block is entered.
            Give the most there will be if the cluster grows; those beyond it stay idle.

        shard_size:
            About how many jobs a shard has. The first run over a folder fixes the number
            of its shards for ever.

        connect:
            Makes the client, on each worker, in a thread, with the limits it is given.
            None makes one with the key and the base URL of the worker's own environment. It
            travels to the workers, so it has to read the key there and must not bring it
            along.

        resources: What Dask reserves for each shard, such as ``{"cyberun": 1}``.

    Raises:
        ConfigurationError: Dask is not installed, its client is not asynchronous, there is
            no worker, *connect* holds a credential, or cannot travel, or cannot make a client.
    """

    def __init__(
        self,
        dask: Any,
        folder: str | os.PathLike[str],
        *,
        policy: BatchPolicy | None = None,
        limits: Limits | None = None,
        workers: int | None = None,
        shard_size: int = SHARD_SIZE,
        connect: Callable[[Limits], CyberunClient] | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> None:
        self._calls = Calls(dask, resources)
        self._folder = os.fspath(folder)
        self._policy = policy or BatchPolicy()
        self._limits = limits or Limits()
        self._workers = None if workers is None else whole(workers, "workers")
        self._shard_size = whole(shard_size, "shard_size")
        self._connect = connect
        self._counts = ShardCounts()
        self._course: Course | None = None
        self._group: anyio.abc.TaskGroup | None = None
        self._run: BatchRun | None = None

    def __repr__(self) -> str:
        return f"<ClusterBatch {self._folder} {'open' if self._course else 'not open'}>"

    async def __aenter__(self) -> Self:
        if self._course is not None:
            raise ClientStateError("this batch is open already")
        workers = self._workers or len(await self._calls.workers())
        if not workers:
            raise ConfigurationError("the cluster has no workers; start some, or give workers=")
        division = divided(self._policy, self._limits, workers)
        course = self._new_course(division)
        try:
            await self._register(course, division.limits)
        except BaseException:
            # Some workers may have a client already.
            with suppress(ClusterError):
                await self._calls.unregister(course.plugin, course.run_id, run_of)
            raise
        self._group = await anyio.create_task_group().__aenter__()
        self._course = course
        return self

    def _new_course(self, division: Division) -> Course:
        # One name for one folder, so that a program that died leaves nothing behind.
        name = hashlib.sha256(self._folder.encode()).hexdigest()[:12]
        return Course(
            run_id=uuid.uuid4().hex,
            plugin=f"cyberun-{name}",
            folder=self._folder,
            parts=division.parts,
            shard_size=self._shard_size,
            policy=division.policy,
        )

    async def _register(self, course: Course, limits: Limits) -> None:
        from ._plugin import ClusterPlugin

        plugin = ClusterPlugin(course.run_id, self._connect or from_environment, limits)
        if brings_credential(_pickled(plugin)):
            raise ConfigurationError(
                "connect brings a credential along, which the scheduler and every log of it "
                "would see; let it read the key on the worker, from the environment or a file"
            )
        await self._calls.register(plugin, course.plugin)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        group, self._group = self._group, None
        course, self._course = self._course, None
        try:
            if self._run is not None:
                await self._run.aclose()
        finally:
            try:
                if group is not None:
                    group.cancel_scope.cancel()
                    await group.__aexit__(None, None, None)
            finally:
                if course is not None:
                    await self._calls.unregister(course.plugin, course.run_id, run_of)

    def run(self, jobs: Jobs) -> BatchRun:
        """
        Return an async iterator over the outcomes of *jobs*, as they come.

        All jobs are read first, and what is wrong with them by themselves is told before
        anything is sent: keys that come twice, values that are no JSON. Workflows,
        parameters and files are checked by the workers, shard by shard: a fault there
        means that nothing of that shard is sent, and stops the others.

        Each outcome comes once and after it was recorded. Outcomes carry no snapshot. A
        slow reader holds nobody up. Closed or left early, the shards stop; the remote
        tasks go on, and the next run takes them up.

        Where the policy leaves submissions of unknown fate to you, the other shards are
        worked through first, and tasks that are known to run are followed to their ends in
        each.

        Args:
            jobs: Read once to the end, and held in memory until their shard has ended.

        Raises:
            InvalidJobsError: Jobs cannot be run; nothing of their shards was sent.
            UncertainSubmissionsError: The policy leaves decisions to you; :meth:`decide`.
            BatchStoppedError: A job did not complete and the policy says ``fail_fast``.
            ClusterError: A shard was lost with its worker too often, or the folder is not
                shared.
            LeaseLostError: Another program works on the folder.
            LedgerError: A ledger cannot be used.
            CyberunError: What stops a batch, such as a key that is not accepted.
            ClientStateError: Another run of this batch is not over.
        """
        course, group = self._open_parts()
        if self._run is not None and not self._run.is_closed:
            raise ClientStateError("the last run of this batch is not over; read or close it")
        driver = ClusterDriver(self._calls, course, self._counts)

        def spawn(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
            self._open_parts()
            group.start_soon(function)

        self._run = BatchRun(spawn, driver, jobs)
        return self._run

    @property
    def progress(self) -> BatchProgress:
        """
        How far the jobs of the run are, as their shards reported last, about once a second.

        Its total is that of all jobs, from when they have been read.
        """
        return self._counts.progress()

    async def report(self) -> ClusterReport:
        """
        Return what the ledgers have: jobs by state, unknown fates, overtaken submissions.

        It may be asked at any time, and waits for no shard. Asked after a worker that was
        taken for lost has come back, it has what that one did meanwhile.

        Raises:
            LedgerError: The folder or a ledger cannot be read.
            ClusterError: No worker could do it.
        """
        course, _ = self._open_parts()
        report = await self._calls.ask(report_on, course.folder)
        assert isinstance(report, ClusterReport)  # noqa: S101 - what Dask brings has no type
        return report

    async def decide(
        self, key: str, choice: Literal["resubmit", "skip", "adopt"], *, task: str | None = None
    ) -> None:
        """
        Decide about a job whose submission may or may not have been accepted.

        It is :meth:`Batch.decide <cyberun_async.batch.Batch.decide>` of the job's shard.
        Decide between runs.

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
            LedgerError: The shard's ledger cannot be used.
            ClusterError: No worker could do it.
        """
        course, _ = self._open_parts()
        if self._run is not None and not self._run.is_closed:
            raise ClientStateError("decide between runs; this one is not over")
        if choice not in {"resubmit", "skip", "adopt"}:
            raise InvalidInputError(f"choice must be 'resubmit', 'skip' or 'adopt', not {choice!r}")
        name = uuid.uuid4().hex
        plan = await self._calls.call(known, course.folder, key=f"cyberun-plan-{name}")
        shard = course.task(plan, shard_of(key, plan.shards))
        work = (decide_job, shard, key, choice, task)
        if await self._calls.call(*work, key=f"cyberun-decide-{name}") is not True:
            raise ClusterError(f"the worker was stopped before job {key!r} was decided; try again")

    def _open_parts(self) -> tuple[Course, anyio.abc.TaskGroup]:
        if self._course is None or self._group is None:
            raise ClientStateError(
                "the batch is not open; use `async with ClusterBatch(...) as batch:`"
            )
        return self._course, self._group


def _pickled(plugin: object) -> bytes:
    try:
        pickled: bytes = the_library().protocol.pickle.dumps(plugin)
    except Exception as error:
        raise ConfigurationError(
            f"connect cannot travel to the workers: {type(error).__name__}: {error}"
        ) from error
    return pickled
