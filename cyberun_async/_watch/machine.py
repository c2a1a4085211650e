"""
The decision core of a watch: what a follower of one task does next.

Facts go in, each with the moment at which it happened; the next step comes out, and
events and notices collect in an outbox. There is no await, no clock and no randomness in
here: moments are numbers, and draws from 0 to 1 come from a source passed in.

============ =========================== ================================== =================
phase        step that the shell obeys   fact it reports back               next phase
============ =========================== ================================== =================
CONNECTING   `Connect`: open the stream  `connected`                        READING
..                                       `lost`                             RESTING, POLLING
..                                       `refused`                          CHECKING, RESTING
..                                       `stream_revoked` (no slot)         POLLING
READING      `Read`: keep it open        `read`, `received`                 READING, DONE
..                                       `lost` (dirty)                     RESTING, POLLING
..                                       `lost` (clean end)                 CHECKING
..                                       `time_passed` (no byte; stale)     RESTING, POLLING
RESTING      `Wait`: no stream           `time_passed`                      CONNECTING
CHECKING     `Wait`: no stream           `polled`                           RESTING, POLLING
..                                       `check_failed`                     RESTING, POLLING
POLLING      `Wait`: no stream           `polled`                           POLLING
..                                       `time_passed`, `stream_granted`    CONNECTING
any of these                             `polled` with a terminal state     FETCHING, DONE
..                                       `check_refused`, `time_passed`     DONE
FETCHING     `FetchResult`               `resulted`                         DONE
DONE         `Finish` or `Fail`          -                                  -
============ =========================== ================================== =================

Two clocks run beside every step until the end: at `check_at` the shell checks the status
(`check_sent`, then `answered`), and at `due_at` it reports `time_passed`.
A fact that does not fit the phase comes from a stream that was given up, and is ignored.

Decisions, with their reasons:

* Only a *new* event resets the count of losses; a connection or a repeated state does
  not, otherwise a service that accepts and drops would be hammered.
* A stream that ends cleanly without a terminal event is a lost stream, but most likely
  the task has just ended: its status is checked before anything is opened again.
* A status that was already delivered in this attempt, or ranks below the present one,
  is held, and all behind it, until a check sent after it distinguishes a new attempt
  (``retry_count`` grew) from a repetition. Where none can be had in time, it is delivered
  as unconfirmed.
* What a check shows is believed forward only: a replica may lag, so a lower state with
  the same ``retry_count`` changes nothing.
* A stream is stale when a check made after it was connected has shown a change that it
  does not deliver within the grace. The first check of a connection is only the
  baseline, since a service need not replay what happened before; where it shows a change,
  the next checks come sooner, with pauses that grow from `settle_after`.
* Only events that show the task move put off status checks. The service's ``error`` event
  says that it cannot see the task, and a repetition may come from anything that only
  remembers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from .._model import (
    WAITING_STATUSES,
    AuthenticationError,
    CancelledEvent,
    CompletedEvent,
    Connected,
    CyberunError,
    Event,
    FailedEvent,
    Gap,
    NotFoundError,
    Notice,
    PermissionDeniedError,
    PollingStarted,
    ProgressEvent,
    RateLimitedError,
    RequestRejectedError,
    ResumeToken,
    ServiceUnavailableError,
    StatusEvent,
    StreamingResumed,
    StreamLost,
    TaskSnapshot,
    TaskStatus,
    TerminalEvent,
    UnexpectedResponseError,
    UnknownEndError,
    WatchLostError,
    WatchPolicy,
    is_known,
)
from .._protocol import Message, PayloadError, decode_event, is_passing, resumable_id
from .check_timer import CheckTimer
from .ordering import Fate, Ordering
from .outage import Outage
from .pauses import poll_pause, retry_pause
from .steps import Connect, Fail, FetchResult, Finish, Phase, Read, Step, Wait
from .stream_attempts import StreamAttempts


_RECHECK = 1.0
_TERMINAL_FRAME_GRACE = 1.0
# A replay comes in one go: what is not there after a second does not belong to it.
_DOUBT = 1.0
# How long events may wait for the answer that explains a step back.
_LONGEST_HOLD = 15.0
_GONE = 410
_TOO_EARLY = 425
# What the service says of the key or the task, where it is the service that says it.
_ENDING = (AuthenticationError, PermissionDeniedError, NotFoundError)


@attrs.define
class Counters:
    """What the watches of one client have seen, for its statistics."""

    events: int = 0
    reconnects: int = 0
    foreign_frames: int = 0
    garbled_payloads: int = 0
    repeats_dropped: int = 0
    switches_to_polling: int = 0
    # In readers that are gone, or have their end.
    dropped_progress: int = 0


@attrs.define(kw_only=True, eq=False)
class Watch:
    """The state of following one task. Not safe to share between threads."""

    _start: ResumeToken = attrs.field(alias="start")
    policy: WatchPolicy
    draw: Callable[[], float]
    started_at: float
    streaming: bool = True
    not_found_until: float = 0.0
    counters: Counters = attrs.field(factory=Counters)

    task_id: str = attrs.field(init=False)
    streams: StreamAttempts = attrs.field(init=False)
    last_event_id: str | None = attrs.field(init=False)
    phase: Phase = attrs.field(init=False)
    snapshot: TaskSnapshot | None = attrs.field(default=None, init=False)
    terminal: TerminalEvent | None = attrs.field(default=None, init=False)
    error: CyberunError | None = attrs.field(default=None, init=False)
    progress_is_live: bool = attrs.field(default=False, init=False)
    # Why it polls, from the notice that says so to the one that streaming is back.
    polling_cause: str | None = attrs.field(default=None, init=False)
    # Whether the stream was said to be open, and not yet that it is so no longer.
    _said_open: bool = attrs.field(default=False, init=False)

    _outbox: list[Event | Notice] = attrs.field(factory=list[Event | Notice], init=False)
    _order: Ordering = attrs.field(init=False)
    _checks: CheckTimer = attrs.field(init=False)
    _outage: Outage = attrs.field(init=False)
    _status_since: float = attrs.field(init=False)
    _held_at: float = attrs.field(default=0.0, init=False)
    _checking_since: float = attrs.field(default=0.0, init=False)
    # When the first of the refusals came since the last news of the task.
    _refused_since: float | None = attrs.field(default=None, init=False)
    # When the task was first shown as over in a state that nobody knows.
    _unknown_end_since: float | None = attrs.field(default=None, init=False)
    _odd_ends: int = attrs.field(default=0, init=False)
    _pending_end: CompletedEvent | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        began = self.started_at
        self.task_id = self._start.task_id
        self.last_event_id = resumable_id(self._start.last_event_id)
        self.phase = Phase.CONNECTING if self.streaming else Phase.POLLING
        self._order = Ordering(self._start, self._outbox)
        self._checks = CheckTimer(began)
        self._outage = Outage(self.policy, began)
        self.streams = StreamAttempts(self.policy, self.draw, began if self.streaming else None)
        self._status_since = began

    # What the shell reads.

    def next_step(self) -> Step:
        """Return what is to be done now; without a new fact it stays the same."""
        match self.phase:
            case Phase.CONNECTING:
                return Connect(self.last_event_id)
            case Phase.READING:
                return Read()
            case Phase.RESTING:
                return Wait(self.streams.rest_until)
            case Phase.CHECKING:
                return Wait(None)
            case Phase.POLLING:
                return Wait(self.streams.climb_at)
            case Phase.FETCHING:
                return FetchResult()
            case Phase.DONE:
                return Finish() if self.error is None else Fail(self.error)

    def take(self) -> list[Event | Notice]:
        """Return what is to be delivered, oldest first, and forget it."""
        taken = self._outbox.copy()
        self._outbox.clear()
        for item in taken:
            if isinstance(item, Event):
                self.counters.events += 1
        return taken

    def due_at(self, last_byte_at: float) -> float | None:
        """Return the moment at which :meth:`time_passed` has something to decide, or None."""
        if self._is_over():
            return None
        moments = (self._phase_due(last_byte_at), self._outage.give_up_at(), self._hold_due())
        return min((moment for moment in moments if moment is not None), default=None)

    @property
    def check_at(self) -> float | None:
        """When to check the task's status; None while a check is in flight."""
        return self._checks.at

    def token(self) -> ResumeToken:
        """Return what another process needs to continue."""
        return ResumeToken(
            task_id=self.task_id,
            status=self.status,
            attempt=self.attempt,
            retry_count=self._order.retry_count,
            last_event_id=self.last_event_id,
        )

    @property
    def status(self) -> str | None:
        """The status delivered last, or None."""
        return self._order.status

    @property
    def attempt(self) -> int:
        """The attempt that events belong to, counted from 1."""
        return self._order.attempt

    @property
    def is_running(self) -> bool:
        """Whether the task is past its waiting states, as far as is known."""
        return self.status is not None and self.status not in WAITING_STATUSES

    @property
    def last_progress(self) -> ProgressEvent | None:
        """The progress delivered last in this attempt, or None."""
        return self._order.last_progress

    @property
    def is_holding(self) -> bool:
        """Whether a step back, and all behind it, waits for its explanation."""
        return self._order.held is not None

    def poll_interval(self, now: float) -> float:
        """Return the seconds between two status checks while polling."""
        waits = self.status in WAITING_STATUSES
        return poll_pause(self.policy, waited=now - self._status_since if waits else None)

    def pending_end(self) -> CompletedEvent:
        """Return the completion whose output is still to be read."""
        if self._pending_end is not None:
            return self._pending_end
        return CompletedEvent(task_id=self.task_id, attempt=self.attempt, origin="poll")

    def is_news_to(self, token: ResumeToken) -> bool:
        """Return whether the present status is news to who knows what *token* says."""
        return self._order.is_news(token.status, token.attempt, token.retry_count)

    # Facts about the stream.

    def connected(self, now: float) -> None:
        """The stream's headers came and are those of an event stream."""
        if self.phase is not Phase.CONNECTING:
            return
        self.phase = Phase.READING
        self._outage.heard(now)
        self._order.opened()
        gap = self.streams.connected(now)
        self.progress_is_live = not self.streams.have_failed
        if gap is not None:
            self.counters.reconnects += 1
            self._outbox.append(Gap(task_id=self.task_id, seconds=gap))
        self._outbox.append(Connected(task_id=self.task_id))
        self._said_open = True
        self._checks.softly(now + self.policy.settle_after)

    def read(
        self,
        messages: Sequence[Message],
        last_event_id: str,
        now: float,
        loads: Callable[[str], Any],
    ) -> None:
        """The stream brought *messages*; *last_event_id* is the id as of the last block."""
        # Progress events in a row are judged in one go: most of what comes is progress.
        progress: list[ProgressEvent] = []
        for message in messages:
            data = message.data
            if not data:
                continue
            try:
                event = decode_event(message.event, data, self.task_id, self._order.attempt, loads)
            except PayloadError as error:
                self._progressed(progress, now)
                progress = []
                was_reading = self.phase is Phase.READING
                self.garbled(error.name, now)
                if was_reading and self.phase is not Phase.READING:
                    # It was taken in, as far as it can be: it need not come again.
                    self.last_event_id = resumable_id(message.id)
                continue
            if type(event) is ProgressEvent:
                progress.append(event)
                continue
            self._progressed(progress, now)
            progress = []
            self.received(event, now)
        if progress:
            self._progressed(progress, now)
        # What came after the stream was given up is not taken in, and has to come again.
        if self.phase is Phase.READING:
            self.last_event_id = resumable_id(last_event_id) if last_event_id else None

    def received(self, event: Event, now: float) -> None:
        """An event was read from the stream."""
        if self.phase is not Phase.READING:
            return
        named = event.raw.get("task_id", self.task_id)
        if named is not None and named != self.task_id and not self._is_mine(named):
            self.counters.foreign_frames += 1
        elif type(event) is ProgressEvent and self._order.is_settled:
            # It may be one that was heard before all the same, so it resets nothing else.
            self._order.pass_progress((event,))
            self._moved(now)
            self._unknown_end_since = None
        else:
            self.streams.readable()
            self._react(self._order.judge(event), event, now)

    def garbled(self, name: str, now: float) -> None:
        """An event's payload could not be read."""
        if self.phase is not Phase.READING:
            return
        self.counters.garbled_payloads += 1
        if name in ("completed", "failed", "cancelled"):
            self._checks.by(now)
        if self.streams.garbled():
            self.lost("the stream brings no readable events", now)

    def apply_retry_hint(self, seconds: float) -> None:
        """The stream's ``retry:`` line asked for a pause before reconnecting."""
        self.streams.apply_retry_hint(seconds)

    def lost(
        self, cause: str, now: float, *, clean: bool = False, retry_after: float | None = None
    ) -> None:
        """The stream could not be opened, broke, or ended (*clean*) without a terminal event."""
        if self.phase not in (Phase.CONNECTING, Phase.READING):
            return
        self._outage.begin(now)
        self.streams.lost(now)
        self._leave_stream(cause, now)
        if clean and not self._checks.is_held(now):
            self.streams.rest(now + self.streams.pause(retry_after))
            self._check_first(now)
        else:
            self._retreat(now, retry_after)

    def refused(
        self,
        error: CyberunError,
        now: float,
        *,
        retry_after: float | None = None,
        was_reached: bool = True,
    ) -> None:
        """
        The request for the stream was answered with something else than a stream.

        *was_reached* is False where it is not known whether the service answered: what
        points to another origin may be anything between.
        """
        if self.phase is not Phase.CONNECTING:
            return
        if was_reached:
            self._outage.reached()
        self._outage.begin(now)
        if retry_after is not None:
            self._checks.hold(now + min(retry_after, self.policy.hint_cap))
            self._outage.excuse(now, retry_after)
        if self._is_passing(error, now):
            self.lost(str(error), now, retry_after=retry_after)
            return
        self._leave_stream(str(error), now)
        is_a_proxys = isinstance(error, RequestRejectedError) and not error.from_service
        if self.last_event_id is not None and not is_a_proxys:
            # The id may be unknown after a restart: start over without it, once.
            self.last_event_id = None
            self.streams.restart()
            self._retreat(now, retry_after)
            return
        self.streams.refused()
        self._check_first(now)

    # Facts about slots and readers.

    def stream_revoked(self, now: float) -> None:
        """There is no slot for a stream, or it was taken back: continue by polling."""
        if self.phase in (Phase.POLLING, Phase.FETCHING, Phase.DONE):
            return
        phase, streams = self.phase, self.streams
        self._leave_stream(None, now)
        if phase is Phase.CHECKING and streams.are_exhausted:
            self._start_polling(now)
        else:
            # The pause that the service asked for holds, whoever is granted a slot.
            self._poll_until_granted(streams.rest_until if phase is Phase.RESTING else None)
            self._say_polling("all stream slots are taken")
        self._checks.softly(now + self.poll_interval(now))

    def stream_granted(self, now: float) -> None:
        """A slot is free and somebody reads events: stream, unless streaming does not work."""
        climb_at = self.streams.climb_at
        may_climb = climb_at is None or now >= climb_at
        if self.phase is Phase.POLLING and self.streaming and may_climb:
            self._connect(now)

    def reader_came(self, now: float) -> None:
        """Somebody reads events: stream from now on."""
        self.streaming = True
        self.stream_granted(now)

    def readers_left(self) -> None:
        """Nobody reads events any more: open no further stream."""
        self.streaming = False

    def merge_token(self, token: ResumeToken, now: float) -> None:
        """Somebody begins to read here who knows from elsewhere what *token* says."""
        if self._is_over() or token.status is None or token.retry_count is None:
            return
        if self._order.merge(token.status, token.retry_count):
            self._status_since = now

    # Facts about status checks.

    def check_sent(self) -> None:
        """The check that was due has been sent."""
        self._outage.check_sent()
        self._checks.sent()

    def check_soon(self, now: float) -> None:
        """Somebody needs to know the status now: check as soon as the service lets us."""
        if not self._is_over():
            self._checks.by(now)

    def postpone_check(self, until: float) -> None:
        """Unless it is urgent, no check is to be sent before *until*."""
        self._checks.postpone(until)

    def answered(self, answer: TaskSnapshot | CyberunError, sent_at: float, now: float) -> None:
        """A check sent at *sent_at* came to *answer*."""
        if isinstance(answer, TaskSnapshot):
            self.polled(answer, sent_at, now)
        elif isinstance(answer, RateLimitedError):
            self.check_failed(str(answer), now, retry_after=answer.retry_after)
        elif isinstance(answer, RequestRejectedError):
            self.check_refused(answer, now)
        elif isinstance(answer, ServiceUnavailableError) and not answer.is_final:
            reached, hint = answer.status is not None, answer.retry_after
            self.check_failed(str(answer), now, retry_after=hint, was_reached=reached)
        elif isinstance(answer, UnexpectedResponseError):
            self.check_failed(str(answer), now)
        else:
            self.failed(answer)

    def polled(self, snapshot: TaskSnapshot, sent_at: float, now: float) -> None:
        """A check sent at *sent_at* brought the status."""
        if self._is_over():
            return
        self.streams.outage_over(now, self._outage.since, self._checks.failures)
        self._outage.heard(now)
        self._checks.answered()
        self._refused_since = None
        was_known = self.status is not None
        changed = self._reconcile(snapshot, sent_at, now)
        if not self._is_over():
            self.streams.compare(sent_at, now, changed=changed, was_known=was_known)
            self._after_check(sent_at, now)

    def check_failed(
        self,
        cause: str,
        now: float,
        *,
        retry_after: float | None = None,
        was_reached: bool = False,
    ) -> None:
        """The check got no usable answer, if any (*was_reached*)."""
        if self._is_over():
            return
        self._checks.failed()
        if was_reached or retry_after is not None:
            self._outage.reached()
        self._outage.explain(cause)
        self._outage.begin(now)
        self._outage.excuse(now, retry_after)
        if self._outage.is_lost:
            self._give_up(now)
            return
        pause = retry_pause(self.policy, self._checks.failures, retry_after, self.draw)
        self._checks.hold(now + pause)
        if self.phase is Phase.CHECKING:
            self._retreat(now, retry_after)
        self._checks.by(now + pause)

    def check_refused(self, error: RequestRejectedError, now: float) -> None:
        """The check was refused, by the service or by something in between."""
        if self._is_over():
            return
        if not error.from_service or not isinstance(error, _ENDING):
            # Not even that the service was reached: whatever answers, knows no such request.
            self.check_failed(str(error), now, retry_after=error.retry_after)
            return
        self._outage.reached()
        self._outage.explain(str(error))
        if self._is_final(error, now):
            self._fail_with(error, now)
        elif self._may_appear(error, now):
            self._checks.by(now + _RECHECK)
        else:
            self._await_confirmation(now)

    def resulted(self, event: CompletedEvent) -> None:
        """The output of a completed task was read, or could not be."""
        if self.phase is Phase.FETCHING:
            self._deliver_end(event)

    def failed(self, error: CyberunError) -> None:
        """Something happened that no repetition can fix."""
        if self.phase is not Phase.DONE:
            self._end(Phase.DONE)
            self.error = error

    # Time.

    def time_passed(self, now: float, last_byte_at: float) -> None:
        """It is *now*; the last byte of the stream came at *last_byte_at*."""
        if self._is_over():
            return
        hold_due, give_up_at = self._hold_due(), self._outage.give_up_at()
        if hold_due is not None and now >= hold_due:
            self._release(now, is_explained=False)
        if give_up_at is not None and now >= give_up_at:
            if self._outage.grant_last_chance(now, give_up_at):
                self._checks.wake(now)
            else:
                self._give_up(now)
        due = None if self._is_over() else self._phase_due(last_byte_at)
        if due is None or now < due:
            return
        if self.phase in (Phase.READING, Phase.CONNECTING):
            self.lost(self.streams.give_up_silent(now, last_byte_at), now)
        elif self.streaming:
            self._connect(now)
        else:
            self._poll_until_granted()
            self._checks.softly(now + self.poll_interval(now))

    def woke(self, now: float) -> None:
        """The machine slept: whatever was known is old, so check before anything else."""
        if not self._is_over():
            self._outage.woke(now)
            self._checks.wake(now)

    def _phase_due(self, last_byte_at: float) -> float | None:
        streams = self.streams
        if self.phase is Phase.RESTING:
            return streams.rest_until
        if self.phase is Phase.POLLING:
            return streams.climb_at if self.streaming else None
        if self.phase is Phase.READING:
            idle_at = last_byte_at + self.policy.idle_timeout
            return idle_at if streams.stale_at is None else min(idle_at, streams.stale_at)
        return streams.stale_at if self.phase is Phase.CONNECTING else None

    def _hold_due(self) -> float | None:
        return self._held_at + _LONGEST_HOLD if self.is_holding else None

    # From phase to phase.

    def _connect(self, now: float) -> None:
        self.phase = Phase.CONNECTING
        self.streams.connecting(now)
        # Beside the opening stream: it need not repeat what happened while nobody listened.
        self._checks.by(now)

    def _leave_stream(self, cause: str | None, now: float) -> None:
        if cause is not None:
            self._outage.explain(cause)
        self.progress_is_live = False
        self.streams.left(now, was_open=self.phase is Phase.READING)

    def _check_first(self, now: float) -> None:
        self.phase = Phase.CHECKING
        self._checking_since = now
        self._checks.by(now)

    def _retreat(self, now: float, hint: float | None = None) -> None:
        """Rest before the next stream, or poll if streams have failed too often."""
        streams = self.streams
        if streams.have_failed:
            self._start_polling(now, hint)
        elif streams.are_exhausted:
            self._start_polling(now, hint)
            self._checks.by(now)
        elif not self.streaming:
            self._poll_until_granted()
        else:
            self._rest(now, streams.pause(hint))
        self._checks.softly(now + self.poll_interval(now))

    def _rest(self, now: float, pause: float) -> None:
        self.phase = Phase.RESTING
        self.streams.rest(now + pause)
        self._outbox.append(StreamLost(task_id=self.task_id, cause=self._outage.cause, delay=pause))
        self._said_open = False

    def _start_polling(self, now: float, hint: float | None = None) -> None:
        self.phase = Phase.POLLING
        self.streams.poll(now, hint)
        self._say_polling(self._outage.cause)

    def _say_polling(self, cause: str) -> None:
        if not self.streaming or (self.polling_cause is not None and not self._said_open):
            return
        if self.polling_cause is None:
            self.counters.switches_to_polling += 1
        self.polling_cause = cause
        self._said_open = False
        self._outbox.append(PollingStarted(task_id=self.task_id, cause=cause))

    def _poll_until_granted(self, not_before: float | None = None) -> None:
        self.phase = Phase.POLLING
        self.streams.wait_for_slot(not_before)

    # Events of the stream.

    def _progressed(self, events: Sequence[ProgressEvent], now: float) -> None:
        """As :meth:`received` for each of *events*, in one go where they repeat nothing."""
        own, order = self.task_id, self._order
        if self.phase is Phase.READING and order.is_settled:
            for event in events:
                if event.raw.get("task_id", own) != own:
                    break
            else:
                if events:
                    order.pass_progress(events)
                    self._moved(now)
                    self._unknown_end_since = None
                return
        for event in events:
            self.received(event, now)

    def _moved(self, now: float) -> None:
        """Note that the stream showed the task move."""
        self._outage.heard(now)
        self.streams.moved()
        self._refused_since = None
        if not self.streams.have_failed:
            self._checks.put_off(now + self.policy.check_after)

    def _is_mine(self, named: object) -> bool:
        return isinstance(named, str) and named.lower() == self.task_id.lower()

    def _is_passing(self, error: CyberunError, now: float) -> bool:
        if isinstance(error, NotFoundError):
            return self._may_appear(error, now)
        status = getattr(error, "status", None)
        return isinstance(status, int) and (is_passing(status) or status == _TOO_EARLY)

    def _react(self, fate: Fate, event: Event, now: float) -> None:
        if isinstance(event, StatusEvent | ProgressEvent):
            self._outage.heard(now)
            self._refused_since = None
            if fate in (Fate.NEWS, Fate.PASSED):
                self._note_delivery(fate, event, now)
        match fate:
            case Fate.PRESENT | Fate.REPEATED:
                self.counters.repeats_dropped += 1
                if fate is Fate.PRESENT:
                    self.streams.is_level()
            case Fate.STEP_BACK:
                self._held_at = now
                self._checks.by(now)
            case Fate.ANNOUNCED:
                # The terminal event says more; should it not follow, a check finds the end.
                self._checks.by(now + _TERMINAL_FRAME_GRACE)
            case Fate.END:
                self._take_end(event)
            case Fate.OVERFLOW:
                self.lost("too many events behind an unexplained step back", now)
            case _:
                pass

    def _note_delivery(self, fate: Fate, event: Event, now: float) -> None:
        if isinstance(event, StatusEvent):
            self._status_since = now
        if self.phase is not Phase.READING:
            return
        if fate is Fate.NEWS:
            self._unknown_end_since = None
            self.streams.brought_news()
            if self.polling_cause is not None:
                self.polling_cause = None
                self._outbox.append(StreamingResumed(task_id=self.task_id))
            self.progress_is_live = True
        self._moved(now)

    def _release(
        self, now: float, *, is_explained: bool, answer: TaskSnapshot | None = None
    ) -> None:
        """Deliver or drop what was held."""
        order = self._order
        held = order.release_unexplained() if answer is None else order.release(answer)
        if self.is_holding:
            self._checks.by(now + _DOUBT)
        present = None if answer is None else answer.status
        for event in held:
            if not self._is_over():
                found = order.judge_released(event, is_explained=is_explained, present=present)
                self._react(found, event, now)

    # Answers to checks.

    def _reconcile(self, snapshot: TaskSnapshot, sent_at: float, now: float) -> bool:
        """Bring what was delivered up to *snapshot*; return whether it knew something new."""
        if self._order.lags(snapshot) and not self._is_sure_end(snapshot, now):
            if sent_at >= self._held_at:
                self._release(now, is_explained=False)
            return False
        self._odd_ends = 0
        self._settle_attempt(snapshot, sent_at, now)
        if not self._order.is_beyond(snapshot):
            self.snapshot = snapshot
        if self._is_over():
            return True
        if snapshot.is_terminal:
            self._end_by(snapshot)
            return True
        changed = self._order.catch_up(snapshot.status)
        if changed:
            self._status_since = now
        self._look_for_unknown_end(snapshot, now)
        return changed

    def _look_for_unknown_end(self, snapshot: TaskSnapshot, now: float) -> None:
        """End with a task that is shown as over, twice, in a state that nobody here knows."""
        if snapshot.completed_at is None or is_known(snapshot.status):
            self._unknown_end_since = None
            return
        if self._unknown_end_since is None:
            self._unknown_end_since = now
        again = self._unknown_end_since + self.policy.confirm_after
        if now < again:
            self._checks.by(again)
            return
        status, error = snapshot.status, snapshot.error
        self._fail_with(
            UnknownEndError(task_id=self.task_id, status=status, error=error, snapshot=snapshot),
            now,
        )

    def _settle_attempt(self, snapshot: TaskSnapshot, sent_at: float, now: float) -> None:
        order = self._order
        is_explained = order.explains(snapshot)
        before = order.attempt
        order.count_attempts(snapshot, is_current=sent_at >= self._status_since)
        # A check from before the step back knows nothing of it.
        if order.attempt > before or sent_at >= self._held_at or snapshot.is_terminal:
            self._release(now, is_explained=is_explained, answer=snapshot)

    def _is_sure_end(self, snapshot: TaskSnapshot, now: float) -> bool:
        """Return whether an end of an attempt gone by, which cannot be, was shown twice."""
        self._odd_ends = self._odd_ends + 1 if snapshot.is_terminal else 0
        if self._odd_ends == 1:
            self._checks.by(now + _RECHECK)
        return self._odd_ends > 1

    def _end_by(self, snapshot: TaskSnapshot) -> None:
        task_id, attempt = self.task_id, self.attempt
        if snapshot.status == TaskStatus.COMPLETED:
            self._end(Phase.FETCHING)
        elif snapshot.status == TaskStatus.FAILED:
            error = snapshot.error
            self._deliver_end(
                FailedEvent(task_id=task_id, attempt=attempt, origin="poll", error=error)
            )
        else:
            self._deliver_end(CancelledEvent(task_id=task_id, attempt=attempt, origin="poll"))

    def _after_check(self, sent_at: float, now: float) -> None:
        if self.phase is Phase.CHECKING:
            if sent_at < self._checking_since:
                self._checks.by(now)  # sent before the stream ended: it says nothing of now
                return
            self._leave_checking(now)
        self._checks.softly(now + self._pause_after_answer(sent_at, now))

    def _leave_checking(self, now: float) -> None:
        if self.streams.have_failed or self.streams.are_exhausted:
            self._start_polling(now)
        elif not self.streaming:
            self._poll_until_granted()
        else:
            self._rest(now, max(0.0, self.streams.rest_until - now))

    def _pause_after_answer(self, sent_at: float, now: float) -> float:
        policy, since = self.policy, self.streams.connected_at
        if self.phase is not Phase.READING or self.streams.have_failed:
            return self.poll_interval(now)
        if since is None or sent_at < since:
            return policy.settle_after
        return self.streams.pause_of_checks()

    # Refusals.

    def _is_final(self, error: RequestRejectedError, now: float) -> bool:
        """Return whether the service's own *error* ends the watch."""
        if isinstance(error, AuthenticationError) and self.phase is not Phase.READING:
            return True
        if self._refused_since is None:
            self._refused_since = now
        if self._may_appear(error, now):
            return False
        return now - self._refused_since >= self.policy.confirm_after

    def _may_appear(self, error: RequestRejectedError, now: float) -> bool:
        """Return whether this is likely to be a replica that does not know the task yet."""
        is_not_found = isinstance(error, NotFoundError) and error.status != _GONE
        return is_not_found and now < self.not_found_until

    def _await_confirmation(self, now: float) -> None:
        since = now if self._refused_since is None else self._refused_since
        again = since + self.policy.confirm_after
        self._checks.hold(again)
        if self.phase is Phase.CHECKING:
            self._retreat(now)
        if self.phase is Phase.READING:
            # What the stream brings until then outweighs the refusal.
            self._checks.softly(again)
        else:
            self._checks.by(again)

    # The end.

    def _is_over(self) -> bool:
        return self.phase is Phase.DONE or self.phase is Phase.FETCHING

    def _end(self, phase: Phase) -> None:
        self.phase = phase
        self.progress_is_live = False
        self._checks.sent()

    def _take_end(self, event: Event) -> None:
        if isinstance(event, CompletedEvent) and event.output is None:
            self._pending_end = attrs.evolve(event, attempt=self.attempt)
            self._end(Phase.FETCHING)
        elif isinstance(event, TerminalEvent):
            self._deliver_end(attrs.evolve(event, attempt=self.attempt))

    def _deliver_end(self, event: TerminalEvent) -> None:
        self._end(Phase.DONE)
        self.terminal = event
        self._order.end(event)

    def _give_up(self, now: float) -> None:
        outage = self._outage
        error = WatchLostError(
            outage.cause,
            outage=now - outage.last_contact_at,
            snapshot=self.snapshot,
            attempts=self.streams.losses + self._checks.failures,
        )
        self._fail_with(error, now)

    def _fail_with(self, error: CyberunError, now: float) -> None:
        """End with *error*, unless what is held holds the end."""
        self._release(now, is_explained=False)
        if not self._is_over():
            self.failed(error)
