"""
Who may hold an event stream, and when it may be opened.

At most so many streams are open. Running tasks come first; while there is room, a task
that still waits may have one too, and gives it back as soon as a running one needs it.
Between tenants they are shared out evenly: who has fewer is served first, and who has more
gives some back to a running task of one who has fewer. A slot changes hands only when the
stream that held it is closed. After an outage, streams return spread over some seconds.
"""

from collections import Counter
from typing import Protocol

import attrs

from .._http import Usage


# Below so many, streams that return together are no burden.
_FEW_STREAMS = 20


class Streamer(Protocol):
    """What holds or wants a slot: a follower."""

    @property
    def is_running(self) -> bool: ...
    @property
    def tenant(self) -> Usage | None: ...
    def revoke_stream(self) -> None: ...
    def grant_stream(self) -> None: ...


class _Ordered(dict[Usage | None, dict[Streamer, None]]):
    """Streamers by tenant, in the order of their coming."""

    def has(self, streamer: Streamer) -> bool:
        return streamer in self.get(streamer.tenant, ())

    def count(self, tenant: Usage | None) -> int:
        return len(self.get(tenant, ()))

    def total(self) -> int:
        return sum(map(len, self.values()))

    def first_of(self, tenant: Usage | None) -> Streamer:
        return next(iter(self[tenant]))

    def add(self, streamer: Streamer) -> None:
        self.setdefault(streamer.tenant, {})[streamer] = None

    def discard(self, streamer: Streamer) -> None:
        if self.has(streamer):
            del self[streamer.tenant][streamer]
            if not self[streamer.tenant]:
                del self[streamer.tenant]


@attrs.frozen
class _Ranked:
    """Streamers of running tasks, and apart from them those of waiting ones."""

    running: _Ordered = attrs.field(factory=_Ordered)
    waiting: _Ordered = attrs.field(factory=_Ordered)

    def __contains__(self, streamer: Streamer) -> bool:
        return self.running.has(streamer) or self.waiting.has(streamer)

    def count(self, tenant: Usage | None) -> int:
        return self.running.count(tenant) + self.waiting.count(tenant)

    def total(self) -> int:
        return self.running.total() + self.waiting.total()

    def add(self, streamer: Streamer) -> None:
        self.discard(streamer)
        (self.running if streamer.is_running else self.waiting).add(streamer)

    def discard(self, streamer: Streamer) -> None:
        self.running.discard(streamer)
        self.waiting.discard(streamer)


class StreamSlots:
    """The client's stream slots."""

    def __init__(self, capacity: int, reconnect_spread: float) -> None:
        self._capacity = capacity
        self._spread = reconnect_spread
        self._holders = _Ranked()
        self._revoked = _Ranked()
        # Revoked, and not closed yet: their streams are still open. For whom, by tenant.
        self._leaving: dict[Streamer, Usage | None] = {}
        self._promised: Counter[Usage | None] = Counter()
        self._next_start = 0.0
        self._most_held = 0

    @property
    def held(self) -> int:
        """How many slots are taken."""
        return self._holders.total() + len(self._leaving)

    @property
    def wanted(self) -> int:
        """How many streamers wait for a slot."""
        return self._revoked.total()

    def request(self, streamer: Streamer) -> bool:
        """Take a slot for *streamer*; False when it has to wait until it is granted one."""
        if streamer in self._holders:
            return True
        if self.held >= self._capacity:
            self._revoked.add(streamer)
            self._claim_lent()
            self._claim_share(streamer)
            return False
        self._revoked.discard(streamer)
        self._holders.add(streamer)
        self._most_held = max(self._most_held, self.held)
        return True

    def release(self, streamer: Streamer) -> None:
        """*streamer*'s stream is closed: the next gets the slot, running tasks first."""
        self._holders.discard(streamer)
        if streamer in self._leaving:
            self._promised[self._leaving.pop(streamer)] -= 1
            self._promised = +self._promised
        self._grant()

    def forget(self, streamer: Streamer) -> None:
        """*streamer* wants no slot; one that it holds is released with its stream."""
        self._revoked.discard(streamer)

    def moved(self, streamer: Streamer) -> None:
        """*streamer*'s task began to run, or fell back to waiting."""
        for ranks in (self._holders, self._revoked):
            if streamer in ranks:
                ranks.add(streamer)
        self._claim_lent()
        self._claim_share(streamer)

    def start_time(self, now: float) -> float:
        """Reserve a time for a reconnection, so that they do not come all at once."""
        # What the service has carried counts, not how much of it is back already.
        pause = self._spread / max(self._most_held, _FEW_STREAMS)
        self._next_start = max(now, self._next_start + pause)
        return self._next_start

    def _grant(self) -> None:
        while (waiting := self._revoked.running or self._revoked.waiting) and (
            self.held < self._capacity
        ):
            chosen = waiting.first_of(min(waiting, key=self._holders.count))
            self._revoked.discard(chosen)
            chosen.grant_stream()

    def _claim_lent(self) -> None:
        """Have as many lent slots given back as running tasks are without one."""
        lent = self._holders.waiting
        while lent and self._revoked.running.total() > len(self._leaving):
            most = max(lent, key=self._holders.count)
            self._claim(lent.first_of(most), None)

    def _claim_share(self, streamer: Streamer) -> None:
        """Have slots given back to *streamer*'s tenant by whoever has two more than it."""
        tenant, running = streamer.tenant, self._holders.running
        if streamer not in self._revoked.running.get(tenant, ()) or running.keys() <= {tenant}:
            return
        while self._revoked.running.count(tenant) > self._promised[tenant]:
            most = max(running, key=self._holders.count)
            if (
                self._holders.count(most)
                <= self._holders.count(tenant) + self._promised[tenant] + 1
            ):
                return
            self._claim(running.first_of(most), tenant)

    def _claim(self, holder: Streamer, tenant: Usage | None) -> None:
        self._holders.discard(holder)
        self._leaving[holder] = tenant
        self._promised[tenant] += 1
        self._revoked.add(holder)
        holder.revoke_stream()
