"""A batch that is stopped just before a request leaves: it does not leave any more."""

import sqlite3
import threading
from pathlib import Path

import anyio
import anyio.to_thread

from cyberun_async.batch import Batch, BatchPolicy
from cyberun_async.batch._environment import Environment
from cyberun_async.batch._jobs import PreparedJob, prepared
from cyberun_async.batch._ledger import queries
from cyberun_async.batch._ledger.ledger import Ledger
from cyberun_async.batch._submitting import Submitter
from cyberun_async.batch._throttle import Throttle
from cyberun_async.testing import Simulator, faults

from ..whole.kit import until
from .kit import client_of, jobs, query, run_batch


async def test_stopped_while_a_permit_is_asked_for_nothing_leaves(
    sim: Simulator, ledger: Path
) -> None:
    """A permit granted in a thread that no stop reaches sends no request of a stopped batch."""
    asked, granted = threading.Semaphore(0), threading.Event()

    def grant() -> None:
        asked.release()
        granted.wait()

    async def permit() -> None:
        await anyio.to_thread.run_sync(grant)

    async with client_of(sim) as client:
        batch = Batch(client, ledger, policy=BatchPolicy(concurrency=3))
        batch._environment = Environment(permit=permit)
        async with batch:
            run = batch.run(jobs(3))

            reading = anyio.CancelScope()

            async def read() -> None:
                with reading:
                    async for _ in run:
                        pass

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                for _ in range(3):
                    await until(lambda: asked.acquire(blocking=False))
                reading.cancel()
                await until(lambda: run.is_closed)
                granted.set()
            report = await batch.report()

    assert sim.requests_to("run") == []
    assert report.fates == ()
    assert query(ledger, "SELECT answer, count(*) FROM submissions GROUP BY 1") == [
        ("withdrawn", 3)
    ]


async def test_a_request_that_leaves_after_the_stop_gets_its_moment_too(
    sim: Simulator, ledger: Path
) -> None:
    """However late it left, nobody waits for its answer for longer than the policy says."""
    sim.faults.add("run", faults.hold(after=3.0))
    policy = BatchPolicy(stop_grace=0.0)
    book = await Ledger(ledger).open()
    try:
        await book.write(_taken_in)
        [row] = await book.read(lambda db: queries.work(db, 1, 0, 1))
        async with client_of(sim) as client:
            submitter = Submitter(client, book, policy, Throttle(1))
            with anyio.CancelScope() as scope:
                scope.cancel()
                await submitter.guard()
            with anyio.move_on_after(0.1) as waiting:
                await submitter.submit(row)
    finally:
        await book.aclose()

    assert waiting.cancelled_caught
    assert query(ledger, "SELECT answer, task_id FROM submissions") == [(None, None)]


async def test_what_is_submitted_again_in_a_run_is_not_hurried(
    sim: Simulator, ledger: Path
) -> None:
    """Only a stop gives answers no more than a moment, not that other jobs are done."""
    for action in (faults.abandon(), faults.hold(after=0.2)):
        sim.faults.add("run", action, when=lambda request: b"fox 1" in request.body)
    async with client_of(sim) as client:
        ran = await run_batch(client, ledger, jobs(2), on_uncertain="resubmit", stop_grace=0.0)

    assert ran.error is None
    assert ran.states == {"job-0": "completed", "job-1": "completed"}


def _taken_in(db: sqlite3.Connection) -> None:
    job = prepared(next(jobs(1)), 0)
    assert isinstance(job, PreparedJob)
    queries.begin_staging(db)
    queries.stage(db, [(0, job, None)])
    queries.accept_staged(db)
