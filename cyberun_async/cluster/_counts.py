"""How far all shards are, from what each reported last."""

from collections import Counter
from collections.abc import Mapping

from ..batch import BatchProgress, JobState
from ._messages import News


class ShardCounts:
    """
    The counts of each shard, and which outcomes have been reported.

    What an overtaken worker still reports does not count.
    """

    def __init__(self) -> None:
        self._counts: dict[int, Mapping[JobState, int]] = {}
        self._sizes: Mapping[int, int] = {}
        self._epochs: dict[int, int] = {}
        self._reported: set[str] = set()

    def begin(self, sizes: Mapping[int, int]) -> None:
        """Begin a run with so many jobs in each shard."""
        self._sizes = dict(sizes)
        self._counts = {shard: {JobState.PLANNED: size} for shard, size in sizes.items()}
        self._epochs = dict.fromkeys(sizes, 0)
        self._reported.clear()

    def add(self, news: News) -> bool:
        """Take over the counts of *news*; return whether it brings an outcome to report."""
        if news.epoch < self._epochs.get(news.shard, news.epoch + 1):
            return False
        self._epochs[news.shard] = news.epoch
        missing = self._sizes[news.shard] - sum(news.counts.values())
        if missing >= 0:
            # The total stays: what the ledger has not taken in yet is planned all the same.
            planned = news.counts.get(JobState.PLANNED, 0) + missing
            self._counts[news.shard] = {**news.counts, JobState.PLANNED: planned}
        if news.outcome is None or news.outcome.key in self._reported:
            return False
        self._reported.add(news.outcome.key)
        return True

    def progress(self) -> BatchProgress:
        """Return the counts of all shards."""
        counts: Counter[JobState] = Counter()
        for each in self._counts.values():
            counts.update(each)
        return BatchProgress(counts={state: counts[state] for state in JobState})
