"""How a watch goes from phase to phase, as the table in ``_watch`` has it."""

import attrs

from .._model import (
    CompletedEvent,
    Event,
    PollingStarted,
    StreamingResumed,
    StreamLost,
    TerminalEvent,
)
from ._state import WatchState
from .pauses import climb_pause
from .steps import Phase


# Asks that failed in a row: their first success means that an outage is over.
_OUTAGE_FAILURES = 3


@attrs.define(kw_only=True)
class WatchMoves(WatchState):
    """A watch that can be moved, by slots and by what is built on this."""

    # Slots.

    def stream_revoked(self, now: float) -> None:
        """There is no slot for a stream, or it was taken back: go on by polling."""
        if self.phase in (Phase.POLLING, Phase.FETCHING, Phase.DONE):
            return
        phase = self.phase
        was_refused = phase is Phase.CHECKING and self._losses >= self.policy.tries_before_polling
        self._leave_stream(None, now)
        if was_refused:
            self._start_polling(now)
        else:
            self._poll_until_granted()
            # What the service asked to wait for holds, whoever is invited.
            self._climb_at = self._rest_until if phase is Phase.RESTING else None
            self._say_polling("all stream slots are taken")
        self._checks.softly(now + self._poll_pause(now))

    def stream_granted(self, now: float) -> None:
        """A slot is free and somebody reads events: stream, unless streaming does not work."""
        may_climb = self._climb_at is None or now >= self._climb_at
        if self.phase is Phase.POLLING and self.streaming and may_climb:
            self._connect(now)

    # Within: from phase to phase.

    def _connect(self, now: float) -> None:
        self.phase: Phase = Phase.CONNECTING
        self._connecting_at: float | None = now
        self._baselined: bool = False
        # Beside the opening stream: it need not repeat what happened while nobody listened.
        self._checks.by(now)

    def _leave_stream(self, cause: str | None, now: float) -> None:
        if self.phase is Phase.READING:
            self._lost_at = now if self._lost_at is None else self._lost_at
        self._last_cause = cause or self._last_cause
        self.progress_is_live: bool = False
        self._connected_at = self._connecting_at = self._stale_at = None

    def _ask_first(self, now: float) -> None:
        self.phase = Phase.CHECKING
        self._checking_since = now
        self._checks.by(now)

    def _retreat(self, now: float, hint: float | None = None) -> None:
        """Rest before the next stream, or poll if streams have failed too often."""
        if self._was_polling:
            self._start_polling(now, hint)
        elif self._losses >= self.policy.tries_before_polling:
            self._start_polling(now, hint)
            self._checks.by(now)
        elif not self.streaming:
            self._poll_until_granted()
        else:
            self._rest(now, self._rest_pause(hint))
        self._checks.softly(now + self._poll_pause(now))

    def _rest(self, now: float, pause: float) -> None:
        self.phase = Phase.RESTING
        self._rest_until = now + pause
        self._outbox.append(StreamLost(task_id=self.task_id, cause=self._last_cause, delay=pause))
        self._said_open: bool = False

    def _start_polling(self, now: float, hint: float | None = None) -> None:
        self.phase = Phase.POLLING
        pause = climb_pause(self.policy, self._climbs, self._floor(hint), self.draw)
        self._climb_at = now + pause
        self._climbs += 1
        self._was_polling = True
        self._polling_since = now
        self._say_polling(self._last_cause)

    def _say_polling(self, cause: str) -> None:
        if not self.streaming or (self.polling_cause is not None and not self._said_open):
            return
        if self.polling_cause is None:
            self.counters.switches_to_polling += 1
        self.polling_cause: str | None = cause
        self._said_open = False
        self._outbox.append(PollingStarted(task_id=self.task_id, cause=cause))

    def _poll_until_granted(self) -> None:
        self.phase = Phase.POLLING
        self._climb_at = None

    def _return_from_outage(self, now: float) -> None:
        """Stream again soon, if the failures were not those of streaming as such."""
        if self._climb_at is None or not self._check_failures:
            return
        since = self._trouble_since
        began_in_it = since is not None and self._polling_since >= since
        if began_in_it or self._check_failures >= _OUTAGE_FAILURES:
            soon = now + self.draw() * self.policy.poll_interval
            self._climb_at = min(self._climb_at, soon)
            self._climbs -= began_in_it

    # Within: signs of life.

    def _hear(self, now: float) -> None:
        """Take note that the stream showed the task move."""
        self._last_contact_at = now
        self._calm()
        self._refused_since = None
        self._stale_at = None
        self._garbled_run = 0
        if not self._was_polling:
            self._checks.put_off(now + self.policy.check_after)

    def _news(self) -> None:
        """Take note that something new came over the stream: all is well again."""
        self._losses = self._climbs = 0
        self._was_polling = False
        if self.polling_cause is not None:
            self.polling_cause = None
            self._outbox.append(StreamingResumed(task_id=self.task_id))
        self.progress_is_live = True

    # Within: the end.

    def _take_end(self, event: Event) -> None:
        if isinstance(event, CompletedEvent) and event.output is None:
            self._pending_end = attrs.evolve(event, attempt=self.attempt)
            self._fetch()
        elif isinstance(event, TerminalEvent):
            self._deliver_end(attrs.evolve(event, attempt=self.attempt))

    def _fetch(self) -> None:
        self.phase = Phase.FETCHING
        self.progress_is_live = False
        self._checks.stop()

    def _deliver_end(self, event: TerminalEvent) -> None:
        self._end()
        self.terminal: Event | None = event
        self._order.status = event.status
        self._outbox.append(event)
