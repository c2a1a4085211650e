"""A batch that begins while the service is away, or asks for less, waits as long as any other."""

from pathlib import Path

import pytest

from cyberun_async import RetryPolicy, ServiceUnavailableError
from cyberun_async.batch import Batch, BatchPolicy, InvalidJobsError, Job
from cyberun_async.testing import Simulator, TaskPlan, faults

from ..whole.kit import VIRTUAL, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


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


@pytest.mark.parametrize("status", [200, 401, 404, 410])
async def test_a_page_in_the_place_of_a_definition_is_an_outage(
    status: int, tmp_path: Path
) -> None:
    """A proxy cannot say that a workflow does not exist."""
    sim = Simulator(seed=7, default_plan=QUICK)
    page = "<html>nginx</html>"
    rule = sim.faults.add("workflow", faults.refuse(status, body=page), times=1)

    assert await states_of(sim, tmp_path / "ledger.sqlite", 60.0) == ["completed"]
    assert rule.fired == 1


async def test_the_services_own_word_that_a_workflow_is_missing_is_final(tmp_path: Path) -> None:
    """It is a fault of the job, named at once."""
    sim = Simulator(seed=7, default_plan=QUICK)
    sim.faults.add("workflow", faults.refuse(404, "no such workflow"), times=None)

    with pytest.raises(InvalidJobsError, match="there is no workflow"):
        await states_of(sim, tmp_path / "ledger.sqlite", 60.0)
