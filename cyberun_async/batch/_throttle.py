"""How many jobs may be in flight: halved when the service asks for less, then slowly more."""

from collections import deque

import anyio


class Throttle:
    """
    Room for jobs, given in the order in which it was asked for.

    Additive increase, multiplicative decrease: one more for each round of acceptances,
    half after a refusal. Refusals of requests that left before the last halving do not
    count, since they have the same cause.

    A job that was put off stands aside. It gets room before any new job does, and none
    of those is let in while one waits because the service asked for less.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._in_use = 0
        self._aside = 0
        self._declined = 0
        self._waiting: deque[anyio.Event] = deque()
        self._returning: deque[anyio.Event] = deque()
        self._halved_at = float("-inf")

    @property
    def limit(self) -> int:
        """How many jobs may be in flight now."""
        return int(self._limit)

    @property
    def in_use(self) -> int:
        """How many jobs are in flight, without those that stand aside."""
        return self._in_use

    async def acquire(self) -> None:
        """Wait for room for a new job and take it."""
        turn = anyio.Event()
        self._waiting.append(turn)
        self._admit()
        try:
            if not turn.is_set():
                await turn.wait()
        except BaseException:
            if turn.is_set():
                self.release()
            else:
                self._waiting.remove(turn)
            raise

    def release(self) -> None:
        """Give the room back."""
        self._in_use -= 1
        self._admit()

    async def stand_aside(self, seconds: float, *, is_declined: bool) -> float:
        """
        Leave the room to others for a while, then wait for it and take it again.

        Returns how many seconds it waited for room.

        The caller has room afterwards, also if cancelled.

        Args:
            seconds: How long.
            is_declined: Whether the service asked for less, so that nobody new is let in.
        """
        self._in_use -= 1
        self._aside += 1
        turn = anyio.Event()
        try:
            await self._sleep(seconds, is_declined=is_declined)
            since = anyio.current_time()
            self._returning.append(turn)
            self._admit()
            await turn.wait()
        except BaseException:
            if not turn.is_set():
                if turn in self._returning:
                    self._returning.remove(turn)
                self._come_back(turn)
            raise
        return anyio.current_time() - since

    async def _sleep(self, seconds: float, *, is_declined: bool) -> None:
        self._declined += is_declined
        self._admit()
        try:
            await anyio.sleep(seconds)
        finally:
            self._declined -= is_declined

    def accepted(self) -> None:
        """Note that the service accepted a submission."""
        self._limit = min(self._limit + 1 / self._limit, float(self._most))
        self._admit()

    def declined(self, sent_at: float, now: float) -> None:
        """Note that the service declined one that was sent at *sent_at*."""
        if sent_at >= self._halved_at:
            self._limit = max(self._limit / 2, 1.0)
            self._halved_at = now

    def _admit(self) -> None:
        while self._returning and self._in_use < self.limit:
            self._come_back(self._returning.popleft())
        while self._waiting and self._has_room_for_more():
            self._in_use += 1
            self._waiting.popleft().set()

    def _come_back(self, turn: anyio.Event) -> None:
        self._aside -= 1
        self._in_use += 1
        turn.set()

    def _has_room_for_more(self) -> bool:
        return not self._declined and self._in_use + self._aside < self.limit
