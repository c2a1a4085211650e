"""The watches of one client: one follower a task, its readers and waiters, and what closes it."""

import gc
import json
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest

from cyberun_async import (
    ClientClosedError,
    CompletedEvent,
    Connected,
    CyberunError,
    Event,
    GaveUp,
    Limits,
    Notice,
    PollingStarted,
    ProgressEvent,
    ResumeToken,
    StatusEvent,
    StreamingResumed,
    TaskNotFoundError,
    WatchPolicy,
)
from cyberun_async._following import (
    Economy,
    EventBuffer,
    Follower,
    Followers,
    Notifier,
    RateLimit,
    StreamSlots,
)
from cyberun_async._http import Secret
from cyberun_async._model import Timeouts
from cyberun_async._protocol import FailureKind, Response, rejection
from cyberun_async._runtime import Runtime

from ..watch.kit import OUTPUT, TASK
from ..whole.kit import VIRTUAL, virtual_backend
from .kit import (
    FakeConnection,
    FakeStreams,
    end_message,
    lost,
    progress_message,
    read_all,
    settle,
    status_message,
    waiting_in,
)


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


# Of a reader that knows what the first status check says.
TOKEN = ResumeToken(task_id=TASK, status="pending", retry_count=0)
LINGER = 1.0


@attrs.define(eq=False)
class Service:
    """Stands in for network and requests; what it says about the task is a plain attribute."""

    status: str = "pending"
    refusal: int | None = None
    retry_count: int = 0
    streams: FakeStreams = attrs.field(factory=FakeStreams)
    asked: list[tuple[str, str]] = attrs.field(factory=list[tuple[str, str]])
    can_refresh: bool = False
    loads: Any = json.loads

    async def call(self, method: str, path: str, **_: Any) -> Response:
        self.asked.append((method, path.rpartition("/")[2]))
        await anyio.lowlevel.checkpoint()
        if self.refusal is not None:
            body = b'{"error_message": "no"}'
            raise rejection(Response(status=self.refusal, body=body, path=path), task=True)
        count = self.retry_count
        said = {"task_id": TASK, "task_status": self.status, "retry_count": count}
        return Response(status=200, body=json.dumps(said).encode())

    async def headers(self, _: Secret | None) -> tuple[Secret, dict[str, str]]:
        return Secret("sk-x"), {}

    async def open_stream(self, _: str, *, headers: Mapping[str, str], **__: Any) -> Any:
        return await self.streams.open(headers)


@attrs.define(eq=False)
class Setting:
    """A followers with everything around it."""

    followers: Followers
    service: Service
    notices: list[Notice]

    @property
    def dropped_progress(self) -> int:
        return (
            self.followers.economy.counters.dropped_progress + self.followers.dropped_progress_now
        )

    @property
    def stream(self) -> FakeConnection:
        return self.service.streams.latest

    async def reader(
        self, *, notices: bool = False, capacity: int = 512
    ) -> tuple[Follower, EventBuffer]:
        """Subscribe, and let everything settle."""
        reader = EventBuffer(capacity, notices=notices)
        follower = self.followers.subscribe(TOKEN, reader)
        await settle()
        return follower, reader


@asynccontextmanager
async def following(
    service: Service | None = None, *, policy: WatchPolicy | None = None, max_streams: int = 100
) -> AsyncIterator[Setting]:
    """Run a followers; afterwards it has no task, no follower and no slot left."""
    service = service or Service()
    notices: list[Notice] = []
    runtime = Runtime()
    await runtime.open()
    limits = Limits(max_streams=max_streams)
    slots = StreamSlots(limits.max_streams, limits.reconnect_spread)
    followers = Followers(
        runtime=runtime,
        transport=service,  # type: ignore[arg-type]
        caller=service,  # type: ignore[arg-type]
        policy=policy or WatchPolicy(linger=LINGER),
        timeouts=Timeouts(),
        economy=Economy(slots=slots, pace=RateLimit(runtime.now, limits.poll_rate)),
        notifier=Notifier(None, notices.append),
    )
    try:
        yield Setting(followers, service, notices)
    finally:
        followers.close()
        await runtime.aclose()
    assert (followers.by_task, slots.held, slots.wanted) == ({}, 0, 0)
    assert service.streams.open_now == 0


def status(name: str, **fields: Any) -> StatusEvent:
    return StatusEvent(task_id=TASK, status=name, raw={"task_id": TASK, "status": name}, **fields)


def progress(step: int) -> ProgressEvent:
    return ProgressEvent(
        task_id=TASK, step_current=step, raw={"task_id": TASK, "step_current": step}
    )


# Draining.


async def test_nobody_waits_for_the_end_of_a_task_that_is_left() -> None:
    """Whether its reader goes or its waiter gives up, who drains the client goes on."""
    async with following() as setting:
        follower, reader = await setting.reader()
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                group.start_soon(follower.wait_done)
                await settle()
                await setting.followers.unsubscribe(follower, reader)
            await follower.wait_done()  # as who has waited for another one meanwhile
            async with anyio.create_task_group() as group:
                group.start_soon(setting.followers.wait_end, TOKEN, 1.0)
                await settle()
                await setting.followers.by_task[TASK].wait_done()


# One stream for many readers.


async def test_readers_of_one_task_share_one_stream() -> None:
    """However many subscribe, one follower and one connection serve them, each with everything."""
    async with following() as setting:
        followers, readers = zip(*[await setting.reader() for _ in range(5)], strict=True)
        setting.stream.bring(status_message("running"), progress_message(1))
        await settle()
        heard = [waiting_in(reader) for reader in readers]
        streams = len(setting.service.streams.asked)

    assert len(set(followers)) == streams == 1
    assert heard == [[status("running"), progress(1)]] * 5


async def test_a_late_reader_gets_the_present_state_first() -> None:
    """Status and newest progress come first, then what all see; the others get nothing twice."""
    async with following() as setting:
        _, early = await setting.reader()
        setting.stream.bring(status_message("running"), progress_message(1), progress_message(2))
        await settle()
        _, late = await setting.reader()
        setting.stream.bring(progress_message(3))
        await settle()
        heard = waiting_in(early), waiting_in(late)

    assert heard == (
        [status("running"), progress(1), progress(2), progress(3)],
        [StatusEvent(task_id=TASK, status="running", origin="poll"), progress(2), progress(3)],
    )


async def test_a_late_reader_that_knows_the_status_does_not_get_it_again() -> None:
    """Who resumes from a token with the present status begins with the progress."""
    async with following() as setting:
        await setting.reader()
        setting.stream.bring(status_message("running"), progress_message(1))
        await settle()
        late = EventBuffer(512)
        setting.followers.subscribe(ResumeToken(task_id=TASK, status="running"), late)
        heard = waiting_in(late)

    assert heard == [progress(1)]


async def test_a_late_reader_that_knows_more_gets_no_less() -> None:
    """What its token says is merged: the others get it, and the stream brings no news."""
    async with following() as setting:
        _, early = await setting.reader()
        late = EventBuffer(512)
        token = ResumeToken(task_id=TASK, status="running", retry_count=0)
        setting.followers.subscribe(token, late)
        setting.stream.bring(status_message("running"), progress_message(1))
        await settle()
        heard = waiting_in(early), waiting_in(late)

    assert heard == (
        [StatusEvent(task_id=TASK, status="running", origin="poll"), progress(1)],
        [progress(1)],
    )


async def test_a_late_reader_of_an_earlier_attempt_gets_the_present_one() -> None:
    """The same status in a new attempt is news to whoever had it in the old one."""
    async with following(Service(status="running", retry_count=1)) as setting:
        await setting.reader()
        late = EventBuffer(512)
        token = ResumeToken(task_id=TASK, status="running", retry_count=0)
        setting.followers.subscribe(token, late)
        heard = waiting_in(late)

    assert heard == [StatusEvent(task_id=TASK, status="running", attempt=2, origin="poll")]


async def test_a_late_reader_of_a_polling_watch_learns_that_it_polls() -> None:
    """The notice comes first, with its cause, to those who want notices; its end comes to all."""
    streams = FakeStreams([lost(FailureKind.CONNECT)] * 3 + [FakeConnection])
    service = Service(status="running", streams=streams)
    policy = WatchPolicy(climb_base=100, climb_cap=100)
    async with following(service, policy=policy) as setting:
        _, early = await setting.reader(notices=True)
        await anyio.sleep(10)
        _, late = await setting.reader(notices=True)
        _, quiet = await setting.reader()
        first_read, read_quiet = waiting_in(late), waiting_in(quiet)
        await anyio.sleep(100)  # streaming is tried again
        setting.stream.bring(progress_message(1))
        await settle()
        heard = waiting_in(early), waiting_in(late)

    cause = "played: could not connect"
    present = StatusEvent(task_id=TASK, status="running", origin="poll")
    assert first_read == [PollingStarted(task_id=TASK, cause=cause), present]
    assert read_quiet == [present]
    assert [item for item in heard[0] if isinstance(item, PollingStarted)] == first_read[:1]
    assert heard[1][2:] == [Connected(task_id=TASK), progress(1), StreamingResumed(task_id=TASK)]


async def test_a_late_reader_of_a_streaming_watch_hears_nothing_of_polling() -> None:
    """Once streaming is back, polling is no part of the present state any more."""
    streams = FakeStreams([lost(FailureKind.CONNECT)] * 3 + [FakeConnection])
    service = Service(status="running", streams=streams)
    async with following(service) as setting:
        await setting.reader()
        await anyio.sleep(60)
        setting.stream.bring(progress_message(1))
        await settle()
        _, late = await setting.reader(notices=True)
        first_read = waiting_in(late)

    assert first_read == [StatusEvent(task_id=TASK, status="running", origin="poll"), progress(1)]


# A slow reader is isolated.


async def test_a_slow_reader_is_coalesced_for_and_holds_nobody_up() -> None:
    """It loses progress but no status and not the end; another reader loses nothing."""
    async with following() as setting:
        _, slow = await setting.reader(capacity=4)
        _, other = await setting.reader()
        setting.stream.bring(status_message("queued"))
        await settle()
        for step in range(1, 101):
            setting.stream.bring(progress_message(step))
            await settle(3)
        setting.stream.bring(status_message("running"), end_message(OUTPUT))
        await settle()
        heard = waiting_in(slow), waiting_in(other)
        dropped_progress = setting.dropped_progress

    end = heard[1][-1]
    assert heard[1] == [
        status("queued"),
        *(progress(step) for step in range(1, 101)),
        status("running"),
        end,
    ]
    assert isinstance(end, CompletedEvent)
    assert [item for item in heard[0] if not isinstance(item, ProgressEvent)] == [
        status("queued"),
        status("running"),
        end,
    ]
    assert len(heard[0]) <= 5
    assert (slow.dropped_progress, other.dropped_progress) == (dropped_progress, 0)
    assert dropped_progress >= 97


async def test_dropped_progress_is_counted_beyond_their_reader() -> None:
    """What a reader lost stays in the count when it has left."""
    async with following() as setting:
        follower, slow = await setting.reader(capacity=2)
        setting.stream.bring(*(progress_message(step) for step in range(10)))
        await settle()
        before = setting.dropped_progress
        await setting.followers.unsubscribe(follower, slow)
        after = setting.dropped_progress

    assert before == after == 8


# Leaving.


async def test_a_reader_that_leaves_disturbs_no_other() -> None:
    """Whoever leaves, and in whatever order, the stream goes on for the last one."""
    async with following() as setting:
        follower, first = await setting.reader()
        _, second = await setting.reader()
        await setting.followers.unsubscribe(follower, first)
        await anyio.sleep(10 * LINGER)
        setting.stream.bring(progress_message(1))
        await settle()
        heard = waiting_in(first), waiting_in(second)
        streams = setting.service.streams.open_now

    assert heard == ([], [progress(1)])
    assert (streams, len(setting.service.streams.asked)) == (1, 1)


async def test_a_sole_reader_that_leaves_gives_the_connection_back_at_once() -> None:
    """Before control returns nothing is left: no follower, no stream, no slot."""
    async with following() as setting:
        follower, reader = await setting.reader()
        await setting.followers.unsubscribe(follower, reader)
        left = (
            setting.followers.by_task,
            setting.service.streams.open_now,
            setting.followers.economy.slots.held,
        )

    assert left == ({}, 0, 0)


async def test_a_reader_that_leaves_before_anything_ran_costs_no_request() -> None:
    """Neither a stream nor a status check is begun for what nobody follows any more."""
    async with following() as setting:
        reader = EventBuffer(512)
        follower = setting.followers.subscribe(TOKEN, reader)
        await setting.followers.unsubscribe(follower, reader)
        await anyio.sleep(60)
        asked = setting.service.streams.asked, setting.service.asked

    assert asked == ([], [])


async def test_the_last_of_several_leaves_the_stream_open_for_a_linger() -> None:
    """A reader that comes back within it finds the stream; after it all is closed."""
    async with following() as setting:
        follower, first = await setting.reader()
        _, second = await setting.reader()
        for reader in (first, second):
            await setting.followers.unsubscribe(follower, reader)
        await anyio.sleep(LINGER / 2)
        open_then = setting.service.streams.open_now
        again, third = await setting.reader()
        await anyio.sleep(LINGER * 2)
        open_later = setting.service.streams.open_now
        await setting.followers.unsubscribe(again, third)
        await anyio.sleep(LINGER * 1.01)
        left = (
            setting.followers.by_task,
            setting.service.streams.open_now,
            setting.followers.economy.slots.held,
        )

    assert again is follower
    assert (open_then, open_later) == (1, 1)
    assert len(setting.service.streams.asked) == 1
    assert left == ({}, 0, 0)


async def test_each_linger_is_as_long_as_the_policy_says() -> None:
    """Who comes and leaves during one linger is followed by a whole one."""
    async with following() as setting:
        follower, first = await setting.reader()
        _, second = await setting.reader()
        for reader in (first, second):
            await setting.followers.unsubscribe(follower, reader)
        await anyio.sleep(LINGER * 0.9)
        _, third = await setting.reader()
        await setting.followers.unsubscribe(follower, third)
        await anyio.sleep(LINGER * 0.5)
        open_then = setting.service.streams.open_now
        await anyio.sleep(LINGER)
        open_later = setting.service.streams.open_now

    assert (open_then, open_later) == (1, 0)


async def test_a_reader_that_is_cancelled_disturbs_none() -> None:
    """Cancelled in its loop or in leaving, it is gone, and the other hears everything."""
    async with following() as setting:
        follower, first = await setting.reader()
        _, second = await setting.reader()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await first.next()
        with anyio.CancelScope() as scope:
            scope.cancel()
            await setting.followers.unsubscribe(follower, first)
        setting.stream.bring(progress_message(1))
        await settle()
        heard, readers = waiting_in(second), follower.readers.copy()

    assert (heard, readers) == ([progress(1)], [second])


async def test_readers_that_leave_a_task_that_is_waited_for_close_its_stream_only() -> None:
    """The wait goes on by polling, with no connection of its own."""
    async with following() as setting:
        ended: list[Follower] = []

        async def wait() -> None:
            ended.append(await setting.followers.wait_end(TOKEN, None))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await settle()
            follower, reader = await setting.reader()
            open_then = setting.service.streams.open_now
            await setting.followers.unsubscribe(follower, reader)
            open_later = setting.service.streams.open_now
            setting.service.status = "cancelled"

    assert (open_then, open_later) == (1, 0)
    assert [follower.watch.status for follower in ended] == ["cancelled"]


# Waiting.


async def test_a_wait_opens_no_stream() -> None:
    """The end is found by asking."""
    async with following(Service(status="failed")) as setting:
        follower = await setting.followers.wait_end(TOKEN, None)
        streams = setting.service.streams.asked

    assert (follower.watch.status, streams) == ("failed", [])


async def test_a_wait_with_a_limit_returns_what_is_known_and_leaves_nothing() -> None:
    """The task has not ended; nobody follows it afterwards."""
    async with following() as setting:
        began = anyio.current_time()
        follower = await setting.followers.wait_end(TOKEN, 20)
        took = anyio.current_time() - began
        left = setting.followers.by_task

    assert (follower.is_done, follower.watch.status, took, left) == (False, "pending", 20, {})


async def test_a_wait_that_is_cancelled_leaves_the_others_waiting() -> None:
    """Only with the last one the task is followed no more."""
    async with following() as setting:
        async with anyio.create_task_group() as group:
            scopes = [anyio.CancelScope() for _ in range(2)]

            async def wait(scope: anyio.CancelScope) -> None:
                with scope:
                    await setting.followers.wait_end(TOKEN, None)

            for scope in scopes:
                group.start_soon(wait, scope)
            followed: list[int] = []
            for scope in scopes:
                await settle()
                followed.append(len(setting.followers.by_task))
                scope.cancel()
        left = setting.followers.by_task

    assert (followed, left) == ([1, 1], {})


# Ends.


async def test_every_reader_gets_an_error_of_its_own_with_the_token() -> None:
    """A refusal ends them all; two tasks that raise one object would mix their tracebacks."""
    async with following(Service(refusal=404)) as setting:
        _, first = await setting.reader()
        _, second = await setting.reader()
        errors: list[CyberunError] = []
        for reader in (first, second):
            with pytest.raises(TaskNotFoundError) as caught:
                await read_all(reader, [])
            errors.append(caught.value)

    assert errors[0] is not errors[1]
    assert [error.resume_token for error in errors] == [TOKEN, TOKEN]
    assert setting.notices[-1] == GaveUp(
        task_id=TASK, cause="TaskNotFoundError", token=TOKEN, snapshot=None
    )


async def test_closing_ends_every_reader_and_every_wait() -> None:
    """What was received before is still read, then the error comes."""
    async with following() as setting:
        _, reader = await setting.reader()
        setting.stream.bring(status_message("running"))
        await settle()
        setting.followers.close()
    heard: list[Event | Notice] = []
    with pytest.raises(ClientClosedError):
        await read_all(reader, heard)

    assert heard == [status("running")]


async def test_a_closed_client_keeps_nothing_of_what_it_followed() -> None:
    """Who keeps a closed client for long keeps no follower with it."""
    async with following() as setting:
        for _ in range(3):
            follower, reader = await setting.reader()
            await setting.followers.unsubscribe(follower, reader)
        follower, reader = await setting.reader()
        followed = weakref.ref(follower)
        followers = setting.followers
    del follower, reader, setting
    gc.collect()

    assert followed() is None
    assert followers._poller._heap == []


async def test_closed_followers_follow_nothing_new() -> None:
    """It says so."""
    async with following() as setting:
        setting.followers.close()
        with pytest.raises(ClientClosedError):
            setting.followers.check_open()


async def test_an_output_that_cannot_be_read_comes_with_the_reason() -> None:
    """Neither a refusal of the result nor a result without output is an error."""
    async with following(Service(refusal=404)) as setting:
        refused = await setting.followers.requests.output(TASK)
        setting.service.refusal = None
        empty = await setting.followers.requests.output(TASK)

    assert refused[0] is None
    assert "404" in (refused[1] or "")
    assert empty[0] is None
    assert "its result is not ready" in (empty[1] or "")


async def test_a_cancellation_that_is_refused_or_slow_is_no_error() -> None:
    """Asking to cancel on the way out must not hide why one leaves, nor take forever."""
    async with following(Service(refusal=409)) as setting:
        was_taken = await setting.followers.requests.try_to_cancel(TASK)
        setting.service.refusal = None
        was_taken_then = await setting.followers.requests.try_to_cancel(TASK)
        asked = setting.service.asked

    assert asked == [("POST", "cancel")] * 2
    assert (was_taken, was_taken_then) == (False, True)
