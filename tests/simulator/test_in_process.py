"""The simulator without a server, in virtual time and under trio."""

import anyio
import httpx
import pytest
import trio.testing

from cyberun_async.testing import (
    Behaviour,
    Simulator,
    StreamingASGITransport,
    TaskPlan,
    VirtualClockLoop,
    faults,
)


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"loop_factory": VirtualClockLoop}), id="asyncio"),
        pytest.param(("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}), id="trio"),
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    chosen: tuple[str, dict[str, object]] = request.param
    return chosen


def client_of(sim: Simulator) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=StreamingASGITransport(sim.app),
        base_url=sim.url,
        headers={"Authorization": f"Bearer {sim.key}"},
        timeout=None,
    )


async def lines_of(client: httpx.AsyncClient, task_id: str) -> list[tuple[float, str]]:
    async with client.stream("GET", f"/r/tasks/{task_id}/events") as answer:
        return [(anyio.current_time(), line) async for line in answer.aiter_lines()]


async def test_a_day_passes_in_no_time() -> None:
    """Events come at exactly the planned moments of the virtual clock."""
    sim = Simulator()
    plan = TaskPlan(pending=3600, waiting=7200, queued=60, steps=24, step_seconds=3600)
    async with client_of(sim) as client:
        began = anyio.current_time()
        lines = await lines_of(client, sim.create_task(plan).id)
    times = [round(at - began) for at, line in lines if line.startswith("event")]

    assert times[:5] == [0, 3600, 10800, 10860, 14460]
    assert times[-1] == 10860 + 24 * 3600


async def test_speed_divides_the_life_of_tasks_only() -> None:
    """A faster simulator shortens plans, while heartbeats keep real seconds."""
    sim = Simulator(speed=10, behaviour=Behaviour(heartbeat=1.0))
    plan = TaskPlan(pending=100, waiting=0, queued=0, steps=1, step_seconds=1)
    async with client_of(sim) as client:
        lines = await lines_of(client, sim.create_task(plan).id)

    assert sum(line.startswith(":") for _, line in lines) in {9, 10}


async def test_a_cut_shows_in_process_too() -> None:
    """Cut streams and unanswered requests are protocol errors in process."""
    sim = Simulator()
    sim.faults.add("events", faults.drop_after(events=1))
    sim.faults.add("cancel", faults.abandon())
    live = sim.create_task(manual=True)
    async with client_of(sim) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await lines_of(client, live.id)
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(f"/r/tasks/{live.id}/cancel")

    assert live.state == "cancelled"


async def test_a_held_answer_costs_no_real_time() -> None:
    """Delays and stalls run on the same virtual clock."""
    sim = Simulator()
    sim.faults.add("task", faults.hold(after=600))
    sim.faults.add("events", faults.stall_after(events=1, seconds=3600))
    live = sim.create_task(TaskPlan())
    async with client_of(sim) as client:
        began = anyio.current_time()
        await client.get(f"/r/tasks/{live.id}")
        held = anyio.current_time() - began
        late = sim.create_task(TaskPlan(pending=1))
        await lines_of(client, late.id)

    assert round(held) == 600
    assert round(anyio.current_time() - began) == 4200


async def test_a_stream_follows_a_task_driven_by_hand() -> None:
    """Steering from a task of the same loop wakes the stream."""
    sim = Simulator()
    live = sim.create_task(manual=True)
    began = anyio.current_time()
    lines: list[tuple[float, str]] = []

    async def drive() -> None:
        await anyio.sleep(5)
        live.status("running")
        await anyio.sleep(5)
        live.complete()

    async with client_of(sim) as client, anyio.create_task_group() as group:
        group.start_soon(drive)
        lines = await lines_of(client, live.id)

    assert [round(at - began) for at, line in lines if line.startswith("event")] == [0, 5, 10]
    assert sim.open_streams == 0


async def test_a_thousand_streams_are_served_at_once() -> None:
    """Many streams run side by side and all end."""
    sim = Simulator()
    ends: list[str] = []

    async def follow(client: httpx.AsyncClient) -> None:
        lines = await lines_of(client, sim.create_task(TaskPlan(steps=1)).id)
        ends.append([line for _, line in lines if line.startswith("event")][-1])

    async with client_of(sim) as client, anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(follow, client)

    assert ends == ["event: completed"] * 1000
    assert (sim.open_streams, sim.peak_streams) == (0, 1000)
