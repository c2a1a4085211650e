"""What the tests of batches have in common: jobs, policies, and one run over them."""

import sqlite3
from collections.abc import AsyncIterable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import attrs

from cyberun_async import CyberunClient, CyberunError, Limits, WatchPolicy
from cyberun_async.batch import Batch, BatchPolicy, BatchReport, Job, JobFault, JobOutcome
from cyberun_async.testing import Simulator, TaskPlan

from ..whole.kit import virtual_client


WORKFLOW: Final = "text-to-image"


def quick_service() -> Simulator:
    """
    Return a service in process whose tasks live for milliseconds.

    Real ones: a clock that jumps would pass by while the ledger's thread writes.
    """
    plan = TaskPlan(pending=0.001, waiting=0.001, queued=0.001, steps=1, step_seconds=0.001)
    return Simulator(seed=3, default_plan=plan)


def client_of(sim: Simulator, *, confirm_after: float = 5.0, **settings: Any) -> CyberunClient:
    """Return a client in process that asks often."""
    return virtual_client(
        sim,
        watch_policy=WatchPolicy(
            poll_interval=0.01, poll_interval_waiting=0.01, confirm_after=confirm_after
        ),
        limits=Limits(poll_rate=1000.0),
        **settings,
    )


def jobs(count: int, **options: Any) -> Iterator[Job]:
    """Yield *count* sound jobs."""
    for number in range(count):
        parameters = {"prompt": f"fox {number}", "steps": 2}
        yield Job(key=f"job-{number}", workflow=WORKFLOW, parameters=parameters, **options)


@attrs.frozen
class Ran:
    """What one run over a batch brought: its outcomes, and the error that ended it."""

    outcomes: list[JobOutcome]
    report: BatchReport
    error: CyberunError | None = None

    @property
    def states(self) -> dict[str, str]:
        """State by key; every job has one outcome."""
        found = {outcome.key: str(outcome.state) for outcome in self.outcomes}
        assert len(found) == len(self.outcomes), "a job has two outcomes"
        return found


async def run_batch(
    client: CyberunClient,
    ledger: Path,
    given: Iterable[Job | JobFault] | AsyncIterable[Job | JobFault] | None,
    **policy: Any,
) -> Ran:
    """Run a batch to its end, or to the error that ends it."""
    outcomes: list[JobOutcome] = []
    error: CyberunError | None = None
    policy.setdefault("settle_time", 0.0)
    async with Batch(client, ledger, policy=BatchPolicy(**policy)) as batch:
        try:
            async for outcome in batch.run(given):
                outcomes.append(outcome)  # noqa: PERF401 - kept also when an error ends it
        except CyberunError as caught:
            error = caught
        report = await batch.report()
    return Ran(outcomes, report, error)


def query(ledger: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask the ledger as a person with `sqlite3` does."""
    with closing(sqlite3.connect(ledger)) as connection:
        return connection.execute(sql).fetchall()
