"""One reader's own view of a watch: where it stands, what it may still get, and its collection."""

import gc
import warnings
from collections.abc import Callable
from typing import Any, Final

import anyio
import attrs
import pytest

from cyberun_async import (
    ClientClosedError,
    ClientStateError,
    CompletedEvent,
    CyberunClient,
    Limits,
    ProgressEvent,
    ResumeToken,
    StatusEvent,
)
from cyberun_async.testing import Simulator, TaskPlan

from ..whole.kit import COURSE, SLOW, VIRTUAL, ended_watch, follow, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


PLAN: Final = attrs.evolve(SLOW, steps=20, output={"answer": 42})


async def test_a_token_is_that_of_what_was_read() -> None:
    """A reader that leaves with statuses unread receives them when it continues."""
    sim = Simulator(seed=7)
    live = sim.create_task(PLAN)
    read: list[str] = []
    async with virtual_client(sim) as client:
        async with client.watch(live.id) as events:
            first = await anext(events)
            assert isinstance(first, StatusEvent)
            read.append(first.status)
            await anyio.sleep(10)  # meanwhile the task has begun to run
            token = events.token()
        watched = await ended_watch(client, token)

    assert (token.status, token.last_event_id) == (COURSE[0], None)
    assert watched.statuses[-1] == (1, "running")
    assert isinstance(watched.end, CompletedEvent)


async def test_a_token_of_what_was_left_stays_where_it_was() -> None:
    """Who reads on meanwhile moves the watch, but not the token of who has left it."""
    sim = Simulator(seed=7)
    live = sim.create_task(PLAN)
    async with virtual_client(sim) as client, client.watch(live.id) as others:
        async with client.watch(live.id) as events:
            await anext(events)
        left = events.token()
        while not isinstance(await anext(others), ProgressEvent):
            pass
        token = events.token()

    assert token == left
    assert (token.status, others.token().status) == (COURSE[0], "running")


async def test_closing_from_another_task_ends_the_reader() -> None:
    """A loop that waits for a quiet task ends when its watch is closed, and not as at its end."""
    sim = Simulator(seed=7)
    live = sim.create_task(TaskPlan(waiting=3600))
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        events = client.watch(live.id)

        async def read() -> None:
            with pytest.raises(ClientStateError, match="closed") as caught:
                async for _ in events:
                    pass
            raised.append(caught.value)

        raised: list[ClientStateError] = []
        group.start_soon(read)
        await anyio.sleep(10)
        with anyio.fail_after(1):
            await events.aclose()

    assert [error.resume_token for error in raised] == [events.token()]


async def test_a_token_of_an_attempt_not_read_goes_on_before_it() -> None:
    """Attempts that were received but not read are counted again after going on."""
    sim = Simulator(seed=7)
    live = sim.create_task(PLAN)
    async with virtual_client(sim) as client:
        async with client.watch(live.id) as events:
            await anext(events)
            await anyio.sleep(10)
            live.retry()
            await anyio.sleep(130)
            token = events.token()
            attempt = events._follower.watch.attempt if events._follower else 0
        live.status("running")
        async with client.watch(token) as events:
            seen: list[Any] = []
            with anyio.fail_after(120):
                while not seen or seen[-1].attempt == 1:
                    seen.append(await anext(events))

    assert (attempt, token.attempt) == (2, 1)
    assert (seen[-1].attempt, seen[-1].status) == (2, "running")


async def test_a_slow_reader_gets_every_status_and_the_newest_progress() -> None:
    """Sleeping through two thousand progress events costs those only, and a bounded memory."""
    sim = Simulator(seed=7)
    live = sim.create_task(TaskPlan(steps=2000, step_seconds=0.1, output={"answer": 42}))
    async with virtual_client(sim, limits=Limits(reader_capacity=8)) as client:
        async with client.watch(live.id) as events:
            await anext(events)
            await anyio.sleep(1000)
            waiting = len(events._reader._buffer)
            watched = await follow(events)
            dropped_progress = events.dropped_progress

    assert waiting <= 8
    assert dropped_progress > 1900
    assert watched.statuses[-1] == (1, "running")
    assert watched.progress[-1].step_current == 2000
    assert isinstance(watched.end, CompletedEvent)


async def test_readers_under_a_closing_client_get_what_came_and_then_the_error() -> None:
    """What was received before the end of the client is still delivered, then a token."""
    sim = Simulator(seed=7)
    live = sim.create_task(PLAN)
    client = virtual_client(sim)
    async with client:
        events = client.watch(live.id)
        await anext(events)
        await anyio.sleep(10)
    seen: list[Any] = []
    with pytest.raises(ClientClosedError) as caught:
        while True:
            seen.append(await anext(events))

    assert [event.status for event in seen if isinstance(event, StatusEvent)][-1] == "running"
    assert caught.value.resume_token == ResumeToken(
        task_id=live.id, status="running", attempt=1, retry_count=0
    )


async def test_an_abandoned_iterator_warns_when_it_is_collected() -> None:
    """It says how to do better; the others of its task are not disturbed."""
    sim = Simulator(seed=7)
    live = sim.create_task(PLAN)
    async with virtual_client(sim) as client:
        events = client.watch(live.id)
        await anext(events)
        with pytest.warns(ResourceWarning, match="async with"):
            del events
            gc.collect()
        watched = await ended_watch(client, live.id)

    assert isinstance(watched.end, CompletedEvent)


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(lambda events: events.aclose(), id="closed"),
        pytest.param(lambda events: follow(events), id="read to its end"),
    ],
)
async def test_an_iterator_that_was_closed_or_read_says_nothing(leave: Callable[..., Any]) -> None:
    """Neither does one that was never begun."""
    sim = Simulator(seed=7)
    live = sim.create_task(PLAN)
    async with virtual_client(sim) as client:
        events = client.watch(live.id)
        async with events:
            await leave(events)
        unbegun = client.watch(live.id)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            del events, unbegun
            gc.collect()


async def test_closing_twice_at_once_waits_for_the_same_end() -> None:
    """Two tasks may close one watch; afterwards its connection is back."""
    sim = Simulator(seed=7)
    live = sim.create_task(PLAN)
    async with virtual_client(sim) as client:
        events = client.watch(live.id)
        async for event in events:
            if isinstance(event, ProgressEvent):
                break
        async with anyio.create_task_group() as group:
            group.start_soon(events.aclose)
            group.start_soon(events.aclose)
        assert sim.open_streams == 0
        assert client.statistics().followed_tasks == 0


async def test_its_repr_shows_where_it_stands(anyio_backend: Any) -> None:
    """The phase is in it from beginning to end; no key is."""
    sim = Simulator(seed=7)
    live = sim.create_task(SLOW)
    client: CyberunClient
    async with virtual_client(sim) as client:
        events = client.watch(live.id)
        shown = [repr(events)]
        shown += [repr(events) async for _ in events]
        shown.append(repr(events))

    name = f"<EventStream of task {live.id}: "
    assert shown[0] == f"{name}not begun>"
    assert f"{name}reading>" in shown
    assert shown[-1] == f"{name}closed>"
    assert sim.key not in "".join(shown)
