"""
A read that is given up loses nothing, and an iterator that was left says so.

`asyncio.wait_for`, `asyncio.timeout` and anyio's scopes end reads in different ways.
"""

import asyncio
import gc
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import attrs
import pytest

from cyberun_async import (
    ClientStateError,
    CompletedEvent,
    CyberunClient,
    Event,
    Limits,
    Outcome,
    ProgressUpdate,
    ResumeToken,
    SlowReaderError,
    StatusEvent,
    TaskHandle,
)
from cyberun_async.testing import Simulator, faults

from ..whole.kit import SLOW, VIRTUAL, Watched, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


@pytest.fixture(params=["move_on_after", "wait_for", "timeout"])
def impatient(request: pytest.FixtureRequest) -> Callable[[Any, float], Awaitable[Any]]:
    """Return what reads the next item, or gives up after some seconds and returns None."""
    way = request.param
    if way != "move_on_after" and "trio" in request.node.name:
        pytest.skip(f"{way} is asyncio's")

    async def read(items: Any, seconds: float) -> Any:
        if way == "move_on_after":
            with anyio.move_on_after(seconds):
                return await anext(items)
            return None
        try:
            if way == "wait_for":
                return await asyncio.wait_for(anext(items), seconds)
            async with asyncio.timeout(seconds):
                return await anext(items)
        except TimeoutError:
            return None

    return read


async def all_of(items: Any, read: Callable[[Any, float], Awaitable[Any]], pause: float) -> Any:
    """Read to the end by reads that are given up after *pause* seconds; return how many were."""
    found, given_up = list[Any](), 0
    with anyio.fail_after(3600):
        while True:
            try:
                item = await read(items, pause)
            except StopAsyncIteration:
                return found, given_up
            if item is None:
                given_up += 1
            else:
                found.append(item)


async def test_a_watch_is_read_on_after_a_read_that_timed_out(impatient: Any) -> None:
    """Reads of a third of a second see all that patient ones see, and the paid task goes on."""
    sim = Simulator(seed=7)
    live = sim.create_task(SLOW)
    async with virtual_client(sim) as client:
        async with client.watch(live.id, cancel_on_exit=True) as events:
            found, given_up = await all_of(events, impatient, 0.3)
            streams = len(sim.requests_to("events"))
            with pytest.raises(StopAsyncIteration):
                await anext(events)

    watched = Watched(found)
    assert [status for _, status in watched.statuses] == ["pending", "waiting", "queued", "running"]
    assert [event.step_current for event in watched.progress] == [1, 2, 3, 4]
    assert isinstance(watched.end, CompletedEvent)
    assert given_up > 10
    assert streams == 1
    assert sim.requests_to("cancel") == []


async def test_progress_is_read_on_after_a_read_that_timed_out(impatient: Any) -> None:
    """The view goes on where it was, up to the update with the end."""
    sim = Simulator(seed=7)
    live = sim.create_task(SLOW)
    async with virtual_client(sim) as client:
        async with client.progress(live.id, min_interval=0.5, cancel_on_exit=True) as updates:
            found, given_up = await all_of(updates, impatient, 0.2)

    steps = [update.step_current for update in found if isinstance(update, ProgressUpdate)]
    assert found[-1].is_final
    assert steps[-1] == 4
    assert given_up > 10
    assert sim.requests_to("cancel") == []


async def test_merged_events_are_read_on_after_a_read_that_timed_out(impatient: Any) -> None:
    """Every event of every task comes, once."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(attrs.evolve(SLOW, waiting=1 + n / 7)).id for n in range(3)]
    async with virtual_client(sim) as client, client.watch_many(ids) as merged:
        found, given_up = await all_of(merged, impatient, 0.1)

    for task_id in ids:
        watched = Watched([event for event in found if event.task_id == task_id])
        assert [event.step_current for event in watched.progress] == [1, 2, 3, 4]
        assert isinstance(watched.end, CompletedEvent)
    assert given_up > 10


async def test_outcomes_are_read_on_after_a_read_that_timed_out(impatient: Any) -> None:
    """Each task's outcome comes, once, in the order in which they end."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(attrs.evolve(SLOW, waiting=1 + n * 5)).id for n in range(3)]
    async with virtual_client(sim) as client, client.as_completed(ids) as outcomes:
        found, given_up = await all_of(outcomes, impatient, 0.25)

    assert [outcome.handle.id for outcome in found] == ids
    assert all(isinstance(outcome, Outcome) and outcome.is_completed for outcome in found)
    assert given_up > 10


async def test_reads_given_up_at_any_moment_lose_nothing() -> None:
    """Cancelled in whichever step of the loop an event arrives, no event is lost or doubled."""
    sim = Simulator(seed=7)
    live = sim.create_task(attrs.evolve(SLOW, steps=60, step_seconds=0.1))
    found = list[Event]()
    async with virtual_client(sim) as client, client.watch(live.id) as events:
        while True:
            turns = len(found) % 7

            async def give_up(scope: anyio.CancelScope, turns: int = turns) -> None:
                await anyio.sleep(0.1)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()

            async with anyio.create_task_group() as group:
                with anyio.CancelScope() as scope:
                    group.start_soon(give_up, scope)
                    try:
                        item = await anext(events)
                    except StopAsyncIteration:
                        break
                    assert isinstance(item, Event)
                    found.append(item)
                group.cancel_scope.cancel()

    assert [event.step_current for event in Watched(found).progress] == list(range(1, 61))
    assert isinstance(Watched(found).end, CompletedEvent)


WAYS: Final = ("watch", "progress", "watch_many", "as_completed")


def opened(client: CyberunClient, way: str, task_id: str) -> Any:
    several = way in ("watch_many", "as_completed")
    return getattr(client, way)([task_id] if several else task_id)


@pytest.mark.parametrize("way", WAYS)
async def test_a_bare_iterator_whose_read_was_cancelled_says_that_it_is_closed(way: str) -> None:
    """Outside of `async with` nobody would close it later, so the cancellation does."""
    sim = Simulator(seed=7)
    live = sim.create_task(manual=True)
    async with virtual_client(sim) as client:
        items = opened(client, way, live.id)
        with anyio.move_on_after(5):
            while True:
                await anext(items)
        await anyio.sleep(2)
        assert client.statistics().followed_tasks == 0
        with pytest.raises(ClientStateError, match="async with"):
            await anext(items)


@pytest.mark.parametrize("way", WAYS)
async def test_a_closed_iterator_says_so(way: str) -> None:
    """Only where the end was delivered it is at its end, however often it is read."""
    sim = Simulator(seed=7)
    live = sim.create_task(SLOW)
    endless = sim.create_task(manual=True)
    async with virtual_client(sim) as client:
        left = opened(client, way, endless.id)
        async with left:
            with anyio.move_on_after(1):
                await anext(left)
        read = opened(client, way, live.id)
        async with read:
            async for _ in read:
                pass
        for _ in range(2):
            with pytest.raises(ClientStateError, match=f"client.{way}"):
                await anext(left)
            with pytest.raises(StopAsyncIteration):
                await anext(read)
        with pytest.raises(ClientStateError, match=f"client.{way}"):
            async with left:
                pass


@pytest.mark.parametrize("way", WAYS)
async def test_closing_in_another_task_is_no_end(way: str) -> None:
    """Who waits for an item while somebody else closes the iterator is notified."""
    sim = Simulator(seed=7)
    live = sim.create_task(manual=True)
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        items = opened(client, way, live.id)

        async def close() -> None:
            await anyio.sleep(5)
            await items.aclose()

        group.start_soon(close)
        with anyio.fail_after(60), pytest.raises(ClientStateError, match="closed"):
            while True:
                await anext(items)


async def test_an_iterator_that_failed_says_so_when_it_is_read_on() -> None:
    """The error is raised once; after it there is no end either, but a token to go on with."""
    sim = Simulator(seed=7)
    live = sim.create_task(SLOW)
    sim.faults.add("events", faults.refuse(404), times=None)
    sim.faults.add("task", faults.refuse(404), times=None)
    async with virtual_client(sim) as client, client.watch(live.id) as events:
        with pytest.raises(Exception, match="404") as caught:
            async for _ in events:
                pass
        with pytest.raises(ClientStateError, match=type(caught.value).__name__) as again:
            await anext(events)

    assert again.value.resume_token is not None


async def test_who_leaves_right_behind_the_end_has_read_to_the_end() -> None:
    """Left at the terminal event, the watch is at its end and not merely closed."""
    sim = Simulator(seed=7)
    live = sim.create_task(SLOW)
    async with virtual_client(sim) as client:
        async with client.watch(live.id) as events:
            async for event in events:
                if event.is_terminal:
                    break
        with pytest.raises(StopAsyncIteration):
            await anext(events)


# Left to the garbage collector.


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_forgotten_warns_with_its_own_name_and_is_closed(way: str) -> None:
    """Collected, it says by which call it was made, and gives back what it held."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(manual=True).id for _ in range(2)]
    async with virtual_client(sim) as client:
        several = {"watch_many": ids, "as_completed": [*ids, sim.create_task(SLOW).id]}
        items = getattr(client, way)(several.get(way, ids[0]))
        await anext(items)
        assert client.statistics().followed_tasks > 0
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del items
            gc.collect()
        await anyio.sleep(3)
        assert client.statistics().followed_tasks == 0
        assert sim.open_streams == 0

    assert [w.category for w in caught] == [ResourceWarning]
    assert f"async with client.{way}(" in str(caught[0].message)


# Slow readers.


def strange(live: Any, number: int) -> None:
    for index in range(number):
        live.emit("telemetry", {"n": index})


@attrs.frozen
class Slept:
    """What a reader was reported that slept while eight hundred unknown events came."""

    items: list[Any]
    error: BaseException | None
    token: ResumeToken

    @property
    def statuses(self) -> list[str]:
        return [item.status for item in self.items if isinstance(item, StatusEvent)]


async def slept_through(sim: Simulator, *, ends: bool) -> Slept:
    live = sim.create_task(manual=True)
    items = list[Any]()
    error: BaseException | None = None
    # Eight times as many wait for a reader at most.
    limits = Limits(reader_capacity=64)
    async with virtual_client(sim, limits=limits) as client, client.watch(live.id) as events:
        items.append(await anext(events))
        strange(live, 400)
        await anyio.sleep(1)
        live.status("running")
        strange(live, 400)
        await anyio.sleep(1)
        if ends:
            live.complete()
        await anyio.sleep(1)
        try:
            with anyio.fail_after(30):
                async for item in events:
                    items.append(item)
        except SlowReaderError as slow:
            error = slow
        return Slept(items, error, events.token())


async def test_a_slow_reader_gets_every_status_and_the_end() -> None:
    """However many other events are dropped, they come, and the end stands for the error."""
    slept = await slept_through(Simulator(seed=7), ends=True)

    assert slept.error is None
    assert "running" in slept.statuses
    assert isinstance(slept.items[-1], CompletedEvent)
    assert len(slept.items) < 700


async def test_the_error_of_a_slow_reader_comes_last_and_carries_the_token() -> None:
    """What was kept comes first, and who goes on with the token misses no status."""
    sim = Simulator(seed=7)
    slept = await slept_through(sim, ends=False)

    assert isinstance(slept.error, SlowReaderError)
    assert slept.statuses[-1] == "running"
    token = slept.error.resume_token
    assert token is not None
    assert (token.status, token) == ("running", slept.token)


async def test_outcomes_of_a_mapping_are_those_of_its_keys() -> None:
    """Handles may be kept with what they are for: an outcome's handle finds it."""
    sim = Simulator(seed=7)
    async with virtual_client(sim) as client:
        labels: dict[TaskHandle, str] = {
            client.handle(sim.create_task(SLOW).id): name for name in ("a", "b")
        }
        async with client.as_completed(labels) as outcomes:
            found = [labels[outcome.handle] async for outcome in outcomes]
        snapshots = await client.wait_many(labels)

    assert sorted(found) == ["a", "b"]
    assert len(snapshots) == 2
