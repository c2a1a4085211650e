"""A batch over a Dask cluster: ``python cluster.py SCHEDULER FOLDER jobs.jsonl``."""

import asyncio
import sys

from distributed import Client

from cyberun_async import Limits
from cyberun_async.batch import BatchPolicy, read_jobs
from cyberun_async.cluster import ClusterBatch


# What the account allows, whoever works; each worker gets its part.
POLICY = BatchPolicy(concurrency=300)
LIMITS = Limits(poll_rate=50.0)


async def main(scheduler: str, folder: str, jobs: str) -> None:
    """Run the jobs to their end, or go on where the last run ended."""
    async with (
        Client(scheduler, asynchronous=True) as dask,
        ClusterBatch(dask, folder, policy=POLICY, limits=LIMITS) as batch,
    ):
        async for outcome in batch.run(read_jobs(jobs)):
            print(outcome.key, outcome.state, "-", batch.progress)
        print(await batch.report())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
