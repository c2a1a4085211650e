"""
What the other ledgers of a folder have: tasks of other shards, and of overtaken epochs.

Everything here runs in a thread of a worker.
"""

import re
import sqlite3
import tempfile
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import attrs

from ..batch._ledger.file import translated
from ._lease import epochs, ledger_path
from ._takeover import copy


_LEDGER = re.compile(r"shard-(\d{5})\.\d{4}\.sqlite")
_PATIENCE = 2.0
_SUBMITTED = (
    "SELECT j.key, s.task_id, s.intent_at FROM submissions s"
    " JOIN jobs j ON j.number = s.job WHERE s.task_id NOT NULL ORDER BY s.id"
)


@attrs.frozen(kw_only=True)
class OvertakenSubmission:
    """
    A submission that a worker made, or whose answer it read, after its shard had moved.

    Attributes:
        key: The job's.
        task_id: The task it became, of which the shard's ledger does not know.
        shard: The job's shard.
        epoch: The epoch of the shard that submitted it.
        intent_at: Just before its request left, by that worker's clock.
        other_tasks: Tasks that the shard's ledger has for the job; with any, it is billed twice.
    """

    key: str
    task_id: str
    shard: int
    epoch: int
    intent_at: datetime
    other_tasks: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in one line."""
        sent_at = self.intent_at.isoformat(timespec="seconds")
        also = f" beside {', '.join(self.other_tasks)}" if self.other_tasks else ""
        return (
            f"job {self.key!r} sent at {sent_at} became task {self.task_id}{also}: "
            f"the worker of epoch {self.epoch} had lost the shard {self.shard}"
        )


def shards_in(folder: Path) -> list[int]:
    """Return the numbers of the shards that have a ledger."""
    found = (_LEDGER.fullmatch(path.name) for path in folder.iterdir())
    return sorted({int(match[1]) for match in found if match})


@contextmanager
def copied(ledger: Path) -> Generator[sqlite3.Connection, None, None]:
    """Open a copy of a ledger that may be in use; the ledger is left as it is."""
    with translated(ledger), tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, ledger.name)
        copy(ledger, target)
        with closing(sqlite3.connect(target)) as connection:
            yield connection


def claimed_by_others(folder: Path, shard: int, task_ids: Collection[str]) -> set[str]:
    """
    Return which of *task_ids* other shards are known to have submitted.

    A ledger that cannot be read now claims nothing: its tasks stay candidates.

    Raises:
        LedgerWriteError: The folder cannot be read.
    """
    found: set[str] = set()
    with translated(folder):
        for other in shards_in(folder):
            if other != shard:
                newest = ledger_path(folder, other, epochs(folder, other, ".sqlite")[0])
                found |= _tasks_of(newest) & set(task_ids)
    return found


def _tasks_of(ledger: Path) -> set[str]:
    try:
        # Read only, since a journal that lies there may be that of a holder at work.
        uri = f"{ledger.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=_PATIENCE)) as connection:
            rows = connection.execute("SELECT task_id FROM submissions WHERE task_id NOT NULL")
            return {task for (task,) in rows}
    except sqlite3.Error:
        return set()


def overtaken(
    db: sqlite3.Connection, folder: Path, shard: int, older: Iterable[int]
) -> Iterator[OvertakenSubmission]:
    """Yield the tasks that *older* epochs' ledgers have, and the newest one, *db*, does not."""
    tasks: dict[str, list[str]] = {}
    for key, task_id, _ in db.execute(_SUBMITTED):
        tasks.setdefault(key, []).append(task_id)
    claimed = {task for each in tasks.values() for task in each}
    for epoch in sorted(older):
        with copied(ledger_path(folder, shard, epoch)) as ledger:
            for key, task_id, intent_at in ledger.execute(_SUBMITTED):
                if task_id not in claimed:
                    yield OvertakenSubmission(
                        key=key,
                        task_id=task_id,
                        shard=shard,
                        epoch=epoch,
                        intent_at=datetime.fromisoformat(intent_at),
                        other_tasks=tuple(tasks.get(key, ())),
                    )
