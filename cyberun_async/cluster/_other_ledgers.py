"""
What the other ledgers of the folder know: tasks of other shards, and of overtaken epochs.

Everything here runs in a thread of a worker.
"""

import re
import sqlite3
import tempfile
from collections.abc import Collection, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import attrs

from ..batch._ledger.file import translated
from ._lease import epochs, ledger_path
from ._takeover import copy


_LEDGER = re.compile(r"shard-(\d{5})\.\d{4}\.sqlite")
_PATIENCE = 2.0


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
        other_tasks: Tasks that the shard's ledger has for the job; with any, it is paid twice.
    """

    key: str
    task_id: str
    shard: int
    epoch: int
    intent_at: datetime
    other_tasks: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in one line."""
        moment = self.intent_at.isoformat(timespec="seconds")
        also = f" beside {', '.join(self.other_tasks)}" if self.other_tasks else ""
        return (
            f"job {self.key!r} sent at {moment} became task {self.task_id}{also}: "
            f"the worker of epoch {self.epoch} had lost the shard {self.shard}"
        )


def shards_in(folder: Path) -> list[int]:
    """Return the numbers of the shards that have a ledger."""
    found = (_LEDGER.fullmatch(path.name) for path in folder.iterdir())
    return sorted({int(match[1]) for match in found if match})


def newest(folder: Path, shard: int) -> Path:
    """Return the newest ledger of a shard that has one."""
    return ledger_path(folder, shard, epochs(folder, shard, ".sqlite")[0])


def claimed_by_others(folder: Path, shard: int, task_ids: Collection[str]) -> set[str]:
    """
    Return which of *task_ids* are known to be those of other shards.

    A ledger that cannot be read now claims nothing: its tasks stay candidates.

    Raises:
        LedgerWriteError: The folder cannot be read.
    """
    found: set[str] = set()
    with translated(folder):
        for other in shards_in(folder):
            if other != shard:
                found |= _tasks_of(newest(folder, other)) & set(task_ids)
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


def overtaken(folder: Path, shard: int) -> list[OvertakenSubmission]:
    """Return the tasks that older epochs' ledgers have, and the newest one does not."""
    known, *older = epochs(folder, shard, ".sqlite") or [0]
    if not older:
        return []
    with tempfile.TemporaryDirectory() as scratch:
        tasks = _tasks_by_job(_readable(folder, shard, known, Path(scratch)))
        claimed = {task for each in tasks.values() for task in each}
        return [
            attrs.evolve(found, other_tasks=tuple(tasks.get(found.key, ())))
            for epoch in sorted(older)
            for found in _submitted(folder, shard, epoch, Path(scratch))
            if found.task_id not in claimed
        ]


def _readable(folder: Path, shard: int, epoch: int, scratch: Path) -> Path:
    target = scratch / f"{epoch}.sqlite"
    copy(ledger_path(folder, shard, epoch), target, patience=_PATIENCE)
    return target


def _tasks_by_job(ledger: Path) -> dict[str, list[str]]:
    tasks: dict[str, list[str]] = {}
    for key, task_id, _ in _rows(ledger):
        tasks.setdefault(key, []).append(task_id)
    return tasks


def _submitted(
    folder: Path, shard: int, epoch: int, scratch: Path
) -> Iterator[OvertakenSubmission]:
    for key, task_id, intent_at in _rows(_readable(folder, shard, epoch, scratch)):
        yield OvertakenSubmission(
            key=key,
            task_id=task_id,
            shard=shard,
            epoch=epoch,
            intent_at=datetime.fromisoformat(intent_at),
        )


def _rows(ledger: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(ledger)) as connection:
        return connection.execute(
            "SELECT j.key, s.task_id, s.intent_at FROM submissions s"
            " JOIN jobs j ON j.number = s.job WHERE s.task_id NOT NULL ORDER BY s.id"
        ).fetchall()
