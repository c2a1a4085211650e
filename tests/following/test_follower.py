"""One task's follower: orders carried out, events handed on, and every failure ends somewhere."""

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import attrs
import pytest
from httpx_sse import ServerSentEvent

from cyberun_async import (
    AuthenticationError,
    ClientClosedError,
    ClientStateError,
    CompletedEvent,
    Connected,
    CyberunError,
    Event,
    FailedEvent,
    Notice,
    PermissionDeniedError,
    PollingStarted,
    ProgressEvent,
    RateLimitedError,
    ResumeToken,
    ServiceUnavailableError,
    StatusEvent,
    StreamLost,
    TaskNotFoundError,
    TaskSnapshot,
    UnexpectedResponseError,
    UnknownEvent,
    WatchPolicy,
)
from cyberun_async._following import EventBuffer, Follower, Shared, StreamSlots
from cyberun_async._http import Usage
from cyberun_async._protocol import FailureKind
from cyberun_async._watch import Phase, Watch

from ..watch.kit import OUTPUT, TASK
from ..whole.kit import VIRTUAL, virtual_backend
from .kit import (
    FakeConnection,
    FakeStreams,
    end_message,
    lost,
    message,
    progress_message,
    read_all,
    settle,
    status_message,
    waiting_in,
)


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


@attrs.define(eq=False)
class Environment:
    """What a follower needs of its client, played by hand: no poller runs, time is the test's."""

    spawn: Callable[..., Any]
    streams: FakeStreams
    slots: StreamSlots
    observe: Callable[[Event], None] | None = None
    output: tuple[Mapping[str, Any] | None, str | None] = (OUTPUT, None)
    loads: Callable[[str], Any] = json.loads
    outputs_read: int = 0
    fault: Exception | None = None
    ended: list[Follower] = attrs.field(factory=list[Follower])
    notices: list[Notice] = attrs.field(factory=list[Notice])

    def shared(self) -> Shared:
        network: Any = Network(self)
        notifier: Any = self
        return Shared(
            requests=network,
            slots=self.slots,
            notifier=notifier,
            tenant=Usage(),
            now=anyio.current_time,
            loads=self.loads,
            spawn=self.spawn,
            schedule=lambda _: None,  # it is left to the test
            settled=self.ended.append,
        )

    @property
    def received(self) -> Callable[[Event], None] | None:
        return self.observe

    def noticed(self, notice: Notice) -> None:
        self.notices.append(notice)


@attrs.define(eq=False)
class Network:
    """The requests of a follower, answered by its environment."""

    environment: Environment

    suspicion = None

    async def open_stream(self, task_id: str, last_event_id: str | None) -> Any:
        assert task_id == TASK
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        return await self.environment.streams.open(headers)

    async def output(self, task_id: str) -> tuple[Mapping[str, Any] | None, str | None]:
        assert task_id == TASK
        self.environment.outputs_read += 1
        await anyio.lowlevel.checkpoint()
        if self.environment.fault is not None:
            raise self.environment.fault
        return self.environment.output


@attrs.define(eq=False)
class Setting:
    environment: Environment
    follower: Follower

    @property
    def stream(self) -> FakeConnection:
        return self.environment.streams.latest

    async def reader(self, *, notices: bool = False) -> EventBuffer:
        reader = EventBuffer(512, notices=notices)
        self.follower.attach(reader, [])
        await settle()
        return reader

    async def bring(self, *messages: Any) -> None:
        self.stream.bring(*messages)
        await settle()


@asynccontextmanager
async def a_follower(
    *answers: Any, max_streams: int = 10, **settings: Any
) -> AsyncIterator[Setting]:
    """Make a follower that polls until somebody reads; afterwards its stream is closed."""
    async with anyio.create_task_group() as group:

        def spawn(function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
            group.start_soon(function, *args)

        streams = FakeStreams(answers or (FakeConnection,))
        environment = Environment(spawn, streams, StreamSlots(max_streams, 4), **settings)
        watch = Watch(
            start=ResumeToken(task_id=TASK),
            policy=WatchPolicy(),
            draw=lambda: 0.5,
            started_at=anyio.current_time(),
            streaming=False,
        )
        follower = Follower(environment.shared(), watch)
        follower.advance()
        yield Setting(environment, follower)
        follower.fail(ClientClosedError("the end of the test"))
        await settle()
        assert (streams.open_now, environment.slots.held) == (0, 0)
        group.cancel_scope.cancel()


def status(name: str) -> StatusEvent:
    return StatusEvent(task_id=TASK, status=name)


def progress(step: int) -> ProgressEvent:
    return ProgressEvent(task_id=TASK, step_current=step)


def bare(items: list[Event | Notice]) -> list[Event | Notice]:
    """Return *items* without the payloads they were made of."""
    return [attrs.evolve(one, raw={}) if isinstance(one, Event) else one for one in items]


# The line.


async def test_no_stream_is_opened_until_somebody_reads() -> None:
    """A wait alone needs none; the first reader has it opened, and no other after it."""
    async with a_follower() as setting:
        await settle()
        before = len(setting.environment.streams.asked)
        for _ in range(3):
            await setting.reader()
            setting.follower.grant_stream()
        after = len(setting.environment.streams.asked)

    assert (before, after) == (0, 1)


async def test_the_next_stream_is_opened_only_when_the_last_one_is_closed() -> None:
    """However soon it is wanted again, a task has one connection at a time."""
    async with a_follower() as setting:
        await setting.reader()
        setting.follower.revoke_stream()
        setting.follower.grant_stream()
        at_once = len(setting.environment.streams.asked)
        await anyio.sleep(1)  # those that come back are spread
        opened = [one.is_closed for one in setting.environment.streams.opened]

    assert at_once == 1
    assert opened == [True, False]


async def test_without_a_slot_it_polls_and_streams_when_one_frees() -> None:
    """The reader gets a notice; the slot opens the stream."""
    async with a_follower(max_streams=1) as setting:
        other = Environment(setting.environment.spawn, FakeStreams(), setting.environment.slots)
        holder = Follower(
            other.shared(),
            Watch(start=ResumeToken(task_id=TASK), policy=WatchPolicy(), draw=float, started_at=0),
        )
        setting.environment.slots.request(holder)
        reader = await setting.reader(notices=True)
        polling = setting.follower.watch.phase
        setting.environment.slots.release(holder)
        await settle()
        heard = waiting_in(reader)

    assert polling is Phase.POLLING
    assert heard == [
        PollingStarted(task_id=TASK, cause="all stream slots are taken"),
        Connected(task_id=TASK),
    ]


async def test_closing_the_stream_waits_for_its_connection() -> None:
    """Before control returns the connection is closed and the slot is free."""
    async with a_follower() as setting:
        await setting.reader()
        held = setting.environment.slots.held
        await setting.follower.stop_streaming()
        left = setting.environment.streams.open_now, setting.environment.slots.held

    assert (held, left) == (1, (0, 0))


async def test_a_lost_stream_is_reported_and_opened_again_by_time() -> None:
    """Nothing is opened before the pause is over."""
    async with a_follower() as setting:
        reader = await setting.reader(notices=True)
        setting.stream.break_off()
        await settle()
        setting.follower.on_time(anyio.current_time())
        await anyio.sleep(1)
        asked = len(setting.environment.streams.asked)
        setting.follower.on_time(anyio.current_time())
        await anyio.sleep(1)
        heard = waiting_in(reader)

    lost_notice = heard[1]
    assert isinstance(lost_notice, StreamLost)
    assert lost_notice.cause == "played: the connection was lost"
    assert 0 < lost_notice.delay <= 1
    assert (asked, len(setting.environment.streams.asked)) == (1, 2)


@pytest.mark.parametrize("way", ["alone", "with-events", "at-the-end", "in-front-of-nonsense"])
async def test_a_pause_that_the_stream_asks_for_is_kept(way: str) -> None:
    """A `retry:` in a block of its own, the usual form, counts whatever comes with it or not."""
    async with a_follower() as setting:
        reader = await setting.reader(notices=True)
        stream = setting.stream
        stream.ask_to_pause(20_000)
        if way == "with-events":
            stream.bring(status_message("running"))
        if way == "in-front-of-nonsense":
            stream.bring(*[ServerSentEvent(event="progress", data="{")] * 5)
        elif way != "at-the-end":
            await settle()
        if way != "in-front-of-nonsense":
            stream.break_off()
        await settle()
        first_read = waiting_in(reader)

    (lost_notice,) = [item for item in first_read if isinstance(item, StreamLost)]
    assert 20 <= lost_notice.delay <= 22


async def test_the_id_of_the_last_event_goes_with_the_next_request() -> None:
    """Only if there ever was one."""
    async with a_follower() as setting:
        await setting.reader()
        first = message("status", status="running")
        first._id = "event-7"
        await setting.bring(first)
        setting.follower.revoke_stream()
        setting.follower.grant_stream()
        await anyio.sleep(1)
        sent = [headers.get("Last-Event-ID") for headers in setting.environment.streams.asked]

    assert sent == [None, "event-7"]


# Refusals and failures.


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(lambda: FakeConnection(status=403), Phase.CHECKING, id="forbidden"),
        pytest.param(lambda: FakeConnection(status=404), Phase.CHECKING, id="no-such-route"),
        pytest.param(lambda: FakeConnection(content_type="text/html"), Phase.CHECKING, id="a-page"),
        pytest.param(lambda: FakeConnection(status=204), Phase.CHECKING, id="no-content"),
        pytest.param(lambda: FakeConnection(status=503), Phase.RESTING, id="unavailable"),
        pytest.param(lambda: FakeConnection(status=429), Phase.RESTING, id="too-many"),
        pytest.param(lost(FailureKind.REDIRECT), Phase.CHECKING, id="led-elsewhere"),
        pytest.param(lost(FailureKind.CONNECT), Phase.RESTING, id="no-connection"),
        pytest.param(lost(FailureKind.TIMEOUT), Phase.RESTING, id="no-headers"),
        pytest.param(lost(FailureKind.TLS), Phase.DONE, id="no-certificate"),
        pytest.param(lost(FailureKind.PROXY), Phase.DONE, id="a-proxy-says-no"),
        pytest.param(lost(FailureKind.PROXY_FAILED), Phase.RESTING, id="a-proxy-is-down"),
    ],
)
async def test_what_stands_in_the_place_of_a_stream(answer: Any, expected: Phase) -> None:
    """A refusal is asked about, a loss rested from, and what no repetition helps ends it."""
    async with a_follower(answer) as setting:
        await setting.reader()
        phase = setting.follower.watch.phase

    assert phase is expected
    assert len(setting.environment.streams.asked) == 1


async def test_what_is_reported_of_an_answer_in_place_of_a_stream_holds_no_link() -> None:
    """It is named as the cause of polling, with neither signatures nor keys of its body."""
    body = b'{"url": "https://s3.example/a.png?X-Amz-Signature=very-secret", "key": "sk-abcdef"}'
    answer = lambda: FakeConnection(content_type=None, body=body)  # noqa: E731
    async with a_follower(answer) as setting:
        await setting.reader()
        setting.follower.on_answer(TaskSnapshot(id=TASK, status="running"), anyio.current_time())
        causes = [
            one.cause for one in setting.environment.notices if isinstance(one, PollingStarted)
        ]

    (cause,) = causes
    assert "HTTP 200" in cause
    assert "https://s3.example/a.png?<redacted>" in cause
    assert "sk-<redacted>" in cause


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(AuthenticationError(status=401), Phase.DONE, id="key-refused"),
        pytest.param(TaskNotFoundError(status=404), Phase.POLLING, id="not-found-once"),
        pytest.param(PermissionDeniedError(status=403), Phase.POLLING, id="forbidden-once"),
        pytest.param(RateLimitedError(status=429, retry_after=9.0), Phase.POLLING, id="too-many"),
        pytest.param(ServiceUnavailableError("x", status=503), Phase.POLLING, id="unavailable"),
        pytest.param(UnexpectedResponseError("x"), Phase.POLLING, id="a-page"),
        pytest.param(ClientStateError("x"), Phase.DONE, id="a-fault-of-the-caller"),
        pytest.param(TaskSnapshot(id=TASK, status="running"), Phase.POLLING, id="running"),
        pytest.param(TaskSnapshot(id=TASK, status="failed"), Phase.DONE, id="failed"),
    ],
)
async def test_an_answer_ends_the_follower_or_leaves_it_polling(
    answer: TaskSnapshot | CyberunError, expected: Phase
) -> None:
    """What may pass is tried again; the rest is the end, of the task or of the watch."""
    async with a_follower() as setting:
        setting.follower.on_answer(answer, anyio.current_time())
        phase, is_done = setting.follower.watch.phase, setting.follower.is_done

    assert phase is expected
    assert is_done is (expected is Phase.DONE)


async def test_a_certificate_that_fails_a_check_ends_the_follower() -> None:
    """No repetition helps."""
    error = ServiceUnavailableError("no trusted TLS connection")
    error.is_final = True
    async with a_follower() as setting:
        setting.follower.on_answer(error, anyio.current_time())
        outcome = setting.follower.outcome

    assert outcome is error


async def test_a_fault_within_ends_the_readers_with_an_error() -> None:
    """Nobody waits forever for a stream that has crashed."""

    def loads(_: str) -> Any:
        raise RuntimeError("a bug")

    async with a_follower(loads=loads) as setting:
        reader = await setting.reader()
        await setting.bring(status_message("running"))
        with pytest.raises(ClientStateError, match="a bug") as caught:
            await read_all(reader, [])

    assert isinstance(caught.value.__cause__, RuntimeError)
    assert caught.value.resume_token is not None


async def test_a_fault_while_the_output_is_read_ends_the_readers_with_an_error() -> None:
    """Nobody waits forever for an output whose reading has crashed."""
    async with a_follower(fault=LookupError("mine")) as setting:
        reader = await setting.reader()
        await setting.bring(message("completed", status="completed"))
        with pytest.raises(ClientStateError, match="mine") as caught, anyio.fail_after(60):
            await read_all(reader, [])

    assert isinstance(caught.value.__cause__, LookupError)


# Events.


async def test_events_and_notices_go_where_they_are_wanted() -> None:
    """Each reader has each event once; notices only who asked for them; the observer events."""
    seen: list[Event] = []
    async with a_follower(observe=seen.append) as setting:
        plain = await setting.reader()
        curious = await setting.reader(notices=True)
        await setting.bring(status_message("running"), progress_message(1))
        setting.follower.revoke_stream()
        heard = bare(waiting_in(plain)), bare(waiting_in(curious))

    events = [status("running"), progress(1)]
    notice = PollingStarted(task_id=TASK, cause="all stream slots are taken")
    assert heard == (events, [*events, notice])
    assert bare([*seen]) == events
    assert setting.environment.notices == [Connected(task_id=TASK), notice]


async def test_what_cannot_be_read_is_skipped_and_what_is_unknown_is_passed_on() -> None:
    """Neither ends the stream."""
    async with a_follower() as setting:
        reader = await setting.reader()
        odd = message("progress")
        odd._data = "{"
        await setting.bring(odd, message("novelty", a=1), progress_message(1))
        heard = bare(waiting_in(reader))

    assert [type(one) for one in heard] == [UnknownEvent, ProgressEvent]
    assert setting.follower.watch.counters.garbled_payloads == 1


async def test_a_clean_end_without_the_terminal_event_is_asked_about() -> None:
    """It is the end of the stream, and says nothing of the task."""
    async with a_follower() as setting:
        reader = await setting.reader()
        await setting.bring(status_message("running"))
        setting.stream.end()
        await settle()
        phase = setting.follower.watch.phase
        snapshot = TaskSnapshot(id=TASK, status="failed", error="why")
        setting.follower.on_answer(snapshot, anyio.current_time())
        heard: list[Event | Notice] = []
        await read_all(reader, heard)

    assert phase is Phase.CHECKING
    assert bare(heard) == [
        status("running"),
        FailedEvent(task_id=TASK, origin="poll", error="why"),
    ]


async def test_the_end_closes_the_stream_and_wakes_who_waits() -> None:
    """Readers come to their end, waits return, the connection and its slot are given back."""
    async with a_follower() as setting:
        reader = await setting.reader()
        async with anyio.create_task_group() as group:
            group.start_soon(setting.follower.wait_done)
            await settle()
            await setting.bring(end_message(OUTPUT), progress_message(9))
        heard: list[Event | Notice] = []
        await read_all(reader, heard)
        await settle()
        left = setting.environment.streams.open_now, setting.environment.slots.held

    assert bare(heard) == [CompletedEvent(task_id=TASK, output=OUTPUT)]
    assert left == (0, 0)
    assert setting.environment.ended == [setting.follower]


@pytest.mark.parametrize("output", [(OUTPUT, None), (None, "HTTP 404: gone")])
async def test_the_output_of_an_end_that_was_missed_is_fetched_once(
    output: tuple[Mapping[str, Any] | None, str | None],
) -> None:
    """The end comes with it, or with the reason why it cannot be had."""
    async with a_follower(output=output) as setting:
        reader = await setting.reader()
        snapshot = TaskSnapshot(id=TASK, status="completed")
        for _ in range(2):
            setting.follower.on_answer(snapshot, anyio.current_time())
        heard: list[Event | Notice] = []
        await read_all(reader, heard)

    expected = CompletedEvent(task_id=TASK, origin="poll", output=output[0], output_error=output[1])
    assert heard == [expected]
    assert setting.environment.outputs_read == 1


async def test_a_wait_alone_fetches_no_output() -> None:
    """Nobody reads the event, so nobody needs what was made."""
    async with a_follower() as setting:
        setting.follower.on_answer(TaskSnapshot(id=TASK, status="completed"), anyio.current_time())
        is_done = setting.follower.is_done

    assert (is_done, setting.environment.outputs_read) == (True, 0)


async def test_a_follower_fails_once_with_an_error_for_each_reader() -> None:
    """A later failure changes nothing; each reader has an error of its own to raise."""
    async with a_follower() as setting:
        readers = [await setting.reader() for _ in range(2)]
        setting.follower.fail(TaskNotFoundError(status=404))
        setting.follower.fail(ClientClosedError("later"))
        errors: list[CyberunError] = []
        for reader in readers:
            with pytest.raises(TaskNotFoundError) as caught:
                await read_all(reader, [])
            errors.append(caught.value)

    assert errors[0] is not errors[1]
    assert all(error.resume_token is not None for error in errors)
    assert setting.environment.ended == [setting.follower]


async def test_a_reader_that_left_hears_nothing_more() -> None:
    """And the follower, read by nobody, opens no stream again."""
    async with a_follower() as setting:
        reader = await setting.reader()
        await setting.bring(progress_message(1))
        setting.follower.detach(reader)
        setting.follower.detach(reader)
        await setting.bring(progress_message(2))
        setting.stream.break_off()
        await settle()
        heard, phase = bare(waiting_in(reader)), setting.follower.watch.phase

    assert heard == [progress(1)]
    assert phase is Phase.POLLING
    assert len(setting.environment.streams.asked) == 1
