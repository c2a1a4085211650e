"""The tasks of a simulated service: each one a timeline read at the present time."""

import threading
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence

import attrs

from .behaviour import ListOrder
from .plan import TaskPlan
from .timeline import ROUNDING, TERMINAL, Mark
from .workflows import Workflow


@attrs.define(eq=False)
class SimTask:
    """
    One task: what was submitted and how its life goes.

    The life is a tuple of marks; nothing runs while a task lives. Reading and
    rewriting it are safe from any thread.
    """

    id: str
    workflow: Workflow
    plan: TaskPlan
    created: float
    visible_from: float
    source: str
    parameters: Mapping[str, object]
    dispatch: Mapping[str, object]
    agent_id: str
    _marks: tuple[Mark, ...] = attrs.field(alias="marks")
    _lock: threading.RLock = attrs.field(alias="lock")
    _offsets: list[float] = attrs.field(init=False)
    _seen: tuple[float, float, int] = attrs.field(init=False, default=(1.0, 0.0, 0))

    def __attrs_post_init__(self) -> None:
        self.rewrite(self._marks)

    def rewrite(self, marks: Sequence[Mark]) -> None:
        """Give the task another life; what has happened should stay."""
        with self._lock:
            self._marks = tuple(marks)
            self._offsets = [mark.at for mark in marks]
            self._seen = (1.0, 0.0, 0)

    def past(self, now: float) -> tuple[Mark, ...]:
        """Return all that has happened."""
        with self._lock:
            return self._marks[: self._reached(now)]

    def reached(self, now: float) -> int:
        """Return how many marks have happened."""
        with self._lock:
            return self._reached(now)

    def mark(self, now: float) -> Mark:
        """Return the last thing that has happened."""
        with self._lock:
            return self._marks[self._reached(now) - 1]

    @property
    def marks(self) -> tuple[Mark, ...]:
        """The whole life, the future included."""
        return self._marks

    def due_at(self, number: int) -> float | None:
        """Return when the mark of this number happens, in seconds of the service's life."""
        with self._lock:
            known = number < len(self._offsets)
            return self.created + self._offsets[number] if known else None

    @property
    def ends_at(self) -> float | None:
        """When the task ends; None if nothing of the kind is foreseen."""
        last = self._marks[-1]
        return self.created + last.at if last.is_terminal else None

    def _reached(self, now: float) -> int:
        since, until, reached = self._seen
        if since <= now < until:
            return reached
        reached = max(bisect_right(self._offsets, now - self.created + ROUNDING), 1)
        later = self._offsets[reached:]
        until = self.created + later[0] - ROUNDING if later else float("inf")
        self._seen = (now, until, reached)
        return reached


class TaskStore:
    """All tasks in the order of their creation."""

    def __init__(self, lock: threading.RLock) -> None:
        self.lock = lock
        self._tasks: dict[str, SimTask] = {}
        self._unsettled: dict[str, SimTask] = {}
        self._ended: list[SimTask] = []

    def __iter__(self) -> Iterator[SimTask]:
        with self.lock:
            return iter(list(self._tasks.values()))

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: SimTask) -> None:
        """Take a new task in."""
        with self.lock:
            self._tasks[task.id] = task
            self._unsettled[task.id] = task

    def get(self, task_id: str) -> SimTask | None:
        """Return a task, or None."""
        return self._tasks.get(task_id)

    def ended(self, now: float) -> list[SimTask]:
        """Return the tasks that have ended, in the order in which that was noticed."""
        with self.lock:
            self._settle(now)
            return self._ended

    def rows(self, now: float, order: ListOrder, status: str | None) -> list[SimTask]:
        """Return the visible tasks in a state, or in any, as a list shows them."""
        with self.lock:
            self._settle(now)
            alive = status is not None and status not in TERMINAL
            source = self._unsettled if alive else self._tasks
            rows = [task for task in source.values() if task.visible_from <= now]
            if status is not None:
                rows = [task for task in rows if task.mark(now).status == status]
        return _ordered(rows, order)

    def _settle(self, now: float) -> None:
        ended = [task for task in self._unsettled.values() if task.mark(now).is_terminal]
        for task in ended:
            del self._unsettled[task.id]
        self._ended.extend(ended)


def _ordered(rows: list[SimTask], order: ListOrder) -> list[SimTask]:
    if order == "shuffled":
        return sorted(rows, key=lambda task: zlib.crc32(task.id.encode()))
    return rows if order == "oldest" else rows[::-1]
