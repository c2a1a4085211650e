"""
One task's follower: the machine's orders carried out, its events handed to every reader.

A follower is passive; no task runs for it unless its stream is open. The poller calls it
when its time has come and when an ask was answered; its *line* (the one reading task)
reports what the stream brings.
"""

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

import anyio

from .._http import Usage, unavailable
from .._model import (
    ClientStateError,
    CompletedEvent,
    CyberunError,
    Event,
    Notice,
    ProgressEvent,
    RequestRejectedError,
    ResumeToken,
    ServiceUnavailableError,
    TaskSnapshot,
    TerminalEvent,
)
from .._protocol import ExchangeFailedError, FailureKind, Message, forget_locals
from .._watch import (
    Connect,
    Fail,
    FetchResult,
    Finish,
    Phase,
    Watch,
    report_answer,
    report_id,
    report_messages,
)
from .connect import Connection, Opener, open_connection, refusal_of
from .event_buffer import EventBuffer
from .stream_slots import StreamSlots


logger = logging.getLogger("cyberun_async")


class FollowerHost(Opener, Protocol):
    """What a follower needs of its client."""

    slots: StreamSlots
    now: Callable[[], float]
    loads: Callable[[str], Any]
    observe: Callable[[Event], None] | None
    tenant: Usage | None

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None: ...
    def schedule(self, follower: "Follower") -> None: ...
    def settled(self, follower: "Follower") -> None: ...
    def noticed(self, notice: Notice) -> None: ...
    async def read_output(self, task_id: str) -> tuple[Mapping[str, Any] | None, str | None]: ...


class Follower:
    """The one follower of a task that all its readers and waiters share."""

    __slots__ = (
        "__weakref__",
        "_checked",
        "_connection",
        "_done",
        "_end_known",
        "_fetching",
        "_has_ended",
        "_has_line",
        "_host",
        "_line_closed",
        "_line_scope",
        "_logged",
        "_ran",
        "asking",
        "departures",
        "readers",
        "scheduled_at",
        "unlisted",
        "waiters",
        "was_shared",
        "watch",
    )

    def __init__(self, followers: FollowerHost, watch: Watch) -> None:
        self._host = followers
        self.watch: Watch = watch
        self.readers: list[EventBuffer] = []
        self.waiters: int = 0
        self.was_shared: bool = False
        self.asking: bool = False
        self.departures: int = 0
        self.scheduled_at: float | None = None
        self.unlisted: int = 0
        self._connection: Connection | None = None
        self._line_scope: anyio.CancelScope | None = None
        self._has_line = False
        self._line_closed: anyio.Event | None = None
        self._fetching = False
        self._has_ended = False
        self._logged: Phase | None = None
        self._ran = watch.is_running
        self._done: anyio.Event | None = None
        self._end_known: anyio.Event | None = None
        # For an answer to a check sent from that moment on.
        self._checked: tuple[float, anyio.Event] | None = None

    # Readers and waiters.

    @property
    def task_id(self) -> str:
        """The task."""
        return self.watch.task_id

    @property
    def is_done(self) -> bool:
        """Whether the terminal event or an error has been delivered."""
        return self.watch.phase is Phase.DONE

    @property
    def end_is_known(self) -> bool:
        """Whether the task has ended, though its output may not have been read yet."""
        return self.watch.phase in (Phase.FETCHING, Phase.DONE)

    @property
    def outcome(self) -> TerminalEvent | CyberunError | None:
        """What the follower ended with; None while that is not known, and where it was left."""
        if self.watch.phase is Phase.FETCHING:
            return self.watch.pending_end()
        end = self.watch.terminal
        return end if isinstance(end, TerminalEvent) else self.watch.error

    @property
    def is_running(self) -> bool:
        """Whether the task is past its waiting states."""
        return self.watch.is_running

    @property
    def tenant(self) -> Usage | None:
        """Whose task it is."""
        return self._host.tenant

    def teach(self, token: ResumeToken) -> None:
        """Take in what the next reader knows already, and tell it to the others."""
        self.watch.merge_token(token, self._host.now())
        self.advance()

    def attach(self, reader: EventBuffer, first: Sequence[Event | Notice]) -> None:
        """Add *reader*, which begins with *first*, and stream if nobody has so far."""
        reader.push_all(first)
        self.readers.append(reader)
        self.was_shared = self.was_shared or len(self.readers) > 1
        self.watch.streaming = True
        self.watch.stream_granted(self._host.now())
        self.advance()

    def detach(self, reader: EventBuffer) -> None:
        """Remove *reader*; with the last one the stream is given up."""
        if reader in self.readers:
            self.readers.remove(reader)
            self.departures += 1
        if not self.readers:
            self.watch.streaming = False

    def begin(self) -> None:
        """Take the first step."""
        self.advance()

    async def wait_done(self) -> None:
        """Wait until the follower has ended, or nobody follows the task any more."""
        if not self.is_done:
            self._done = self._done or anyio.Event()
            await self._done.wait()

    async def wait_end(self) -> None:
        """Wait until the end is known, whether its output can be read or not."""
        if not self.end_is_known:
            self._end_known = self._end_known or anyio.Event()
            await self._end_known.wait()

    async def look_again(self) -> None:
        """Have the status checked now, and wait for what that comes to, or for the end."""
        now = self._host.now()
        if self._checked is None:
            self._checked = now, anyio.Event()
        _, checked = self._checked
        self.watch.look(now)
        self.advance()
        await checked.wait()

    def let_go(self) -> None:
        """Nobody follows the task any more."""
        self._done = self._done or anyio.Event()
        self._done.set()

    async def stop_streaming(self) -> None:
        """Close the stream and wait until its connection has been given back."""
        self.revoke_stream()
        self._host.slots.forget(self)
        await self.line_closed()

    async def line_closed(self) -> None:
        """Wait until the connection has been given back."""
        if self._has_line:
            # Made only here: for as long as a stream is open nobody waits for its end.
            closed = self._line_closed = self._line_closed or anyio.Event()
            await closed.wait()

    def revoke_stream(self) -> None:
        """Give the stream up and poll."""
        self.watch.stream_revoked(self._host.now())
        self.advance()

    def grant_stream(self) -> None:
        """Stream, if somebody still reads."""
        if self.readers and not self.is_done:
            self.watch.stream_granted(self._host.now())
            self.advance()

    def fail(self, error: CyberunError) -> None:
        """End the follower with *error*, behind what the stream has brought by now."""
        self.watch.failed(error)
        self.advance()

    def crash(self, error: Exception) -> None:
        """End the follower by a fault that nobody foresaw: it must not leave a reader waiting."""
        self.watch.failed(_crashed(error))
        self.advance()

    # Time and asks, called by the poller.

    @property
    def last_byte_at(self) -> float:
        """When the stream last brought anything."""
        return self._host.now() if self._connection is None else self._connection.last_byte_at

    def due_at(self) -> float | None:
        """Return when the poller has to look at this follower."""
        watch = self.watch
        if watch.phase is Phase.DONE:
            return None
        due = watch.due_at(self.last_byte_at)
        if not self.asking and watch.check_at is not None:
            due = watch.check_at if due is None else min(due, watch.check_at)
        return due

    def on_time(self, now: float) -> None:
        """Let the machine decide whatever has become due."""
        self.watch.tick(now, self.last_byte_at)
        self.advance()

    def on_answer(self, answer: TaskSnapshot | CyberunError, sent_at: float) -> None:
        """Report what an ask came to."""
        report_answer(self.watch, answer, sent_at, self._host.now())
        self.advance()
        if self._checked is not None and sent_at >= self._checked[0]:
            self._release_checked()

    # Carrying out orders.

    def advance(self) -> None:
        """Deliver what is due and begin what the machine orders next."""
        self._deliver()
        if self.is_running is not self._ran:
            self._ran = not self._ran
            self._host.slots.moved(self)
        step = self.watch.next_step()
        self._log_phase()
        if isinstance(step, Connect):
            self._connect(step)
        elif self.watch.phase is not Phase.READING:
            self._drop_line()
        if isinstance(step, FetchResult):
            self._fetch_output()
        elif isinstance(step, Finish):
            self._end(None)
        elif isinstance(step, Fail):
            self._end(step.error)
        self._deliver()
        self._host.schedule(self)

    def _log_phase(self) -> None:
        phase = self.watch.phase
        if phase is not self._logged:
            self._logged = phase
            logger.debug("task %s: %s", self.task_id, phase.value)

    def _deliver(self) -> list[Event | Notice]:
        """Hand out what is due, and return it."""
        items, observe = self.watch.take(), self._host.observe
        events: list[Event] = []
        for item in items:
            if isinstance(item, Notice):
                self._host.noticed(item)
                continue
            events.append(item)
            if observe is not None:
                observe(item)
        if items:
            for reader in self.readers:
                reader.push_all(items if reader.notices else events)
        return items

    def _connect(self, step: Connect) -> None:
        if self._has_line:
            return  # the old line is still closing; it calls again when it has
        if not self._host.slots.request(self):
            self.watch.stream_revoked(self._host.now())
            return
        self._has_line = True
        self._host.spawn(self._line, step.last_event_id)

    def _drop_line(self) -> None:
        if self._line_scope is not None:
            self._line_scope.cancel()

    def _fetch_output(self) -> None:
        if self._fetching:
            return
        self._fetching = True
        self._release_waiters()
        if self.readers:
            self._host.spawn(self._fetch)
        else:
            self.watch.resulted(self.watch.pending_end())
            self.advance()

    async def _fetch(self) -> None:
        try:
            output, problem = await self._host.read_output(self.task_id)
        except Exception as error:  # noqa: BLE001 - the readers'
            self.crash(error)
            return
        end = self.watch.pending_end()
        self.watch.resulted(
            CompletedEvent(
                task_id=end.task_id,
                attempt=end.attempt,
                origin=end.origin,
                raw=end.raw,
                output=output,
                output_error=problem,
            )
        )
        self.advance()

    def _end(self, error: CyberunError | None) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._host.slots.forget(self)
        for reader in self.readers:
            if not reader.is_finished:
                reader.finish(None if error is None else copied(error, self.watch))
        if self._done is not None:
            self._done.set()
        self._release_waiters()
        self._host.settled(self)

    def _release_waiters(self) -> None:
        if self._end_known is not None:
            self._end_known.set()
        self._release_checked()

    def _release_checked(self) -> None:
        if self._checked is not None:
            _, checked = self._checked
            self._checked = None
            checked.set()

    # The line: the one task that reads the stream.

    async def _line(self, last_event_id: str | None) -> None:
        try:
            with anyio.CancelScope() as self._line_scope:
                # What was given up before this ran is not asked for.
                if self.watch.phase is Phase.CONNECTING:
                    await self._read_stream(last_event_id)
        except Exception as error:  # noqa: BLE001 - the readers'
            self.watch.failed(_crashed(error))
        finally:
            self._line_scope = None
            self._has_line = False
            closed, self._line_closed = self._line_closed, None
            if closed is not None:
                closed.set()
            self._host.slots.release(self)
        self.advance()

    async def _read_stream(self, last_event_id: str | None) -> None:
        watch, now = self.watch, self._host.now
        if watch.is_reconnecting:
            await anyio.sleep(max(0.0, self._host.slots.start_time(now()) - now()))
        try:
            connection = await open_connection(self._host, self.task_id, last_event_id)
        except ExchangeFailedError as error:
            self._judge_failure(error)
            return
        except ServiceUnavailableError as error:
            watch.lost(error.reason, now())
            return
        except CyberunError as error:
            watch.failed(error)
            return
        try:
            self._connection = connection
            if connection.status == 200 and connection.is_event_stream:
                watch.connected(now())
                self.advance()
                await connection.read(self._received)
                watch.lost("the stream ended without a terminal event", now(), clean=True)
            else:
                refusal, retry_after = await refusal_of(connection, self.task_id)
                reached = not isinstance(refusal, RequestRejectedError) or refusal.from_service
                watch.refused(refusal, now(), retry_after=retry_after, was_reached=reached)
        except ExchangeFailedError as error:
            watch.lost(error.reason, now())
        finally:
            self._connection = None
            with anyio.CancelScope(shield=True):
                await connection.aclose()

    def _judge_failure(self, failure: ExchangeFailedError) -> None:
        if failure.kind in (FailureKind.TLS, FailureKind.PROXY):
            self.watch.failed(unavailable(failure))
        elif failure.kind is FailureKind.REDIRECT:
            # Not followed, so no stream can be had; whether all else works, an ask shows.
            self.watch.refused(unavailable(failure), self._host.now(), was_reached=False)
        else:
            self.watch.lost(failure.reason, self._host.now())

    def _received(self, messages: Sequence[Message], failure: ExchangeFailedError | None) -> None:
        """Make events of *messages*, and hand them to every reader."""
        connection, watch, now = self._connection, self.watch, self._host.now()
        if connection is None:
            return
        try:
            # Of the connection, as the usual block with a `retry:` has no data and is no message.
            if connection.retry is not None:
                watch.apply_retry_hint(connection.retry / 1000)
            if messages:
                report_messages(watch, messages, connection.last_event_id, now, self._host.loads)
            else:
                report_id(watch, connection.last_event_id)
            if failure is not None:
                watch.lost(failure.reason, now)
            items = self._deliver()
            for item in items:
                if type(item) is not ProgressEvent:
                    break
            else:
                if failure is None and len(items) == len(messages):
                    return  # all was progress: nothing else can have changed
            self.advance()
        except Exception as error:  # noqa: BLE001 - the readers'
            self.crash(error)


def _crashed(error: Exception) -> CyberunError:
    forget_locals(error)
    crash = ClientStateError(f"following the task failed unexpectedly: {error!r}")
    crash.__cause__ = error
    return crash


def copied(error: CyberunError, watch: Watch) -> CyberunError:
    """Return a copy of *error* for one reader, with the token to resume with."""
    make, args = error.__reduce__()[:2]
    copy: CyberunError = make(*args)
    copy.__cause__ = error.__cause__
    return copy.with_token(watch.token())
