"""How fast one client asks, however many rosters it has."""

from collections.abc import Callable

import anyio

from ._errors import CyberunError, RateLimitedError, ServiceUnavailableError


_LONGEST_SLOWING = 300.0


class Pace:
    """
    The client-wide pace of asking about tasks.

    Attributes:
        asks: How many single asks were made.
        slowed_until: Before this moment nothing is asked.
    """

    def __init__(self, now: Callable[[], float], rate: float) -> None:
        self._now = now
        self._pause = 1.0 / rate
        self._next_ask_at = 0.0
        self.slowed_until: float = 0.0
        self.asks: int = 0

    async def keep(self) -> None:
        """Wait for the next turn to ask."""
        now = self._now()
        moment = max(now, self._next_ask_at, self.slowed_until)
        self._next_ask_at = moment + self._pause
        if moment > now:
            await anyio.sleep(moment - now)

    def slow_down(self, error: CyberunError) -> None:
        """Take note of an answer that asks for a pause."""
        # What one task's ask was told holds for all: they share one account.
        if isinstance(error, RateLimitedError | ServiceUnavailableError):
            pause = min(error.retry_after or 0.0, _LONGEST_SLOWING)
            self.slowed_until = max(self.slowed_until, self._now() + pause)
