"""A ledger taken over: copied whole, whatever its last holder was in the middle of."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cyberun_async.batch import LedgerBusyError, LedgerDamagedError
from cyberun_async.batch._ledger.file import connect, note
from cyberun_async.batch._ledger.ledger import Ledger
from cyberun_async.cluster._lease import claim
from cyberun_async.cluster._takeover import take_over


HOLDER = "tcp://127.0.0.1:1"

# Stands within a commit: what was there is in the journal, what is new is in the file.
STUCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE meta SET value = 'torn' WHERE name = 'mark'")
for number in range(2000):
    connection.execute("INSERT INTO meta VALUES (?, ?)", (f"torn {number}", "x" * 500))
print("stuck", flush=True)
time.sleep(60)
"""


def notes(ledger: Path) -> dict[str, str]:
    with closing(sqlite3.connect(ledger)) as connection:
        return dict(connection.execute("SELECT name, value FROM meta"))


def written(ledger: Path, value: str) -> None:
    with closing(connect(ledger, durable=True, shared=True)) as connection:
        note(connection, "mark", value)


@contextmanager
def stuck(ledger: Path) -> Iterator[None]:
    command = [sys.executable, "-c", STUCK, str(ledger)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"stuck\n"
        child.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            child.kill()


def test_the_first_epoch_begins_anew(tmp_path: Path) -> None:
    """Without a ledger before it there is nothing to copy."""
    assert not take_over(claim(tmp_path, 0, HOLDER)).exists()


def test_each_epoch_has_a_copy_of_its_own(tmp_path: Path) -> None:
    """What the holder before writes after that does not reach the ledger in use."""
    old = take_over(claim(tmp_path, 0, HOLDER))
    written(old, "before")
    new = take_over(claim(tmp_path, 0, HOLDER))
    written(old, "after")

    assert notes(new)["mark"] == "before"
    assert notes(old)["mark"] == "after"


def test_an_epoch_that_never_got_a_ledger_is_passed_over(tmp_path: Path) -> None:
    """A holder that died between its claim and its copy loses nothing."""
    written(take_over(claim(tmp_path, 0, HOLDER)), "kept")
    claim(tmp_path, 0, HOLDER)

    assert notes(take_over(claim(tmp_path, 0, HOLDER)))["mark"] == "kept"


def test_a_holder_that_stopped_within_a_commit_holds_nobody_up(tmp_path: Path) -> None:
    """Its locks stay while it does, so that its file is copied as a crash would have left it."""
    old = take_over(claim(tmp_path, 0, HOLDER))
    written(old, "committed")
    with stuck(old):
        assert Path(f"{old}-journal").exists()
        new = take_over(claim(tmp_path, 0, HOLDER), patience=0.1)

        assert notes(new)["mark"] == "committed"
        assert "torn 0" not in notes(new)
    assert sorted(path.name for path in tmp_path.glob("*0002*")) == [
        "shard-00000.0002.lease",
        "shard-00000.0002.sqlite",
    ]


def test_a_holder_that_is_merely_slow_does_not_tear_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it commits while its files are copied means that they are copied anew, whole."""
    old = take_over(claim(tmp_path, 0, HOLDER))
    written(old, "before")
    copyfile = shutil.copyfile
    with closing(sqlite3.connect(old, isolation_level=None)) as slow:
        slow.execute("PRAGMA cache_size = 1")
        slow.execute("BEGIN IMMEDIATE")
        slow.execute("UPDATE meta SET value = 'after' WHERE name = 'mark'")
        rows = [(f"row {number}", "x" * 500) for number in range(2000)]
        slow.executemany("INSERT INTO meta VALUES (?, ?)", rows)

        def copied(source: str, target: str) -> None:
            copyfile(source, target)
            if slow.in_transaction:
                slow.execute("COMMIT")

        monkeypatch.setattr(shutil, "copyfile", copied)
        new = take_over(claim(tmp_path, 0, HOLDER), patience=0.1)

    found = notes(new)
    assert found["mark"] == "after"
    assert {name for name, _ in rows} <= found.keys()
    with closing(sqlite3.connect(new)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_holder_that_never_rests_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger that moves whenever it is looked at is locked, and nothing torn is left."""
    old = take_over(claim(tmp_path, 0, HOLDER))
    written(old, "before")

    def moving(source: str, target: str) -> None:
        os.utime(source, ns=(0, len(target) + Path(source).stat().st_mtime_ns))

    monkeypatch.setattr(shutil, "copyfile", moving)
    lease = claim(tmp_path, 0, HOLDER)
    with closing(sqlite3.connect(old, isolation_level=None)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerBusyError):
            take_over(lease, patience=0.01)
    assert [path.name for path in tmp_path.glob("*0002*")] == [lease.path.name]


def test_a_damaged_ledger_is_not_taken_over(tmp_path: Path) -> None:
    """It is a clear error, and the next holder finds it as it was."""
    old = take_over(claim(tmp_path, 0, HOLDER))
    old.write_bytes(b"no database at all" * 100)
    lease = claim(tmp_path, 0, HOLDER)

    with pytest.raises(LedgerDamagedError):
        take_over(lease)
    assert not lease.ledger.exists()


async def test_a_ledger_in_a_shared_folder_has_a_rollback_journal(tmp_path: Path) -> None:
    """No write-ahead log and no lock of this machine lie beside it; it syncs, its folder too."""
    path = tmp_path / "shared.sqlite"
    ledger = await Ledger(path, shared=True).open()
    try:
        assert await ledger.read(_settings) == ("delete", 3)
        assert [each.name for each in tmp_path.iterdir()] == ["shared.sqlite"]
    finally:
        await ledger.aclose()


def _settings(db: sqlite3.Connection) -> tuple[str, int]:
    [journal] = db.execute("PRAGMA journal_mode").fetchone()
    [synchronous] = db.execute("PRAGMA synchronous").fetchone()
    return journal, synchronous
