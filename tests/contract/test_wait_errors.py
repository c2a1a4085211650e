"""Every error of a wait says where to go on, and is about what was not found."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import attrs
import pytest

from cyberun_async import (
    ArtifactLink,
    ClientClosedError,
    CyberunClient,
    CyberunError,
    ResultExpiredError,
    RetryPolicy,
    TaskCancelledError,
    TaskFailedError,
    TaskNotFoundError,
    WatchPolicy,
)
from cyberun_async.testing import Simulator, faults

from ..whole.kit import SLOW, VIRTUAL, ended_watch, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


async def _many(results: Awaitable[list[Any]]) -> Any:
    return (await results)[0]


RESULTS: Final[dict[str, Callable[[CyberunClient, str], Awaitable[Any]]]] = {
    "result": lambda client, task_id: client.result(task_id),
    "handle": lambda client, task_id: client.handle(task_id).result(),
    "result_many": lambda client, task_id: _many(client.result_many([task_id])),
}
WAITS: Final[dict[str, Callable[[CyberunClient, str], Awaitable[Any]]]] = {
    **RESULTS,
    "wait": lambda client, task_id: client.wait(task_id),
    "wait_many": lambda client, task_id: _many(client.wait_many([task_id])),
    "cancel_and_wait": lambda client, task_id: client.cancel_and_wait(task_id),
}
READS: Final[dict[str, Callable[[CyberunClient, str], Awaitable[Any]]]] = {
    **RESULTS,
    "raw_result": lambda client, task_id: client.raw_result(task_id),
}
SOON: Final = WatchPolicy(max_outage=20, connect_within=20, not_found_grace=0)
ONCE: Final = RetryPolicy(max_attempts=2, backoff_cap=1)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 429, 500, 503])
@pytest.mark.parametrize("way", RESULTS)
async def test_an_error_of_the_result_carries_the_token(way: str, status: int) -> None:
    """The task has completed, and the token says so: the next one asks for the result only."""
    sim = Simulator(seed=7)
    live = sim.create_task(SLOW)
    sim.faults.add("result", faults.refuse(status, "no"), times=None)
    async with virtual_client(sim, retries=ONCE) as client:
        with pytest.raises(CyberunError) as caught:
            await RESULTS[way](client, live.id)

    token = caught.value.resume_token
    assert token is not None
    assert (token.task_id, token.status) == (live.id, "completed")


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
@pytest.mark.parametrize("way", RESULTS)
async def test_the_error_of_a_task_that_ended_badly_carries_the_token(
    way: str, outcome: Any
) -> None:
    """It names the task and the state in which it ended."""
    sim = Simulator(seed=7)
    live = sim.create_task(attrs.evolve(SLOW, outcome=outcome))
    async with virtual_client(sim) as client:
        with pytest.raises((TaskFailedError, TaskCancelledError)) as caught:
            await RESULTS[way](client, live.id)
        async with client.as_completed([live.id]) as outcomes:
            [seen] = [each async for each in outcomes]
        with pytest.raises((TaskFailedError, TaskCancelledError)) as unwrapped:
            seen.unwrap()

    for error in (caught.value, unwrapped.value):
        token = error.resume_token
        assert token is not None
        assert (token.task_id, token.status) == (live.id, outcome)


@pytest.mark.parametrize("status", [401, 403, 404, 500])
@pytest.mark.parametrize("way", WAITS)
async def test_an_error_of_a_wait_carries_the_token(way: str, status: int) -> None:
    """Whatever the service answers to everything, the error says where to go on."""
    sim = Simulator(seed=7)
    live = sim.create_task(SLOW)
    for endpoint in ("task", "events", "tasks", "cancel"):
        sim.faults.add(endpoint, faults.refuse(status, "no"), times=None)
    async with virtual_client(sim, watch_policy=SOON, retries=ONCE) as client:
        with anyio.fail_after(600), pytest.raises(CyberunError) as caught:
            await WAITS[way](client, live.id)

    assert caught.value.resume_token is not None
    assert caught.value.resume_token.task_id == live.id


# On trio only the task that opened a client closes it.
@pytest.mark.parametrize("anyio_backend", ["virtual-asyncio"], indirect=True)
@pytest.mark.parametrize("way", WAITS)
async def test_a_wait_whose_client_is_closed_carries_the_token(way: str) -> None:
    """A deploy that closes the client leaves every wait with what the next process needs."""
    sim = Simulator(seed=7)
    live = sim.create_task(manual=True)
    live.status("running")
    if way == "cancel_and_wait":
        sim.faults.add("cancel", faults.hold(before=60))
    async with virtual_client(sim) as client, anyio.create_task_group() as group:

        async def close() -> None:
            await anyio.sleep(10)
            await client.aclose()

        group.start_soon(close)
        with pytest.raises(ClientClosedError) as caught:
            await WAITS[way](client, live.id)

    assert caught.value.resume_token is not None
    assert caught.value.resume_token.task_id == live.id


# Results that are kept no longer.


@pytest.mark.parametrize("status", [404, 410])
@pytest.mark.parametrize("way", READS)
async def test_an_expired_result_is_no_missing_task(way: str, status: int) -> None:
    """The task is known to have completed, so that it is its result that is kept no longer."""
    sim = Simulator(seed=7)
    live = sim.create_task(SLOW)
    sim.faults.add("result", faults.refuse(status, "removed after 7 days"), times=None)
    async with virtual_client(sim) as client:
        await client.wait(live.id)
        with pytest.raises(ResultExpiredError, match="completed") as caught:
            await READS[way](client, live.id)

    assert not isinstance(caught.value, TaskNotFoundError)
    assert caught.value.status == status
    assert "removed after 7 days" in str(caught.value)


async def test_the_output_of_an_expired_result_is_explained_in_the_watch() -> None:
    """The end comes without output, and does not say that the task does not exist."""
    sim = Simulator(seed=7)
    live = sim.create_task(SLOW)
    sim.faults.add("result", faults.refuse(410, "removed after 7 days"), times=None)
    sim.faults.add("events", faults.refuse(405), times=None)
    async with virtual_client(sim) as client:
        end = (await ended_watch(client, live.id)).end

    problem = getattr(end, "output_error", None)
    assert problem is not None
    assert "no longer keeps" in problem
    assert "does not exist" not in problem


async def test_the_result_of_a_task_that_is_missing_or_unfinished_has_not_expired() -> None:
    """Only a task that completed can have lost its result."""
    sim = Simulator(seed=7)
    live = sim.create_task(manual=True)
    sim.faults.add("result", faults.refuse(404, "no result yet"), times=None)
    async with virtual_client(sim) as client:
        with pytest.raises(TaskNotFoundError):
            await client.raw_result("0197aaaa-0000-7000-8000-000000000000")
        with pytest.raises(TaskNotFoundError):
            await client.raw_result(live.id)


async def test_a_file_whose_result_has_expired_cannot_be_fetched() -> None:
    """A link that is refused after the result has gone says that it has."""
    sim = Simulator(seed=7)
    live = sim.create_task(SLOW)
    async with virtual_client(sim) as client:
        result = await client.result(live.id)
        assert isinstance(result.record.links[0], ArtifactLink)
        sim.faults.add("result", faults.refuse(410, "removed after 7 days"), times=None)
        sim.faults.add("download", faults.refuse(403), times=None)
        with pytest.raises(ResultExpiredError, match="no longer keeps"):
            await result[0].read()
