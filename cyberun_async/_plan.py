"""
Whether a state's tasks are asked for by list pages or one by one.

The list belongs to the team: foreign tasks fill its pages too, and whether a page is
worth its request is known only from what the pages before it cost.
"""

import math
from collections.abc import Callable

import attrs

from ._models import TaskStatus


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
