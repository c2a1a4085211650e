"""A result that a proxy hides, or that lags behind its task, is read again until it is there."""

import json
from pathlib import Path

import anyio
import pytest

from cyberun_async import (
    CompletedEvent,
    CyberunClient,
    CyberunError,
    ResultExpiredError,
    UnexpectedResponseError,
    WaitTimeoutError,
    WatchPolicy,
)
from cyberun_async.batch import Batch, BatchPolicy, Job
from cyberun_async.testing import RecordedRequest, Simulator, TaskPlan, faults

from ..whole.kit import VIRTUAL, ended_watch, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


PAGE = "<html><body>nginx</body></html>"
PLAN = TaskPlan(steps=1, step_seconds=0.1)
LAGGING = json.dumps(
    {"id": "x", "task_status": "running", "task_output": None, "download_urls": None}
)


def hidden(status: int, body: str, seconds: float | None) -> Simulator:
    """Return a service whose results are answered otherwise, for so long since first asked."""
    sim = Simulator(seed=7, default_plan=PLAN)
    began: list[float] = []

    def is_hidden(request: RecordedRequest) -> bool:
        began.append(request.at)
        return seconds is None or request.at - began[0] < seconds

    sim.faults.add("result", faults.refuse(status, body=body), times=None, when=is_hidden)
    return sim


async def _result(client: CyberunClient, task_id: str) -> int:
    return len(await client.result(task_id))


async def _run(client: CyberunClient, _: str) -> int:
    return len(await client.run("text-to-image", {"prompt": "fox"}))


ANSWERS = [(status, PAGE) for status in (200, 400, 401, 403, 404, 410, 502)] + [(200, LAGGING)]


@pytest.mark.parametrize(("status", "body"), ANSWERS)
@pytest.mark.parametrize("call", [_result, _run])
async def test_another_answer_in_its_place_is_waited_out(
    call: object, status: int, body: str
) -> None:
    """Neither a page of any status nor a state that lags ends a wait for a result."""
    sim = hidden(status, body, 10)
    task_id = sim.create_task().id
    async with virtual_client(sim) as client:
        count = await (_result if call is _result else _run)(client, task_id)

    assert count > 0


@pytest.mark.parametrize(("status", "body"), ANSWERS)
async def test_a_watch_has_its_output_all_the_same(status: int, body: str) -> None:
    """Within `output_timeout` the output is read again."""
    sim = hidden(status, body, 5)
    task_id = sim.create_task().id
    async with virtual_client(sim) as client:
        end = (await ended_watch(client, task_id)).end

    assert isinstance(end, CompletedEvent)
    assert end.output is not None
    assert end.output_error is None


@pytest.mark.parametrize("status", [200, 403, 404, 410])
async def test_a_page_that_stays_is_an_outage_that_ends(status: int) -> None:
    """`max_outage` bounds it; the error has the token, and suspects a proxy."""
    sim = hidden(status, PAGE, None)
    task_id = sim.create_task().id
    async with virtual_client(sim, watch_policy=WatchPolicy(max_outage=100)) as client:
        begun = anyio.current_time()
        with pytest.raises(CyberunError, match="proxy") as caught:
            await client.result(task_id)
        took = anyio.current_time() - begun

    assert not isinstance(caught.value, ResultExpiredError)
    assert caught.value.resume_token is not None
    assert 100 <= took <= 125


async def test_a_timeout_says_what_was_answered_last() -> None:
    """The limit of the caller holds, and its error names the page."""
    sim = hidden(404, PAGE, None)
    task_id = sim.create_task().id
    async with virtual_client(sim) as client:
        with pytest.raises(WaitTimeoutError) as caught:
            await client.result(task_id, timeout=20)

    assert "proxy" in str(caught.value)
    assert caught.value.resume_token is not None


async def test_a_result_that_lags_too_long_is_an_error() -> None:
    """After `result_ready_within` the error names the state; it is never taken for no files."""
    sim = hidden(200, LAGGING, None)
    task_id = sim.create_task().id
    async with virtual_client(sim) as client:
        begun = anyio.current_time()
        with pytest.raises(UnexpectedResponseError, match=r"not ready.*'running'") as caught:
            await client.result(task_id)
        took = anyio.current_time() - begun

    assert caught.value.resume_token is not None
    assert 60 <= took <= 80


async def test_a_completed_result_without_files_is_a_success() -> None:
    """Null links and a null output of a completed task are what it made: nothing."""
    body = LAGGING.replace("running", "completed")
    sim = hidden(200, body, None)
    task_id = sim.create_task().id
    async with virtual_client(sim) as client:
        assert len(await client.result(task_id)) == 0


@pytest.mark.parametrize(("status", "body"), ANSWERS)
async def test_a_batch_waits_for_the_files(status: int, body: str, tmp_path: Path) -> None:
    """Jobs wait for their results; none is recorded without its files, and the batch goes on."""
    sim = hidden(status, body, 10)
    jobs = [
        Job(key=f"job-{number}", workflow="text-to-image", parameters={"prompt": "fox"})
        for number in range(3)
    ]
    policy = BatchPolicy(download_to=tmp_path / "files")
    async with virtual_client(sim) as client:
        async with Batch(client, tmp_path / "ledger.sqlite", policy=policy) as batch:
            outcomes = [outcome async for outcome in batch.run(jobs)]

    assert [str(outcome.state) for outcome in outcomes] == ["completed"] * 3
    assert all(outcome.files for outcome in outcomes)
    assert [outcome.error for outcome in outcomes] == [None] * 3
