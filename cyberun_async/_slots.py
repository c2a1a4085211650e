"""
Who may hold an event stream, and when it may be opened.

At most so many streams are open. Running tasks come first; while there is room, a task
that still waits may have one too, and gives it back the moment a running one needs it.
A slot changes hands only when the stream that held it is closed. After an outage,
streams return spread over some seconds.
"""

from typing import Protocol


# Below so many, streams that return together are no burden.
_FEW_STREAMS = 20


class Streamer(Protocol):
    """What holds or wants a slot."""

    @property
    def is_running(self) -> bool:
        """Whether its task is past the waiting states."""
        ...

    def bench(self) -> None:
        """Close the stream, release the slot then, and poll."""
        ...

    def invite(self) -> None:
        """Stream, if that is still wanted."""
        ...


class _Ranked:
    """Streamers in the order of their coming, those of running tasks apart."""

    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.running: dict[Streamer, None] = {}
        self.waiting: dict[Streamer, None] = {}

    def __len__(self) -> int:
        return len(self.running) + len(self.waiting)

    def __contains__(self, streamer: Streamer) -> bool:
        return streamer in self.running or streamer in self.waiting

    def add(self, streamer: Streamer) -> None:
        self.discard(streamer)
        (self.running if streamer.is_running else self.waiting)[streamer] = None

    def discard(self, streamer: Streamer) -> None:
        self.running.pop(streamer, None)
        self.waiting.pop(streamer, None)


class StreamSlots:
    """The client's stream slots."""

    def __init__(self, capacity: int, reconnect_spread: float) -> None:
        self._capacity = capacity
        self._spread = reconnect_spread
        self._holders = _Ranked()
        self._benched = _Ranked()
        # Told to go, and not gone yet: their streams are still open.
        self._leaving: dict[Streamer, None] = {}
        self._next_start = 0.0
        self._most_held = 0

    @property
    def held(self) -> int:
        """How many slots are taken."""
        return len(self._holders) + len(self._leaving)

    @property
    def wanted(self) -> int:
        """How many streamers wait for a slot."""
        return len(self._benched)

    def request(self, streamer: Streamer) -> bool:
        """Take a slot for *streamer*; False when it has to wait, to be invited later."""
        if streamer in self._holders:
            return True
        if self.held >= self._capacity:
            self._benched.add(streamer)
            self._claim_lent()
            return False
        self._benched.discard(streamer)
        self._holders.add(streamer)
        self._most_held = max(self._most_held, self.held)
        return True

    def release(self, streamer: Streamer) -> None:
        """*streamer*'s stream is closed: invite who waits longest, running tasks first."""
        self._holders.discard(streamer)
        self._leaving.pop(streamer, None)
        self._invite()

    def forget(self, streamer: Streamer) -> None:
        """*streamer* wants no slot; one that it holds is released with its stream."""
        self._benched.discard(streamer)

    def moved(self, streamer: Streamer) -> None:
        """*streamer*'s task began to run, or fell back to waiting."""
        for ranks in (self._holders, self._benched):
            if streamer in ranks:
                ranks.add(streamer)
        self._claim_lent()

    def start_moment(self, now: float) -> float:
        """Reserve a moment for a reconnection, so that they do not come all at once."""
        # What the service has carried counts, not how much of it is back already.
        pause = self._spread / max(self._most_held, _FEW_STREAMS)
        self._next_start = max(now, self._next_start + pause)
        return self._next_start

    def _invite(self) -> None:
        while len(self._benched) and self.held < self._capacity:
            chosen = next(iter(self._benched.running or self._benched.waiting))
            self._benched.discard(chosen)
            chosen.invite()

    def _claim_lent(self) -> None:
        """Have as many lent slots given back as running tasks are without one."""
        while self._holders.waiting and len(self._benched.running) > len(self._leaving):
            lent = next(iter(self._holders.waiting))
            self._holders.discard(lent)
            self._leaving[lent] = None
            self._benched.add(lent)
            lent.bench()
