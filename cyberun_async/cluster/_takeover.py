"""
A shard's ledger, taken over from the epoch before by copying it.

The old one is left as it is: a holder that was only paused goes on writing to it, and what
it writes there after the copy was made is how it is found out.
"""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from ..batch._ledger_file import is_busy, translated
from ._lease import Lease, epochs, ledger_path


PATIENCE_SECONDS = 5.0
_COPIED = ("", "-journal")


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
    _remove(fresh)
    try:
        _let_sqlite_copy(source, fresh, patience)
    except sqlite3.OperationalError as error:
        if not is_busy(error):
            raise
        # Its holder stopped within a commit and moves nothing, so that what lies on disk is
        # what a crash would have left: the file, and the journal to roll it back with.
        _remove(fresh)
        _copy_as_it_lies(source, fresh)
    _sync(fresh)
    fresh.replace(target)
    _sync(target.parent)


def _let_sqlite_copy(source: Path, fresh: Path, patience: float) -> None:
    with closing(sqlite3.connect(source, timeout=patience, isolation_level=None)) as connection:
        connection.execute("VACUUM INTO ?", (str(fresh),))


def _copy_as_it_lies(source: Path, fresh: Path) -> None:
    for suffix in _COPIED:
        if Path(f"{source}{suffix}").exists():
            shutil.copyfile(f"{source}{suffix}", f"{fresh}{suffix}")
    with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
        # Rolls back what was not committed, and lets go of the journal.
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _remove(fresh: Path) -> None:
    for suffix in _COPIED:
        Path(f"{fresh}{suffix}").unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
