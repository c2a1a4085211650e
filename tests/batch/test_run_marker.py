"""Several batches in turn on one run of the caller's: what was reported or done once stays."""

from pathlib import Path

import anyio
import pytest

from cyberun_async.batch import Batch, BatchPolicy, JobOutcome, UncertainSubmissionsError
from cyberun_async.batch._environment import Environment
from cyberun_async.testing import Simulator, faults

from ..whole.kit import until
from .kit import client_of, jobs


async def run_of(sim: Simulator, ledger: Path, marker: str | None) -> list[JobOutcome]:
    """Run four jobs in the run of that marker; a stop leaves no grace."""
    policy = BatchPolicy(settle_time=0.0, on_uncertain="resubmit", stop_grace=0.0)
    async with client_of(sim) as client:
        batch = Batch(client, ledger, policy=policy)
        batch._environment = Environment(run_marker=marker)
        async with batch:
            return [outcome async for outcome in batch.run(jobs(4))]


async def test_what_was_reported_in_a_run_is_not_tried_again_in_it(
    sim: Simulator, ledger: Path
) -> None:
    """A rejected job is reported the same each time, and the next run tries it once more."""
    sim.faults.add("run", faults.refuse(400), when=lambda request: b"fox 1" in request.body)
    states = [
        {outcome.key: str(outcome.state) for outcome in await run_of(sim, ledger, marker)}["job-1"]
        for marker in ("monday", "monday", "tuesday")
    ]

    assert states == ["rejected", "rejected", "completed"]
    assert len(sim.submissions) == 4


async def test_each_run_is_its_own_where_no_marker_is_given(sim: Simulator, ledger: Path) -> None:
    """Run again, a batch by itself tries what was rejected once more."""
    sim.faults.add("run", faults.refuse(400), times=1)
    await run_of(sim, ledger, None)
    again = await run_of(sim, ledger, None)

    assert {str(outcome.state) for outcome in again} == {"completed"}


async def test_answers_lost_again_in_a_run_are_not_billed_again(
    sim: Simulator, ledger: Path
) -> None:
    """The batch that takes over knows what the one before it had submitted again."""
    for action in (faults.abandon(), faults.hold(after=30.0), faults.abandon()):
        sim.faults.add("run", action, times=1, when=lambda request: b"fox 1" in request.body)

    def submitted() -> int:
        return sum(each.parameters["prompt"] == "fox 1" for each in sim.submissions)

    async with anyio.create_task_group() as group:
        group.start_soon(run_of, sim, ledger, "monday")
        await until(lambda: submitted() == 2)
        group.cancel_scope.cancel()
    with pytest.raises(UncertainSubmissionsError):
        await run_of(sim, ledger, "monday")
    assert submitted() == 2

    with pytest.raises(UncertainSubmissionsError):
        await run_of(sim, ledger, "tuesday")
    assert submitted() == 3
