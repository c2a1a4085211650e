"""How far all shards are, from what each told last."""

from collections import Counter
from collections.abc import Mapping

from ..batch import BatchProgress, JobState
from ._messages import News


class ShardCounts:
    """
    The counts of each shard, and which outcomes have been told.

    What an overtaken worker still tells counts no more.
    """

    def __init__(self) -> None:
        self._counts: dict[int, Mapping[JobState, int]] = {}
        self._sizes: Mapping[int, int] = {}
        self._epochs: dict[int, int] = {}
        self._told: set[str] = set()

    def begin(self, sizes: Mapping[int, int]) -> None:
        """Hear how many jobs each shard has."""
        self._sizes = dict(sizes)
        self._counts = {shard: {JobState.PLANNED: size} for shard, size in sizes.items()}
        self._epochs = dict.fromkeys(sizes, 0)
        self._told.clear()

    def hear(self, news: News) -> bool:
        """Take note of *news*; return whether it brings an outcome that is to be told."""
        if news.epoch < self._epochs.get(news.shard, news.epoch + 1):
            return False
        self._epochs[news.shard] = news.epoch
        self._count(news.shard, news.counts)
        if news.outcome is None or news.outcome.key in self._told:
            return False
        self._told.add(news.outcome.key)
        return True

    def _count(self, shard: int, counts: Mapping[JobState, int]) -> None:
        """Take the counts over so that the total stays: that of the jobs of this run."""
        missing = self._sizes[shard] - sum(counts.values())
        if missing >= 0:
            # What its ledger has not taken in yet is planned all the same.
            planned = counts.get(JobState.PLANNED, 0) + missing
            self._counts[shard] = {**counts, JobState.PLANNED: planned}

    def progress(self) -> BatchProgress:
        """Return the counts of all shards."""
        counts: Counter[JobState] = Counter()
        for each in self._counts.values():
            counts.update(each)
        return BatchProgress(counts={state: counts[state] for state in JobState})
