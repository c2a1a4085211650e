"""
Who may hold an event stream, and when it may be opened.

At most so many streams are open. Running tasks come first; while there is room, a task
that still waits may have one too, and gives it back the moment a running one needs it.
After an outage, streams return spread over some seconds.
"""

from typing import Protocol


class Streamer(Protocol):
    """What holds or wants a slot."""

    @property
    def is_running(self) -> bool:
        """Whether its task is past the waiting states."""
        ...

    def bench(self) -> None:
        """Give the stream up and poll."""
        ...

    def invite(self) -> None:
        """Stream, if that is still wanted."""
        ...


class StreamSlots:
    """The client's stream slots."""

    def __init__(self, capacity: int, reconnect_spread: float) -> None:
        self._capacity = capacity
        self._spread = reconnect_spread
        self._holders: dict[Streamer, None] = {}
        self._benched: dict[Streamer, None] = {}
        self._next_start = 0.0

    @property
    def held(self) -> int:
        """How many slots are taken."""
        return len(self._holders)

    def request(self, streamer: Streamer) -> bool:
        """Take a slot for *streamer*; False when it has to wait, to be invited later."""
        if streamer in self._holders:
            return True
        if len(self._holders) >= self._capacity and not self._make_room(streamer):
            self._benched[streamer] = None
            return False
        self._benched.pop(streamer, None)
        self._holders[streamer] = None
        return True

    def release(self, streamer: Streamer) -> None:
        """Give the slot back and invite who waits longest, running tasks first."""
        self._holders.pop(streamer, None)
        self._invite_next()

    def forget(self, streamer: Streamer) -> None:
        """Drop all trace of *streamer*."""
        self._benched.pop(streamer, None)
        if streamer in self._holders:
            self.release(streamer)

    def promote(self, streamer: Streamer) -> None:
        """*streamer*'s task began to run: invite it if a slot can be had for it."""
        if streamer in self._benched and (
            len(self._holders) < self._capacity or self._lent() is not None
        ):
            del self._benched[streamer]
            streamer.invite()

    def start_moment(self, now: float) -> float:
        """Reserve a moment for a reconnection, so that they do not come all at once."""
        pause = self._spread / max(len(self._holders), 20)
        self._next_start = max(now, self._next_start + pause)
        return self._next_start

    def _make_room(self, streamer: Streamer) -> bool:
        lent = self._lent() if streamer.is_running else None
        if lent is None:
            return False
        del self._holders[lent]
        self._benched[lent] = None
        lent.bench()
        return True

    def _lent(self) -> Streamer | None:
        return next((holder for holder in self._holders if not holder.is_running), None)

    def _invite_next(self) -> None:
        if not self._benched or len(self._holders) >= self._capacity:
            return
        chosen = next((one for one in self._benched if one.is_running), None)
        chosen = chosen or next(iter(self._benched))
        del self._benched[chosen]
        chosen.invite()
