"""Batches that are run again: what runs already is followed, and progress has one total."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from cyberun_async import CyberunError
from cyberun_async.batch import Batch, BatchPolicy, JobState, UncertainSubmissionsError
from cyberun_async.cluster import ClusterBatch, ClusterError
from cyberun_async.testing import Simulator, TaskPlan, faults

from ..batch.kit import client_of, jobs, quick_service
from ..cluster.fake_dask import Client, install
from ..whole.kit import until


@pytest.fixture(scope="module", params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param  # Dask knows asyncio alone


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install(monkeypatch)
    yield
    sys.modules.pop("cyberun_async.cluster._plugin", None)


@pytest.fixture
def sim() -> Simulator:
    return quick_service()


POLICY = BatchPolicy(settle_time=0.0, concurrency=4)


def batch_in(folder: Path, sim: Simulator, dask: Client | None = None) -> ClusterBatch:
    return ClusterBatch(
        dask or Client(), folder, connect=lambda _: client_of(sim), policy=POLICY, shard_size=10
    )


async def outcomes_of(run: Any) -> tuple[dict[str, str], CyberunError | None]:
    found: dict[str, str] = {}
    try:
        async for outcome in run:
            assert outcome.key not in found
            found[outcome.key] = str(outcome.state)
    except CyberunError as error:
        return found, error
    return found, None


async def left_running(batch: Batch | ClusterBatch, sim: Simulator) -> None:
    """Leave a batch of eight with tasks that run, one unconfirmed, and some unsent."""
    sim.faults.add("run", faults.abandon(), when=lambda request: b"fox 1" in request.body)
    sim.default_plan = TaskPlan(steps=4, step_seconds=0.2)
    async with batch.run(jobs(8)) as run:
        async with anyio.create_task_group() as group:
            group.start_soon(anext, run)
            await until(lambda: len(sim.submissions) >= 4)
            await anyio.sleep(0.1)
            group.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["one ledger", "cluster"])
async def test_what_runs_is_followed_while_others_are_undecided(
    kind: str, sim: Simulator, tmp_path: Path
) -> None:
    """A rerun reports the ends of tasks that it knows, then the open question; it sends nothing."""

    async def run_again(batch: Batch | ClusterBatch) -> None:
        sent = len(sim.submissions)
        running = (await batch.report()).counts[JobState.RUNNING]
        found, error = await outcomes_of(batch.run(jobs(8)))
        assert isinstance(error, UncertainSubmissionsError)
        assert [fate.key for fate in error.fates] == ["job-1"]
        assert set(found) <= {f"job-{n}" for n in range(8) if sim_has(n)} - {"job-1"}
        assert set(found.values()) == {"completed"}
        assert len(found) == running
        assert len(sim.submissions) == sent
        assert (await batch.report()).counts[JobState.RUNNING] == 0

    def sim_has(number: int) -> bool:
        return any(s.parameters["prompt"] == f"fox {number}" for s in sim.submissions)

    if kind == "cluster":
        async with batch_in(tmp_path, sim) as batch:
            await left_running(batch, sim)
        async with batch_in(tmp_path, sim) as batch:
            await run_again(batch)
        return
    async with client_of(sim) as client:
        async with Batch(client, tmp_path / "runs.sqlite", policy=POLICY) as one:
            await left_running(one, sim)
        async with Batch(client, tmp_path / "runs.sqlite", policy=POLICY) as one:
            await run_again(one)


async def test_a_task_that_fails_while_others_are_undecided_is_not_repeated(
    sim: Simulator, tmp_path: Path
) -> None:
    """Nothing is paid for before the question is answered, also where a retry is allowed."""
    policy = BatchPolicy(settle_time=0.0, max_submissions_per_job=3)
    async with client_of(sim) as client:
        async with Batch(client, tmp_path / "runs.sqlite", policy=policy) as batch:
            await left_running(batch, sim)
        for task in sim.tasks:
            task.fail("no memory")
        sent = len(sim.submissions)
        async with Batch(client, tmp_path / "runs.sqlite", policy=policy) as batch:
            found, error = await outcomes_of(batch.run(jobs(8)))

    assert isinstance(error, UncertainSubmissionsError)
    assert set(found.values()) == {"failed"}
    assert len(sim.submissions) == sent


async def test_the_total_of_a_cluster_stays(sim: Simulator, tmp_path: Path) -> None:
    """From when the jobs are read to the end it is their number, in the first run and in others."""

    async def totals(batch: ClusterBatch, count: int) -> set[int]:
        seen: set[int] = set()

        async def look() -> None:
            while True:
                seen.add(batch.progress.total)
                await anyio.sleep(0.002)

        async with anyio.create_task_group() as group:
            run = batch.run(jobs(count))
            group.start_soon(look)
            async for _ in run:
                seen.add(batch.progress.total)
            group.cancel_scope.cancel()
        assert batch.progress.is_finished
        return seen

    async with batch_in(tmp_path, sim) as batch:
        assert await totals(batch, 40) <= {0, 40}
        # A run of fewer, of more, and one by another program.
        assert await totals(batch, 15) <= {40, 15}
        assert await totals(batch, 60) <= {15, 60}
    async with batch_in(tmp_path, sim) as batch:
        assert await totals(batch, 50) <= {0, 50}


@pytest.mark.parametrize("error", [OSError("Timed out trying to connect"), RuntimeError()])
async def test_without_its_scheduler_a_run_says_that_another_continues(
    error: Exception, sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names what Dask said, and what to do."""

    def lost(self: Client, *args: Any, **options: Any) -> Any:
        raise error

    async with batch_in(tmp_path, sim) as batch:
        with monkeypatch.context() as patched:
            patched.setattr(Client, "submit", lost)
            with pytest.raises(ClusterError) as caught:
                async for _ in batch.run(jobs(3)):
                    pass
        found, problem = await outcomes_of(batch.run(jobs(3)))

    assert type(error).__name__ in str(caught.value)
    assert "run again with the same folder to continue" in str(caught.value)
    assert (len(found), problem) == (3, None)
