"""How fast a client sends: one pace for all tenants, slower for one when the service says so."""

from collections.abc import Callable

import anyio

from .._http import Rate, Usage


# What a 429 that names no pause is worth, in seconds; doubled while they go on.
_UNNAMED_PAUSE = 2.0
# One task may have a limit of its own; several in a row show that it is the account's.
_TASKS_OF_A_LIMIT = 3
# Down to so little of the rate it goes, and with each success some of it comes back.
# A service that declines one request in ten for other reasons must not bring all to a halt.
_SLOWEST, _SLOW_DOWN = 16.0, 1.5
_RECOVERY = 0.9


class RateLimit:
    """
    When requests about one tenant's tasks may be sent.

    What the service asks of one tenant slows no other; all of them together keep to the
    rate of *shared*, in turn.

    Args:
        now: The clock.
        rate: Requests a second at most.
        shared: What all tenants of a client have in common; None if this is the only one.
        tenant: Who this is, among them.

    Attributes:
        status_checks: How many status checks were sent singly.
        pages: How many list pages were requested.
        slowed_until: Before this time nothing is sent.
    """

    def __init__(
        self,
        now: Callable[[], float],
        rate: float,
        shared: Rate | None = None,
        tenant: Usage | None = None,
    ) -> None:
        self._now = now
        self._shared = shared or Rate(now, rate)
        self._tenant = tenant
        self._usual_pause = self._pause = 1.0 / rate
        self._next_at = 0.0
        self._slow_downs = 0
        self._line = anyio.Lock()
        self._limited: set[str] = set()
        self.slowed_until: float = 0.0
        self.status_checks: int = 0
        self.pages: int = 0

    async def turn(self) -> None:
        """
        Wait for the next turn, behind all who came before.

        Cancelled, it uses up none.
        """
        async with self._line:
            # Slowed down while it waits, the first waits on, and so all behind it.
            while True:
                if (left := self._own_turn_at() - self._now()) > 0:
                    await anyio.sleep(left)
                    continue
                await self._shared.turn(self._tenant)
                if self._now() >= self.slowed_until:
                    break
            self._next_at = self._now() + self._pause

    def _own_turn_at(self) -> float:
        # Unless it is slowed down, a tenant alone may have all of the rate.
        is_slowed = self._pause > self._usual_pause
        return max(self._next_at, self.slowed_until) if is_slowed else self.slowed_until

    def declined(self, task_id: str, retry_after: float | None, *, cap: float) -> None:
        """
        The status check of one task was answered with 429.

        That delays no other task, unless the checks of several are answered so in a row.
        """
        self._limited.add(task_id)
        if len(self._limited) >= _TASKS_OF_A_LIMIT:
            self.slow_down(retry_after, cap=cap)

    def slow_down(self, retry_after: float | None, *, cap: float) -> None:
        """The service said, of all tasks, that it is asked too much; wait *cap* at most."""
        now = self._now()
        if now >= self.slowed_until:
            # Those that were in flight already get the same answer once more.
            self._slow_downs += 1
            self._pause = min(self._pause * _SLOW_DOWN, self._usual_pause * _SLOWEST)
        unnamed = _UNNAMED_PAUSE * 2.0 ** min(self._slow_downs - 1, 10)
        pause = min(unnamed if retry_after is None else retry_after, cap)
        self.slowed_until = max(self.slowed_until, now + pause)

    def answered(self) -> None:
        """The service answered as it should."""
        self._slow_downs = 0
        self._limited.clear()
        self._pause = max(self._usual_pause, self._pause * _RECOVERY)


class Lately:
    """The largest number of the last one or two spans of time."""

    def __init__(self, span: float) -> None:
        self._span = span
        self._begun = 0.0
        self._before = self._current = 0.0

    def note(self, number: float, now: float) -> None:
        """Take *number* into account."""
        self._turn(now)
        self._current = max(self._current, number)

    def largest(self, now: float) -> float:
        """Return the largest number noted lately, at least 0."""
        self._turn(now)
        return max(self._before, self._current)

    def _turn(self, now: float) -> None:
        passed = now - self._begun
        if passed >= self._span:
            self._before = self._current if passed < 2 * self._span else 0.0
            self._begun, self._current = now, 0.0
