"""
The program that is killed: a batch of 500 jobs, each with a file to download.

It takes its service from the environment. With a trap it kills itself there with SIGKILL,
so that moments within the library are hit exactly; else its parent kills it. It prints
each outcome, and at the end a summary as JSON.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

from cyberun_async import CyberunClient, Limits, Timeouts, WatchPolicy
from cyberun_async.batch import Batch, BatchPolicy, Job
from cyberun_async.batch._ledger import queries
from cyberun_async.batch._submitting import Submitter


def jobs(number: int) -> Iterator[Job]:
    """Yield the jobs; each prompt is its job's key, so that the service's tasks tell it."""
    for index in range(number):
        key = f"job-{index:04}"
        yield Job(key=key, workflow="text-to-image", parameters={"prompt": key, "steps": 1})


async def main(options: argparse.Namespace) -> None:
    """Run the batch to its end."""
    policy = BatchPolicy(
        concurrency=20,
        on_uncertain="resubmit",
        on_probably_not_submitted="resubmit",
        # Both run on one clock, and late answers are held back less than this.
        clock_skew=0.2,
        settle_time=1.0,
        download_to=options.out,
    )
    found: list[str] = []
    async with (
        CyberunClient(
            watch_policy=WatchPolicy(poll_interval=0.1),
            limits=Limits(poll_rate=200.0),
            # Handshakes that stall are given up soon.
            timeouts=Timeouts(connect=1.0),
        ) as client,
        Batch(client, options.ledger, policy=policy) as batch,
    ):
        async for outcome in batch.run(jobs(options.jobs)):
            found.append(outcome.key)
            if not outcome.is_replayed:
                print("outcome", outcome.key, outcome.state, flush=True)
        report = await batch.report()
    print(json.dumps({"outcomes": found, "report": str(report)}), flush=True)


def die() -> None:
    """End this process as nothing else does."""
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, number: int, is_meant: Callable[..., bool]) -> None:
    """Die just before the call number *number* that is meant."""
    original = getattr(owner, name)
    counter = count(1)

    def dying(*args: Any, **named: Any) -> Any:
        if is_meant(*args) and next(counter) == number:
            die()
        return original(*args, **named)

    setattr(owner, name, dying)


def after(owner: Any, name: str, number: int, is_meant: Callable[..., bool]) -> None:
    """Die just after the call number *number* that is meant."""
    original = getattr(owner, name)
    counter = count(1)

    def dying(*args: Any, **named: Any) -> Any:
        found = original(*args, **named)
        if is_meant(*args) and next(counter) == number:
            die()
        return found

    setattr(owner, name, dying)


def always(*_: Any) -> bool:
    """Mean every call."""
    return True


def is_part(path: Path, *_: Any) -> bool:
    """Mean only files in the making."""
    return path.suffix == ".part"


TRAPS: dict[str, Callable[[int], None]] = {
    # The intent is written, but not committed; it is committed, but nothing has been sent.
    "intent uncommitted": lambda n: after(queries, "intend", n, always),
    "intent committed": lambda n: before(Submitter, "_send", n, always),
    # The answer has been read, but is not noted.
    "answer read": lambda n: before(Submitter, "_note", n, always),
    "rename": lambda n: before(Path, "replace", n, is_part),
    "renamed": lambda n: after(Path, "replace", n, is_part),
}


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ledger", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--trap", choices=sorted(TRAPS))
    parser.add_argument("--at", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    given = options()
    if given.trap:
        TRAPS[given.trap](given.at)
    asyncio.run(main(given))
    sys.exit(0)
