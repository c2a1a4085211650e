"""Batches that end before their answers, in real time: what the next run makes of that."""

from pathlib import Path

import anyio
import pytest

from cyberun_async import ClientClosedError
from cyberun_async.batch import Batch, BatchPolicy, JobState, UncertainSubmissionsError
from cyberun_async.testing import Simulator, TaskPlan, faults

from ..whole.kit import until
from .kit import client_of, jobs, query, run_batch


async def cut_short(sim: Simulator, ledger: Path, *, hold: float, grace: float) -> None:
    """Run a batch whose answers are held, and stop it when all requests have arrived."""
    sim.faults.add("run", faults.hold(after=hold), times=None)
    policy = BatchPolicy(stop_grace=grace)
    async with client_of(sim) as client, Batch(client, ledger, policy=policy) as batch:

        async def read() -> None:
            async for _ in batch.run(jobs(4)):
                pass

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await until(lambda: len(sim.submissions) == 4)
            group.cancel_scope.cancel()
    sim.faults.clear()


def tasks_of(sim: Simulator, job: int) -> set[str]:
    return {s.task_id for s in sim.submissions if s.parameters["prompt"] == f"fox {job}"}


async def test_an_unanswered_intent_is_looked_into_by_the_next_run(
    sim: Simulator, ledger: Path
) -> None:
    """A program that ended before the answer left an intent, which is no licence to repeat."""
    await cut_short(sim, ledger, hold=30, grace=0)
    shown = query(ledger, "SELECT key, verdict FROM unconfirmed_submissions")
    async with client_of(sim) as client:
        async with Batch(client, ledger) as batch:
            before = await batch.report()
        ran = await run_batch(client, ledger, jobs(4), settle_time=0)

    assert sorted(shown) == [(f"job-{n}", None) for n in range(4)]
    assert str(before).count("not looked into yet") == 4
    assert isinstance(ran.error, UncertainSubmissionsError)
    assert {fate.key for fate in ran.error.fates} == {f"job-{n}" for n in range(4)}
    for fate in ran.error.fates:
        assert tasks_of(sim, int(fate.key[-1])) <= set(fate.candidates)
    assert len(sim.submissions) == 4


async def test_answers_under_way_get_a_moment(sim: Simulator, ledger: Path) -> None:
    """Stopped in good order, a batch waits a little for answers, so that nothing is unknown."""
    sim.default_plan = TaskPlan(forever_waiting=True)
    await cut_short(sim, ledger, hold=0.3, grace=5.0)
    async with client_of(sim) as client, Batch(client, ledger) as batch:
        report = await batch.report()

    assert report.fates == ()
    assert report.counts[JobState.RUNNING] == 4
    assert query(ledger, "SELECT count(DISTINCT task_id) FROM jobs") == [(4,)]


async def test_the_list_is_read_after_the_settle_time(sim: Simulator, ledger: Path) -> None:
    """A request may still be in flight, and a list may lag."""
    await cut_short(sim, ledger, hold=30, grace=0)
    began = sim.now
    async with client_of(sim) as client:
        await run_batch(client, ledger, jobs(4), settle_time=0.3)

    assert sim.requests_to("tasks")[0].at - began >= 0.3


async def test_a_batch_may_be_left_at_any_time(sim: Simulator, ledger: Path) -> None:
    """Left by ``break``, work stops before the block is left, and another run takes it up."""
    async with client_of(sim) as client:
        for _ in range(3):
            async with Batch(client, ledger, policy=BatchPolicy(concurrency=2)) as batch:
                async for outcome in batch.run(jobs(6)):
                    if not outcome.is_replayed:
                        break
        ran = await run_batch(client, ledger, jobs(6))

    assert set(ran.states.values()) == {"completed"}
    assert len(ran.states) == 6
    assert len(sim.submissions) == 6


@pytest.mark.asyncio_only(reason="on trio a client is closed after what was opened within it")
async def test_a_run_of_a_client_that_is_closed_already_says_so(
    sim: Simulator, ledger: Path
) -> None:
    """Nothing of it has begun, so nothing is waited for when it is left."""
    async with client_of(sim) as client, Batch(client, ledger) as batch:
        run = batch.run(jobs(1))
        await client.aclose()
        with anyio.fail_after(10), pytest.raises(ClientClosedError):
            async for _ in run:
                pass
