"""Whether ticks come as they happen, as a watch tells it. No waiting, no clock."""

import attrs

from .. import Connected, Event, Notice, PollingStarted, StreamingResumed, StreamLost


@attrs.define
class Liveness:
    """
    What a page is told of the watch behind it; None where nothing is known yet.

    Taken from the notices, which come in their order between the events. What the watch
    says of itself is ahead of them, and counts only until the first of them came: a watch
    that was begun for somebody else told its own before.
    """

    is_live: bool | None = attrs.field(default=None, init=False)
    _is_polling: bool = attrs.field(default=False, init=False)

    def changed(self, item: Event | Notice, *, is_live: bool, phase: str) -> bool:
        """Take note of *item*; return whether the page has to be told."""
        before = self.is_live
        match item:
            case StreamLost():
                self.is_live = False
            case PollingStarted():
                self._is_polling = True
                self.is_live = False
            case StreamingResumed():
                self._is_polling = False
                self.is_live = True
            case Connected():
                # After polling, a stream has to prove itself with an event first.
                self.is_live = before if self._is_polling else True
            case _ if before is None:
                self._begin(is_live=is_live, phase=phase)
            case _:
                pass
        return self.is_live is not before

    def _begin(self, *, is_live: bool, phase: str) -> None:
        if is_live:
            self.is_live = True
        elif phase == "polling":
            self._is_polling = True
            self.is_live = False
