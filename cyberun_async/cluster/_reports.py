"""What the folder tells as a whole."""

import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import attrs

from ..batch import BatchReport, JobState, UnconfirmedSubmission
from ..batch._ledger import queries as records
from ..batch._ledger.file import translated
from ._other_ledgers import OvertakenSubmission, newest, overtaken, shards_in
from ._takeover import copy


@attrs.frozen(kw_only=True)
class ClusterReport(BatchReport):
    """
    All shards as their ledgers have them.

    Attributes:
        counts: Jobs by state.
        fates: Every submission of unknown fate there ever was, whatever became of it.
        overtaken: Tasks that workers submitted whose shard had moved meanwhile.
    """

    overtaken: tuple[OvertakenSubmission, ...] = ()

    def __str__(self) -> str:
        """Say it in a line, and one for each unknown fate and each overtaken submission."""
        return "\n".join([BatchReport.__str__(self), *map(str, self.overtaken)])


def report_of(folder: str) -> ClusterReport:
    """
    Return what the ledgers of *folder* have; nothing is claimed, so work goes on meanwhile.

    Raises:
        LedgerError: A ledger cannot be read.
    """
    with translated(Path(folder)):
        return _report_of(Path(folder))


def _report_of(folder: Path) -> ClusterReport:
    counts: Counter[JobState] = Counter()
    fates: list[UnconfirmedSubmission] = []
    found: list[OvertakenSubmission] = []
    for shard in shards_in(folder):
        report = _report(newest(folder, shard))
        counts.update(report.counts)
        fates += report.fates
        with translated(newest(folder, shard)):
            found += overtaken(folder, shard)
    in_order = {state: counts[state] for state in JobState}
    return ClusterReport(counts=in_order, fates=tuple(fates), overtaken=tuple(found))


def _report(ledger: Path) -> BatchReport:
    with translated(ledger), tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "ledger.sqlite")
        copy(ledger, target)
        with closing(sqlite3.connect(target)) as connection:
            return records.report(connection)
