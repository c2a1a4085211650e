"""
The decision core of a watch: what a follower of one task does next.

Facts go in, each with the moment at which it happened; the next step comes out, and
events and notices collect in an outbox. There is no await, no clock and no lot in
here: moments are numbers, and draws from 0 to 1 come from a source passed in.

============ ============================ =================================== =================
phase        step the shell must obey     fact it reports back                next phase
============ ============================ =================================== =================
CONNECTING   `Connect`: open the stream   `connected`                         READING
..                                        `lost`                              RESTING, POLLING
..                                        `refused`                           ASKING, RESTING
..                                        `benched` (no slot)                 POLLING
READING      `Read`: hand over events     `received`                          READING, DONE
..                                        `lost` (dirty)                      RESTING, POLLING
..                                        `lost` (clean end)                  ASKING
..                                        `tick` (no byte; stale)             RESTING, POLLING
RESTING      `Sleep`: wait until          `tick`                              CONNECTING
ASKING       `Ask`: wait for the answer   `polled`                            RESTING, POLLING
..                                        `ask_failed`                        RESTING, POLLING
POLLING      `Poll`: asks go on           `polled`                            POLLING
..                                        `tick` (climb), `invited`           CONNECTING
any of these asks run beside, by `ask_at` `polled` with a terminal state      FETCHING, DONE
..                                        `ask_refused`, `tick` (gives up)    DONE
FETCHING     `FetchResult`                `resulted`                          DONE
DONE         `Finish` or `Fail`           -                                   -
============ ============================ =================================== =================

A fact that does not fit the phase comes from a line that was given up, and is ignored.

Decisions, with their reasons:

* Only a *new* event resets the count of losses; a connection or a repeated state does
  not, otherwise a service that accepts and drops would be hammered.
* A stream that ends cleanly without a terminal event is a lost stream, but most likely
  the task has just ended: it is asked about before anything is opened again.
* A status that was already delivered in this attempt, or ranks below the present one,
  is held, and all behind it, until an ask sent after it tells a new attempt
  (``retry_count`` grew) from a repetition. Where none can be had in time, it is delivered
  as unconfirmed.
* What an ask says is believed forward only: a replica may lag, so a lower state with
  the same ``retry_count`` changes nothing.
* A stream is stale when an ask made after it was connected has shown a change that it
  does not deliver within the grace. The first ask of a connection is only the
  baseline, since a service need not replay what happened before.
* Only events that show the task move put off asking. The service's ``error`` event says
  that it cannot see the task, and a repetition may come from anything that only remembers.
* An outage begins with the first failure after the last sign of life, not with the sign:
  a quiet stream and a task that waits for its turn to be asked about are no outage.
"""

from collections.abc import Callable, Sequence

import attrs

from ._asks import AskClock
from ._backoff import climb_pause, poll_pause, rest_pause, retry_pause
from ._errors import CyberunError, NotFoundError, RequestRejectedError, WatchLostError
from ._events import (
    CancelledEvent,
    CompletedEvent,
    Connected,
    Event,
    FailedEvent,
    Gap,
    Notice,
    PollingStarted,
    ProgressEvent,
    StatusEvent,
    StreamingResumed,
    StreamLost,
    TerminalEvent,
)
from ._models import WAITING_STATUSES, ResumeToken, TaskSnapshot, TaskStatus
from ._options import WatchPolicy
from ._order import Order, Verdict
from ._steps import (
    Ask,
    Connect,
    Fail,
    FetchResult,
    Finish,
    Phase,
    Poll,
    Read,
    Sleep,
    Step,
)
from ._verdict import is_passing


__all__ = [
    "Ask",
    "Connect",
    "Counters",
    "Fail",
    "FetchResult",
    "Finish",
    "Phase",
    "Poll",
    "Read",
    "Sleep",
    "Step",
    "Watch",
]

_MAX_GARBLED_RUN = 5
_TERMINAL_FRAME_GRACE = 1.0
_RECHECK = 1.0
# How long events may wait for the answer that explains a step back.
_LONGEST_HOLD = 15.0
# Asks that failed in a row: their first success means that an outage is over.
_OUTAGE_FAILURES = 3
_GONE, _TOO_EARLY = 410, 425


@attrs.define
class Counters:
    """What the watches of one client have seen, for its statistics."""

    events: int = 0
    reconnects: int = 0
    foreign_frames: int = 0
    garbled_payloads: int = 0
    repeats_dropped: int = 0
    switches_to_polling: int = 0


@attrs.define(kw_only=True)
class Watch:
    """The state of following one task. Not safe to share between threads."""

    task_id: str
    policy: WatchPolicy
    draw: Callable[[], float]
    started_at: float
    streaming: bool = True
    not_found_until: float = 0.0
    counters: Counters = attrs.field(factory=Counters)
    last_event_id: str | None = None
    _first_status: str | None = attrs.field(default=None, alias="status")
    _first_attempt: int = attrs.field(default=1, alias="attempt")
    _first_retry_count: int | None = attrs.field(default=None, alias="retry_count")

    snapshot: TaskSnapshot | None = attrs.field(default=None, init=False)
    terminal: Event | None = attrs.field(default=None, init=False)
    error: CyberunError | None = attrs.field(default=None, init=False)
    progress_is_live: bool = attrs.field(default=False, init=False)
    # Why it polls, from the notice that says so to the one that streaming is back.
    polling_cause: str | None = attrs.field(default=None, init=False)
    phase: Phase = attrs.field(default=Phase.CONNECTING, init=False)

    _outbox: list[Event | Notice] = attrs.field(factory=list[Event | Notice], init=False)
    _order: Order = attrs.field(init=False)
    _asks: AskClock = attrs.field(init=False)

    # What the phase table remembers of streams.
    _losses: int = attrs.field(default=0, init=False)
    _climbs: int = attrs.field(default=0, init=False)
    _was_polling: bool = attrs.field(default=False, init=False)
    _garbled_run: int = attrs.field(default=0, init=False)
    _retry_hint: float | None = attrs.field(default=None, init=False)
    _connected_at: float | None = attrs.field(default=None, init=False)
    _lost_at: float | None = attrs.field(default=None, init=False)
    _rest_until: float = attrs.field(default=0.0, init=False)
    _climb_at: float | None = attrs.field(default=None, init=False)
    _stale_at: float | None = attrs.field(default=None, init=False)
    _baselined: bool = attrs.field(default=False, init=False)

    # And of asks.
    _ask_failures: int = attrs.field(default=0, init=False)
    _not_founds: int = attrs.field(default=0, init=False)
    _not_found_at: float = attrs.field(default=0.0, init=False)
    _odd_ends: int = attrs.field(default=0, init=False)
    _asking_since: float = attrs.field(default=0.0, init=False)
    _held_at: float = attrs.field(default=0.0, init=False)

    _last_cause: str = attrs.field(default="no answer yet", init=False)
    _last_contact_at: float = attrs.field(init=False)
    _trouble_since: float | None = attrs.field(default=None, init=False)
    _ever_heard: bool = attrs.field(default=False, init=False)
    _status_since: float = attrs.field(init=False)
    _pending_end: CompletedEvent | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._last_contact_at = self._status_since = self.started_at
        self._asks = AskClock(self.started_at)
        self._order = Order(
            task_id=self.task_id,
            outbox=self._outbox,
            status=self._first_status,
            attempt=self._first_attempt,
            retry_count=self._first_retry_count,
        )
        if not self.streaming:
            self.phase = Phase.POLLING

    # What the shell reads.

    def next_step(self) -> Step:
        """Return what is to be done now; asking again without a new fact gives the same."""
        match self.phase:
            case Phase.CONNECTING:
                return Connect(self.last_event_id)
            case Phase.READING:
                return Read()
            case Phase.RESTING:
                return Sleep(self._rest_until)
            case Phase.ASKING:
                return Ask()
            case Phase.POLLING:
                return Poll(self._climb_at)
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
        """Return the moment at which :meth:`tick` has something to decide, or None."""
        if self._is_over():
            return None
        moments = (self._phase_due(last_byte_at), self._give_up_at(), self._hold_due())
        return min((moment for moment in moments if moment is not None), default=None)

    @property
    def ask_at(self) -> float | None:
        """When to ask for the task's status; None while an ask is under way."""
        return self._asks.at

    def token(self) -> ResumeToken:
        """Return what another process needs to go on."""
        return ResumeToken(
            task_id=self.task_id,
            status=self.status,
            attempt=self.attempt,
            retry_count=self.retry_count,
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
    def retry_count(self) -> int | None:
        """The service's own count, as far as is known."""
        return self._order.retry_count

    @property
    def is_running(self) -> bool:
        """Whether the task is past its waiting states, as far as is known."""
        return self.status is not None and self.status not in WAITING_STATUSES

    @property
    def last_tick(self) -> ProgressEvent | None:
        """The progress delivered last in this attempt, or None."""
        return self._order.last_tick

    @property
    def is_reconnecting(self) -> bool:
        """Whether a stream was lost or refused before the one to be opened."""
        return self._losses > 0 or self._lost_at is not None

    # Facts about the stream.

    def connected(self, now: float) -> None:
        """The stream's headers came and are those of an event stream."""
        if self.phase is not Phase.CONNECTING:
            return
        self.phase = Phase.READING
        self._contact(now)
        self._order.opened()
        self._connected_at = now
        self._baselined = False
        self._garbled_run = 0
        self.progress_is_live = not self._was_polling
        if self._lost_at is not None:
            self.counters.reconnects += 1
            self._outbox.append(Gap(task_id=self.task_id, seconds=now - self._lost_at))
            self._lost_at = None
        self._outbox.append(Connected(task_id=self.task_id))
        self._asks.softly(now + self.policy.settle_after)

    def ticked(self, events: Sequence[ProgressEvent], now: float) -> None:
        """Ticks in a row were read from the stream: as :meth:`received` for each of them."""
        order = self._order
        judged = 0
        for event in events:
            if self.phase is Phase.READING and not order.unsettled and not order.is_holding:
                break
            self.received(event, now)
            judged += 1
        self._pass_ticks(events[judged:], now)

    def _pass_ticks(self, events: Sequence[ProgressEvent], now: float) -> None:
        """Deliver ticks that repeat nothing, unless there are another task's among them."""
        own = self.task_id
        named = [event.raw.get("task_id", own) for event in events]
        if named.count(own) < len(named):
            for event in events:
                self.received(event, now)
        elif events:
            self._order.pass_ticks(events)
            self._hear(now)

    def received(self, event: Event, now: float) -> None:
        """An event was read from the stream."""
        if self.phase is not Phase.READING:
            return
        named = event.raw.get("task_id")
        if named is not None and named != self.task_id and not self._is_mine(named):
            self.counters.foreign_frames += 1
            return
        order = self._order
        self._garbled_run = 0
        self._react(order.judge(event), event, now)

    def garbled(self, name: str, now: float) -> None:
        """An event's payload could not be read."""
        if self.phase is not Phase.READING:
            return
        self.counters.garbled_payloads += 1
        self._garbled_run += 1
        if name in ("completed", "failed", "cancelled"):
            self._asks.by(now)
        if self._garbled_run >= _MAX_GARBLED_RUN:
            self.lost("the stream brings no readable events", now)

    def hinted(self, seconds: float) -> None:
        """The stream's ``retry:`` line asked for a pause before reconnecting."""
        self._retry_hint = max(0.0, seconds)

    def lost(
        self, cause: str, now: float, *, clean: bool = False, retry_after: float | None = None
    ) -> None:
        """The stream could not be opened, broke, or ended (*clean*) without a terminal event."""
        if self.phase not in (Phase.CONNECTING, Phase.READING):
            return
        self._fear(now)
        lived = 0.0 if self._connected_at is None else now - self._connected_at
        if lived < self.policy.steady_after:
            self._losses += 1
        self._leave_stream(cause, now)
        if clean and not self._asks.is_held(now):
            self._rest_until = now + self._rest_pause(retry_after)
            self._ask_first(now)
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
        self._ever_heard = self._ever_heard or was_reached
        self._fear(now)
        if retry_after is not None:
            self._asks.hold(now + min(retry_after, self.policy.hint_cap))
        if self._is_passing(error, now):
            self.lost(str(error), now, retry_after=retry_after)
            return
        self._leave_stream(str(error), now)
        if self.last_event_id is not None:
            # The id may be unknown after a restart: start over without it, once.
            self.last_event_id = None
            self._losses += 1
            self._retreat(now, retry_after)
            return
        self._losses = max(self._losses, self.policy.tries_before_polling)
        self._ask_first(now)

    def failed(self, error: CyberunError) -> None:
        """Something happened that no repetition can mend."""
        if self.phase is not Phase.DONE:
            self._end()
            self.error = error

    def benched(self, now: float) -> None:
        """There is no slot for a stream, or it was taken back: go on by polling."""
        if self.phase in (Phase.POLLING, Phase.FETCHING, Phase.DONE):
            return
        phase = self.phase
        was_refused = phase is Phase.ASKING and self._losses >= self.policy.tries_before_polling
        self._leave_stream(None, now)
        if was_refused:
            self._start_polling(now)
        else:
            self._poll_until_invited()
            # What the service asked to wait for holds, whoever is invited.
            self._climb_at = self._rest_until if phase is Phase.RESTING else None
            self._say_polling("all stream slots are taken")
        self._asks.softly(now + self._poll_pause(now))

    def invited(self, now: float) -> None:
        """A slot is free and somebody reads events: stream, unless streaming does not work."""
        may_climb = self._climb_at is None or now >= self._climb_at
        if self.phase is Phase.POLLING and self.streaming and may_climb:
            self._connect(now)

    # Facts about asks.

    def asked(self) -> None:
        """The ask that was due has been sent."""
        self._asks.sent()

    def rested(self, until: float) -> None:
        """Unless something urges, nothing is to be asked before *until*."""
        if self._asks.at is not None:
            self._asks.put_off(max(self._asks.at, until))

    def poll_interval(self, now: float) -> float:
        """Return the seconds between two asks while polling."""
        return self._poll_pause(now)

    def polled(self, snapshot: TaskSnapshot, sent_at: float, now: float) -> None:
        """The status came back from an ask sent at *sent_at*."""
        if self._is_over():
            return
        self._contact(now)
        self._return_from_outage(now)
        self._ask_failures = self._not_founds = 0
        changed = self._reconcile(snapshot, sent_at, now)
        if not self._is_over():
            self._judge_stream(changed, sent_at, now)
            self._after_ask(sent_at, now)

    def ask_failed(
        self,
        cause: str,
        now: float,
        *,
        retry_after: float | None = None,
        was_reached: bool = False,
    ) -> None:
        """The ask got no usable answer, if any (*was_reached*)."""
        if self._is_over():
            return
        self._last_cause = cause
        self._ask_failures += 1
        self._ever_heard = self._ever_heard or was_reached or retry_after is not None
        self._fear(now)
        pause = retry_pause(self.policy, self._ask_failures, retry_after, self.draw)
        self._asks.hold(now + pause)
        if self.phase is Phase.ASKING:
            self._retreat(now, retry_after)
        self._asks.by(now + pause)

    def ask_refused(self, error: RequestRejectedError, now: float) -> None:
        """The ask was refused for good: 401, 403, 404 or another 4xx."""
        if self._is_over():
            return
        self._ever_heard = True
        if isinstance(error, NotFoundError) and error.status != _GONE and self._may_appear(now):
            self._last_cause = str(error)
            self._asks.by(now + _RECHECK)
            return
        self._fail_with(error, now)

    def resulted(self, event: CompletedEvent) -> None:
        """The output of a completed task was read, or could not be."""
        if self.phase is Phase.FETCHING:
            self._deliver_end(event)

    def pending_end(self) -> CompletedEvent:
        """Return the completion whose output is still to be read."""
        if self._pending_end is not None:
            return self._pending_end
        return CompletedEvent(task_id=self.task_id, attempt=self.attempt, origin="poll")

    # Time.

    def tick(self, now: float, last_byte_at: float) -> None:
        """Time has passed; the last byte of the stream came at *last_byte_at*."""
        if self._is_over():
            return
        hold_due, give_up_at = self._hold_due(), self._give_up_at()
        if hold_due is not None and now >= hold_due:
            self._release(now, is_explained=False)
        if give_up_at is not None and now >= give_up_at:
            self._give_up(now)
        due = None if self._is_over() else self._phase_due(last_byte_at)
        if due is None or now < due:
            return
        if self.phase is Phase.READING:
            self._drop_silent_stream(now, last_byte_at)
        elif self.streaming:
            self._connect(now)
        else:
            self._poll_until_invited()
            self._asks.softly(now + self._poll_pause(now))

    def woke(self, now: float) -> None:
        """The machine slept: whatever was known is old, so ask before anything else."""
        if not self._is_over():
            self._last_contact_at = now
            self._trouble_since = None if self._trouble_since is None else now
            self._asks.wake(now)

    # Within: time.

    def _is_over(self) -> bool:
        return self.phase is Phase.DONE or self.phase is Phase.FETCHING

    def _phase_due(self, last_byte_at: float) -> float | None:
        if self.phase is Phase.RESTING:
            return self._rest_until
        if self.phase is Phase.POLLING:
            return self._climb_at if self.streaming else None
        if self.phase is Phase.READING:
            idle_at = last_byte_at + self.policy.idle_timeout
            return idle_at if self._stale_at is None else min(idle_at, self._stale_at)
        return None

    def _give_up_at(self) -> float | None:
        policy = self.policy
        limit = policy.give_up_after if self._ever_heard else policy.first_contact_within
        since = self._trouble_since
        return None if limit is None or since is None else since + limit

    def _hold_due(self) -> float | None:
        return self._held_at + _LONGEST_HOLD if self._order.is_holding else None

    def _give_up(self, now: float) -> None:
        error = WatchLostError(
            self._last_cause,
            outage=now - self._last_contact_at,
            snapshot=self.snapshot,
            attempts=self._losses + self._ask_failures,
        )
        self._fail_with(error, now)

    def _fail_with(self, error: CyberunError, now: float) -> None:
        """End with *error*, unless what is held holds the end."""
        self._release(now, is_explained=False)
        if not self._is_over():
            self.failed(error)

    def _contact(self, now: float) -> None:
        self._last_contact_at = now
        self._trouble_since = None
        self._ever_heard = True

    def _fear(self, now: float) -> None:
        """Take note of a failure: unless something is heard, the outage counts from the first."""
        if self._trouble_since is None:
            self._trouble_since = now

    def _poll_pause(self, now: float) -> float:
        waits = self.status in WAITING_STATUSES
        return poll_pause(self.policy, waited=now - self._status_since if waits else None)

    def _rest_pause(self, hint: float | None) -> float:
        return rest_pause(self.policy, self._losses, self._floor(hint), self.draw)

    def _floor(self, hint: float | None) -> float | None:
        hints = [value for value in (hint, self._retry_hint) if value is not None]
        return max(hints, default=None)

    # Within: the stream.

    def _connect(self, now: float) -> None:
        self.phase = Phase.CONNECTING
        # Beside the opening stream: it need not repeat what happened while nobody listened.
        self._asks.by(now)

    def _drop_silent_stream(self, now: float, last_byte_at: float) -> None:
        if self._stale_at is None or now < self._stale_at:
            self.lost("not a byte for too long", now)
            return
        since, self._connected_at = self._connected_at or 0.0, None
        if last_byte_at <= since:
            # Not one byte, while the task moves: something between buffers the stream.
            self._losses = max(self._losses, self.policy.tries_before_polling - 1)
            self.lost("the stream is connected but brings nothing (a buffering proxy?)", now)
        else:
            self.lost("the stream does not bring what the service knows", now)

    def _is_mine(self, named: object) -> bool:
        return isinstance(named, str) and named.lower() == self.task_id.lower()

    def _is_passing(self, error: CyberunError, now: float) -> bool:
        if isinstance(error, NotFoundError):
            return error.status != _GONE and now < self.not_found_until
        status = getattr(error, "status", None)
        return isinstance(status, int) and (is_passing(status) or status == _TOO_EARLY)

    def _leave_stream(self, cause: str | None, now: float) -> None:
        if self.phase is Phase.READING:
            self._lost_at = now
        self._last_cause = cause or self._last_cause
        self.progress_is_live = False
        self._connected_at = self._stale_at = None

    def _ask_first(self, now: float) -> None:
        self.phase = Phase.ASKING
        self._asking_since = now
        self._asks.by(now)

    def _retreat(self, now: float, hint: float | None = None) -> None:
        """Rest before the next stream, or poll if streams have failed too often."""
        if self._was_polling:
            self._start_polling(now, hint)
        elif self._losses >= self.policy.tries_before_polling:
            self._start_polling(now, hint)
            self._asks.by(now)
        elif not self.streaming:
            self._poll_until_invited()
        else:
            self._rest(now, self._rest_pause(hint))
        self._asks.softly(now + self._poll_pause(now))

    def _rest(self, now: float, pause: float) -> None:
        self.phase = Phase.RESTING
        self._rest_until = now + pause
        self._outbox.append(StreamLost(task_id=self.task_id, cause=self._last_cause, delay=pause))

    def _start_polling(self, now: float, hint: float | None = None) -> None:
        self.phase = Phase.POLLING
        pause = climb_pause(self.policy, self._climbs, self._floor(hint), self.draw)
        self._climb_at = now + pause
        self._climbs += 1
        self._was_polling = True
        self._say_polling(self._last_cause)

    def _say_polling(self, cause: str) -> None:
        if self.streaming and self.polling_cause is None:
            self.polling_cause = cause
            self.counters.switches_to_polling += 1
            self._outbox.append(PollingStarted(task_id=self.task_id, cause=cause))

    def _poll_until_invited(self) -> None:
        self.phase = Phase.POLLING
        self._climb_at = None

    def _return_from_outage(self, now: float) -> None:
        # Nothing was wrong with streaming as such: no reason to wait out a long pause.
        if self._ask_failures >= _OUTAGE_FAILURES and self._climb_at is not None:
            soon = now + self.draw() * self.policy.poll_interval
            self._climb_at = min(self._climb_at, soon)

    def _hear(self, now: float) -> None:
        """Take note that the stream showed the task move."""
        self._last_contact_at = now
        self._trouble_since = None
        self._stale_at = None
        self._garbled_run = 0
        if not self._was_polling:
            self._asks.put_off(now + self.policy.ask_after)

    def _news(self) -> None:
        """Take note that something new came over the stream: all is well again."""
        self._losses = self._climbs = 0
        self._was_polling = False
        if self.polling_cause is not None:
            self.polling_cause = None
            self._outbox.append(StreamingResumed(task_id=self.task_id))
        self.progress_is_live = True

    # Within: events.

    def _react(self, verdict: Verdict, event: Event, now: float) -> None:
        if isinstance(event, StatusEvent | ProgressEvent):
            self._contact(now)
            if verdict in (Verdict.NEWS, Verdict.PASSED):
                self._note_delivery(verdict, event, now)
        match verdict:
            case Verdict.LIVE | Verdict.REPEATED:
                self.counters.repeats_dropped += 1
                if verdict is Verdict.LIVE:
                    self._stale_at = None
            case Verdict.STEP_BACK:
                self._held_at = now
                self._asks.by(now)
            case Verdict.ANNOUNCED:
                # The terminal event says more; should it not follow, an ask finds the end.
                self._asks.by(now + _TERMINAL_FRAME_GRACE)
            case Verdict.END:
                self._take_end(event)
            case Verdict.OVERFLOW:
                self.lost("too many events behind an unexplained step back", now)
            case _:
                pass

    def _note_delivery(self, verdict: Verdict, event: Event, now: float) -> None:
        if isinstance(event, StatusEvent):
            self._status_since = now
        if self.phase is Phase.READING:
            if verdict is Verdict.NEWS:
                self._news()
            self._hear(now)

    def _release(self, now: float, *, is_explained: bool) -> None:
        """Deliver or drop what was held."""
        for event in self._order.release():
            if not self._is_over():
                verdict = self._order.judge_released(event, is_explained=is_explained)
                self._react(verdict, event, now)

    def _take_end(self, event: Event) -> None:
        if isinstance(event, CompletedEvent) and event.output is None:
            self._pending_end = attrs.evolve(event, attempt=self.attempt)
            self._fetch()
        elif isinstance(event, TerminalEvent):
            self._deliver_end(attrs.evolve(event, attempt=self.attempt))

    def _fetch(self) -> None:
        self.phase = Phase.FETCHING
        self.progress_is_live = False
        self._asks.stop()

    def _deliver_end(self, event: TerminalEvent) -> None:
        self._end()
        self.terminal = event
        self._order.status = event.status
        self._outbox.append(event)

    def _end(self) -> None:
        self.phase = Phase.DONE
        self.progress_is_live = False
        self._asks.stop()

    # Within: answers.

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
        return changed

    def _settle_attempt(self, snapshot: TaskSnapshot, sent_at: float, now: float) -> None:
        order = self._order
        is_explained = order.explains(snapshot)
        before = order.attempt
        order.count_attempts(snapshot, is_current=sent_at >= self._status_since)
        # An ask from before the step back knows nothing of it.
        if order.attempt > before or sent_at >= self._held_at or snapshot.is_terminal:
            self._release(now, is_explained=is_explained)

    def _is_sure_end(self, snapshot: TaskSnapshot, now: float) -> bool:
        """Return whether an end of an attempt gone by, which cannot be, was told twice."""
        self._odd_ends = self._odd_ends + 1 if snapshot.is_terminal else 0
        if self._odd_ends == 1:
            self._asks.by(now + _RECHECK)
        return self._odd_ends > 1

    def _end_by(self, snapshot: TaskSnapshot) -> None:
        task_id, attempt = self.task_id, self.attempt
        if snapshot.status == TaskStatus.COMPLETED:
            self._fetch()
        elif snapshot.status == TaskStatus.FAILED:
            error = snapshot.error
            self._deliver_end(
                FailedEvent(task_id=task_id, attempt=attempt, origin="poll", error=error)
            )
        else:
            self._deliver_end(CancelledEvent(task_id=task_id, attempt=attempt, origin="poll"))

    def _judge_stream(self, changed: bool, sent_at: float, now: float) -> None:
        since = self._connected_at
        if self.phase is not Phase.READING or since is None or sent_at < since:
            return
        if changed and self._baselined and self._stale_at is None:
            self._stale_at = now + self.policy.stale_grace
        self._baselined = True

    def _after_ask(self, sent_at: float, now: float) -> None:
        if self.phase is Phase.ASKING:
            if sent_at < self._asking_since:
                self._asks.by(now)  # sent before the stream ended: it says nothing of now
                return
            self._leave_asking(now)
        self._asks.softly(now + self._pause_after_answer(sent_at, now))

    def _leave_asking(self, now: float) -> None:
        if self._was_polling or self._losses >= self.policy.tries_before_polling:
            self._start_polling(now)
        elif not self.streaming:
            self._poll_until_invited()
        else:
            self._rest(now, max(0.0, self._rest_until - now))

    def _pause_after_answer(self, sent_at: float, now: float) -> float:
        policy, since = self.policy, self._connected_at
        if self.phase is not Phase.READING or self._was_polling:
            return self._poll_pause(now)
        return policy.settle_after if since is None or sent_at < since else policy.ask_after

    def _may_appear(self, now: float) -> bool:
        """Return whether a 404 is likely to be a replica that does not know the task yet."""
        if self._last_contact_at > self._not_found_at:
            self._not_founds = 0
        if self._not_founds == 0:
            self._not_found_at = now
        self._not_founds += 1
        return now < self.not_found_until or (self._order.is_known and self._not_founds == 1)
