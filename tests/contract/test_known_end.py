"""A task that is known to have ended is reported as ended, whatever becomes of its output."""

import anyio
import pytest

from cyberun_async import CompletedEvent, ResumeToken, WatchPolicy
from cyberun_async.testing import Simulator, TaskPlan, faults

from ..whole.kit import VIRTUAL, ended_watch, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


PLAN = TaskPlan(steps=10, step_seconds=0.1)
"""A life of 1.25 seconds."""


def silent_results() -> Simulator:
    """Return a service without streams, so that ends are polled, whose results are not answered."""
    sim = Simulator(seed=7)
    sim.faults.add("events", faults.refuse(405), times=None)
    sim.faults.add("result", faults.hold(before=10_000), times=None)
    return sim


@pytest.mark.parametrize("seconds", [4.0, None])
async def test_a_watch_has_its_end_though_the_result_is_silent(seconds: float | None) -> None:
    """Within 30 s, or `output_timeout`, the end is delivered, and says why it has no output."""
    sim = silent_results()
    task_id = sim.create_task(PLAN).id
    policy = WatchPolicy() if seconds is None else WatchPolicy(output_timeout=seconds)
    async with virtual_client(sim, watch_policy=policy) as client:
        begun = anyio.current_time()
        watched = await ended_watch(client, task_id)
        took = anyio.current_time() - begun

    assert isinstance(watched.end, CompletedEvent)
    assert watched.end.output is None
    assert "not answered within" in (watched.end.output_error or "")
    assert (seconds or 30) <= took <= (seconds or 30) + 5


async def test_a_wait_beside_a_watch_needs_no_output() -> None:
    """While a watch still waits for the result, a wait has ended, and nothing is cancelled."""
    sim = silent_results()
    task_id = sim.create_task(PLAN).id
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        group.start_soon(ended_watch, client, task_id)
        begun = anyio.current_time()
        final = await client.wait(task_id, timeout=10, cancel_on_timeout=True)
        took = anyio.current_time() - begun
        late = await client.wait(task_id, timeout=0.5)
        group.cancel_scope.cancel()

    assert (final.status, late.status) == ("completed", "completed")
    assert took < 5
    assert sim.requests_to("cancel") == []


@pytest.mark.parametrize("status", [None, 503, 403])
async def test_an_end_that_the_stream_brought_needs_no_status_check(status: int | None) -> None:
    """Where the status is not answered, or refused, a wait ends by what its stream said."""
    sim = Simulator(seed=7)
    task_id = sim.create_task(PLAN).id
    fault = faults.hold(before=10_000) if status is None else faults.refuse(status)
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        group.start_soon(ended_watch, client, task_id)
        begun = anyio.current_time()
        await anyio.sleep(0.9)
        sim.faults.add("task", fault, times=None)
        final = await client.wait(task_id, timeout=5)
        took = anyio.current_time() - begun
        group.cancel_scope.cancel()

    assert final.status == "completed"
    assert took <= 0.9 + 5 + 0.1


async def test_a_watch_left_while_its_result_is_read_cancels_nothing() -> None:
    """`cancel_on_exit` is for tasks that go on; this one has ended."""
    sim = silent_results()
    task_id = sim.create_task(PLAN).id
    async with virtual_client(sim) as client:
        with anyio.move_on_after(8):
            async with client.watch(task_id, cancel_on_exit=True) as events:
                async for _ in events:
                    pass

    assert sim.requests_to("result") != []
    assert sim.requests_to("cancel") == []


async def test_a_client_drains_tasks_whose_result_is_silent() -> None:
    """Closing with a drain waits for the output as long as the watch would."""
    sim = silent_results()
    task_id = sim.create_task(PLAN).id
    async with anyio.create_task_group() as group:
        client = await virtual_client(sim).__aenter__()
        watched: list[object] = []

        async def watch() -> None:
            watched.append((await ended_watch(client, ResumeToken(task_id=task_id))).end)

        group.start_soon(watch)
        await anyio.sleep(0.1)
        begun = anyio.current_time()
        await client.aclose(drain=60)
        took = anyio.current_time() - begun

    assert took < 40
    assert [type(end) for end in watched] == [CompletedEvent]
