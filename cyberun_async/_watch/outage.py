"""How long there has been no news of a task, and when the watch gives up."""

import attrs

from .._model import WatchPolicy


# Later by so much than it was due, time has passed without this process.
_FROZEN = 5.0
# As long as one status check may take, and its turn before it.
_LAST_CHANCE = 60.0


@attrs.define
class Outage:
    """
    The failures since the last sign of life.

    An outage begins with the first failure after that sign, not with the sign: a quiet
    stream and a task that waits for its status check are no outage.
    """

    _policy: WatchPolicy
    last_contact_at: float
    cause: str = "no answer yet"
    since: float | None = None
    _was_reached: bool = False
    # How long, and until when, the service asked for silence since the outage began.
    _excused: float = 0.0
    _excused_until: float = float("-inf")
    # A process that slept through its outage gets one more check, until this moment.
    _last_chance_until: float | None = None
    _last_chance_sent: bool = False

    def heard(self, now: float) -> None:
        """The task was seen, or its stream opened: the outage is over."""
        self.last_contact_at = now
        self.since = self._last_chance_until = None
        self._excused = 0.0
        self._was_reached = True

    def reached(self) -> None:
        """The service answered, though with nothing about the task."""
        self._was_reached = True

    def explain(self, cause: str) -> None:
        """Take *cause* as the reason for what follows."""
        self.cause = cause

    def begin(self, now: float) -> None:
        """Note a failure; the outage counts from the first."""
        if self.since is None:
            self.since = now

    def excuse(self, now: float, hint: float | None) -> None:
        """Apply a retry hint, up to the cap: the silence it causes is not the service's."""
        if hint is None:
            return
        until = now + min(hint, self._policy.hint_cap)
        self._excused += max(0.0, until - max(now, self._excused_until))
        self._excused_until = max(self._excused_until, until)

    def check_sent(self) -> None:
        """A status check was sent, perhaps the last."""
        self._last_chance_sent = self._last_chance_until is not None

    def woke(self, now: float) -> None:
        """The machine slept: count from now."""
        self.last_contact_at = now
        self.since = None if self.since is None else now

    def give_up_at(self) -> float | None:
        """Return when the outage is too long, or None."""
        policy = self._policy
        limit = policy.max_outage if self._was_reached else policy.connect_within
        if limit is None or self.since is None:
            return None
        at = self.since + limit + self._excused
        return at if self._last_chance_until is None else max(at, self._last_chance_until)

    @property
    def is_lost(self) -> bool:
        """Whether the last status check has been sent, so that its failure ends the watch."""
        return self._last_chance_until is not None and self._last_chance_sent

    def grant_last_chance(self, now: float, due: float) -> bool:
        """Return whether the process was stopped when giving up was *due*: it checks once more."""
        if now - due < _FROZEN or self._last_chance_until is not None:
            return False
        self._last_chance_until = now + _LAST_CHANCE
        return True
