"""When the status is checked next: urgently, or only if nothing comes before."""

import attrs


@attrs.define
class CheckTimer:
    """
    The moment of the next status check.

    An urgent check has a reason that later events do not settle (the end may have been
    missed, a step back waits for its explanation); events put off any other.
    """

    at: float | None
    _is_urgent: bool = attrs.field(default=True, init=False)
    _not_before: float = attrs.field(default=float("-inf"), init=False)
    failures: int = attrs.field(default=0, init=False)

    def by(self, moment: float) -> None:
        """Check at *moment* at the latest, whatever comes before."""
        self.softly(moment)
        self._is_urgent = True

    def softly(self, moment: float) -> None:
        """Check at *moment* at the latest, unless put off."""
        moment = max(moment, self._not_before)
        if self.at is None or moment < self.at:
            self.at = moment

    def put_off(self, moment: float) -> None:
        """Something was heard: unless it is urgent, check only at *moment*."""
        if not self._is_urgent:
            self.at = max(moment, self._not_before)

    def postpone(self, until: float) -> None:
        """Check nothing before *until*, unless something becomes urgent."""
        if self.at is not None:
            self.put_off(max(self.at, until))

    def hold(self, until: float) -> None:
        """Check nothing before *until*: the service said so, or did not answer."""
        self._not_before = max(self._not_before, until)
        if self.at is not None:
            self.at = max(self.at, self._not_before)

    def is_held(self, now: float) -> bool:
        """Return whether nothing may be checked at present."""
        return now < self._not_before

    def sent(self) -> None:
        """The check was sent, or none is needed any more."""
        self.at = None
        self._is_urgent = False

    def failed(self) -> None:
        """A check got no usable answer."""
        self.failures += 1

    def answered(self) -> None:
        """A check was answered."""
        self.failures = 0

    def wake(self, now: float) -> None:
        """Check at once, even if it was held."""
        self._not_before = float("-inf")
        self.by(now)
