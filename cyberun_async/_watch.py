"""
The decision core of a watch: what does a follower of one task do next?

Facts go in, each with the moment at which it happened; the next step comes out, and
events and notices collect in an outbox. There is no await, no clock and no lot in
here: moments are numbers, and draws from 0 to 1 come from a source passed in.

============ =============================== ======================================== =====================
phase        step the shell must obey        fact it reports back                     next phase
============ =============================== ======================================== =====================
CONNECTING   ``Connect``: open the stream    ``connected``                            READING
..                                           ``lost``                                 RESTING or POLLING
..                                           ``refused``                              ASKING, RESTING
..                                           ``benched`` (no slot)                    POLLING
READING      ``Read``: hand over each event  ``received``                             READING or DONE
..                                           ``lost`` (dirty)                         RESTING or POLLING
..                                           ``lost`` (clean end)                     ASKING
..                                           ``tick`` (no byte; stale)                RESTING or POLLING
RESTING      ``Sleep``: wait until           ``tick``                                 CONNECTING
ASKING       ``Ask``: wait for the answer    ``polled``                               RESTING, POLLING, DONE
..                                           ``ask_failed``                           RESTING or POLLING
POLLING      ``Poll``: asks go on            ``polled``, ``tick`` (climb), ``invited`` POLLING, CONNECTING
any but DONE asks run beside, by `ask_at`    ``polled`` with a terminal state         FETCHING or DONE
..                                           ``ask_refused``                          DONE
FETCHING     ``FetchResult``                 ``resulted``                             DONE
DONE         ``Finish`` or ``Fail``          -                                        -
============ =============================== ======================================== =====================

Decisions, with their reasons:

* Only a *new* event resets the count of losses; a connection or a repeated state does
  not, otherwise a service that accepts and drops would be hammered.
* A stream that ends cleanly without a terminal event is a lost stream, but most likely
  the task has just ended: it is asked about before anything is opened again.
* A status that was already delivered in this attempt, or ranks below the present one,
  is held, and all behind it, until one ask tells a new attempt (``retry_count`` grew)
  from a repetition.
* What an ask says is believed forward only: a replica may lag, so a lower state with
  the same ``retry_count`` changes nothing.
* A stream is stale when an ask made after it was connected has shown a change that it
  does not deliver within the grace. The first ask of a connection is only the
  baseline, since a service need not replay what happened before.
"""

import enum
from collections.abc import Callable

import attrs

from ._backoff import full_jitter, raised
from ._errors import (
    CyberunError,
    NotFoundError,
    RequestRejectedError,
    TaskNotFoundError,
    WatchLostError,
)
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
)
from ._models import WAITING_STATUSES, ResumeToken, TaskSnapshot, TaskStatus, is_terminal
from ._options import WatchPolicy

_RANKS: dict[str, int] = {
    status: rank
    for rank, status in enumerate(
        (
            TaskStatus.PENDING,
            TaskStatus.WAITING,
            TaskStatus.PROVISIONING,
            TaskStatus.QUEUED,
            TaskStatus.RUNNING,
        )
    )
}
_MAX_HELD = 1024
_MAX_GARBLED_RUN = 5
_TERMINAL_FRAME_GRACE = 1.0
_NOT_FOUND_RECHECK = 1.0


class Phase(enum.Enum):
    """Where a watch stands; the table above is about these."""

    CONNECTING = "connecting"
    READING = "reading"
    RESTING = "resting"
    ASKING = "asking"
    POLLING = "polling"
    FETCHING = "fetching the result"
    DONE = "done"


@attrs.frozen
class Connect:
    """Open the event stream."""

    last_event_id: str | None


@attrs.frozen
class Read:
    """Hand over whatever the stream brings."""


@attrs.frozen
class Sleep:
    """Do nothing before the moment *until*."""

    until: float


@attrs.frozen
class Ask:
    """Wait for the answer to the ask that is due."""


@attrs.frozen
class Poll:
    """Go on asking; try the stream again at *climb_at* (None: when invited)."""

    climb_at: float | None


@attrs.frozen
class FetchResult:
    """The task completed: read its output."""


@attrs.frozen
class Finish:
    """The terminal event has been delivered."""


@attrs.frozen
class Fail:
    """The watch ends with *error*."""

    error: CyberunError


Step = Connect | Read | Sleep | Ask | Poll | FetchResult | Finish | Fail


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

    status: str | None = None
    attempt: int = 1
    retry_count: int | None = None
    snapshot: TaskSnapshot | None = None
    last_event_id: str | None = None
    terminal: Event | None = attrs.field(default=None, init=False)
    error: CyberunError | None = attrs.field(default=None, init=False)
    ask_at: float | None = attrs.field(default=None, init=False)
    progress_is_live: bool = attrs.field(default=False, init=False)
    phase: Phase = attrs.field(default=Phase.CONNECTING, init=False)

    _outbox: list[Event | Notice] = attrs.field(factory=list, init=False)
    _held: list[Event] | None = attrs.field(default=None, init=False)
    _seen: set[str] = attrs.field(factory=set, init=False)
    _rank: int = attrs.field(default=-1, init=False)
    _last_tick: ProgressEvent | None = attrs.field(default=None, init=False)
    _unsettled: bool = attrs.field(default=False, init=False)
    _losses: int = attrs.field(default=0, init=False)
    _ask_failures: int = attrs.field(default=0, init=False)
    _not_founds: int = attrs.field(default=0, init=False)
    _garbled_run: int = attrs.field(default=0, init=False)
    _climbs: int = attrs.field(default=0, init=False)
    _was_polling: bool = attrs.field(default=False, init=False)
    _retry_hint: float | None = attrs.field(default=None, init=False)
    _last_cause: str = attrs.field(default="no answer yet", init=False)
    _last_contact_at: float = attrs.field(init=False)
    _ever_heard: bool = attrs.field(default=False, init=False)
    _connected_at: float | None = attrs.field(default=None, init=False)
    _lost_at: float | None = attrs.field(default=None, init=False)
    _rest_until: float = attrs.field(default=0.0, init=False)
    _climb_at: float | None = attrs.field(default=None, init=False)
    _stale_at: float | None = attrs.field(default=None, init=False)
    _baselined: bool = attrs.field(default=False, init=False)
    _status_since: float = attrs.field(default=0.0, init=False)
    _pending_end: CompletedEvent | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._last_contact_at = self._status_since = self.started_at
        self.ask_at = self.started_at
        if self.status is not None:
            self._note_status(self.status, self.started_at)
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
        taken, self._outbox = self._outbox, []
        return taken

    def due_at(self, last_byte_at: float) -> float | None:
        """Return the moment at which :meth:`tick` has something to decide, or None."""
        if self.phase in (Phase.DONE, Phase.FETCHING):
            return None
        return min(
            moment
            for moment in (
                self._phase_due(last_byte_at),
                self._give_up_at(),
                float("inf"),
            )
            if moment is not None
        )

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
    def is_running(self) -> bool:
        """Whether the task is past its waiting states, as far as is known."""
        return self.status is not None and self.status not in WAITING_STATUSES

    # Facts about the stream.

    def connected(self, now: float) -> None:
        """The stream's headers came and are those of an event stream."""
        self.phase = Phase.READING
        self._connected_at = now
        self._contact(now)
        self._unsettled = True
        self._baselined = False
        self._garbled_run = 0
        self.progress_is_live = not self._was_polling
        if self._lost_at is not None:
            self.counters.reconnects += 1
            self._outbox.append(Gap(task_id=self.task_id, seconds=now - self._lost_at))
        self._outbox.append(Connected(task_id=self.task_id))
        if self.ask_at is None:
            self.ask_at = now + self.policy.settle_after

    def received(self, event: Event, now: float) -> None:
        """An event was read from the stream."""
        if self.phase is not Phase.READING:
            return
        if self._is_foreign(event):
            self.counters.foreign_frames += 1
            return
        self._hear(now)
        if self._held is not None:
            self._hold(event, now)
        elif isinstance(event, ProgressEvent):
            self._take_progress(event, now)
        else:
            self._take(event, now)

    def garbled(self, name: str, now: float) -> None:
        """An event's payload could not be read."""
        self.counters.garbled_payloads += 1
        self._garbled_run += 1
        if name in ("completed", "failed", "cancelled"):
            self._ask_by(now)
        if self._garbled_run >= _MAX_GARBLED_RUN:
            self.lost("the stream brings no readable events", now)

    def hinted(self, seconds: float) -> None:
        """The stream's ``retry:`` line asked for a pause before reconnecting."""
        self._retry_hint = seconds

    def lost(
        self, cause: str, now: float, *, clean: bool = False, retry_after: float | None = None
    ) -> None:
        """The stream could not be opened, broke, or ended (*clean*) without a terminal event."""
        if self.phase not in (Phase.CONNECTING, Phase.READING):
            return
        lived = 0.0 if self._connected_at is None else now - self._connected_at
        self._leave_stream(cause, now)
        if lived < self.policy.steady_after:
            self._losses += 1
        if clean:
            self._set_rest(now, retry_after)
            self.phase = Phase.ASKING
            self._ask_by(now)
        else:
            self._rest_or_poll(now, retry_after)

    def refused(self, error: CyberunError, now: float, *, retry_after: float | None = None) -> None:
        """The service answered the request for the stream with something else than a stream."""
        if self.phase is not Phase.CONNECTING:
            return
        if self._is_passing(error):
            self.lost(str(error), now, retry_after=retry_after)
            return
        self._leave_stream(str(error), now)
        if self.last_event_id is not None:
            # The id may be unknown after a restart: start over without it, once.
            self.last_event_id = None
            self._losses += 1
            self._rest_or_poll(now, retry_after)
            return
        self._losses = max(self._losses, self.policy.tries_before_polling)
        self.phase = Phase.ASKING
        self._ask_by(now)

    def failed(self, error: CyberunError) -> None:
        """Something happened that no repetition can mend."""
        if self.phase is not Phase.DONE:
            self.phase = Phase.DONE
            self.error = error
            self.ask_at = None
            self.progress_is_live = False

    def benched(self, now: float) -> None:
        """There is no slot for a stream, or it was taken back: go on by polling."""
        if self.phase in (Phase.CONNECTING, Phase.READING, Phase.RESTING):
            self._leave_stream("no free stream slot", now, noticed=False)
            self.phase = Phase.POLLING
            self._climb_at = None
            self._ask_by(now + self._poll_pause(now))

    def invited(self, now: float) -> None:
        """A slot is free and somebody reads events: stream, unless streaming does not work."""
        if self.phase is Phase.POLLING and (self._climb_at is None or now >= self._climb_at):
            self.phase = Phase.CONNECTING

    # Facts about asks.

    def asked(self) -> None:
        """The ask that was due has been sent."""
        self.ask_at = None

    def polled(self, snapshot: TaskSnapshot, sent_at: float, now: float) -> None:
        """The status came back from an ask sent at *sent_at*."""
        if self.phase in (Phase.DONE, Phase.FETCHING):
            return
        self._contact(now)
        self._ask_failures = self._not_founds = 0
        self.snapshot = snapshot
        changed = self._reconcile(snapshot, now)
        if self.phase in (Phase.DONE, Phase.FETCHING):
            return
        if is_terminal(snapshot.status):
            self._end_by_snapshot(snapshot)
        else:
            self._judge_stream(changed, sent_at, now)
            self._after_ask(sent_at, now)

    def ask_failed(self, cause: str, now: float, *, retry_after: float | None = None) -> None:
        """The ask got no usable answer."""
        if self.phase in (Phase.DONE, Phase.FETCHING):
            return
        self._last_cause = cause
        self._ask_failures += 1
        self._release(None, now)
        pause = full_jitter(
            self.draw(),
            self._ask_failures,
            base=self.policy.backoff_base,
            cap=self.policy.backoff_cap,
        )
        pause = max(pause, self.policy.poll_interval)
        pause = raised(pause, retry_after, cap=self.policy.hint_cap, draw=self.draw())
        if self.phase is Phase.ASKING:
            self._rest_or_poll(now, retry_after)
        self._ask_by(now + pause)

    def ask_refused(self, error: RequestRejectedError, now: float) -> None:
        """The ask was refused for good: 401, 403, 404 or another 4xx."""
        if self.phase in (Phase.DONE, Phase.FETCHING):
            return
        if isinstance(error, NotFoundError):
            self._not_founds += 1
            known = self.status is not None
            if now < self.not_found_until or (known and self._not_founds < 2):
                self._last_cause = str(error)
                self._ask_by(now + _NOT_FOUND_RECHECK)
                return
        if error.status == 410:
            gone = TaskNotFoundError(
                status=410, error_message=error.error_message, method=error.method, path=error.path
            )
            self.failed(gone)
            return
        self.failed(error)

    def resulted(self, event: CompletedEvent) -> None:
        """The output of a completed task was read, or could not be."""
        self._deliver_end(event)

    # Time.

    def tick(self, now: float, last_byte_at: float) -> None:
        """Time has passed; the last byte of the stream came at *last_byte_at*."""
        give_up_at = self._give_up_at()
        if self.phase in (Phase.DONE, Phase.FETCHING):
            return
        if give_up_at is not None and now >= give_up_at:
            self.failed(
                WatchLostError(
                    self._last_cause,
                    outage=now - self._last_contact_at,
                    snapshot=self.snapshot,
                    attempts=self._losses + self._ask_failures,
                )
            )
            return
        due = self._phase_due(last_byte_at)
        if due is None or now < due:
            return
        if self.phase is Phase.READING:
            self._drop_silent_stream(now, last_byte_at)
        elif self.phase in (Phase.RESTING, Phase.POLLING):
            self.phase = Phase.CONNECTING
            if self.ask_at is None:
                self.ask_at = now

    def woke(self, now: float) -> None:
        """The machine slept: whatever was known is old, so ask before anything else."""
        self._last_contact_at = now
        self._ask_by(now)

    # Within.

    def _phase_due(self, last_byte_at: float) -> float | None:
        if self.phase is Phase.RESTING:
            return self._rest_until
        if self.phase is Phase.POLLING:
            return self._climb_at
        if self.phase is Phase.READING:
            idle_at = last_byte_at + self.policy.idle_timeout
            return idle_at if self._stale_at is None else min(idle_at, self._stale_at)
        return None

    def _give_up_at(self) -> float | None:
        policy = self.policy
        limit = policy.give_up_after if self._ever_heard else policy.first_contact_within
        return None if limit is None else self._last_contact_at + limit

    def _drop_silent_stream(self, now: float, last_byte_at: float) -> None:
        stale = self._stale_at is not None and now >= self._stale_at
        since = self._connected_at or 0.0
        if stale and last_byte_at <= since:
            # Not one byte, while the task moves: something between buffers the stream.
            self._losses = max(self._losses, self.policy.tries_before_polling - 1)
            self._connected_at = now
            self.lost("the stream is connected but brings nothing (a buffering proxy?)", now)
        elif stale:
            self._connected_at = now
            self.lost("the stream does not bring what the service knows", now)
        else:
            self.lost("not a byte for too long", now)

    def _contact(self, now: float) -> None:
        self._last_contact_at = now
        self._ever_heard = True

    def _ask_by(self, moment: float) -> None:
        self.ask_at = moment if self.ask_at is None else min(self.ask_at, moment)

    def _hear(self, now: float) -> None:
        self._contact(now)
        self._stale_at = None
        self._garbled_run = 0
        if not self._was_polling:
            self.ask_at = now + self.policy.ask_after

    def _is_foreign(self, event: Event) -> bool:
        named = event.raw.get("task_id")
        if named is None or named == self.task_id:
            return False
        return not (isinstance(named, str) and named.lower() == self.task_id.lower())

    def _is_passing(self, error: CyberunError) -> bool:
        status = getattr(error, "status", None)
        return isinstance(status, int) and (status >= 500 or status in (408, 425, 429))

    def _leave_stream(self, cause: str, now: float, *, noticed: bool = True) -> None:
        if self.phase is Phase.READING:
            self._lost_at = now
        self._last_cause = cause if noticed else self._last_cause
        self.progress_is_live = False
        self._connected_at = self._stale_at = None

    def _set_rest(self, now: float, hint: float | None) -> float:
        policy = self.policy
        hints = [value for value in (hint, self._retry_hint) if value is not None]
        pause = full_jitter(
            self.draw(), max(self._losses - 1, 0), base=policy.backoff_base, cap=policy.backoff_cap
        )
        pause = raised(pause, max(hints, default=None), cap=policy.hint_cap, draw=self.draw())
        self._rest_until = now + pause
        return pause

    def _rest_or_poll(self, now: float, hint: float | None = None) -> None:
        if self._was_polling or self._losses >= self.policy.tries_before_polling:
            self._start_polling(now)
            return
        pause = self._set_rest(now, hint)
        self.phase = Phase.RESTING
        self._outbox.append(StreamLost(task_id=self.task_id, cause=self._last_cause, delay=pause))

    def _start_polling(self, now: float) -> None:
        policy = self.policy
        ceiling = min(policy.climb_cap, policy.climb_base * 2.0 ** min(self._climbs, 30))
        # Between half and whole: growing, yet not in step with other watches.
        self._climb_at = now + ceiling * (0.5 + 0.5 * self.draw())
        self._climbs += 1
        self.phase = Phase.POLLING
        self._ask_by(now)
        if not self._was_polling:
            self.counters.switches_to_polling += 1
            self._outbox.append(PollingStarted(task_id=self.task_id, cause=self._last_cause))
        self._was_polling = True

    def _poll_pause(self, now: float) -> float:
        policy = self.policy
        if self.status not in WAITING_STATUSES:
            return policy.poll_interval
        # A task that has waited long is unlikely to move in the next seconds.
        grown = policy.poll_interval + 0.1 * max(0.0, now - self._status_since - 30.0)
        return min(grown, max(policy.poll_interval, policy.poll_interval_waiting))

    def _news(self) -> None:
        """Take note that something new came over the stream: all is well again."""
        self._losses = self._climbs = 0
        self._retry_hint = None
        self._unsettled = False
        self._lost_at = None
        if self._was_polling:
            self._was_polling = False
            self._outbox.append(StreamingResumed(task_id=self.task_id))
        self.progress_is_live = True

    def _emit(self, event: Event) -> None:
        self.counters.events += 1
        self._outbox.append(event)

    def _take(self, event: Event, now: float) -> None:
        if isinstance(event, StatusEvent):
            self._take_status(event, now)
        elif isinstance(event, CompletedEvent | FailedEvent | CancelledEvent):
            self._take_end(event)
        elif isinstance(event, ProgressEvent):
            self._take_progress(event, now)
        else:
            self._emit(attrs.evolve(event, attempt=self.attempt))

    def _take_progress(self, event: ProgressEvent, now: float) -> None:
        if self._unsettled:
            last = self._last_tick
            if last is not None and event.raw == last.raw:
                self.counters.repeats_dropped += 1
                return
            if last is None or _is_beyond(event, last):
                self._news()
        if event.attempt != self.attempt:
            event = attrs.evolve(event, attempt=self.attempt)
        self._last_tick = event
        self._emit(event)

    def _take_status(self, event: StatusEvent, now: float) -> None:
        status = event.status
        if is_terminal(status):
            # The terminal event itself says more; should it not follow, the ask finds it.
            self._ask_by(now + _TERMINAL_FRAME_GRACE)
        elif status == self.status:
            self.counters.repeats_dropped += 1
        elif status in self._seen or _rank_of(status, self._rank) < self._rank:
            self._held = [event]
            self._ask_by(now)
        else:
            self._news()
            self._note_status(status, now)
            self._emit(attrs.evolve(event, attempt=self.attempt))

    def _note_status(self, status: str, now: float) -> None:
        self.status = status
        self._status_since = now
        self._seen.add(status)
        self._rank = max(self._rank, _rank_of(status))

    def _begin_attempt(self, retry_count: int) -> None:
        self.retry_count = retry_count
        self.attempt = retry_count + 1
        self.status = None
        self._seen.clear()
        self._rank = -1
        self._last_tick = None

    def _hold(self, event: Event, now: float) -> None:
        held = self._held
        assert held is not None
        if isinstance(event, ProgressEvent) and isinstance(held[-1], ProgressEvent):
            held[-1] = event
        elif len(held) < _MAX_HELD:
            held.append(event)
        else:
            self.lost("too many events behind an unexplained step back", now)

    def _take_end(self, event: CompletedEvent | FailedEvent | CancelledEvent) -> None:
        event = attrs.evolve(event, attempt=self.attempt)
        if isinstance(event, CompletedEvent) and event.output is None:
            self._pending_end = event
            self.phase = Phase.FETCHING
            self.ask_at = None
        else:
            self._deliver_end(event)

    def _deliver_end(self, event: Event) -> None:
        self.terminal = event
        self.status = getattr(event, "status", None)
        self.phase = Phase.DONE
        self.ask_at = None
        self.progress_is_live = False
        self._emit(event)

    def pending_end(self) -> CompletedEvent:
        """Return the completion whose output is still to be read."""
        if self._pending_end is not None:
            return self._pending_end
        return CompletedEvent(task_id=self.task_id, attempt=self.attempt, origin="poll")

    def _end_by_snapshot(self, snapshot: TaskSnapshot) -> None:
        if snapshot.status == TaskStatus.COMPLETED:
            self.phase = Phase.FETCHING
            self.ask_at = None
        elif snapshot.status == TaskStatus.FAILED:
            self._deliver_end(
                FailedEvent(
                    task_id=self.task_id,
                    attempt=self.attempt,
                    origin="poll",
                    error=snapshot.error,
                )
            )
        else:
            self._deliver_end(
                CancelledEvent(task_id=self.task_id, attempt=self.attempt, origin="poll")
            )

    def _reconcile(self, snapshot: TaskSnapshot, now: float) -> bool:
        """Bring what was delivered up to *snapshot*; return whether it knew something new."""
        count = snapshot.retry_count
        if count is not None and self.retry_count is not None and count < self.retry_count:
            self._release(None, now)
            return False  # a replica that lags behind an attempt already announced
        is_new_attempt = self._is_new_attempt(count)
        if count is not None and is_new_attempt:
            self._begin_attempt(count)
        elif count is not None and self.retry_count is None:
            self.retry_count = count
            self.attempt = max(self.attempt, count + 1)
        self._release(snapshot, now)
        if self.phase in (Phase.DONE, Phase.FETCHING) or is_terminal(snapshot.status):
            return True
        return self._take_polled_status(snapshot.status, now) or is_new_attempt

    def _is_new_attempt(self, count: int | None) -> bool:
        if count is None:
            return False
        if self.retry_count is not None:
            return count > self.retry_count
        return self._held is not None and count + 1 > self.attempt

    def _take_polled_status(self, status: str, now: float) -> bool:
        if status in self._seen or _rank_of(status, self._rank) < self._rank:
            return False
        self._note_status(status, now)
        self._emit(
            StatusEvent(task_id=self.task_id, attempt=self.attempt, origin="poll", status=status)
        )
        return True

    def _release(self, snapshot: TaskSnapshot | None, now: float) -> None:
        """Deliver or drop what was held, now that *snapshot* (None: no answer) explains it."""
        held, self._held = self._held, None
        if held is None:
            return
        explained = snapshot is not None and snapshot.retry_count is not None
        for index, event in enumerate(held):
            if self.phase in (Phase.DONE, Phase.FETCHING):
                return
            if self._held is not None:
                self._held.extend(held[index:])
                return
            self._take_released(event, explained=explained, now=now)

    def _take_released(self, event: Event, *, explained: bool, now: float) -> None:
        if not isinstance(event, StatusEvent) or is_terminal(event.status):
            self._take(event, now)
            return
        steps_back = event.status in self._seen or _rank_of(event.status, self._rank) < self._rank
        if not steps_back:
            self._take_status(event, now)
        elif explained or event.status == self.status:
            self.counters.repeats_dropped += 1
        else:
            self.status = event.status
            self._emit(attrs.evolve(event, attempt=self.attempt, unconfirmed=True))

    def _judge_stream(self, changed: bool, sent_at: float, now: float) -> None:
        since = self._connected_at
        if self.phase is not Phase.READING or since is None or sent_at < since:
            return
        if changed and self._baselined and self._stale_at is None:
            self._stale_at = now + self.policy.stale_grace
        self._baselined = True

    def _after_ask(self, sent_at: float, now: float) -> None:
        if self.phase is Phase.ASKING:
            if self._losses >= self.policy.tries_before_polling or self._was_polling:
                self._start_polling(now)
                self.ask_at = now + self._poll_pause(now)
            else:
                self.phase = Phase.RESTING
                self._rest_until = max(self._rest_until, now)
                delay = self._rest_until - now
                self._outbox.append(
                    StreamLost(task_id=self.task_id, cause=self._last_cause, delay=delay)
                )
            return
        if self.phase is Phase.POLLING or self._was_polling:
            self._ask_by(now + self._poll_pause(now))
        elif self.phase is Phase.READING:
            early = self._connected_at is None or sent_at < self._connected_at
            policy = self.policy
            self._ask_by(now + (policy.settle_after if early else policy.ask_after))


def _rank_of(status: str, default: int = -1) -> int:
    return _RANKS.get(status, default)


def _is_beyond(event: ProgressEvent, last: ProgressEvent) -> bool:
    new_moment, old_moment = event.sent_at, last.sent_at
    if new_moment is not None and old_moment is not None:
        return new_moment > old_moment
    return (event.progress or 0.0) > (last.progress or 0.0)
