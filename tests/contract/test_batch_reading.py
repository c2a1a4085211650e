"""The outcomes of a batch are read as everything else is: given up, and read on."""

import asyncio
from pathlib import Path

import anyio
import pytest

from cyberun_async import ClientStateError, CyberunClient, WrongEventLoopError
from cyberun_async.batch import Batch, Job
from cyberun_async.testing import Simulator, TaskPlan


JOBS = [
    Job(key=f"job {n}", workflow="text-to-image", parameters={"prompt": f"fox {n}"})
    for n in range(6)
]


async def test_outcomes_are_read_on_after_a_read_that_timed_out(
    client: CyberunClient, tmp_path: Path
) -> None:
    """Reads of a fiftieth of a second see the outcome of every job, once."""
    found, given_up = list[str](), 0
    async with Batch(client, tmp_path / "runs.sqlite") as batch, batch.run(JOBS) as outcomes:
        is_over = False
        with anyio.fail_after(60):
            while not is_over:
                with anyio.move_on_after(0.02) as scope:
                    try:
                        found.append((await anext(outcomes)).key)
                    except StopAsyncIteration:
                        is_over = True
                given_up += scope.cancelled_caught
        with pytest.raises(StopAsyncIteration):
            await anext(outcomes)

    assert sorted(found) == sorted(job.key for job in JOBS)
    assert given_up > 3


@pytest.mark.parametrize("entered", [True, False], ids=["left", "cancelled outside of a block"])
async def test_a_run_that_was_closed_says_so(
    sim: Simulator, client: CyberunClient, tmp_path: Path, entered: bool
) -> None:
    """It does not look as if all jobs had an outcome."""
    sim.default_plan = TaskPlan(forever_waiting=True)
    async with Batch(client, tmp_path / "runs.sqlite") as batch:
        outcomes = batch.run(JOBS)
        if entered:
            async with outcomes:
                with anyio.move_on_after(0.3):
                    await anext(outcomes)
        else:
            with anyio.move_on_after(0.3):
                await anext(outcomes)
        with pytest.raises(ClientStateError, match="closed"):
            await anext(outcomes)


async def test_closing_a_run_in_another_task_is_no_end(
    sim: Simulator, client: CyberunClient, tmp_path: Path
) -> None:
    """Who waits for an outcome learns that somebody closed the run."""
    sim.default_plan = TaskPlan(forever_waiting=True)
    async with (
        Batch(client, tmp_path / "runs.sqlite") as batch,
        batch.run(JOBS) as outcomes,
        anyio.create_task_group() as group,
    ):

        async def close() -> None:
            await anyio.sleep(0.3)
            await outcomes.aclose()

        group.start_soon(close)
        with anyio.fail_after(30), pytest.raises(ClientStateError, match="closed"):
            await anext(outcomes)


async def test_a_run_on_another_loop_is_refused_at_once(
    sim: Simulator, client: CyberunClient, tmp_path: Path
) -> None:
    """Neither reading nor closing it there waits for what only its own loop can do."""
    sim.default_plan = TaskPlan(forever_waiting=True)
    refused = list[str]()

    async def elsewhere() -> None:
        for name, call in {"read": lambda: anext(outcomes), "close": outcomes.aclose}.items():
            try:
                await call()
            except WrongEventLoopError:
                refused.append(name)

    async with Batch(client, tmp_path / "runs.sqlite") as batch, batch.run(JOBS) as outcomes:
        with anyio.move_on_after(0.3):
            await anext(outcomes)
        with anyio.fail_after(30):
            await anyio.to_thread.run_sync(lambda: asyncio.run(elsewhere()))

    assert refused == ["read", "close"]
