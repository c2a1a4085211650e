"""One row: ``python -m tests.benchmarks.batch.row ROW PORT JOBS LEDGER``."""

import asyncio
import json
import resource
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from cyberun_async import CyberunClient, Limits, WatchPolicy
from cyberun_async.batch import Batch, BatchPolicy, Job, _batch

from ..harness import report
from .no_ledger import NoLedger


CONCURRENCY = 200
WORKFLOW = "text-to-image"


def jobs(number: int) -> Iterator[Job]:
    """Yield the jobs one by one."""
    for index in range(number):
        parameters = {"prompt": f"fox {index}"}
        yield Job(key=f"job-{index}", workflow=WORKFLOW, parameters=parameters)


async def without_ledger(client: CyberunClient, number: int, ledger: Path) -> int:
    """Run the same batch, whose ledger is replaced by lists."""
    module: Any = _batch
    module.Ledger = NoLedger
    return await with_ledger(client, number, ledger)


async def with_ledger(
    client: CyberunClient, number: int, ledger: Path, *, durable: bool = False
) -> int:
    """Run the batch, or a finished one again."""
    policy = BatchPolicy(concurrency=CONCURRENCY)
    async with Batch(client, ledger, policy=policy, durable=durable) as batch:
        return sum([outcome.is_completed async for outcome in batch.run(jobs(number))])


async def durable(client: CyberunClient, number: int, ledger: Path) -> int:
    """Run the batch with every step on the disk."""
    return await with_ledger(client, number, ledger, durable=True)


ROWS: dict[str, Callable[[CyberunClient, int, Path], Awaitable[int]]] = {
    "no ledger": without_ledger,
    "batch": with_ledger,
    "batch, durable": durable,
    "again": with_ledger,
}


def requests(port: str) -> dict[str, int]:
    """Ask the service what it was asked."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/requests") as answer:
        found: dict[str, int] = json.load(answer)
    return found


async def measure(name: str, port: str, number: int, ledger: Path) -> None:
    """Run one row and report it."""
    policy = WatchPolicy(poll_interval=0.3, poll_interval_waiting=0.3)
    limits = Limits(poll_rate=2000.0, max_connections=50)
    base_url = f"http://127.0.0.1:{port}/api/v1"
    async with CyberunClient(
        "sk-bench", base_url=base_url, watch_policy=policy, limits=limits
    ) as client:
        before = requests(port)
        cpu, wall = time.process_time(), time.perf_counter()
        completed = await ROWS[name](client, number, ledger)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        after = requests(port)
    problems = [] if completed == number else [f"{completed} of {number} jobs completed"]
    asked = sum(after.values()) - sum(before.values())
    report(
        problems,
        cpu=cpu,
        wall=wall,
        per_job=cpu / number * 1e6,
        peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        lists=after.get("list", 0) - before.get("list", 0),
        requests=asked,
        per_request=cpu / asked * 1e6 if asked else 0.0,
    )


def main() -> None:
    """Measure the row that the command line names."""
    name, port, number, *given = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(given[0]) if given else Path(folder, "runs.sqlite")
        asyncio.run(measure(name, port, int(number), ledger))


if __name__ == "__main__":
    main()
