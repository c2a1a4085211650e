"""What a watch makes of its stream: openings, refusals, losses, and every event."""

from collections.abc import Sequence

import attrs

from .._model import (
    Connected,
    CyberunError,
    Event,
    Gap,
    NotFoundError,
    ProgressEvent,
    RequestRejectedError,
    StatusEvent,
    TaskSnapshot,
)
from .._protocol import is_passing
from ._moves import WatchMoves
from .ordering import Verdict
from .steps import Phase


_MAX_GARBLED_RUN = 5
_TERMINAL_FRAME_GRACE = 1.0
# A replay comes in one go: what is not there after a second does not belong to it.
_DOUBT = 1.0
_GONE = 410
_TOO_EARLY = 425


@attrs.define(kw_only=True)
class StreamedWatch(WatchMoves):
    """A watch that follows a stream; what asks say is added to it in ``_watch``."""

    # Facts about the stream.

    def connected(self, now: float) -> None:
        """The stream's headers came and are those of an event stream."""
        if self.phase is not Phase.CONNECTING:
            return
        self.phase: Phase = Phase.READING
        self._contact(now)
        self._order.opened()
        self._connected_at = now
        self._connecting_at = self._stale_at = None
        self._baselined = False
        self._garbled_run = 0
        self.progress_is_live: bool = not self._was_polling
        if self._lost_at is not None:
            self.counters.reconnects += 1
            self._outbox.append(Gap(task_id=self.task_id, seconds=now - self._lost_at))
            self._lost_at = None
        self._outbox.append(Connected(task_id=self.task_id))
        self._said_open: bool = True
        self._checks.softly(now + self.policy.settle_after)

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

    def received(self, event: Event, now: float) -> None:
        """An event was read from the stream."""
        if self.phase is not Phase.READING:
            return
        named = event.raw.get("task_id")
        if named is not None and named != self.task_id and not self._is_mine(named):
            self.counters.foreign_frames += 1
            return
        order = self._order
        if type(event) is ProgressEvent and not order.unsettled and not order.is_holding:
            # It may be one that was heard before all the same, so it resets nothing else.
            order.pass_ticks((event,))
            self._hear(now)
            self._unknown_end_since: float | None = None
        else:
            self._garbled_run = 0
            self._react(order.judge(event), event, now)

    def garbled(self, name: str, now: float) -> None:
        """An event's payload could not be read."""
        if self.phase is not Phase.READING:
            return
        self.counters.garbled_payloads += 1
        self._garbled_run += 1
        if name in ("completed", "failed", "cancelled"):
            self._checks.by(now)
        if self._garbled_run >= _MAX_GARBLED_RUN:
            self.lost("the stream brings no readable events", now)

    def apply_retry_hint(self, seconds: float) -> None:
        """The stream's ``retry:`` line asked for a pause before reconnecting."""
        self._retry_hint = max(0.0, seconds)

    def lost(
        self, cause: str, now: float, *, clean: bool = False, retry_after: float | None = None
    ) -> None:
        """The stream could not be opened, broke, or ended (*clean*) without a terminal event."""
        if self.phase not in (Phase.CONNECTING, Phase.READING):
            return
        self._note_failure(now)
        lived = 0.0 if self._connected_at is None else now - self._connected_at
        if lived < self.policy.steady_after:
            self._losses += 1
        self._leave_stream(cause, now)
        if clean and not self._checks.is_held(now):
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
        self._note_failure(now)
        if retry_after is not None:
            self._checks.hold(now + min(retry_after, self.policy.hint_cap))
            self._excuse(now, retry_after)
        if self._is_passing(error, now):
            self.lost(str(error), now, retry_after=retry_after)
            return
        self._leave_stream(str(error), now)
        if self.last_event_id is not None and not _is_a_proxys(error):
            # The id may be unknown after a restart: start over without it, once.
            self.last_event_id: str | None = None
            self._losses += 1
            self._retreat(now, retry_after)
            return
        self._losses = max(self._losses, self.policy.tries_before_polling)
        self._ask_first(now)

    # Within.

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
            self._unknown_end_since = None

    def _drop_silent_stream(self, now: float, last_byte_at: float) -> None:
        if self._stale_at is None or now < self._stale_at:
            self.lost("not a byte for too long", now)
            return
        since, self._connected_at = self._connected_at or 0.0, None
        if last_byte_at <= since:
            # What it held back since then is lost with it.
            self._lost_at = since if self._lost_at is None else self._lost_at
            # Not one byte, while the task moves: something between buffers the stream.
            self._losses = max(self._losses, self.policy.tries_before_polling - 1)
            self.lost("the stream is connected but brings nothing (a buffering proxy?)", now)
        else:
            self.lost("the stream does not bring what the service knows", now)

    def _drop_silent_opening(self, now: float) -> None:
        # Not even the headers, while the task moves: something between holds everything back.
        since = self._connecting_at
        self._lost_at = since if self._lost_at is None else self._lost_at
        self._losses = max(self._losses, self.policy.tries_before_polling - 1)
        self.lost("the stream is not answered while the task moves (a buffering proxy?)", now)

    def _is_mine(self, named: object) -> bool:
        return isinstance(named, str) and named.lower() == self.task_id.lower()

    def _is_passing(self, error: CyberunError, now: float) -> bool:
        if isinstance(error, NotFoundError):
            return error.status != _GONE and now < self.not_found_until
        status = getattr(error, "status", None)
        return isinstance(status, int) and (is_passing(status) or status == _TOO_EARLY)

    def _react(self, verdict: Verdict, event: Event, now: float) -> None:
        if isinstance(event, StatusEvent | ProgressEvent):
            self._contact(now)
            self._refused_since: float | None = None
            if verdict in (Verdict.NEWS, Verdict.PASSED):
                self._note_delivery(verdict, event, now)
        match verdict:
            case Verdict.LIVE | Verdict.REPEATED:
                self.counters.repeats_dropped += 1
                if verdict is Verdict.LIVE:
                    self._stale_at = None
            case Verdict.STEP_BACK:
                self._held_at = now
                self._checks.by(now)
            case Verdict.ANNOUNCED:
                # The terminal event says more; should it not follow, an ask finds the end.
                self._checks.by(now + _TERMINAL_FRAME_GRACE)
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
                self._unknown_end_since = None
                self._news()
            self._hear(now)

    def _release(
        self, now: float, *, is_explained: bool, answer: TaskSnapshot | None = None
    ) -> None:
        """Deliver or drop what was held."""
        order = self._order
        held = order.release_unexplained() if answer is None else order.release(answer)
        if order.is_holding:
            self._checks.by(now + _DOUBT)
        present = None if answer is None else answer.status
        for event in held:
            if not self._is_over():
                verdict = order.judge_released(event, is_explained=is_explained, present=present)
                self._react(verdict, event, now)


def _is_a_proxys(error: CyberunError) -> bool:
    return isinstance(error, RequestRejectedError) and not error.from_service
