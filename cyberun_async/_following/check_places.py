"""
Room for status checks: a few at once, and none of them for long.

A check that hangs must not keep the others waiting. After some seconds it gives up its
place; while there is room aside it is still waited for there, so that a service that is
merely slow is heard, and otherwise it counts as not answered.
"""

import anyio
import attrs


# An answer that takes longer keeps nobody else waiting.
PATIENCE = 5.0
# And nobody waits longer than this for one.
LONGEST = 40.0
_MOST = 16


@attrs.define(eq=False)
class Place:
    """
    What one status check holds, from its turn to its answer.

    Attributes:
        scope: Ends the wait for the answer.
        sent_at: When the check was sent; None before.
        is_aside: Whether others have its place by now.
    """

    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    sent_at: float | None = None
    is_aside: bool = False


class Places:
    """
    The places of one client's status checks.

    Args:
        connections: How many requests may be in flight at once, others included.
    """

    def __init__(self, connections: int) -> None:
        # A fifth of the connections stays free for what is no status check.
        total = max(1, min(_MOST, connections - connections // 5))
        self._room_aside = max(1, total // 4)
        self._free = max(1, total - self._room_aside)
        self._spared = self._free // 2
        # Oldest first.
        self._sent: dict[Place, None] = {}

    @property
    def may_hang(self) -> bool:
        """Whether there is room for a check that is likely to hang, beside those that are not."""
        return self._free >= self._spared

    def take(self) -> Place | None:
        """Return a place, or None while all are taken."""
        if not self._free:
            return None
        self._free -= 1
        return Place()

    def sent(self, place: Place, now: float) -> bool:
        """The check leaves now; return whether :meth:`next_at` is sooner than it was."""
        place.sent_at = now
        place.scope.deadline = now + LONGEST
        self._sent[place] = None
        return len(self._sent) == 1

    def give_back(self, place: Place) -> None:
        """The check is over."""
        self._sent.pop(place, None)
        if place.is_aside:
            self._room_aside += 1
        else:
            self._free += 1

    @property
    def next_at(self) -> float | None:
        """When :meth:`relieve` has something to do, or None."""
        oldest = next(iter(self._sent), None)
        return None if oldest is None or oldest.sent_at is None else oldest.sent_at + PATIENCE

    @staticmethod
    def took_long(place: Place, now: float) -> bool:
        """Return whether the check hung, answered or not."""
        return place.sent_at is not None and now - place.sent_at >= PATIENCE

    def relieve(self, now: float) -> None:
        """Let those that hang give up their places, from *now* on."""
        while (due := self.next_at) is not None and due <= now:
            place = next(iter(self._sent))
            del self._sent[place]
            if self._room_aside:
                place.is_aside = True
                self._room_aside -= 1
                self._free += 1
            else:
                # Its place is given back when the check has noticed.
                place.scope.cancel()
