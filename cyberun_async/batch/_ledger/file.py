"""
The ledger's file: made at once or not at all, recognised, and held by one process.

Everything here runs in the ledger's thread.
"""

import os
import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from .._errors import (
    LedgerBusyError,
    LedgerDamagedError,
    LedgerError,
    LedgerVersionError,
    LedgerWriteError,
)
from .schema import APPLICATION_ID, TABLES, VERSION, VIEWS


BUSY_SECONDS = 10.0
_DAMAGED = "is damaged or no ledger: {}; restore it, it was left as it is"


def connect(
    path: Path, *, durable: bool, patience: float = BUSY_SECONDS, shared: bool = False
) -> sqlite3.Connection:
    """Open the ledger at *path*, or make one; it is already held."""
    if not path.exists():
        _create(path)
    if path.stat().st_size == 0:
        raise LedgerDamagedError(path, "is empty; restore it, or remove it to begin anew")
    with translated(path):
        connection = sqlite3.connect(
            path, timeout=patience, isolation_level=None, check_same_thread=False
        )
        try:
            _recognise(connection, path)
            _set_up(connection, durable=durable, shared=shared)
        except BaseException:
            connection.close()
            raise
    return connection


def _create(path: Path) -> None:
    log = Path(f"{path}-wal")
    if log.exists():
        raise LedgerDamagedError(
            path, f"is missing, but {log.name} beside it is there; restore it or remove that"
        )
    # Only a whole ledger gets the name, so that an empty file is always a damaged one.
    fresh = Path(f"{path}.new")
    with translated(path):
        for left in (fresh, Path(f"{fresh}-journal")):
            left.unlink(missing_ok=True)
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.executescript(f"BEGIN;{TABLES}{VIEWS}PRAGMA user_version = {VERSION};COMMIT")
            note(connection, "created_at", datetime.now(UTC).isoformat())
        fresh.replace(path)
        sync(path.parent)


def sync(path: Path) -> None:
    """Have a file, or a folder's names, reach the disk itself, where the system can do so."""
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _recognise(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise LedgerDamagedError(path, "is an SQLite database, but no ledger of a batch")
    version = _pragma(connection, "user_version")
    if not isinstance(version, int) or version > VERSION:
        raise LedgerVersionError(
            path,
            f"has version {version} and this library knows versions up to {VERSION}; "
            "upgrade cyberun_async",
        )
    found = _pragma(connection, "quick_check(1)")
    if found != "ok":
        raise LedgerDamagedError(path, _DAMAGED.format(found))


def _set_up(connection: sqlite3.Connection, *, durable: bool, shared: bool) -> None:
    # Where there is no shared memory SQLite stays with its older journal, as safe but slower.
    # Over a network it would believe to have some, so there that journal is asked for.
    connection.execute(f"PRAGMA journal_mode = {'DELETE' if shared else 'WAL'}")
    # EXTRA also syncs the folder when a rollback journal is gone: without that the loss of
    # power may bring it back, and it would undo the last commit. In a log it is FULL.
    connection.execute(f"PRAGMA synchronous = {'EXTRA' if durable else 'NORMAL'}")
    if durable:
        connection.execute("PRAGMA fullfsync = 1")
    connection.execute("PRAGMA foreign_keys = ON")


def _pragma(connection: sqlite3.Connection, name: str) -> object:
    [value] = connection.execute(f"PRAGMA {name}").fetchone()
    return value


def note(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Remember *value* under *name*."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def hold(path: Path) -> sqlite3.Connection:
    """
    Keep other processes from writing to the ledger until the connection returned is closed.

    The operating system lets go when the process ends, however it ends. The ledger itself
    stays free, so that it can be read meanwhile.
    """
    if not path.parent.is_dir():
        raise LedgerError(path, "cannot be made: its folder does not exist")
    with translated(path):
        lock = sqlite3.connect(
            f"{path}.lock", timeout=0.0, isolation_level=None, check_same_thread=False
        )
        try:
            lock.execute("PRAGMA journal_mode = MEMORY")
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            lock.close()
            if is_busy(error):
                raise LedgerBusyError(path, f"is in use{_holder(path)}") from None
            raise
    return lock


def _holder(path: Path) -> str:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0.0)) as connection:
            found = dict(connection.execute("SELECT name, value FROM meta"))
    except sqlite3.Error:
        return " by another batch"
    return f" by process {found.get('process')} since {found.get('opened_at')}"


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether *error* says that somebody else holds a lock."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


@contextmanager
def translated(path: Path) -> Generator[None, None, None]:
    """Turn what SQLite and the file system raise into errors of the ledger."""
    try:
        yield
    except sqlite3.Error as error:
        raise _ledger_error(path, error) from error
    except OSError as error:
        raise LedgerWriteError(path, f"cannot be used: {error.strerror}") from error


def _ledger_error(path: Path, error: sqlite3.Error) -> LedgerError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if is_busy(error):
        return LedgerBusyError(
            path,
            "was locked by another program for too long (an sqlite3 shell with an open "
            "transaction, a backup); end it and run again, what is written is safe",
        )
    if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return LedgerDamagedError(path, _DAMAGED.format(error))
    if code == sqlite3.SQLITE_FULL:
        return LedgerWriteError(path, "cannot grow: the disk is full; free some room and run again")
    if code == sqlite3.SQLITE_READONLY:
        return LedgerWriteError(path, "cannot be written: it is read-only")
    return LedgerWriteError(path, f"cannot be used: {error}")
