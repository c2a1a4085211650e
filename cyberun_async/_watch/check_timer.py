"""When the status of a task is asked for next: urgently, or only if nothing comes before."""

import attrs


@attrs.define
class CheckTimer:
    """
    The moment of the next ask.

    An urgent ask has a reason that later events do not settle (the end may have been
    missed, a step back waits for its explanation); any other is put off by events.
    """

    at: float | None
    _is_urgent: bool = attrs.field(default=True, init=False)
    _not_before: float = attrs.field(default=float("-inf"), init=False)

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
        """Something was heard: unless it is urgent, ask only at *moment*."""
        if not self._is_urgent:
            self.at = max(moment, self._not_before)

    def hold(self, until: float) -> None:
        """Check nothing before *until*: the service said so, or did not answer."""
        self._not_before = max(self._not_before, until)
        if self.at is not None:
            self.at = max(self.at, self._not_before)

    def is_held(self, now: float) -> bool:
        """Return whether nothing may be asked at present."""
        return now < self._not_before

    def sent(self) -> None:
        """The ask was sent."""
        self.at = None
        self._is_urgent = False

    def wake(self, now: float) -> None:
        """Check at once, even if it was held."""
        self._not_before = float("-inf")
        self.by(now)

    def stop(self) -> None:
        """Check no more."""
        self.sent()
