"""
However a watch or a client is left, nothing of it stays: no stream, no task, no surprise.

Real sockets, except where a loop of its own is needed.
"""

import asyncio
import contextlib
import gc
import warnings
from collections.abc import AsyncIterator

import anyio
import pytest
import trio

from cyberun_async import (
    ClientClosedError,
    ClientStateError,
    CompletedEvent,
    CyberunClient,
    EventStream,
    TaskFailedError,
    WatchPolicy,
    WrongEventLoopError,
)
from cyberun_async.testing import Simulator, TaskPlan, VirtualClockLoop

from .kit import SHORT, assert_nothing_left, ended_watch, until, virtual_client


@pytest.fixture
async def open_client(sim: Simulator) -> AsyncIterator[CyberunClient]:
    """A client of which, after the test, nothing is left even before it is closed."""
    async with CyberunClient(sim.key, base_url=sim.url) as client:
        yield client
        await until(lambda: sim.open_streams == 0, what="no open stream")
        assert client.statistics().open_streams == 0
        assert client.statistics().followed_tasks == 0
    await assert_nothing_left(sim)


async def test_break_gives_the_connection_back(sim: Simulator, open_client: CyberunClient) -> None:
    """After `break` the block is left with the connection closed."""
    live = sim.create_task(manual=True)
    async with open_client.watch(live.id) as events:
        async for _ in events:
            assert open_client.statistics().open_streams == 1
            break

    assert open_client.statistics().open_streams == 0
    assert live.state == "pending"


async def test_an_exception_in_the_body_passes_through(
    sim: Simulator, open_client: CyberunClient
) -> None:
    """The caller's exception arrives as it was, and the connection is closed."""
    live = sim.create_task(manual=True)
    with pytest.raises(LookupError, match="mine"):
        async with open_client.watch(live.id) as events:
            async for _ in events:
                raise LookupError("mine")

    assert open_client.statistics().open_streams == 0


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.01, 0.1])
@pytest.mark.parametrize("way", ["watch", "bare", "wait", "result", "run"])
async def test_a_deadline_of_the_caller_leaves_nothing(
    sim: Simulator, open_client: CyberunClient, seconds: float, way: str
) -> None:
    """Cut off at any early moment by the caller's own scope, nothing is left."""
    sim.default_plan = TaskPlan(forever_waiting=True)
    live = sim.create_task(manual=True)
    with anyio.move_on_after(seconds) as scope:
        match way:
            case "watch":
                async with open_client.watch(live.id) as events:
                    async for _ in events:
                        pass
            case "bare":
                async for _ in open_client.watch(live.id):
                    pass
            case "wait":
                await open_client.wait(live.id)
            case "result":
                await open_client.handle(live.id)
            case _:
                await open_client.run("text-to-image", {"prompt": "x"}, on_progress=print)

    assert scope.cancelled_caught


@pytest.mark.asyncio_only(reason="asyncio.timeout")
async def test_asyncio_timeout_works(sim: Simulator, open_client: CyberunClient) -> None:
    """`asyncio.timeout` around a watch raises `TimeoutError` and closes the connection."""
    live = sim.create_task(manual=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), open_client.watch(live.id) as events:
            async for _ in events:
                pass

    assert open_client.statistics().open_streams == 0


@pytest.mark.asyncio_only(reason="task.cancel()")
@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancelled_task_is_cancelled(
    sim: Simulator, open_client: CyberunClient, times: int
) -> None:
    """`task.cancel()`, also repeated, ends the task as cancelled, without a word more."""
    live = sim.create_task(manual=True)
    task = asyncio.ensure_future(ended_watch(open_client, live.id))
    await until(lambda: sim.open_streams == 1)
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task

    assert task.cancelled()


@pytest.mark.asyncio_only(reason="asyncio.gather")
async def test_a_failing_sibling_disturbs_nobody(
    sim: Simulator, open_client: CyberunClient
) -> None:
    """With `asyncio.gather` the first failure is raised; the others go on until they end."""
    failing = sim.create_task(
        TaskPlan(pending=0, waiting=0, queued=0, steps=1, step_seconds=0, outcome="failed")
    )
    fine = sim.create_task(SHORT)
    others = [asyncio.ensure_future(open_client.result(fine.id)) for _ in range(3)]
    with pytest.raises(TaskFailedError):
        await asyncio.gather(open_client.handle(failing.id), *others)

    assert [(await other).task_id for other in others] == [fine.id] * 3


async def test_a_failing_sibling_in_a_group_ends_the_others(
    sim: Simulator, open_client: CyberunClient
) -> None:
    """In a task group the failure cancels the other watches, and nothing is left of them."""
    lives = [sim.create_task(manual=True) for _ in range(5)]
    with pytest.raises(BaseExceptionGroup) as caught:
        async with anyio.create_task_group() as group:
            for live in lives:
                group.start_soon(ended_watch, open_client, live.id)
            await until(lambda: sim.open_streams == 5)
            raise LookupError("mine")

    assert [type(one) for one in caught.value.exceptions] == [LookupError]


async def test_a_bare_loop_closes_itself_at_its_end(
    sim: Simulator, open_client: CyberunClient
) -> None:
    """A bare `async for` read to the end leaves nothing open and warns of nothing."""
    live = sim.create_task(SHORT)
    found = [event async for event in open_client.watch(live.id)]

    assert isinstance(found[-1], CompletedEvent)


async def test_an_abandoned_loop_warns_and_is_closed_with_the_client(sim: Simulator) -> None:
    """Left by `break` without `async with`, the iterator warns; the client closes the rest."""
    live = sim.create_task(manual=True)
    async with CyberunClient(sim.key, base_url=sim.url) as client:
        with pytest.warns(ResourceWarning, match="async with client.watch"):
            async for _ in client.watch(live.id):
                break
            gc.collect()
    await assert_nothing_left(sim)


async def test_a_stream_that_was_closed_says_nothing_when_collected(
    sim: Simulator, open_client: CyberunClient
) -> None:
    """Properly closed, or never begun, a watch is collected without a warning."""
    live = sim.create_task(manual=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        events = open_client.watch(live.id)
        await anext(events)
        await events.aclose()
        await events.aclose()
        open_client.watch(live.id)
        del events
        gc.collect()


async def test_a_closed_watch_says_so(sim: Simulator, open_client: CyberunClient) -> None:
    """Read on after closing or entered again, it says what to do, and never seems to end."""
    live = sim.create_task(manual=True)
    events = open_client.watch(live.id)
    async with events:
        await anext(events)

    with pytest.raises(ClientStateError, match="watch"):
        await anext(events)
    with pytest.raises(ClientStateError, match="watch"):
        async with events:
            pass


async def test_two_tasks_cannot_read_one_watch(sim: Simulator, open_client: CyberunClient) -> None:
    """A second reader of the same iterator is asked to watch for itself."""
    live = sim.create_task(manual=True)
    async with open_client.watch(live.id) as events, anyio.create_task_group() as group:
        await anext(events)
        group.start_soon(_read_one, events)
        await anyio.sleep(0.05)
        with pytest.raises(ClientStateError, match="two tasks"):
            await anext(events)
        group.cancel_scope.cancel()


async def _read_one(events: EventStream) -> None:
    await anext(events)


# The client's own life.


async def test_closing_ends_open_watches(sim: Simulator) -> None:
    """Whoever reads while the client closes gets one error with a token, and nothing is left."""
    lives = [sim.create_task(manual=True) for _ in range(5)]
    errors: list[ClientClosedError] = []
    async with anyio.create_task_group() as group:
        async with CyberunClient(sim.key, base_url=sim.url) as client:

            async def read(task_id: str) -> None:
                error = (await ended_watch(client, task_id)).error
                assert isinstance(error, ClientClosedError)
                errors.append(error)

            for live in lives:
                group.start_soon(read, live.id)
            await until(lambda: sim.open_streams == 5)
    await assert_nothing_left(sim)

    tokens = [error.resume_token for error in errors]
    assert {token.task_id for token in tokens if token} == {live.id for live in lives}


async def test_a_loop_body_that_closes_the_client_ends_cleanly(sim: Simulator) -> None:
    """Closing the client from within the loop body is possible."""
    live = sim.create_task(manual=True)
    async with CyberunClient(sim.key, base_url=sim.url) as client:
        with pytest.raises(ClientClosedError):
            async with client.watch(live.id) as events:
                async for _ in events:
                    await client.aclose()
    await assert_nothing_left(sim)


@pytest.mark.asyncio_only(reason="tasks may only be mixed so on asyncio")
async def test_another_task_may_open_and_close_the_client(sim: Simulator) -> None:
    """Opened in one task and closed in another, as a lifespan or a fixture does."""
    client = CyberunClient(sim.key, base_url=sim.url)
    live = sim.create_task(manual=True)
    await asyncio.create_task(client.__aenter__())
    reader = asyncio.create_task(ended_watch(client, live.id))
    await until(lambda: sim.open_streams == 1)
    await asyncio.create_task(client.aclose())
    await assert_nothing_left(sim)

    assert isinstance((await reader).error, ClientClosedError)


@pytest.mark.asyncio_only(reason="on trio only the task that opened a client closes it")
async def test_a_watch_that_begins_as_the_client_closes_ends(sim: Simulator) -> None:
    """Begun in the same pass of the loop in which the client is closed, it has its error."""
    client = CyberunClient(sim.key, base_url=sim.url)
    live = sim.create_task(manual=True)
    await client.__aenter__()
    reader = asyncio.create_task(ended_watch(client, live.id))
    await asyncio.create_task(client.aclose())
    with anyio.fail_after(10):
        watched = await reader
    await assert_nothing_left(sim)

    assert isinstance(watched.error, ClientClosedError)


def test_another_task_may_not_close_the_client_on_trio() -> None:
    """On trio it says clearly where a client has to be closed, and can still be closed there."""
    sim = Simulator(seed=7)
    said: list[str] = []

    async def close(client: CyberunClient) -> None:
        try:
            await client.aclose()
        except ClientStateError as error:
            said.append(str(error))

    async def main() -> None:
        async with virtual_client(sim) as client:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(close, client)
            await client.submit("text-to-image", {"prompt": "a fox"})

    trio.run(main)
    assert len(said) == 1
    assert "must be closed in the task that opened it" in said[0]
    assert len(sim.submissions) == 1


async def test_a_client_is_not_usable_before_and_after(sim: Simulator) -> None:
    """Before opening and after closing, every use says what is wrong; nothing is sent."""
    client = CyberunClient(sim.key, base_url=sim.url)
    live = sim.create_task(manual=True)
    for expected in (ClientStateError, ClientClosedError):
        with pytest.raises(expected):
            await client.submit("text-to-image", {"prompt": "a fox"})
        with pytest.raises(expected):
            await client.wait(live.id)
        with pytest.raises(expected):
            await client.handle(live.id)
        with pytest.raises(expected):
            async with client.watch(live.id):
                pass
        with pytest.raises(expected):
            client.statistics()
        if expected is ClientStateError:
            async with client:
                pass
    await client.aclose()

    with pytest.raises(ClientStateError, match="make a new one"):
        await client.__aenter__()
    assert sim.requests == []


def test_a_client_belongs_to_one_event_loop() -> None:
    """Used on another loop it says so, instead of hanging."""
    sim = Simulator(seed=7)
    client = virtual_client(sim)

    async def use() -> None:
        with pytest.raises(WrongEventLoopError, match="one client per loop"):
            await client.submit("text-to-image", {"prompt": "a fox"})
        with pytest.raises(WrongEventLoopError):
            await client.aclose()

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(client.__aenter__())
        asyncio.run(use())
        trio.run(use)
        runner.run(client.aclose())
    assert sim.requests == []


def test_a_loop_that_shuts_down_takes_an_unclosed_client_with_it() -> None:
    """A program that ends without closing its client ends all the same."""
    sim = Simulator(seed=7)
    live = sim.create_task(TaskPlan(forever_waiting=True))

    async def main() -> str:
        client = virtual_client(sim)
        await client.__aenter__()
        watching = asyncio.create_task(ended_watch(client, live.id))
        await asyncio.sleep(10)
        assert not watching.done()
        return "ended"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        assert VirtualClockLoop.run(main()) == "ended"
        gc.collect()
    assert sim.open_streams == 0


async def test_closing_while_others_close(sim: Simulator) -> None:
    """Watches that end while the client closes do not get in its way."""
    lives = [sim.create_task(SHORT) for _ in range(10)]
    async with anyio.create_task_group() as group:
        async with CyberunClient(sim.key, base_url=sim.url) as client:
            for live in lives:
                group.start_soon(ended_watch, client, live.id)
            await anyio.sleep(0.38)
    await assert_nothing_left(sim)


async def test_a_cancelled_close_still_closes(sim: Simulator) -> None:
    """Cancelled while it closes, the client leaves nothing behind either."""
    live = sim.create_task(manual=True)
    with anyio.CancelScope() as scope:
        async with CyberunClient(sim.key, base_url=sim.url) as client:
            async with client.watch(live.id) as events:
                await anext(events)
                scope.cancel()
                with contextlib.suppress(ClientClosedError):
                    await anext(events)
    await assert_nothing_left(sim)


async def test_a_service_that_dies_and_comes_back(sim: Simulator) -> None:
    """The service is killed and restarted under a watch, which then ends as it should."""
    live = sim.create_task(manual=True)
    policy = WatchPolicy(backoff_base=0.05, poll_interval=0.1)
    async with CyberunClient(sim.key, base_url=sim.url, watch_policy=policy) as client:
        async with client.watch(live.id) as events:
            await anext(events)
            await anyio.to_thread.run_sync(sim.kill)
            await anyio.sleep(0.2)
            live.status("running")
            await anyio.to_thread.run_sync(sim.restart)
            await anyio.sleep(0.2)
            live.complete()
            found = [event async for event in events]
    await assert_nothing_left(sim)

    assert isinstance(found[-1], CompletedEvent)


async def test_leaving_a_shared_stream_lets_it_linger(sim: Simulator) -> None:
    """The last of several readers leaves; the stream stays a moment, then it is closed."""
    live = sim.create_task(manual=True)
    policy = WatchPolicy(linger=0.3)
    async with CyberunClient(sim.key, base_url=sim.url, watch_policy=policy) as client:
        async with client.watch(live.id) as first, client.watch(live.id) as second:
            await anext(first)
            await anext(second)
        assert client.statistics().open_streams == 1
        async with client.watch(live.id) as third:
            await anext(third)
        await until(lambda: client.statistics().open_streams == 0)

    assert len(sim.requests_to("events")) == 1
