"""A read that is cancelled in the very moment in which its watch fails."""

import asyncio

import pytest

from cyberun_async import ClientStateError, PermissionDeniedError
from cyberun_async.testing import Simulator, faults

from ..stress.steps import Steps
from ..whole.kit import SLOW, virtual_backend, virtual_client


MOST_STEPS = 200


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    # The steps of asyncio's tasks are what is cancelled at.
    return virtual_backend("virtual-asyncio")


async def cancelled_at(step: int) -> bool:
    """Read a watch that fails, cancel the read there, and return whether it got so far."""
    sim = Simulator(seed=7)
    # The stream stays open, so that there is something to close when the watch fails.
    sim.faults.add("events", faults.stall_after(events=1))
    sim.faults.add("task", faults.refuse(403), times=None)
    live = sim.create_task(SLOW)
    steps = Steps(step)
    async with virtual_client(sim) as client, client.watch(live.id) as events:
        assert (await anext(events)).task_id == live.id
        reading = asyncio.create_task(steps.run(events.__anext__()))
        try:
            await reading
        except PermissionDeniedError:
            pass
        except asyncio.CancelledError:
            with pytest.raises(PermissionDeniedError):
                await anext(events)
        with pytest.raises(ClientStateError, match="closed after PermissionDeniedError"):
            await anext(events)
    return steps.reached


async def test_a_cancelled_read_leaves_the_error_to_the_next_one() -> None:
    """The one typed error of a watch is raised once, whenever its reader was cancelled."""
    for step in range(1, MOST_STEPS):
        if not await cancelled_at(step):
            assert step > 1
            return
    pytest.fail("it never ran to its end")
