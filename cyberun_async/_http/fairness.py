"""
What several tenants share, fairly: whose turn it is, how many at once, how many a second.

Each tenant is one key (and team) of a client and its siblings. None of them may keep the
others waiting for longer than its own share takes, however much it wants.
"""

from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import anyio
import attrs


T = TypeVar("T")

# How many times as many connections as are free a tenant may hold where there are others:
# one that uses all it can get leaves a third, the next a third of that, and so on
# (dynamic thresholds, Choudhury and Hahne 1998).
_SHARE_OF_FREE = 2


@attrs.define(eq=False)
class Usage:
    """
    What one tenant does on the network; also its identity where things are shared.

    Attributes:
        requests: HTTP requests made so far, streams and downloads included.
        open_streams: Event streams open now.
        open_transfers: Downloads and uploads under way.
    """

    requests: int = 0
    open_streams: int = 0
    open_transfers: int = 0


class FairQueue(Generic[T]):
    """Who waits: the tenants in turn, and those of one tenant in the order of their coming."""

    __slots__ = ("_length", "_queues")

    def __init__(self) -> None:
        self._queues: OrderedDict[Usage | None, OrderedDict[T, None]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def holds(self, tenant: Usage | None) -> bool:
        """Return whether anybody of *tenant* waits."""
        return tenant in self._queues

    def push(self, tenant: Usage | None, item: T) -> None:
        """Let *item* wait behind the others of its tenant."""
        self._queues.setdefault(tenant, OrderedDict())[item] = None
        self._length += 1

    def first(self) -> T:
        """Return who is next."""
        return next(iter(next(iter(self._queues.values()))))

    def pop(self, may_go: Callable[[Usage | None], bool] | None = None) -> T | None:
        """Remove and return who is next, of the tenants that *may_go*; None if nobody is."""
        for tenant, queue in self._queues.items():
            if may_go is None or may_go(tenant):
                item, _ = queue.popitem(last=False)
                self._length -= 1
                self._queues.move_to_end(tenant)
                if not queue:
                    del self._queues[tenant]
                return item
        return None

    def discard(self, tenant: Usage | None, item: T) -> None:
        """Let *item* wait no longer."""
        queue = self._queues.get(tenant)
        if queue is not None and item in queue:
            del queue[item]
            self._length -= 1
            if not queue:
                del self._queues[tenant]


class _Waiter:
    """Somebody who waits to be admitted, or to be woken for another reason."""

    __slots__ = ("is_admitted", "tenant", "woken")

    def __init__(self, tenant: Usage | None) -> None:
        self.tenant = tenant
        self.is_admitted = False
        self.woken = anyio.Event()

    def admit(self) -> None:
        self.is_admitted = True
        self.woken.set()


class FairSemaphore:
    """
    Admits a number of requests at once; the others wait, the tenants in turn.

    Where there are several tenants, none takes all: some places stay free for those that
    hold fewer. A place is released without suspending, so that a cancellation at any
    time, also between being admitted and noticing it, loses none.

    Args:
        capacity: How many are admitted at once.
        is_shared: Whether there are several tenants now.
        reserved: How many of these only urgent requests get, which go before the others.
    """

    __slots__ = ("_free", "_held", "_is_shared", "_reserved", "_urgent", "_waiting")

    def __init__(self, capacity: int, is_shared: Callable[[], bool], reserved: int = 0) -> None:
        self._free = capacity
        self._is_shared = is_shared
        self._reserved = reserved
        self._held: Counter[Usage | None] = Counter()
        self._waiting: FairQueue[_Waiter] = FairQueue()
        self._urgent: FairQueue[_Waiter] = FairQueue()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting) + len(self._urgent)

    @asynccontextmanager
    async def held_by(self, tenant: Usage | None, *, urgent: bool = False) -> AsyncGenerator[None]:
        """Hold a place for as long as the block lasts; wait for one first."""
        await self.acquire(tenant, urgent=urgent)
        try:
            yield
        finally:
            self.release(tenant)

    async def acquire(self, tenant: Usage | None, *, urgent: bool = False) -> None:
        """Wait for a place."""
        queue, may_have = self._queue(urgent=urgent)
        if not queue.holds(tenant) and may_have(tenant):
            self._give(tenant)
            return
        waiter = _Waiter(tenant)
        queue.push(tenant, waiter)
        try:
            await waiter.woken.wait()
        except BaseException:
            if waiter.is_admitted:
                self.release(tenant)
            else:
                queue.discard(tenant, waiter)
            raise

    def release(self, tenant: Usage | None) -> None:
        """Give a place back and admit who is next, if anybody may have it."""
        self._free += 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        for urgent in (True, False):
            queue, may_have = self._queue(urgent=urgent)
            while (waiter := queue.pop(may_have)) is not None:
                self._give(waiter.tenant)
                waiter.admit()

    def _give(self, tenant: Usage | None) -> None:
        self._free -= 1
        self._held[tenant] += 1

    def _queue(self, *, urgent: bool) -> tuple[FairQueue[_Waiter], Callable[[Usage | None], bool]]:
        if urgent:
            return self._urgent, self._may_have
        return self._waiting, lambda tenant: self._may_have(tenant, self._reserved)

    def _may_have(self, tenant: Usage | None, reserved: int = 0) -> bool:
        free = self._free - reserved
        held = self._held.get(tenant, 0)
        return free > 0 and (not held or held < _SHARE_OF_FREE * free or not self._is_shared())


class Rate:
    """
    Admits so many a second and never more at once; the others wait, the tenants in turn.

    One of those who wait leads: it sleeps until the next slot and admits whoever is
    next then. So who is next is decided no sooner than it has to be.
    """

    __slots__ = ("_leader", "_next_at", "_now", "_pause", "_waiting")

    def __init__(self, now: Callable[[], float], rate: float) -> None:
        self._now = now
        self._pause = 1.0 / rate
        self._next_at = 0.0
        self._waiting: FairQueue[_Waiter] = FairQueue()
        self._leader: _Waiter | None = None

    async def turn(self, tenant: Usage | None) -> None:
        """Wait for the next slot that is this tenant's."""
        now = self._now()
        if not self._waiting and now >= self._next_at:
            self._next_at = now + self._pause
            return
        waiter = _Waiter(tenant)
        self._waiting.push(tenant, waiter)
        try:
            while not waiter.is_admitted:
                if self._leader is None or self._leader is waiter:
                    self._leader = waiter
                    await self._lead()
                else:
                    await waiter.woken.wait()
        except BaseException:
            self._waiting.discard(tenant, waiter)
            raise
        finally:
            if self._leader is waiter:
                self._leader = self._waiting.first() if self._waiting else None
                if self._leader is not None:
                    self._leader.woken.set()

    async def _lead(self) -> None:
        if (left := self._next_at - self._now()) > 0:
            await anyio.sleep(left)
            if self._now() < self._next_at:
                return  # by a rounding error of the clock; it leads on
        # A loop that was held up does not make good for what it missed.
        self._next_at = max(self._next_at + self._pause, self._now())
        waiter = self._waiting.pop()
        if waiter is not None:
            waiter.admit()
