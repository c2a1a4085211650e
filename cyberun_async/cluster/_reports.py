"""What the ledgers of a folder have as a whole."""

from collections import Counter
from pathlib import Path

import attrs

from ..batch import BatchReport, JobState, UnconfirmedSubmission
from ..batch._ledger import queries
from ..batch._ledger.file import translated
from ._lease import epochs, ledger_path
from ._other_ledgers import OvertakenSubmission, copied, overtaken, shards_in


@attrs.frozen(kw_only=True)
class ClusterReport(BatchReport):
    """
    All shards as their ledgers have them.

    Attributes:
        counts: Jobs by state.
        fates: Every unconfirmed submission there ever was, whatever became of it.
        overtaken: Tasks that workers submitted whose shard had moved meanwhile.
    """

    overtaken: tuple[OvertakenSubmission, ...] = ()

    def __str__(self) -> str:
        """Say it in a line, and one for each unconfirmed or overtaken submission."""
        return "\n".join([BatchReport.__str__(self), *map(str, self.overtaken)])


def report_of(folder: str) -> ClusterReport:
    """
    Return what the ledgers of *folder* have; nothing is claimed, so work continues meanwhile.

    Raises:
        LedgerError: A ledger cannot be read.
    """
    counts: Counter[JobState] = Counter()
    fates: list[UnconfirmedSubmission] = []
    found: list[OvertakenSubmission] = []
    path = Path(folder)
    with translated(path):
        for shard in shards_in(path):
            newest, *older = epochs(path, shard, ".sqlite")
            with copied(ledger_path(path, shard, newest)) as db:
                report = queries.report(db)
                counts.update(report.counts)
                fates += report.fates
                found += overtaken(db, path, shard, older)
    in_order = {state: counts[state] for state in JobState}
    return ClusterReport(counts=in_order, fates=tuple(fates), overtaken=tuple(found))
