"""Batches against the simulator: what comes out, and what is taken up again."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from cyberun_async import CyberunClient, WatchPolicy
from cyberun_async.batch import Batch, BatchPolicy, Job, JobOutcome, JobState
from cyberun_async.testing import Simulator, TaskPlan


SHORT = TaskPlan(pending=0.01, waiting=0.01, queued=0.01, steps=2, step_seconds=0.01)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(seed=5, default_plan=SHORT) as simulator:
        yield simulator


def client_of(sim: Simulator) -> CyberunClient:
    return CyberunClient(sim.key, base_url=sim.url, watch_policy=WatchPolicy(poll_interval=0.05))


def jobs(count: int) -> Iterator[Job]:
    for number in range(count):
        yield Job(
            key=f"job-{number}",
            workflow="text-to-image",
            parameters={"prompt": f"fox {number}"},
        )


async def outcomes_of(batch: Batch, count: int) -> list[JobOutcome]:
    return [outcome async for outcome in batch.run(jobs(count))]


async def test_every_job_gets_one_outcome(sim: Simulator, tmp_path: Path) -> None:
    """All jobs are submitted once, and each outcome comes once."""
    async with (
        client_of(sim) as client,
        Batch(client, tmp_path / "runs.sqlite", policy=BatchPolicy(concurrency=10)) as batch,
    ):
        found = await outcomes_of(batch, 30)
        report = await batch.report()

    assert sorted(o.key for o in found) == sorted(job.key for job in jobs(30))
    assert {outcome.state for outcome in found} == {JobState.COMPLETED}
    assert len(sim.submissions) == 30
    assert report.is_finished
    assert report.total == 30


async def test_a_finished_batch_sends_nothing(sim: Simulator, tmp_path: Path) -> None:
    """Run again, what is recorded comes from the ledger alone."""
    async with client_of(sim) as client:
        async with Batch(client, tmp_path / "runs.sqlite") as batch:
            first = await outcomes_of(batch, 30)
        sim.forget()
        async with Batch(client, tmp_path / "runs.sqlite") as batch:
            second = await outcomes_of(batch, 30)

    assert sim.requests == []
    assert {o.key: o.task_id for o in first} == {o.key: o.task_id for o in second}
    assert all(outcome.is_replayed for outcome in second)


async def test_what_is_under_way_is_known_by_its_task(sim: Simulator, tmp_path: Path) -> None:
    """Each running task has its job's key; one that is submitted again, under its new id."""
    sim.plan(TaskPlan(steps=1, step_seconds=0.01, outcome="failed"))
    sim.default_plan = TaskPlan(forever_waiting=True)
    policy = BatchPolicy(concurrency=2, max_submissions_per_job=2)
    async with (
        client_of(sim) as client,
        Batch(client, tmp_path / "runs.sqlite", policy=policy) as batch,
        anyio.create_task_group() as group,
    ):
        before = dict(batch.in_flight)
        group.start_soon(outcomes_of, batch, 2)
        while len(sim.tasks) < 3 or set(batch.in_flight) != {task.id for task in sim.tasks[1:]}:
            await anyio.sleep(0.01)
        meanwhile = dict(batch.in_flight)
        for task in sim.tasks[1:]:
            task.complete()
    after = dict(batch.in_flight)

    prompts = {task.id: str(task.parameters["prompt"]) for task in sim.tasks[1:]}
    assert (before, after) == ({}, {})
    assert meanwhile == {id_: prompt.replace("fox ", "job-") for id_, prompt in prompts.items()}


async def test_files_are_downloaded_job_by_job(sim: Simulator, tmp_path: Path) -> None:
    """Each job has a folder of its own with its files."""
    policy = BatchPolicy(download_to=tmp_path / "out")
    async with (
        client_of(sim) as client,
        Batch(client, tmp_path / "runs.sqlite", policy=policy) as batch,
    ):
        found = await outcomes_of(batch, 5)

    paths = [path for outcome in found for path in outcome.files]
    assert len(paths) == 5
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert sorted(path.parent.name for path in paths) == [f"job-{n}" for n in range(5)]
