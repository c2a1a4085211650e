"""
One schedule for everything that has to be asked: who is due, in which order, at what pace.

The roster is the client's one timer. It wakes each feed when its machine has something
to decide, and answers the asks that are due: a few by single GETs, many by list pages,
whichever costs fewer requests.
"""

import heapq
from collections.abc import Awaitable, Callable, Iterable
from itertools import count
from typing import Any

import anyio

from ._errors import CyberunError
from ._feed import Feed
from ._models import TaskSnapshot
from ._pace import Pace
from ._pages import Page, Sighting
from ._plan import FEW, ListMemory
from ._runtime import wall_minus_monotonic
from ._sweep import ListPage, Sweep


# Single asks under way at once; the pace limits them further.
_PARALLEL_ASKS = 8
# A jump of the wall clock against the monotonic one that means the machine slept.
_SUSPEND_SECONDS = 20.0
_LONGEST_SLEEP = 30.0

AskTask = Callable[[str], Awaitable[TaskSnapshot]]


class Roster:
    """Wakes feeds and answers their asks, for one client."""

    def __init__(
        self,
        *,
        now: Callable[[], float],
        spawn: Callable[..., Any],
        ask: AskTask,
        list_page: ListPage,
        pace: Pace,
    ) -> None:
        self._now = now
        self._spawn = spawn
        self._ask_task = ask
        self._pace = pace
        self._heap: list[tuple[float, int, Feed]] = []
        self._sequence = count()
        self._waker: anyio.Event | None = None
        # Due asks, oldest first; True for those that confirm what the list only hinted at.
        self._asks: dict[Feed, bool] = {}
        self._askers = 0
        self._offset = wall_minus_monotonic()
        self._running = False
        self._feeds: dict[str, Feed] = {}
        self._sweep = Sweep(self._paced(list_page), now, ListMemory())
        self._sweeping = False
        self.pages = 0

    def add(self, feed: Feed) -> None:
        """Look after *feed* until :meth:`remove`."""
        self._feeds[feed.task_id] = feed
        if not self._running:
            self._running = True
            self._spawn(self._run)

    def remove(self, feed: Feed) -> None:
        """Forget *feed*."""
        if self._feeds.get(feed.task_id) is feed:
            del self._feeds[feed.task_id]
        self._asks.pop(feed, None)

    def schedule(self, feed: Feed) -> None:
        """Note when *feed* wants to be looked at next."""
        if not self._has(feed):
            return
        due = feed.due_at()
        if due is None or due == float("inf"):
            return
        if feed.scheduled_at is not None and feed.scheduled_at <= due:
            return  # it will be looked at sooner, and scheduled again then
        feed.scheduled_at = due
        heapq.heappush(self._heap, (due, next(self._sequence), feed))
        if self._waker is not None and self._heap[0][2] is feed:
            self._waker.set()

    @property
    def waiting_asks(self) -> int:
        """How many asks are due and not yet sent."""
        return len(self._asks)

    async def _run(self) -> None:
        while True:
            now = self._now()
            self._notice_suspend(now)
            self._wake_due(now)
            self._start_askers()
            await self._sleep()

    async def _sleep(self) -> None:
        self._waker = anyio.Event()
        due = self._heap[0][0] if self._heap else float("inf")
        pause = min(due - self._now(), _LONGEST_SLEEP)
        if pause > 0:
            if not self._heap and not self._feeds:
                await self._waker.wait()
            else:
                with anyio.move_on_after(pause):
                    await self._waker.wait()
        else:
            await anyio.lowlevel.checkpoint()
        self._waker = None

    def _wake_due(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            due, _, feed = heapq.heappop(self._heap)
            if not self._has(feed) or feed.scheduled_at != due:
                continue
            feed.scheduled_at = None
            ask_at = feed.watch.ask_at
            if ask_at is not None and ask_at <= now and not feed.asking:
                feed.asking = True
                self._asks[feed] = False
            feed.on_time(now)

    def _notice_suspend(self, now: float) -> None:
        offset = wall_minus_monotonic()
        jumped = offset - self._offset > _SUSPEND_SECONDS
        self._offset = offset
        if jumped:
            for feed in tuple(self._feeds.values()):
                feed.watch.woke(now)
                feed.advance()

    def _has(self, feed: Feed) -> bool:
        return self._feeds.get(feed.task_id) is feed

    # Asks.

    def _start_askers(self, *, sweep: bool = True) -> None:
        if sweep and len(self._asks) > FEW and not self._sweeping:
            self._sweeping = True
            self._spawn(self._run_sweep)
        while not self._sweeping and self._asks and self._askers < _PARALLEL_ASKS:
            feed = next(iter(self._asks))
            confirms = self._asks.pop(feed)
            self._askers += 1
            self._spawn(self._work, feed, confirms)

    async def _run_sweep(self) -> None:
        due, self._asks = self._asks, {}
        left: Iterable[Feed] = due
        try:
            left = await self._sweep.run(due, self._feeds)
        except CyberunError as error:
            self._pace.slow_down(error)
            self._answer_all(due, error)
            left = ()
        finally:
            self._sweeping = False
        # What the list did not tell is asked singly, in one go, before anything else.
        self._asks = {**dict.fromkeys(left, True), **self._asks}
        self._start_askers(sweep=False)

    def _answer_all(self, feeds: Iterable[Feed], error: CyberunError) -> None:
        sent_at = self._now()
        for feed in feeds:
            if feed.asking and self._has(feed):
                feed.asking = False
                feed.watch.asked()
                feed.on_answer(error, sent_at)

    def _paced(self, list_page: ListPage) -> ListPage:
        async def paced(state: str, number: int) -> Page[Sighting]:
            await self._pace.keep()
            self.pages += 1
            return await list_page(state, number)

        return paced

    async def _work(self, feed: Feed, confirms: bool) -> None:
        try:
            # Each task ends once: what confirms that is no polling, and need not be slowed.
            if not confirms:
                await self._pace.keep()
            if self._has(feed) and not feed.is_done:
                await self._ask(feed)
        finally:
            feed.asking = False
            self._askers -= 1
            self._start_askers(sweep=False)
        self.schedule(feed)

    async def _ask(self, feed: Feed) -> None:
        sent_at = self._now()
        self._pace.asks += 1
        feed.watch.asked()
        answer: TaskSnapshot | CyberunError
        try:
            answer = await self._ask_task(feed.task_id)
        except CyberunError as error:
            answer = error
            self._pace.slow_down(error)
        feed.asking = False
        if self._has(feed):
            feed.on_answer(answer, sent_at)
