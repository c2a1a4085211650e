"""The batch over a cluster: Dask's client, a folder, a policy and limits."""

import hashlib
import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal

from .. import ConfigurationError, CyberunClient, Limits
from ..batch import BatchPolicy, BatchProgress, BatchRun
from ..batch._jobs import Jobs
from ..batch._run import BatchBlock, check_choice
from ._counts import ShardCounts
from ._credentials import brings_credential
from ._dask import Cluster, the_library
from ._driver import ClusterDriver
from ._errors import ClusterError
from ._folder import known
from ._host import from_environment
from ._limits import divided, whole
from ._messages import Setup, ShardTask
from ._reports import ClusterReport
from ._sharding import shard_of
from ._tasks import decide_job, report_on, run_of


SHARD_SIZE = 200


class ClusterBatch(BatchBlock[Setup]):
    """
    Many runs, submitted and followed by the workers of a Dask cluster.

    The jobs are split into shards of some hundred. Each shard is one Dask task, which
    runs a :class:`~cyberun_async.batch.Batch` on its worker's event loop, with the one
    client that the worker has and a ledger of the shard's own in a folder that all
    workers share. A shard whose worker is lost is run again elsewhere and continues from
    its ledger; the same program, run again, continues where the ledgers end.

    Use it as an async context manager inside that of Dask's client, in one task, on
    asyncio. Leaving the block stops the shards and closes the clients of the workers; the
    remote tasks keep running. One program at a time may work on a folder.

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
            of its shards forever.

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
        super().__init__()
        self._cluster = Cluster(dask, resources)
        self._folder = os.fspath(folder)
        self._policy = policy or BatchPolicy()
        self._limits = limits or Limits()
        self._workers = None if workers is None else whole(workers, "workers")
        self._shard_size = whole(shard_size, "shard_size")
        self._connect = connect
        self._counts = ShardCounts()

    def __repr__(self) -> str:
        return f"<ClusterBatch {self._folder} {'open' if self._opened else 'not open'}>"

    async def _open(self) -> Setup:
        workers = self._workers or len(await self._cluster.workers())
        if not workers:
            raise ConfigurationError("the cluster has no workers; start some, or give workers=")
        parts, policy, limits = divided(self._policy, self._limits, workers)
        # One name for one folder, so that a program that died leaves nothing behind.
        name = hashlib.sha256(self._folder.encode()).hexdigest()[:12]
        setup = Setup(
            run_id=uuid.uuid4().hex,
            plugin=f"cyberun-{name}",
            folder=self._folder,
            parts=parts,
            shard_size=self._shard_size,
            policy=policy,
        )
        try:
            await self._register(setup, limits)
        except BaseException:
            # Some workers may have a client already.
            with suppress(ClusterError):
                await self._close(setup)
            raise
        return setup

    async def _register(self, setup: Setup, limits: Limits) -> None:
        from ._plugin import ClusterPlugin

        plugin = ClusterPlugin(setup.run_id, self._connect or from_environment, limits)
        if brings_credential(_pickled(plugin)):
            raise ConfigurationError(
                "connect brings a credential along, which the scheduler and every log of it "
                "would see; let it read the key on the worker, from the environment or a file"
            )
        await self._cluster.register(plugin, setup.plugin)

    async def _close(self, opened: Setup) -> None:
        await self._cluster.unregister(opened.plugin, opened.run_id, run_of)

    def run(self, jobs: Jobs) -> BatchRun:
        """
        Return an async iterator over the outcomes of *jobs*, as they come.

        All jobs are read first, and what is wrong with them by themselves is reported before
        anything is sent: duplicate keys, values that are no JSON. The workers check
        workflows, parameters and files, shard by shard: a fault there means that nothing of
        that shard is sent, and stops the others.

        Each outcome comes once and after it was recorded. Outcomes carry no snapshot. A
        slow reader holds nobody up. If the run is closed or left early, the shards stop; the
        remote tasks keep running, and the next run takes them up.

        If the policy leaves unconfirmed submissions to you, the other shards are worked
        through first, and known tasks are followed to their ends in each.

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
        driver = ClusterDriver(self._cluster, self._check_between_runs(), self._counts)
        return self._begin(partial(driver.drive, jobs))

    @property
    def progress(self) -> BatchProgress:
        """
        How far the jobs of the run are, as their shards reported last, about once a second.

        Its total is that of all jobs, once they have been read.
        """
        return self._counts.progress()

    async def report(self) -> ClusterReport:
        """
        Return what the ledgers have: jobs by state, unconfirmed and overtaken submissions.

        Call it at any time; it waits for no shard. Once a worker that was taken for lost
        has come back, the report has what that one did meanwhile.

        Raises:
            LedgerError: The folder or a ledger cannot be read.
            ClusterError: No worker could do it.
        """
        self._check_open()
        report = await self._cluster.run_beside(report_on, self._folder)
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
                ``resubmit`` submits it again, and may be billed twice; ``skip`` gives
                the job up; ``adopt`` says that it became *task*.

            task: The id of the task to adopt.

        Raises:
            InvalidInputError: There is nothing to decide about the job, or *task* is
                another job's.
            TaskNotFoundError: No such task.
            LedgerError: The shard's ledger cannot be used.
            ClusterError: No worker could do it.
        """
        setup = self._check_between_runs()
        check_choice(choice, task)
        name = uuid.uuid4().hex
        plan = await self._cluster.call(known, self._folder, key=f"cyberun-plan-{name}")
        shard = ShardTask(setup=setup, plan=plan, shard=shard_of(key, plan.shards))
        work = (decide_job, shard, key, choice, task)
        if await self._cluster.call(*work, key=f"cyberun-decide-{name}") is not True:
            raise ClusterError(f"the worker was stopped before job {key!r} was decided; try again")


def _pickled(plugin: object) -> bytes:
    try:
        pickled: bytes = the_library().protocol.pickle.dumps(plugin)
    except Exception as error:
        raise ConfigurationError(
            f"connect cannot travel to the workers: {type(error).__name__}: {error}"
        ) from error
    return pickled
