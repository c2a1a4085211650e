"""
What Dask runs: one coroutine for each shard, on the worker's own event loop.

As long as it runs it occupies one of the worker's threads by Dask's count, but none in fact.
"""

from functools import partial
from typing import Any, Literal

import anyio.to_thread

from .. import CyberunClient
from ._dask import the_library
from ._errors import ClusterError
from ._host import WorkerHost
from ._messages import ShardResult, ShardTask
from ._reports import ClusterReport, report_of
from ._shard import LeasedBatch, take


async def run_shard(task: ShardTask) -> ShardResult:
    """Work a shard through, or have it run elsewhere if this worker is being stopped."""
    worker = the_library().get_worker()
    result = await _plugin(worker, task).run(task, worker)
    if result is None:
        raise the_library().Reschedule
    return result


Choice = Literal["resubmit", "skip", "adopt"]


async def decide_job(task: ShardTask, key: str, choice: Choice, task_id: str | None) -> bool:
    """Decide about one job of a shard, in an epoch of its own."""
    worker = the_library().get_worker()
    plugin = _plugin(worker, task)
    work = partial(_decide, task, str(worker.address), key, choice, task_id)
    return bool(await plugin.call(task, work))


async def _decide(
    task: ShardTask,
    worker: str,
    key: str,
    choice: Choice,
    task_id: str | None,
    client: CyberunClient,
) -> bool:
    lease = await take(task, worker)
    async with LeasedBatch(client, lease, task) as batch:
        await batch.decide(key, choice, task=task_id)
    return True


def _plugin(worker: Any, task: ShardTask) -> WorkerHost:
    plugin = worker.plugins.get(task.setup.plugin)
    if not isinstance(plugin, WorkerHost):
        raise ClusterError("this worker has no client any more; its batch was closed")
    return plugin


async def report_on(folder: str) -> ClusterReport:
    """Return what the ledgers of *folder* have, read in a thread beside the shards' work."""
    return await anyio.to_thread.run_sync(report_of, folder)


async def stop_shards(plugin: str, run_id: str, dask_worker: Any) -> None:
    """Stop the shards of one run on this worker."""
    found = dask_worker.plugins.get(plugin)
    if isinstance(found, WorkerHost) and found.run_id == run_id:
        await found.stop()


def run_of(plugin: str, dask_worker: Any) -> str | None:
    """Return which run has the client on this worker."""
    found = dask_worker.plugins.get(plugin)
    return found.run_id if isinstance(found, WorkerHost) else None
