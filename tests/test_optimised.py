"""The library under ``python -OO``: without docstrings and assertions it works as with them."""

import subprocess
import sys
from pathlib import Path

import pytest


# Not only imported: a run that fails, one over a cut stream, a download, a refusal, a batch.
PROGRAM = """
import asyncio, sys
from cyberun_async import (
    CompletedEvent, CyberunClient, InvalidInputError, ProgressEvent, StreamLost, TaskFailedError,
)
from cyberun_async.batch import Batch, Job
from cyberun_async.testing import Simulator, story


async def main(sim):
    async with CyberunClient(sim.key, base_url=sim.url) as client:
        sim.tell(story().runs(seconds=20).loses_its_stream(after=8).completes())
        task = await client.submit("text-to-image", {"prompt": "a fox"})
        async with client.watch(task, notices=True) as events:
            reported = [type(event) async for event in events]
        print(StreamLost in reported, ProgressEvent in reported, reported[-1] is CompletedEvent)
        [path] = await (await client.result(task)).download_to("out")
        print(path.stat().st_size > 0)
        sim.tell(story().fails("no memory"))
        try:
            await client.run("text-to-image", {"prompt": "a fox"})
        except TaskFailedError as error:
            print(error.error)
        try:
            client.handle("../x")
        except InvalidInputError as error:
            print(type(error).__name__)
        jobs = [Job(key=n, workflow="text-to-image", parameters={"prompt": n}) for n in "ab"]
        async with Batch(client, "ledger.sqlite") as batch:
            print(sorted([outcome.key async for outcome in batch.run(jobs)]))


print(sys.flags.optimize, main.__doc__ is None and CyberunClient.__doc__ is None)
with Simulator(speed=20.0) as sim:
    asyncio.run(main(sim))
"""


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("-OO",), ()], ids=["without-docstrings", "plain"])
def test_a_program_does_the_same_without_assertions(flags: tuple[str, ...], tmp_path: Path) -> None:
    """Streams, results, errors and batches rest on no ``assert`` and on no docstring."""
    run = subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", PROGRAM],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == [
        "2 True" if flags else "0 False",
        "True True True",
        "True",
        "no memory",
        "InvalidInputError",
        "['a', 'b']",
    ]
