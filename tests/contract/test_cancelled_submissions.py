"""A run that is cancelled while its submission is being answered leaves no paid task behind."""

import logging

import anyio
import pytest

from cyberun_async.testing import Simulator, TaskPlan, faults

from ..whole.kit import VIRTUAL, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


@pytest.mark.parametrize("timeout", [None, 60.0])
async def test_cancel_on_exit_follows_a_late_answer(
    timeout: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The task that is accepted after the call has gone is logged, and cancelled."""
    sim = Simulator(seed=7, default_plan=TaskPlan(steps=10, step_seconds=10))
    sim.faults.add("run", faults.hold(after=3))
    async with virtual_client(sim) as client:
        with caplog.at_level(logging.WARNING), anyio.move_on_after(1) as scope:
            await client.run("text-to-image", {"prompt": "x"}, timeout=timeout, cancel_on_exit=True)
        left_at = anyio.current_time()
        await anyio.sleep(7)

    assert scope.cancelled_caught
    assert left_at < 2
    assert len(sim.submissions) == 1
    assert len(sim.requests_to("cancel")) == 1
    assert "accepted after all" in caplog.text
