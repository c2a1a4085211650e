"""One round through the list of tasks, for many asks at once."""

from collections.abc import Awaitable, Callable, Iterable, Mapping

import attrs

from ._errors import RateLimitedError, RequestRejectedError
from ._feed import Feed
from ._models import TaskSnapshot, is_terminal
from ._pages import Page, Sighting
from ._plan import PAGE_SIZE, ListMemory, is_worth_going_on


ListPage = Callable[[str, int], Awaitable[Page[Sighting]]]


class Sweep:
    """
    Answers asks from list pages.

    A row is believed as far as a task that goes on is concerned. That a task has ended,
    or is on no page, is only a hint: it is left for a single request.
    """

    def __init__(self, list_page: ListPage, now: Callable[[], float], memory: ListMemory) -> None:
        self._list_page = list_page
        self._now = now
        self._memory = memory

    async def run(self, due: Iterable[Feed], feeds: Mapping[str, Feed]) -> list[Feed]:
        """Answer what the list can answer; return those of *due* that must be asked singly."""
        missing = {feed.task_id: feed for feed in due}
        for state in self._memory.states_to_list(_counted(missing.values())):
            await self._read_state(state, missing, feeds)
        return list(missing.values())

    async def _read_state(
        self, state: str, missing: dict[str, Feed], feeds: Mapping[str, Feed]
    ) -> None:
        number = 1
        while True:
            sent_at = self._now()
            try:
                page = await self._list_page(state, number)
            except RateLimitedError:
                raise
            except RequestRejectedError:
                # A state the list does not know: asked for singly from now on.
                self._memory.refused.add(state)
                return
            for sighting in page.items:
                self._note(sighting, sent_at, missing, feeds)
            self._memory.note_pages(state, page.total_count, number)
            sought = sum(1 for feed in missing.values() if feed.watch.status in (state, None))
            if page.is_last(number, PAGE_SIZE) or not is_worth_going_on(
                page.total_count, number, sought
            ):
                return
            number += 1

    def _note(
        self,
        sighting: Sighting,
        sent_at: float,
        missing: dict[str, Feed],
        feeds: Mapping[str, Feed],
    ) -> None:
        feed = feeds.get(sighting.id)
        if feed is None or feed.is_done or is_terminal(sighting.status):
            return
        if missing.pop(sighting.id, None) is None and feed.asking:
            return  # another request about it is under way
        feed.watch.asked()
        feed.asking = False
        feed.on_answer(_snapshot(sighting, feed.watch.snapshot), sent_at)


def _snapshot(sighting: Sighting, known: TaskSnapshot | None) -> TaskSnapshot:
    if known is None:
        return TaskSnapshot(
            id=sighting.id, status=sighting.status, retry_count=sighting.retry_count
        )
    if known.status == sighting.status and known.retry_count == sighting.retry_count:
        return known
    return attrs.evolve(known, status=sighting.status, retry_count=sighting.retry_count, raw=b"")


def _counted(feeds: Iterable[Feed]) -> dict[str | None, int]:
    counts: dict[str | None, int] = {}
    for feed in feeds:
        counts[feed.watch.status] = counts.get(feed.watch.status, 0) + 1
    return counts
