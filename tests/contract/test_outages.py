"""How a watch bears outages: whose silence it is, and how it comes back to its stream."""

from collections.abc import Callable

import anyio
import pytest

from cyberun_async import CyberunClient, Gap, Notice, PollingStarted, WatchPolicy
from cyberun_async.testing import RecordedRequest, Simulator, TaskPlan, faults

from ..whole.kit import VIRTUAL, ended_watch, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


def during(begin: float, end: float) -> Callable[[RecordedRequest], bool]:
    return lambda request: begin <= request.at < end


async def test_after_a_general_outage_streams_come_back_before_they_are_tried_by_themselves() -> (
    None
):
    """Six seconds without anything; then all watches stream again within ten."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(TaskPlan(steps=40, step_seconds=1)).id for _ in range(20)]
    sim.faults.add("*", faults.hang_up(), times=None, when=during(3, 9))
    polled: set[str] = set()

    async def watch(client: CyberunClient, task: str) -> None:
        watched = await ended_watch(client, task, notices=True)
        assert watched.end.status == "completed"
        if any(isinstance(item, PollingStarted) for item in watched.items):
            polled.add(task)

    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        for task in ids:
            group.start_soon(watch, client, task)
        await anyio.sleep(3)
        sim.drop_streams()

    back = {
        request.task_id: request.at
        for request in reversed(sim.requests)
        if request.endpoint == "events" and request.at >= 9
    }
    assert polled
    assert set(back) == set(ids)
    assert max(back.values()) < 9 + 10


async def test_a_proxy_that_holds_the_headers_back_is_named() -> None:
    """A life of twenty seconds is not over before anybody hears why there is no progress."""
    sim = Simulator(seed=7)
    live = sim.create_task(
        TaskPlan(pending=1, waiting=1, queued=1, steps=17, step_seconds=1, output={"a": 1})
    )
    sim.faults.add("events", faults.hold(before=1e6), times=None)
    said: list[tuple[float, Notice]] = []
    async with virtual_client(
        sim, on_notice=lambda notice: said.append((anyio.current_time(), notice))
    ) as client:
        watched = await ended_watch(client, live.id)

    assert watched.end.status == "completed"
    causes = [(at, one.cause) for at, one in said if isinstance(one, PollingStarted)]
    assert causes
    assert causes[0][0] < 12
    assert "buffering proxy" in causes[0][1]


async def test_progress_that_a_proxy_held_back_counts_as_a_gap() -> None:
    """Once the stream can be had again, it is known for how long there was none."""
    sim = Simulator(seed=7)
    live = sim.create_task(TaskPlan(steps=60, step_seconds=1, output={"a": 1}))
    sim.faults.add("events", faults.hold(before=1e6), times=None, when=during(0, 15))
    async with virtual_client(sim) as client:
        watched = await ended_watch(client, live.id, notices=True)

    gaps = [item.seconds for item in watched.items if isinstance(item, Gap)]
    assert len(gaps) == 1
    assert gaps[0] > 15


@pytest.mark.parametrize("way", ["watch", "wait"])
async def test_silence_that_the_service_asked_for_is_no_outage(way: str) -> None:
    """A `Retry-After` longer than the patience of the policy is waited for all the same."""
    sim = Simulator(seed=7)
    live = sim.create_task(TaskPlan(steps=90, step_seconds=1, output={"a": 1}))
    busy = faults.refuse(503, "restarting", retry_after=40)
    for endpoint in ("task", "events", "tasks"):
        sim.faults.add(endpoint, busy, times=None, when=during(0, 35))
    policy = WatchPolicy(max_outage=20.0, connect_within=20.0)
    async with virtual_client(sim, watch_policy=policy) as client:
        if way == "wait":
            assert (await client.wait(live.id)).status == "completed"
        else:
            assert (await ended_watch(client, live.id)).end.status == "completed"
