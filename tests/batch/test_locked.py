"""A ledger that another program locks while answers come: what was accepted is named."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from cyberun_async import ServiceUnavailableError
from cyberun_async.batch import Batch, BatchPolicy, JobOutcome, LedgerBusyError, LedgerWriteError
from cyberun_async.batch._counts import Counts
from cyberun_async.batch._driver import Driver
from cyberun_async.batch._ledger.ledger import Ledger
from cyberun_async.testing import Simulator, faults

from ..whole.kit import until
from .kit import client_of, jobs, query


@asynccontextmanager
async def impatient_batch(sim: Simulator, ledger: Path, patience: float) -> AsyncIterator[Batch]:
    """A batch that waits for *patience* seconds for a lock of its ledger."""
    async with client_of(sim) as client, Batch(client, ledger) as batch:
        book = batch._opened
        assert isinstance(book, Ledger)
        await book.read(
            lambda db: db.execute(f"PRAGMA busy_timeout = {patience * 1000:.0f}").fetchall()
        )
        yield batch


async def read_all(batch: Batch, count: int, outcomes: list[JobOutcome]) -> None:
    async for outcome in batch.run(jobs(count)):
        outcomes.append(outcome)  # noqa: PERF401 - kept also when an error ends it


async def test_a_task_that_a_lock_keeps_out_of_the_ledger_is_named(
    sim: Simulator, ledger: Path
) -> None:
    """Whatever the error, who decides about the job has to know what it became."""
    sim.faults.add("run", faults.hold(after=0.3))
    async with impatient_batch(sim, ledger, 0.02) as batch:
        shell = sqlite3.connect(ledger, isolation_level=None)

        async def lock() -> None:
            await until(lambda: bool(sim.submissions))
            shell.execute("BEGIN IMMEDIATE")

        async with anyio.create_task_group() as group:
            group.start_soon(lock)
            with pytest.raises(LedgerBusyError) as caught:
                await read_all(batch, 1, [])
        shell.close()

    assert caught.value.unrecorded == [("job-0", sim.submissions[0].task_id)]
    assert sim.submissions[0].task_id in str(caught.value)


async def test_a_task_is_noted_after_a_lock_that_lasted(sim: Simulator, ledger: Path) -> None:
    """What was accepted is tried longer than other steps, since forgotten it is paid twice."""
    sim.faults.add("run", faults.hold(after=0.1))
    async with impatient_batch(sim, ledger, 0.5) as batch:
        shell = sqlite3.connect(ledger, isolation_level=None)

        async def lock() -> None:
            await until(lambda: bool(sim.submissions))
            shell.execute("BEGIN IMMEDIATE")
            await anyio.sleep(1.0)
            shell.execute("ROLLBACK")

        outcomes: list[JobOutcome] = []
        async with anyio.create_task_group() as group:
            group.start_soon(lock)
            await read_all(batch, 1, outcomes)
        shell.close()

    assert [outcome.state for outcome in outcomes] == ["completed"]
    assert query(ledger, "SELECT answer FROM submissions") == [("accepted",)]


async def test_an_earlier_failure_does_not_hide_a_task_that_was_not_noted(
    sim: Simulator, ledger: Path
) -> None:
    """What stands in no ledger is reported before all else, and the first failure with it."""
    async with client_of(sim) as client:
        driver = Driver(client, Ledger(ledger), BatchPolicy(), Counts())
        scope = anyio.CancelScope()
        locked = LedgerBusyError(ledger, "was locked")
        locked.unrecorded.append(("job-1", "task-1"))
        full = LedgerWriteError(ledger, "cannot grow")
        full.unrecorded.append(("job-2", "task-2"))
        for failure in (ServiceUnavailableError("closed"), locked, full):
            driver._fail(failure, scope)

    assert driver._failure is locked
    assert locked.unrecorded == [("job-1", "task-1"), ("job-2", "task-2")]
    assert "closed" in str(locked.__notes__)
