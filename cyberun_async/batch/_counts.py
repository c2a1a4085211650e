"""How many jobs are in which state, kept up while they move."""

from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType

from ._outcomes import BatchProgress, JobState


class Counts:
    """The counts of the whole batch; only jobs in flight are known by name."""

    def __init__(self) -> None:
        self._counts: Counter[JobState] = Counter()
        self._in_flight: dict[str, JobState] = {}
        self._keys: dict[str, str] = {}
        self._tasks: dict[str, str] = {}

    @property
    def keys(self) -> Mapping[str, str]:
        """The keys of jobs in flight, by the ids of their tasks; a live view."""
        return MappingProxyType(self._keys)

    def reset(self, counts: Mapping[JobState, int]) -> None:
        """Begin with what the ledger has."""
        self._counts = Counter(counts)
        self._in_flight.clear()
        self._keys.clear()
        self._tasks.clear()

    def begin(self, key: str, state: str, task_id: str | None, *, is_counted: bool = True) -> None:
        """Note that a job is worked on from now on, one of those that are counted or not."""
        if is_counted:
            self._in_flight[key] = JobState(state)
        if task_id is not None:
            self._is_of(key, task_id)

    def accepted(self, key: str, task_id: str) -> None:
        """Note that a job in flight has become a task."""
        self.move(key, JobState.RUNNING)
        self._is_of(key, task_id)

    def _is_of(self, key: str, task_id: str) -> None:
        self._keys.pop(self._tasks.get(key, ""), None)
        self._tasks[key] = task_id
        self._keys[task_id] = key

    def move(self, key: str, state: JobState) -> None:
        """Note the new state of a job in flight."""
        if key not in self._in_flight:
            return
        self._counts[self._in_flight[key]] -= 1
        self._counts[state] += 1
        self._in_flight[key] = state

    def leave(self, key: str) -> None:
        """Note that a job is no longer in flight."""
        self._in_flight.pop(key, None)
        self._keys.pop(self._tasks.pop(key, ""), None)

    def progress(self) -> BatchProgress:
        """Return the counts as they are now."""
        return BatchProgress(counts={state: self._counts[state] for state in JobState})
