"""
One task's follower: it carries out the machine's steps and hands events to every reader.

A follower is passive; no task runs for it unless its stream is open. The poller calls it
when its time has come and when a status check was answered; its stream's own task makes
events of the bytes that come, and delivers them.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import attrs

from .._http import EventConnection, Usage, unavailable
from .._model import (
    ClientStateError,
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
    Read,
    Wait,
    Watch,
)
from .event_buffer import EventBuffer
from .notifier import Notifier
from .stream_slots import StreamSlots
from .task_requests import TaskRequests, refusal_of


logger = logging.getLogger("cyberun_async")


@attrs.frozen(kw_only=True, eq=False)
class Shared:
    """
    What all followers of one client have in common.

    Attributes:
        schedule: Called when what a follower waits for may have changed.
        settled: Called when a follower has ended.
    """

    requests: TaskRequests
    slots: StreamSlots
    notifier: Notifier
    tenant: Usage
    now: Callable[[], float]
    loads: Callable[[str], Any]
    spawn: Callable[..., None]
    schedule: Callable[["Follower"], None]
    settled: Callable[["Follower"], None]


@attrs.define(eq=False)
class Follower:
    """The one follower of a task that all its readers and waiters share."""

    _shared: Shared
    watch: Watch
    readers: list[EventBuffer] = attrs.field(factory=list[EventBuffer], init=False)
    waiters: int = attrs.field(default=0, init=False)
    was_shared: bool = attrs.field(default=False, init=False)
    departures: int = attrs.field(default=0, init=False)
    _connection: EventConnection | None = attrs.field(default=None, init=False)
    _stream_scope: anyio.CancelScope | None = attrs.field(default=None, init=False)
    _has_stream: bool = attrs.field(default=False, init=False)
    _stream_closed: anyio.Event | None = attrs.field(default=None, init=False)
    _fetching: bool = attrs.field(default=False, init=False)
    _has_ended: bool = attrs.field(default=False, init=False)
    _logged: Phase | None = attrs.field(default=None, init=False)
    _was_running: bool = attrs.field(default=False, init=False)
    _is_abandoned: bool = attrs.field(default=False, init=False)
    # When the last check that was answered had been sent.
    _checked_at: float = attrs.field(default=float("-inf"), init=False)
    _awaiting_check: int = attrs.field(default=0, init=False)
    # Made only where somebody waits for the end, or for the answer to a check.
    _changed: anyio.Event | None = attrs.field(default=None, init=False)

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
        """What this ended with; None while that is not known, and where it was left."""
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
        return self._shared.tenant

    def merge_token(self, token: ResumeToken) -> None:
        """Take in what the next reader knows already, and report it to the others."""
        self.watch.merge_token(token, self._shared.now())
        self.advance()

    def attach(self, reader: EventBuffer, first: Sequence[Event | Notice]) -> None:
        """Add *reader*, which begins with *first*, and stream if nobody has so far."""
        reader.push_all(first)
        self.readers.append(reader)
        self.was_shared = self.was_shared or len(self.readers) > 1
        self.watch.reader_came(self._shared.now())
        self.advance()

    def detach(self, reader: EventBuffer) -> None:
        """Remove *reader*; the stream closes with the last one."""
        if reader in self.readers:
            self.readers.remove(reader)
            self.departures += 1
        if not self.readers:
            self.watch.readers_left()

    async def wait_done(self) -> None:
        """Wait until this has ended, or nobody follows the task any more."""
        await self._until(lambda: self.is_done or self._is_abandoned)

    async def wait_end(self, limit: float | None, *, last_look: float) -> None:
        """
        Wait until the end is known, whether its output can be read or not; *limit* seconds at most.

        A task not known to run by then has its status checked once more, for up to
        *last_look* seconds.
        """
        self.waiters += 1
        try:
            # Without a limit thousands wait; a cancel scope each would cost a kilobyte each.
            if limit is None:
                await self._wait_end()
                return
            with anyio.move_on_after(limit):
                await self._wait_end()
            if last_look > 0 and not self.is_running and not self.end_is_known:
                with anyio.move_on_after(last_look):
                    await self._look_again()
        finally:
            self.waiters -= 1

    async def _wait_end(self) -> None:
        await self._until(lambda: self.end_is_known)

    async def _look_again(self) -> None:
        """Have the status checked now, and wait for what that comes to, or for the end."""
        now = self._shared.now()
        self.watch.check_soon(now)
        self.advance()
        self._awaiting_check += 1
        try:
            await self._until(lambda: self._checked_at >= now or self.end_is_known)
        finally:
            self._awaiting_check -= 1

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed = self._changed or anyio.Event()
            await self._changed.wait()

    def _notify(self) -> None:
        """Let all who wait look again."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def abandon(self) -> None:
        """Nobody follows the task any more."""
        self._shared.slots.forget(self)
        self._is_abandoned = True
        self._notify()

    async def stop_streaming(self) -> None:
        """Close the stream and wait until its connection has been given back."""
        self.revoke_stream()
        self._shared.slots.forget(self)
        await self.stream_closed()

    async def stream_closed(self) -> None:
        """Wait until the connection has been given back."""
        if self._has_stream:
            # Made only here: for as long as a stream is open nobody waits for its end.
            closed = self._stream_closed = self._stream_closed or anyio.Event()
            await closed.wait()

    def revoke_stream(self) -> None:
        """Close the stream and poll."""
        self.watch.stream_revoked(self._shared.now())
        self.advance()

    def grant_stream(self) -> None:
        """Stream, if somebody still reads."""
        if self.readers and not self.is_done:
            self.watch.stream_granted(self._shared.now())
            self.advance()

    def fail(self, error: CyberunError) -> None:
        """End with *error*."""
        self.watch.failed(error)
        self.advance()

    def crash(self, error: Exception) -> None:
        """End by a fault that nobody foresaw: it must not leave a reader waiting."""
        forget_locals(error)
        crash = ClientStateError(f"following the task failed unexpectedly: {error!r}")
        crash.__cause__ = error
        self.fail(crash)

    # Time and answers, called by the poller.

    def due_at(self) -> float | None:
        """Return when :meth:`on_time` has something to decide; status checks come beside it."""
        return self.watch.due_at(self._last_byte_at)

    def on_time(self, now: float) -> None:
        """Let the machine decide whatever has become due."""
        self.watch.time_passed(now, self._last_byte_at)
        self.advance()

    def on_wake(self, now: float) -> None:
        """The machine slept until now."""
        self.watch.woke(now)
        self.advance()

    def on_answer(self, answer: TaskSnapshot | CyberunError, sent_at: float) -> None:
        """Report what a status check came to."""
        self.watch.answered(answer, sent_at, self._shared.now())
        self.advance()
        self._checked_at = max(self._checked_at, sent_at)
        if self._awaiting_check:
            self._notify()

    @property
    def _last_byte_at(self) -> float:
        return self._shared.now() if self._connection is None else self._connection.last_byte_at

    # Carrying out steps.

    def advance(self) -> None:
        """Deliver what is due and begin what the machine orders next."""
        self._deliver()
        if self.is_running is not self._was_running:
            self._was_running = not self._was_running
            self._shared.slots.moved(self)
        step = self.watch.next_step()
        phase = self.watch.phase
        if phase is not self._logged:
            self._logged = phase
            logger.debug("task %s: %s", self.task_id, phase.value)
        if self._stream_scope is not None and not isinstance(step, Connect | Read):
            self._stream_scope.cancel()
        match step:
            case Connect(last_event_id=last_event_id):
                self._connect(last_event_id)
            case FetchResult():
                self._fetch_output()
            case Finish():
                self._end(None)
            case Fail(error=error):
                self._end(error)
            case Read() | Wait():
                pass
        self._deliver()
        self._shared.schedule(self)

    def _deliver(self) -> list[Event | Notice]:
        """Hand out what is due, and return it."""
        notifier = self._shared.notifier
        items, observe = self.watch.take(), notifier.received
        events: list[Event] = []
        for item in items:
            if isinstance(item, Notice):
                notifier.noticed(item)
                continue
            events.append(item)
            if observe is not None:
                observe(item)
        if items:
            for reader in self.readers:
                reader.push_all(items if reader.notices else events)
        return items

    def _connect(self, last_event_id: str | None) -> None:
        if self._has_stream:
            return  # the last one is still closing, and calls again when it has
        if not self._shared.slots.request(self):
            self.watch.stream_revoked(self._shared.now())
            return
        self._has_stream = True
        self._shared.spawn(self._stream, last_event_id)

    def _fetch_output(self) -> None:
        if self._fetching:
            return
        self._fetching = True
        self._notify()
        if self.readers:
            self._shared.spawn(self._fetch)
        else:
            self.watch.resulted(self.watch.pending_end())
            self.advance()

    async def _fetch(self) -> None:
        try:
            output, problem = await self._shared.requests.output(self.task_id)
        except Exception as error:  # noqa: BLE001 - the readers'
            self.crash(error)
            return
        end = self.watch.pending_end()
        self.watch.resulted(attrs.evolve(end, output=output, output_error=problem))
        self.advance()

    def _end(self, error: CyberunError | None) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        self._shared.slots.forget(self)
        for reader in self.readers:
            if not reader.is_finished:
                reader.finish(None if error is None else copied(error, self.watch))
        self._notify()
        self._shared.settled(self)

    # The stream's own task.

    async def _stream(self, last_event_id: str | None) -> None:
        watch, now = self.watch, self._shared.now
        try:
            with anyio.CancelScope() as self._stream_scope:
                connection = await self._open(last_event_id)
                if connection is not None:
                    async with connection:
                        self._connection = connection
                        watch.connected(now())
                        self.advance()
                        await connection.read(self._received)
                        watch.lost("the stream ended without a terminal event", now(), clean=True)
        except ExchangeFailedError as error:
            watch.lost(error.reason, now())
        except Exception as error:  # noqa: BLE001 - the readers'
            self.crash(error)
        finally:
            self._connection = self._stream_scope = None
            self._has_stream = False
            closed, self._stream_closed = self._stream_closed, None
            if closed is not None:
                closed.set()
            self._shared.slots.release(self)
        self.advance()

    async def _open(self, last_event_id: str | None) -> EventConnection | None:
        """Return the open stream, or report what stands in its place."""
        watch, now, slots = self.watch, self._shared.now, self._shared.slots
        # What was revoked before this ran is not opened.
        if watch.phase is not Phase.CONNECTING:
            return None
        if watch.streams.is_reconnecting:
            await anyio.sleep(max(0.0, slots.start_time(now()) - now()))
        try:
            connection = await self._shared.requests.open_stream(self.task_id, last_event_id)
        except ExchangeFailedError as failure:
            if failure.kind in (FailureKind.TLS, FailureKind.PROXY):
                watch.failed(unavailable(failure))
            elif failure.kind is FailureKind.REDIRECT:
                # Not followed, so no stream can be had; whether all else works, a check shows.
                watch.refused(unavailable(failure), now(), was_reached=False)
            else:
                watch.lost(failure.reason, now())
            return None
        except ServiceUnavailableError as error:
            watch.lost(error.reason, now())
            return None
        except CyberunError as error:
            watch.failed(error)
            return None
        if connection.status == 200 and connection.is_event_stream:
            return connection
        async with connection:
            suspicion = self._shared.requests.suspicion
            refusal, retry_after = await refusal_of(connection, self.task_id, suspicion)
        reached = not isinstance(refusal, RequestRejectedError) or refusal.from_service
        watch.refused(refusal, now(), retry_after=retry_after, was_reached=reached)
        return None

    def _received(self, messages: Sequence[Message], failure: ExchangeFailedError | None) -> None:
        """Make events of *messages*, and hand them to every reader."""
        connection, watch, now = self._connection, self.watch, self._shared.now()
        if connection is None:
            return
        try:
            # Of the connection, as the usual block with a `retry:` has no data and is no message.
            if connection.retry is not None:
                watch.apply_retry_hint(connection.retry / 1000)
            watch.read(messages, connection.last_event_id, now, self._shared.loads)
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


def copied(error: CyberunError, watch: Watch) -> CyberunError:
    """Return a copy of *error* for one reader, with the token to resume with."""
    twin = copy.copy(error)
    twin.__cause__ = error.__cause__
    return twin.with_token(watch.token())
