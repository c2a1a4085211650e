"""A disk that is full: a clear error, nothing lost, and the batch goes on when there is room."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyberun_async.batch import LedgerWriteError, UncertainSubmissionsError
from cyberun_async.testing import Simulator

from .kit import client_of, jobs, query, quick_service, run_batch


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    if os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_loses_nothing(small_disk: Path) -> None:
    """The error says so and names what was accepted meanwhile; with room the batch goes on."""
    sim = quick_service()
    ledger = small_disk / "runs.sqlite"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(8 * 1024 * 1024 - 180_000))

    async with client_of(sim) as client:
        full = await run_batch(client, ledger, jobs(100), concurrency=5)
        assert isinstance(full.error, LedgerWriteError)
        assert "the disk is full; free some room and run again" in str(full.error)
        made = {each.task_id for each in sim.submissions}
        noted = {row[0] for row in query(ledger, "SELECT task_id FROM submissions")}
        assert made - noted == {task for _, task in full.error.unrecorded}
        ballast.unlink()
        again = await run_batch(client, ledger, jobs(100), concurrency=5)
        if isinstance(again.error, UncertainSubmissionsError):
            named = {task for fate in again.error.fates for task in fate.candidates}
            assert made - noted <= named
            again = await run_batch(client, ledger, jobs(100), on_uncertain="skip")

    assert again.error is None
    assert len(again.states) == 100
    assert len(sim.submissions) <= 100


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
import anyio
from pathlib import Path
from cyberun_async import CyberunClient, WatchPolicy
from cyberun_async.batch import Batch, BatchPolicy, Job, LedgerWriteError
url, key, ledger = sys.argv[1:]
async def main():
    async with (
        CyberunClient(key, base_url=url, watch_policy=WatchPolicy(poll_interval=0.02)) as client,
        Batch(client, ledger, policy=BatchPolicy(concurrency=5)) as batch,
    ):
        jobs = [
            Job(
                key=f"job-{n}",
                workflow="text-to-image",
                parameters={"prompt": f"fox {n}", "steps": 2},
            )
            for n in range(100)
        ]
        try:
            async for outcome in batch.run(jobs):
                pass
        except LedgerWriteError as error:
            print("clear:", error)
anyio.run(main)
"""


@pytest.mark.asyncio_only("the batch runs in a process of its own")
async def test_a_file_that_may_not_grow_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files is reported like a full disk, and what was written stays."""
    ledger = tmp_path / "runs.sqlite"
    template = quick_service()
    with Simulator(default_plan=template.default_plan) as sim:
        run = subprocess.run(
            [sys.executable, "-c", LIMITED, sim.url, sim.key, str(ledger)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.stdout.startswith("clear: the ledger"), run.stderr
        noted = {row[0] for row in query(ledger, "SELECT task_id FROM submissions")}
        for orphan in {each.task_id for each in sim.submissions} - noted:
            assert orphan in run.stdout
        async with client_of(sim) as client:
            again = await run_batch(
                client, ledger, jobs(100), on_uncertain="skip", on_probably_not_submitted="resubmit"
            )

    assert again.error is None
    assert len(again.states) == 100
    assert len(sim.submissions) <= 100
