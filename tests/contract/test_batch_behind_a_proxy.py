"""A batch whose service is hidden behind a proxy's pages for a while."""

from pathlib import Path

import pytest

from cyberun_async import WatchPolicy
from cyberun_async.batch import Batch, BatchPolicy, Job, UncertainSubmissionsError
from cyberun_async.testing import RecordedRequest, Simulator, TaskPlan, faults

from ..whole.kit import virtual_client


PAGE = "<html><body>nginx</body></html>"
QUICK = TaskPlan(pending=0.01, waiting=0.01, queued=0.01, steps=1, step_seconds=0.01)
SECONDS = 1.2


def jobs(count: int) -> list[Job]:
    return [
        Job(key=f"job-{number}", workflow="text-to-image", parameters={"prompt": f"fox {number}"})
        for number in range(count)
    ]


@pytest.mark.parametrize("status", [401, 404])
async def test_no_job_is_rejected_or_lost_for_a_proxys_page(status: int, tmp_path: Path) -> None:
    """The few that were on their way are unconfirmed, and named; all others complete."""
    sim = Simulator(seed=7, default_plan=QUICK)
    began: list[float] = []

    def is_hidden(request: RecordedRequest) -> bool:
        if request.endpoint == "run" and len(sim.submissions) >= 20 and not began:
            began.append(request.at)
        return bool(began) and request.at - began[0] < SECONDS

    rule = sim.faults.add("*", faults.refuse(status, body=PAGE), times=None, when=is_hidden)
    policy = WatchPolicy(poll_interval=0.05, poll_interval_waiting=0.05)
    chosen = BatchPolicy(concurrency=10, settle_time=0.0)
    states: dict[str, str] = {}
    unknown: list[str] = []
    async with virtual_client(sim, watch_policy=policy) as client:
        async with Batch(client, tmp_path / "ledger.sqlite", policy=chosen) as batch:
            try:
                async for outcome in batch.run(jobs(100)):
                    states[outcome.key] = str(outcome.state)
            except UncertainSubmissionsError as error:
                unknown = [fate.key for fate in error.fates]
            report = await batch.report()

    assert rule.fired > 0
    assert set(states.values()) == {"completed"}
    assert 0 < len(unknown) <= 10
    assert len(states) + len(unknown) == 100
    assert {fate.key for fate in report.fates} == set(unknown)
    assert len(sim.submissions) == len(states)
