"""The streams of one watch: those that failed, the present one, and when to try the next."""

from collections.abc import Callable

import attrs

from .._model import WatchPolicy
from .pauses import climb_pause, rest_pause


_MAX_GARBLED_RUN = 5
# Checks that failed in a row: their first success means that an outage is over.
_OUTAGE_FAILURES = 3


@attrs.define
class StreamAttempts:
    """What counts for opening, keeping and replacing a stream."""

    _policy: WatchPolicy
    _draw: Callable[[], float]
    connecting_at: float | None = None
    connected_at: float | None = None
    # Since when no stream has been read that was read before.
    lost_at: float | None = None
    losses: int = 0
    # Whether streams failed too often, and none has brought anything new since.
    have_failed: bool = False
    rest_until: float = 0.0
    # When polling watches try the next stream (None: when a slot is granted).
    climb_at: float | None = None
    stale_at: float | None = None
    _climbs: int = 0
    _polling_since: float = 0.0
    _retry_hint: float | None = None
    _has_baseline: bool = False
    _garbled_run: int = 0
    # The pause before the next check, while the first one of a connection has shown a change
    # that the stream does not bring: it may be from before the connection, or held back.
    _doubt: float | None = None

    @property
    def are_exhausted(self) -> bool:
        """Whether so many were lost in a row that polling is next."""
        return self.losses >= self._policy.tries_before_polling

    @property
    def is_reconnecting(self) -> bool:
        """Whether a stream was lost or refused before the one to be opened."""
        return self.losses > 0 or self.lost_at is not None

    # Facts.

    def connecting(self, now: float) -> None:
        """A stream is about to be opened."""
        self.connecting_at = now
        self._has_baseline = False

    def connected(self, now: float) -> float | None:
        """The stream is open; return how long there was none, if one was lost."""
        gap = None if self.lost_at is None else now - self.lost_at
        self.connected_at = now
        self.connecting_at = self.stale_at = self.lost_at = None
        self._has_baseline = False
        self._garbled_run = 0
        self._doubt = None
        return gap

    def readable(self) -> None:
        """An event could be read."""
        self._garbled_run = 0

    def garbled(self) -> bool:
        """An event could not be read; return whether there were too many in a row."""
        self._garbled_run += 1
        return self._garbled_run >= _MAX_GARBLED_RUN

    def moved(self) -> None:
        """The stream showed the task move."""
        self.stale_at = self._doubt = None
        self._garbled_run = 0

    def is_level(self) -> None:
        """The stream showed the present state."""
        self.stale_at = self._doubt = None

    def brought_news(self) -> None:
        """The stream brought something new: all is well again."""
        self.losses = self._climbs = 0
        self.have_failed = False

    def lost(self, now: float) -> None:
        """The stream could not be opened, or broke."""
        lived = 0.0 if self.connected_at is None else now - self.connected_at
        if lived < self._policy.steady_after:
            self.losses += 1

    def restart(self) -> None:
        """The event id was refused, perhaps: count one loss."""
        self.losses += 1

    def refused(self) -> None:
        """The service offers no stream: poll next."""
        self.losses = max(self.losses, self._policy.tries_before_polling)

    def left(self, now: float, *, was_open: bool) -> None:
        """The stream is not wanted any more, or was lost."""
        if was_open and self.lost_at is None:
            self.lost_at = now
        self.connected_at = self.connecting_at = self.stale_at = None

    def apply_retry_hint(self, seconds: float) -> None:
        """The stream's ``retry:`` line asked for a pause before reconnecting."""
        self._retry_hint = max(0.0, seconds)

    # Streams that stay behind what a status check has shown.

    def compare(self, sent_at: float, now: float, *, changed: bool, was_known: bool) -> None:
        """
        Note whether a check *sent_at* that moment has shown what the stream did not bring.

        With *was_known* there was a state before, so that the first answer can be a change.
        """
        since = self.connected_at if self.connecting_at is None else self.connecting_at
        if since is None or sent_at < since:
            return
        if changed and self._has_baseline and self.stale_at is None:
            self.stale_at = now + self._policy.stale_grace
        if changed and was_known and not self._has_baseline:
            self._doubt = self._policy.settle_after
        self._has_baseline = True

    def pause_of_checks(self) -> float:
        """Return the seconds before the next check beside the open stream."""
        if self._doubt is None:
            return self._policy.check_after
        pause = min(self._doubt, self._policy.check_after)
        self._doubt *= 2
        return pause

    def give_up_silent(self, now: float, last_byte_at: float) -> str:
        """Return why the stream, open or opening, is not worth waiting for."""
        if self.connecting_at is not None:
            # Not even the headers, while the task moves: something between holds all back.
            since = self.connecting_at
            cause = "the stream is not answered while the task moves (a buffering proxy?)"
        elif self.stale_at is None or now < self.stale_at:
            return "not a byte for too long"
        else:
            since, self.connected_at = self.connected_at or 0.0, None
            if last_byte_at > since:
                return "the stream does not bring what the service knows"
            cause = "the stream is connected but brings nothing (a buffering proxy?)"
        # What it held back since then is lost with it.
        self.lost_at = since if self.lost_at is None else self.lost_at
        self.losses = max(self.losses, self._policy.tries_before_polling - 1)
        return cause

    # Pauses.

    def pause(self, hint: float | None) -> float:
        """Return the seconds before the next stream."""
        return rest_pause(self._policy, self.losses, self._floor(hint), self._draw)

    def rest(self, until: float) -> None:
        """No stream is opened before *until*."""
        self.rest_until = until

    def poll(self, now: float, hint: float | None) -> None:
        """Poll instead, and try a stream again after a pause that grows."""
        pause = climb_pause(self._policy, self._climbs, self._floor(hint), self._draw)
        self.climb_at = now + pause
        self._climbs += 1
        self.have_failed = True
        self._polling_since = now

    def wait_for_slot(self, not_before: float | None = None) -> None:
        """Poll until a slot is granted."""
        self.climb_at = not_before

    def outage_over(self, now: float, since: float | None, check_failures: int) -> None:
        """Stream again soon, if the failures were not those of streaming as such."""
        if self.climb_at is None or not check_failures:
            return
        began_in_it = since is not None and self._polling_since >= since
        if began_in_it or check_failures >= _OUTAGE_FAILURES:
            self.climb_at = min(self.climb_at, now + self._draw() * self._policy.poll_interval)
            self._climbs -= began_in_it

    def _floor(self, hint: float | None) -> float | None:
        return max((one for one in (hint, self._retry_hint) if one is not None), default=None)
