"""
A shard's ledger, taken over from the epoch before by copying it.

The old one is left as it is: a holder that was only paused keeps writing to it, and what
it writes there after the copy was made gives it away.
"""

import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from ..batch._ledger.file import is_busy, sync, translated
from ._lease import Lease, epochs, ledger_path


PATIENCE_SECONDS = 5.0
_COPIED = ("", "-journal")
# How often a ledger is copied whose holder is slow, or at work all the time.
_TRIES = 5


def take_over(lease: Lease, patience: float = PATIENCE_SECONDS) -> Path:
    """
    Return the ledger of the lease's epoch: a copy of the newest there is, or none yet.

    Args:
        lease: Claimed, so that the epochs before it have ended.
        patience: Seconds after which a locked ledger's holder is taken for stopped.

    Raises:
        LedgerError: The copy cannot be made.
    """
    with translated(lease.ledger):
        known = epochs(lease.folder, lease.shard, ".sqlite")
        found = next((epoch for epoch in known if epoch < lease.epoch), None)
        if found is not None and not lease.ledger.exists():
            source = ledger_path(lease.folder, lease.shard, found)
            copy(source, lease.ledger, patience=patience)
    return lease.ledger


def copy(source: Path, target: Path, *, patience: float = PATIENCE_SECONDS) -> None:
    """Copy a ledger that may be in use; *target* comes to be whole or not at all."""
    fresh = Path(f"{target}.new")
    for further in reversed(range(_TRIES)):
        _remove(fresh)
        try:
            _let_sqlite_copy(source, fresh, patience)
            break
        except sqlite3.OperationalError as error:
            if not is_busy(error):
                raise
            _remove(fresh)
            if _copy_if_it_lies_still(source, fresh):
                break
            if not further:
                _remove(fresh)
                raise
    sync(fresh)
    fresh.replace(target)
    sync(target.parent)


def _let_sqlite_copy(source: Path, fresh: Path, patience: float) -> None:
    with closing(sqlite3.connect(source, timeout=patience, isolation_level=None)) as connection:
        connection.execute("VACUUM INTO ?", (str(fresh),))


def _copy_if_it_lies_still(source: Path, fresh: Path) -> bool:
    """
    Copy the files of a holder that stopped within a commit; return whether it had.

    It moves nothing then, so that what lies on disk is what a crash would have left: the
    file, and the journal to roll it back with. One that is merely slow tears the copy.
    """
    before = _state(source)
    for suffix in _COPIED:
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{source}{suffix}", f"{fresh}{suffix}")
    if _state(source) != before:
        return False
    with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
        # Rolls back what was not committed, and lets go of the journal.
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return True


def _state(source: Path) -> list[tuple[int, int, int]]:
    found: list[tuple[int, int, int]] = []
    for suffix in _COPIED:
        with suppress(FileNotFoundError):
            state = Path(f"{source}{suffix}").stat()
            found.append((state.st_ino, state.st_size, state.st_mtime_ns))
    return found


def _remove(fresh: Path) -> None:
    for suffix in _COPIED:
        Path(f"{fresh}{suffix}").unlink(missing_ok=True)
