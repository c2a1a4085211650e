"""How many jobs may be under way: halved when the service asks for less, then slowly more."""

from collections import deque

import anyio


class Throttle:
    """
    Room for jobs, given in the order in which it was asked for.

    Additive increase, multiplicative decrease: one more for each round of acceptances,
    half after a refusal. Refusals of requests that left before the last halving do not
    count, since they tell of the same crowd.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._in_use = 0
        self._waiting: deque[anyio.Event] = deque()
        self._halved_at = float("-inf")

    @property
    def limit(self) -> int:
        """How many jobs may be under way now."""
        return int(self._limit)

    async def acquire(self) -> None:
        """Wait for room and take it."""
        if self._in_use < self.limit and not self._waiting:
            self._in_use += 1
            return
        turn = anyio.Event()
        self._waiting.append(turn)
        try:
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

    def accepted(self) -> None:
        """Hear that the service took a submission."""
        self._limit = min(self._limit + 1 / self._limit, float(self._most))
        self._admit()

    def declined(self, sent_at: float, now: float) -> None:
        """Hear that the service declined one that was sent at *sent_at*."""
        if sent_at >= self._halved_at:
            self._limit = max(self._limit / 2, 1.0)
            self._halved_at = now

    def _admit(self) -> None:
        while self._waiting and self._in_use < self.limit:
            self._in_use += 1
            self._waiting.popleft().set()
