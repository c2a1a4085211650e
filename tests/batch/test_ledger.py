"""The ledger: steps that are safe when their call returns, and clear errors otherwise."""

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from cyberun_async.batch import (
    LedgerBusyError,
    LedgerDamagedError,
    LedgerError,
    LedgerVersionError,
    LedgerWriteError,
)
from cyberun_async.batch._ledger.ledger import Ledger
from cyberun_async.batch._ledger.schema import APPLICATION_ID, VERSION
from cyberun_async.testing import faults

from .kit import client_of, jobs, query, quick_service, run_batch


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "runs.sqlite"


def remember(name: str, value: str = "") -> Callable[[sqlite3.Connection], str]:
    def step(db: sqlite3.Connection) -> str:
        db.execute("INSERT INTO meta VALUES (?, ?)", (name, value))
        return name

    return step


async def opened(path: Path) -> None:
    await Ledger(path).open()


# Steps


async def test_a_step_is_safe_when_its_call_returns(ledger: Path) -> None:
    """Another connection sees it, without the ledger being closed."""
    book = await Ledger(ledger).open()
    try:
        assert await book.write(remember("a step")) == "a step"
        assert query(ledger, "SELECT name FROM meta WHERE name = 'a step'") == [("a step",)]
    finally:
        await book.aclose()


async def test_steps_asked_for_at_once_share_transactions(ledger: Path) -> None:
    """A hundred concurrent steps take few transactions, and each gets its own result."""
    book = await Ledger(ledger).open()
    found: list[str] = []

    async def write(number: int) -> None:
        found.append(await book.write(remember(f"step {number}")))

    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(write, number)
    await book.aclose()

    assert sorted(found) == sorted(f"step {n}" for n in range(100))
    assert query(ledger, "SELECT count(*) FROM meta WHERE name LIKE 'step %'") == [(100,)]
    assert book.transactions < 10


async def test_a_failed_transaction_leaves_nothing(ledger: Path) -> None:
    """What a step did before it failed is undone, and its error is the caller's."""
    book = await Ledger(ledger).open()

    def step(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO meta VALUES ('half', '')")
        db.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(LedgerWriteError, match="nowhere"):
        await book.write(step)
    await book.write(remember("after"))
    await book.aclose()

    assert query(ledger, "SELECT count(*) FROM meta WHERE name = 'half'") == [(0,)]


async def test_a_step_is_not_cut_by_cancellation(ledger: Path) -> None:
    """It says what has happened, so it is written though its caller is being cancelled."""
    book = await Ledger(ledger).open()

    with anyio.CancelScope() as scope:
        scope.cancel()
        await book.write(remember("despite"))
    await book.aclose()

    assert query(ledger, "SELECT count(*) FROM meta WHERE name = 'despite'") == [(1,)]


async def test_a_closed_ledger_says_so(ledger: Path) -> None:
    """Steps after closing are refused, not lost in silence."""
    book = await Ledger(ledger).open()
    await book.aclose()

    with pytest.raises(LedgerError, match="is closed"):
        await book.write(remember("late"))


@pytest.mark.parametrize(("durable", "level"), [(False, 1), (True, 3)])
async def test_durable_means_that_each_commit_reaches_the_disk(
    ledger: Path, durable: bool, level: int
) -> None:
    """WAL in either case; `durable` is synchronous=EXTRA (FULL, in WAL), else NORMAL."""
    book = await Ledger(ledger, durable=durable).open()

    def pragmas(db: sqlite3.Connection) -> tuple[object, object]:
        [mode] = db.execute("PRAGMA journal_mode").fetchone()
        [synchronous] = db.execute("PRAGMA synchronous").fetchone()
        return mode, synchronous

    found = await book.read(pragmas)
    await book.aclose()

    assert found == ("wal", level)


# One writer


async def test_a_second_batch_learns_who_has_the_ledger(ledger: Path) -> None:
    """By whatever name it is opened, one ledger has one writer."""
    alias = ledger.with_name("alias.sqlite")
    alias.symlink_to(ledger)
    book = await Ledger(ledger).open()
    try:
        for name in (ledger, alias):
            with pytest.raises(LedgerBusyError, match=f"in use by process {os.getpid()} since"):
                await opened(name)
    finally:
        await book.aclose()
    again = await Ledger(alias).open()
    await again.aclose()


HOLDER = """
import sys, anyio
from cyberun_async.batch._ledger.ledger import Ledger
async def main():
    await Ledger(sys.argv[1]).open()
    print("held", flush=True)
    await anyio.sleep_forever()
anyio.run(main)
"""


async def test_a_process_that_was_killed_holds_nothing(ledger: Path) -> None:
    """Another process has the ledger until it ends, however it ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(ledger)], stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(LedgerBusyError, match=f"process {holder.pid}"):
            await opened(ledger)
        holder.kill()
    book = await Ledger(ledger).open()
    await book.aclose()


async def test_a_lock_that_stays_is_reported(ledger: Path) -> None:
    """A shell with an open transaction stops the batch with an error; nothing is lost."""
    book = await Ledger(ledger, patience=0.05).open()
    await book.write(remember("before"))
    with closing(sqlite3.connect(ledger, isolation_level=None)) as shell:
        shell.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerBusyError, match="locked by another program"):
            await book.write(remember("meanwhile"))
        shell.execute("ROLLBACK")
    await book.write(remember("after"))
    await book.aclose()

    rows = query(ledger, "SELECT name FROM meta WHERE name IN ('before', 'meanwhile', 'after')")
    assert sorted(rows) == [("after",), ("before",)]


async def test_a_ledger_can_be_read_while_a_batch_has_it(ledger: Path) -> None:
    """Looking at it disturbs nothing."""
    book = await Ledger(ledger).open()
    with closing(sqlite3.connect(ledger)) as shell:
        shell.execute("BEGIN")
        shell.execute("SELECT * FROM progress").fetchall()
        await book.write(remember("meanwhile"))
    await book.aclose()


# Files that are no good


async def finished(ledger: Path) -> None:
    async with client_of(quick_service()) as client:
        await run_batch(client, ledger, jobs(60))
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
async def test_a_truncated_ledger_is_left_as_it_is(ledger: Path, share: float) -> None:
    """A ledger that was cut is no new one: nothing is submitted on its word."""
    await finished(ledger)
    size = int(ledger.stat().st_size * share)
    os.truncate(ledger, size)
    cut = ledger.read_bytes()
    sim = quick_service()

    async with client_of(sim) as client:
        with pytest.raises(LedgerDamagedError, match="restore it"):
            await run_batch(client, ledger, jobs(60))

    assert ledger.read_bytes() == cut
    assert sim.requests == []


async def test_a_ledger_of_a_newer_version_is_left_as_it_is(ledger: Path) -> None:
    """Whoever cannot read all of it must not write."""
    await finished(ledger)
    with closing(sqlite3.connect(ledger)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = ledger.read_bytes()

    with pytest.raises(LedgerVersionError, match=f"version {VERSION + 1}.*upgrade cyberun_async"):
        await opened(ledger)

    assert ledger.read_bytes() == before


async def test_overwritten_pages_are_found(ledger: Path) -> None:
    """Damage in the middle is found before anything is submitted on its word."""
    await finished(ledger)
    with ledger.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 4))

    with pytest.raises(LedgerDamagedError):
        await opened(ledger)


async def test_what_is_no_ledger_is_reported(tmp_path: Path) -> None:
    """Neither a text nor another program's database is written to."""
    text = tmp_path / "text"
    text.write_text("key,workflow\n" * 100)
    foreign = tmp_path / "foreign.sqlite"
    with closing(sqlite3.connect(foreign)) as connection:
        connection.execute("CREATE TABLE jobs (x)")
        connection.commit()

    for path in (text, foreign):
        before = path.read_bytes()
        with pytest.raises(LedgerDamagedError):
            await opened(path)
        assert path.read_bytes() == before


async def test_a_log_without_its_ledger_is_reported(ledger: Path) -> None:
    """A ledger that was moved away without its -wal file is not begun anew in silence."""
    ledger.with_name(f"{ledger.name}-wal").write_bytes(b"left behind")

    with pytest.raises(LedgerDamagedError, match="is missing"):
        await opened(ledger)


async def test_a_ledger_half_made_is_made_anew(ledger: Path) -> None:
    """Only a whole ledger gets its name; what a killed process left is no obstacle."""
    ledger.with_name(f"{ledger.name}.new").write_bytes(b"half")

    book = await Ledger(ledger).open()
    await book.aclose()

    assert query(ledger, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert query(ledger, "PRAGMA user_version") == [(VERSION,)]


async def test_a_folder_that_is_missing_is_reported(tmp_path: Path) -> None:
    """The message says what is missing."""
    with pytest.raises(LedgerError, match="its folder does not exist"):
        await opened(tmp_path / "nowhere" / "runs.sqlite")


# What a person sees


SHELL = shutil.which("sqlite3")


@pytest.mark.skipif(SHELL is None, reason="the sqlite3 shell is not installed")
async def test_the_sqlite3_shell_shows_what_a_person_wants_to_know(ledger: Path) -> None:
    """How far it is, every job in a line, what went wrong, what is unknown."""
    await finished(ledger)

    def shell(sql: str) -> list[str]:
        assert SHELL is not None
        run = subprocess.run([SHELL, str(ledger), sql], capture_output=True, text=True, check=True)
        return run.stdout.splitlines()

    assert shell("SELECT * FROM progress") == ["completed|60"]
    assert shell("SELECT key, state, times_submitted FROM overview LIMIT 1") == [
        "job-0|completed|1"
    ]
    for view in ("problems", "unconfirmed_submissions", "paid_twice", "downloads"):
        assert shell(f"SELECT * FROM {view}") == []


async def test_tables_and_views_are_documented(ledger: Path) -> None:
    """The reference names the version, each table with its columns, and each view."""
    await finished(ledger)
    page = (Path(__file__).parents[2] / "docs" / "reference" / "batch.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE))
    names = {
        str(name)
        for (name,) in query(
            ledger, "SELECT name FROM sqlite_schema WHERE type IN ('table', 'view')"
        )
    }

    assert set(rows) == names
    assert f"## The ledger, version {VERSION}\n" in page
    assert f"`PRAGMA application_id` {APPLICATION_ID} " in page
    for table in ("jobs", "submissions", "files", "meta"):
        columns = {str(row[1]) for row in query(ledger, f"PRAGMA table_info({table})")}
        assert columns <= set(re.findall(r"`(\w+)`", rows[table]))


async def test_a_job_repeated_in_doubt_is_among_those_paid_twice(ledger: Path) -> None:
    """Whatever the verdict was: who looks for double payments finds all that may be one."""
    sim = quick_service()
    sim.faults.add("run", faults.hang_up(), when=lambda request: b"fox 1" in request.body)
    async with client_of(sim) as client:
        await run_batch(client, ledger, jobs(3), on_probably_not_submitted="resubmit")

    assert query(ledger, "SELECT * FROM paid_twice") == [("job-1", 1, 1)]
