"""How many jobs are in which state, kept up while they move."""

from collections import Counter
from collections.abc import Mapping

from ._outcomes import BatchProgress, JobState


class Tally:
    """The counts of the whole batch; only jobs under way are known by name."""

    def __init__(self) -> None:
        self._counts: Counter[JobState] = Counter()
        self._under_way: dict[str, JobState] = {}

    def reset(self, counts: Mapping[JobState, int]) -> None:
        """Begin with what the ledger has."""
        self._counts = Counter(counts)
        self._under_way.clear()

    def begin(self, key: str, state: str) -> None:
        """Hear that a job is worked on from now on."""
        self._under_way[key] = JobState(state)

    def move(self, key: str, state: JobState) -> None:
        """Hear that a job under way has come into another state."""
        self._counts[self._under_way[key]] -= 1
        self._counts[state] += 1
        self._under_way[key] = state

    def leave(self, key: str) -> None:
        """Hear that a job is not worked on any more."""
        self._under_way.pop(key, None)

    def progress(self) -> BatchProgress:
        """Return the counts as they are now."""
        return BatchProgress(counts={state: self._counts[state] for state in JobState})
