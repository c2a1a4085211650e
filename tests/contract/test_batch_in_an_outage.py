"""A batch that begins while the service is away, or asks for less, waits as long as any other."""

from pathlib import Path

import pytest

from cyberun_async import RetryPolicy, ServiceUnavailableError
from cyberun_async.batch import Batch, BatchPolicy, Job
from cyberun_async.testing import Simulator, TaskPlan, faults

from ..whole.kit import virtual_client


QUICK = TaskPlan(pending=0.01, waiting=0.01, queued=0.01, steps=1, step_seconds=0.01)
JOB = Job(key="a", workflow="text-to-image", parameters={"prompt": "a fox"})


async def states_of(sim: Simulator, ledger: Path, patience: float) -> list[str]:
    policy = BatchPolicy(patience=patience, settle_time=0.0, on_uncertain="resubmit")
    async with (
        virtual_client(sim, retries=RetryPolicy(max_attempts=1)) as client,
        Batch(client, ledger, policy=policy) as batch,
    ):
        return [str(outcome.state) async for outcome in batch.run([JOB])]


@pytest.mark.parametrize("status", [429, 503])
async def test_the_definition_of_a_workflow_is_waited_for(status: int, tmp_path: Path) -> None:
    """Neither an outage nor a rate limit ends a batch at its first request."""
    sim = Simulator(seed=7, default_plan=QUICK)
    rule = sim.faults.add("workflow", faults.refuse(status, "later"), times=1)

    assert await states_of(sim, tmp_path / "ledger.sqlite", 60.0) == ["completed"]
    assert rule.fired == 1


async def test_the_task_list_is_waited_for(tmp_path: Path) -> None:
    """The look for a task that may exist is repeated, too."""
    sim = Simulator(seed=7, default_plan=QUICK)
    sim.faults.add("run", faults.abandon())
    rule = sim.faults.add("tasks", faults.refuse(503, "later"), times=1)

    assert await states_of(sim, tmp_path / "ledger.sqlite", 60.0) == ["completed"]
    assert rule.fired == 1


async def test_that_patience_has_an_end(tmp_path: Path) -> None:
    """A service that stays away ends the batch, which has sent nothing."""
    sim = Simulator(seed=7, default_plan=QUICK)
    sim.faults.add("workflow", faults.refuse(503, "closed"), times=None)

    with pytest.raises(ServiceUnavailableError):
        await states_of(sim, tmp_path / "ledger.sqlite", 0.0)
    assert sim.submissions == []
