"""Checking the status of many tasks at once, by pages of the list."""

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping

import attrs

from .._model import (
    RateLimitedError,
    RequestRejectedError,
    TaskSnapshot,
    TaskStatus,
    is_known,
    is_terminal,
)
from .._protocol import Page, TaskRow


PAGE_SIZE = 100


# Below this many, single requests are as good and know more.
FEW = 10


# After so many tasks that it did not show, a state's list is not asked for any more.
_BARREN = 3 * FEW


# Seconds without the list of a state that it says it does not know, or that was refused
# for a reason that has nothing to do with the state and may pass.
_UNKNOWN_REST, _REFUSED_REST = 3600.0, 30.0


_UNKNOWN_STATE = frozenset({400, 422})


# Where a task can be of which nothing is known yet.
USUAL_STATES = (
    TaskStatus.PENDING,
    TaskStatus.WAITING,
    TaskStatus.QUEUED,
    TaskStatus.RUNNING,
)


@attrs.define
class ListMemory:
    """What the list was good for in earlier rounds."""

    _now: Callable[[], float]
    # Until when a state that was refused is not asked for.
    _refused: dict[str, float] = attrs.field(factory=dict[str, float])
    _pages: dict[str, int] = attrs.field(factory=dict[str, int])
    # Tasks that were in a state and yet not on its pages, since one was last seen there.
    _absent: dict[str, int] = attrs.field(factory=dict[str, int])

    def states_to_list(self, due: dict[str | None, int]) -> list[str]:
        """Return the states to ask pages for, given how many tasks are due in each."""
        unknown = due.get(None, 0)
        counts = {state: count for state, count in due.items() if state is not None}
        if unknown > FEW:
            for state in USUAL_STATES:
                counts[state] = counts.get(state, 0) + unknown
        return [state for state, count in counts.items() if self._is_worth(state, count)]

    def _is_worth(self, state: str, count: int) -> bool:
        if count <= FEW or not self.gives(state):
            return False
        return self._pages.get(state, 1) < count

    def gives(self, state: str) -> bool:
        """Return whether the list is known to be of use for tasks in *state*."""
        return not self.is_refused(state) and self._absent.get(state, 0) < _BARREN

    def is_refused(self, state: str | None) -> bool:
        """Return whether the list of *state* is left alone, as it was refused."""
        return state is not None and self._now() < self._refused.get(state, -math.inf)

    def note_refusal(self, state: str, status: int) -> None:
        """The list of *state* was refused with this HTTP status."""
        rest = _UNKNOWN_REST if status in _UNKNOWN_STATE else _REFUSED_REST
        self._refused[state] = self._now() + rest

    def note_sighting(self, state: str) -> None:
        """A watched task in *state* was on a page."""
        self._absent.pop(state, None)

    def note_absence(self, state: str) -> None:
        """A watched task is in *state*, but was on none of its pages."""
        self._absent[state] = self._absent.get(state, 0) + 1

    def note_pages(self, state: str, total_count: int | None, read: int) -> None:
        """Remember how many pages *state* has."""
        self._pages[state] = max(pages_of(total_count), read, 1)


def pages_of(total_count: int | None) -> int:
    """Return how many pages that many rows fill."""
    return math.ceil((total_count or 0) / PAGE_SIZE)


def is_worth_going_on(total_count: int | None, read: int, missing: int) -> bool:
    """Return whether the pages not read yet cost less than asking for each missing task."""
    if not missing:
        return False
    return max(pages_of(total_count) - read, 1) < missing


_COURSE = tuple(TaskStatus)


ListPage = Callable[[str, int], Awaitable[Page[TaskRow]]]


@attrs.frozen
class ListPolling:
    """
    Answers status checks from list pages.

    A row is believed as far as a task that goes on is concerned. That a task has ended,
    or is on no page, is only a hint: it is left for a single request.

    Args:
        list_page: Asks for a page of a state's tasks.
        now: The clock.
        memory: What lists were good for so far.
        answer:
            Called with a row, when its page was asked for, and whether it is one of those
            that are due; returns whether that was an answer to anybody.
    """

    _list_page: ListPage
    _now: Callable[[], float]
    _memory: ListMemory
    _answer: Callable[[TaskRow, float, bool], bool]

    async def run(self, due: Mapping[str, str | None], states: Iterable[str]) -> list[str]:
        """
        Answer what the pages of *states* can answer; return who must be asked about singly.

        *due* are the tasks, and the state in which each was last seen.
        """
        missing = dict(due)
        read = list(states)
        for state in read:
            await self._read_state(state, missing)
        # Tasks that start together are together on the pages of a later state.
        shown = [state for state in read if not self._memory.is_refused(state)]
        for state in USUAL_STATES:
            gone = sum(seen in shown and _is_later(state, seen) for seen in missing.values())
            if state not in read and self._memory.states_to_list({state: gone}):
                await self._read_state(state, missing)
        return list(missing)

    async def _read_state(self, state: str, missing: dict[str, str | None]) -> None:
        number = 1
        seen: set[str] = set()
        while True:
            sent_at = self._now()
            try:
                page = await self._list_page(state, number)
            except RateLimitedError:
                raise
            except RequestRejectedError as error:
                if not error.from_service:
                    raise  # of a proxy: it says nothing of this list
                # What it means for a task, if anything, the task's own request will show.
                self._memory.note_refusal(state, error.status)
                return
            sought = len(missing)
            for sighting in page.items:
                self._note(sighting, sent_at, missing)
            shown = {sighting.id for sighting in page.items}
            # A list that takes no notice of the page number has one page, and never ends.
            is_end = shown <= seen or page.row_count < min(PAGE_SIZE, page.per_page or PAGE_SIZE)
            seen |= shown
            # At the end it is known how many pages there are, whatever the count says.
            self._memory.note_pages(state, None if is_end else page.total_count, number)
            if is_end or not _goes_on(page, number, len(missing), sought - len(missing)):
                return
            number += 1

    def _note(self, sighting: TaskRow, sent_at: float, missing: dict[str, str | None]) -> None:
        # A state that is not known may be an end, too, which a row does not show.
        if is_terminal(sighting.status) or not is_known(sighting.status):
            return
        if self._answer(sighting, sent_at, sighting.id in missing):
            missing.pop(sighting.id, None)
            self._memory.note_sighting(sighting.status)


def _goes_on(page: Page[TaskRow], number: int, missing: int, found: int) -> bool:
    """Return whether a full page is worth the next one, *found* of those sought being on it."""
    # What pages bring is better known than how many there are said to be.
    if found > 1 and missing > FEW:
        return True
    if page.total_count is None and number >= missing:
        # Nobody knows how many follow, and by now single requests would have been cheaper.
        return False
    if page.is_last(number, PAGE_SIZE):
        # A full page is not the last one, whatever the count says.
        return missing > max(FEW, number)
    return is_worth_going_on(page.total_count, number, missing)


def snapshot_of(sighting: TaskRow, known: TaskSnapshot | None) -> TaskSnapshot:
    """Return what a row says, with all that is *known* where it says the same."""
    if known is None:
        return TaskSnapshot(
            id=sighting.id, status=sighting.status, retry_count=sighting.retry_count
        )
    if known.status == sighting.status and known.retry_count == sighting.retry_count:
        return known
    return attrs.evolve(known, status=sighting.status, retry_count=sighting.retry_count, raw=b"")


def _is_later(state: str, seen: str | None) -> bool:
    """Return whether a task last *seen* in one state may be in the later *state* by now."""
    return seen in _COURSE and _COURSE.index(TaskStatus(seen)) < _COURSE.index(TaskStatus(state))
