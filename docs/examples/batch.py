"""
Sixty pictures, whatever happens in between: run it again to go on.

It wants ``CYBERUN_API_KEY`` (and ``CYBERUN_BASE_URL`` for the local service, which
``python -m cyberun_async.testing`` starts).
"""

import asyncio
from collections.abc import Iterator

from cyberun_async import CyberunClient
from cyberun_async.batch import Batch, BatchPolicy, Job


POLICY = BatchPolicy(concurrency=8, download_to="pictures", on_uncertain="skip")


def jobs() -> Iterator[Job]:
    """Yield the jobs; a key names its job in every later run too."""
    for number in range(60):
        parameters = {"prompt": f"fox number {number}", "steps": 4}
        yield Job(key=f"fox-{number}", workflow="text-to-image", parameters=parameters)


async def main() -> None:
    """Run the batch, or what is left of it."""
    async with CyberunClient() as client, Batch(client, "runs.sqlite", policy=POLICY) as batch:
        fresh = 0
        async for outcome in batch.run(jobs()):
            fresh += not outcome.is_replayed
            if not outcome.is_replayed and fresh % 12 == 0:
                print(batch.progress, flush=True)
        print(await batch.report())


if __name__ == "__main__":
    asyncio.run(main())
