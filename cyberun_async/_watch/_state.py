"""What a watch remembers, what the shell may read of it, and the moments that follow."""

from collections.abc import Callable

import attrs

from .._model import (
    WAITING_STATUSES,
    CompletedEvent,
    CyberunError,
    Event,
    Notice,
    ProgressEvent,
    ResumeToken,
    TaskSnapshot,
    WatchPolicy,
)
from .check_timer import CheckTimer
from .ordering import Order
from .pauses import poll_pause, rest_pause
from .steps import Check, Connect, Fail, FetchResult, Finish, Phase, Poll, Read, Sleep, Step


# How long events may wait for the answer that explains a step back.
_LONGEST_HOLD = 15.0


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


@attrs.define(kw_only=True)
class WatchState:
    """The state of following one task, without a rule of how it changes."""

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
    # Whether the stream was said to be open, and not yet that it is so no longer.
    _said_open: bool = attrs.field(default=False, init=False)
    phase: Phase = attrs.field(default=Phase.CONNECTING, init=False)

    _outbox: list[Event | Notice] = attrs.field(factory=list[Event | Notice], init=False)
    _order: Order = attrs.field(init=False)
    _checks: CheckTimer = attrs.field(init=False)

    # What the phase table remembers of streams.
    _losses: int = attrs.field(default=0, init=False)
    _climbs: int = attrs.field(default=0, init=False)
    _was_polling: bool = attrs.field(default=False, init=False)
    _garbled_run: int = attrs.field(default=0, init=False)
    _retry_hint: float | None = attrs.field(default=None, init=False)
    _connecting_at: float | None = attrs.field(default=None, init=False)
    _connected_at: float | None = attrs.field(default=None, init=False)
    _polling_since: float = attrs.field(default=0.0, init=False)
    _lost_at: float | None = attrs.field(default=None, init=False)
    _rest_until: float = attrs.field(default=0.0, init=False)
    _climb_at: float | None = attrs.field(default=None, init=False)
    _stale_at: float | None = attrs.field(default=None, init=False)
    _baselined: bool = attrs.field(default=False, init=False)

    # And of asks.
    _check_failures: int = attrs.field(default=0, init=False)
    # When the first of the refusals came since which nothing was heard of the task.
    _refused_since: float | None = attrs.field(default=None, init=False)
    # When the task was first shown as over in a state that nobody knows.
    _unknown_end_since: float | None = attrs.field(default=None, init=False)
    _odd_ends: int = attrs.field(default=0, init=False)
    _checking_since: float = attrs.field(default=0.0, init=False)
    _held_at: float = attrs.field(default=0.0, init=False)

    _last_cause: str = attrs.field(default="no answer yet", init=False)
    _last_contact_at: float = attrs.field(init=False)
    _trouble_since: float | None = attrs.field(default=None, init=False)
    # How long, and until when, the service asked for silence since the trouble began.
    _excused: float = attrs.field(default=0.0, init=False)
    _excused_until: float = attrs.field(default=float("-inf"), init=False)
    # Until when the one ask may take that a process makes which slept through its outage.
    _last_chance_until: float | None = attrs.field(default=None, init=False)
    _last_chance_asked: bool = attrs.field(default=False, init=False)
    _ever_heard: bool = attrs.field(default=False, init=False)
    _status_since: float = attrs.field(init=False)
    _pending_end: CompletedEvent | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._last_contact_at = self._status_since = self.started_at
        self._checks = CheckTimer(self.started_at)
        self._order = Order(
            task_id=self.task_id,
            outbox=self._outbox,
            status=self._first_status,
            attempt=self._first_attempt,
            retry_count=self._first_retry_count,
        )
        if self.streaming:
            self._connecting_at = self.started_at
        else:
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
            case Phase.CHECKING:
                return Check()
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
    def check_at(self) -> float | None:
        """When to ask for the task's status; None while an ask is under way."""
        return self._checks.at

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

    def poll_interval(self, now: float) -> float:
        """Return the seconds between two asks while polling."""
        return self._poll_pause(now)

    def pending_end(self) -> CompletedEvent:
        """Return the completion whose output is still to be read."""
        if self._pending_end is not None:
            return self._pending_end
        return CompletedEvent(task_id=self.task_id, attempt=self.attempt, origin="poll")

    # The end.

    def failed(self, error: CyberunError) -> None:
        """Something happened that no repetition can mend."""
        if self.phase is not Phase.DONE:
            self._end()
            self.error = error

    def _is_over(self) -> bool:
        return self.phase is Phase.DONE or self.phase is Phase.FETCHING

    def _end(self) -> None:
        self.phase = Phase.DONE
        self.progress_is_live = False
        self._checks.stop()

    # Within: moments.

    def _phase_due(self, last_byte_at: float) -> float | None:
        if self.phase is Phase.RESTING:
            return self._rest_until
        if self.phase is Phase.POLLING:
            return self._climb_at if self.streaming else None
        if self.phase is Phase.READING:
            idle_at = last_byte_at + self.policy.idle_timeout
            return idle_at if self._stale_at is None else min(idle_at, self._stale_at)
        return self._stale_at if self.phase is Phase.CONNECTING else None

    def _give_up_at(self) -> float | None:
        policy = self.policy
        limit = policy.max_outage if self._ever_heard else policy.connect_within
        since = self._trouble_since
        if limit is None or since is None:
            return None
        # What the service asked for, and the client did, is no silence of the service.
        at = since + limit + self._excused
        return at if self._last_chance_until is None else max(at, self._last_chance_until)

    def _hold_due(self) -> float | None:
        return self._held_at + _LONGEST_HOLD if self._order.is_holding else None

    def _contact(self, now: float) -> None:
        self._last_contact_at = now
        self._calm()
        self._ever_heard = True

    def _calm(self) -> None:
        self._trouble_since = self._last_chance_until = None
        self._excused = 0.0

    def _excuse(self, now: float, hint: float | None) -> None:
        """The service asked for so many seconds of silence, which is kept up to the cap."""
        if hint is None:
            return
        until = now + min(hint, self.policy.hint_cap)
        self._excused += max(0.0, until - max(now, self._excused_until))
        self._excused_until = max(self._excused_until, until)

    def _note_failure(self, now: float) -> None:
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
