"""Time limits hold for the whole of a call, whichever part of it is silent; in virtual time."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from cyberun_async import (
    CyberunClient,
    RetryPolicy,
    ServiceUnavailableError,
    SubmissionTimeoutError,
    SubmissionUncertainError,
    Timeouts,
    WaitTimeoutError,
)
from cyberun_async.testing import Simulator, TaskPlan, faults

from ..whole.kit import VIRTUAL, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


PLAN = TaskPlan(steps=10, step_seconds=0.1)
"""A life of 1.2 seconds."""

LONG = TaskPlan(steps=1000, step_seconds=1)

RUN = ("text-to-image", {"prompt": "a fox"})


@asynccontextmanager
async def on_time(seconds: float) -> AsyncIterator[pytest.ExceptionInfo[WaitTimeoutError]]:
    """Expect a `WaitTimeoutError` after *seconds*."""
    begun = anyio.current_time()
    with pytest.raises(WaitTimeoutError) as caught:
        yield caught
    assert anyio.current_time() - begun == pytest.approx(seconds, abs=0.1)


def silent(*endpoints: Any) -> Simulator:
    """Return a service of which some endpoints do not answer."""
    sim = Simulator(seed=7, default_plan=PLAN)
    for endpoint in endpoints:
        sim.faults.add(endpoint, faults.hold(before=10_000), times=None)
    return sim


def ignore(_: object) -> None:
    """Look at no progress."""


# The result.


async def of_a_task(client: CyberunClient, sim: Simulator) -> None:
    await client.result(sim.create_task(PLAN).id, timeout=4, cancel_on_timeout=True)


async def of_a_handle(client: CyberunClient, sim: Simulator) -> None:
    await client.handle(sim.create_task(PLAN).id).result(timeout=4)


async def of_a_run(client: CyberunClient, _: Simulator) -> None:
    await client.run(*RUN, timeout=4, cancel_on_timeout=True)


async def of_a_run_with_progress(client: CyberunClient, _: Simulator) -> None:
    await client.run(*RUN, timeout=4, on_progress=ignore, cancel_on_timeout=True)


@pytest.mark.parametrize("streams", [True, False], ids=["streams", "polled"])
@pytest.mark.parametrize(
    "call",
    [of_a_task, of_a_handle, of_a_run, of_a_run_with_progress],
    ids=lambda call: call.__name__,
)
async def test_a_silent_result_is_given_up_on_time(
    call: Callable[[CyberunClient, Simulator], Awaitable[None]], streams: bool
) -> None:
    """The error says that the task has ended, carries its token, and nothing is cancelled."""
    sim = silent("result")
    if not streams:
        sim.faults.add("events", faults.refuse(405), times=None)
    async with virtual_client(sim) as client:
        async with on_time(4) as caught:
            await call(client, sim)

    error = caught.value
    assert error.snapshot is not None
    assert error.snapshot.status == "completed"
    assert "its result can still be read" in str(error)
    assert error.resume_token is not None
    assert error.resume_token.task_id == error.task_id
    assert sim.requests_to("cancel") == []


# The submission.


@pytest.mark.parametrize("cancels", [True, False])
async def test_a_run_that_is_not_answered_in_time_has_an_open_fate(
    cancels: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is of both kinds; the id is logged when it comes, and the task cancelled then."""
    sim = Simulator(seed=7, default_plan=LONG)
    sim.faults.add("run", faults.hold(after=10))
    async with virtual_client(sim) as client:
        async with on_time(2) as caught:
            await client.run(*RUN, timeout=2, cancel_on_timeout=cancels)
        error = caught.value
        assert isinstance(error, SubmissionTimeoutError)
        assert isinstance(error, SubmissionUncertainError)
        assert (error.task_id, error.workflow, error.parameters) == (None, *RUN)
        assert "before submitting again" in str(error)
        with caplog.at_level(logging.WARNING, "cyberun_async"):
            await anyio.sleep(15)

    assert len(sim.submissions) == 1
    assert sim.submissions[0].task_id in caplog.text
    assert len(sim.requests_to("cancel")) == cancels


async def test_a_run_that_is_declined_in_the_end_leaves_nothing_behind() -> None:
    """What comes of a submission after its time is up raises nowhere."""
    sim = Simulator(seed=7)
    sim.faults.add("run", faults.hold(before=10), faults.refuse(422, "no"))
    async with virtual_client(sim) as client:
        async with on_time(2):
            await client.run(*RUN, timeout=2)
        await anyio.sleep(20)

    assert sim.submissions == []


async def test_a_run_that_never_left_is_certainly_not_submitted() -> None:
    """While it waits for its turn, or for what comes before it, nothing has been submitted."""
    sim = Simulator(seed=7)
    sim.faults.add("workflow", faults.hold(before=10_000), times=None)
    async with virtual_client(sim) as client:
        async with on_time(2) as caught:
            await client.run(*RUN, timeout=2, validate=True)
        await anyio.sleep(100)

    assert not isinstance(caught.value, SubmissionUncertainError)
    assert caught.value.task_id is None
    assert "nothing was submitted" in str(caught.value)
    assert sim.submissions == []


async def test_a_run_that_waits_for_a_connection_is_certainly_not_submitted() -> None:
    """Behind others that hang, a run is given up before it leaves."""
    sim = silent("run")
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        for _ in range(30):
            group.start_soon(client.submit, *RUN)
        await anyio.sleep(1)
        async with on_time(2) as caught:
            await client.run("text-to-image", {"prompt": "mine"}, timeout=2)
        group.cancel_scope.cancel()

    assert not isinstance(caught.value, SubmissionUncertainError)
    assert not any(b"mine" in each.body for each in sim.requests)


async def test_the_time_of_a_run_is_that_of_the_whole() -> None:
    """A submission that takes three of five seconds leaves two for the task."""
    sim = Simulator(seed=7, default_plan=LONG)
    sim.faults.add("run", faults.hold(before=3))
    async with virtual_client(sim) as client:
        async with on_time(5) as caught:
            await client.run(*RUN, timeout=5)

    assert caught.value.timeout == 5
    assert "5 s" in str(caught.value)
    assert caught.value.task_id == sim.submissions[0].task_id


async def test_a_run_that_is_closed_under_says_so() -> None:
    """Closing the client ends a run with a time limit as it ends one without."""
    sim = silent("run")
    errors: list[str] = []

    async def run(client: CyberunClient, timeout: float | None) -> None:
        try:
            await client.run(*RUN, timeout=timeout)
        except Exception as error:  # noqa: BLE001 - any kind is looked at
            errors.append(type(error).__name__)

    async with anyio.create_task_group() as group, virtual_client(sim) as client:
        group.start_soon(run, client, None)
        group.start_soon(run, client, 60)
        await anyio.sleep(1)

    assert errors == ["ClientClosedError"] * 2


# Cancellation of the task.


@pytest.mark.parametrize("seconds", [None, 1.0])
async def test_a_cancel_that_hangs_is_bounded(seconds: float | None) -> None:
    """Whoever asks for a cancellation on the way out waits 5 s more, or `Timeouts.cancel`."""
    sim = silent("cancel")
    task_id = sim.create_task(LONG).id
    timeouts = Timeouts() if seconds is None else Timeouts(cancel=seconds)
    bound = seconds or 5.0
    async with virtual_client(sim, timeouts=timeouts) as client:
        begun = anyio.current_time()
        with pytest.raises(WaitTimeoutError) as caught:
            await client.wait(task_id, timeout=2, cancel_on_timeout=True)
        waited = anyio.current_time() - begun
        begun = anyio.current_time()
        with anyio.move_on_after(2):
            async with client.watch(task_id, cancel_on_exit=True) as events:
                async for _ in events:
                    pass
        watched = anyio.current_time() - begun

    assert caught.value.cancel_failed
    # A second more is what the transport for tests gives an app that does not end.
    assert 2 + bound <= waited <= 2 + bound + 1.1
    assert 2 + bound <= watched <= 2 + bound + 2.1


@pytest.mark.parametrize("part", ["cancel", "task"])
async def test_to_cancel_and_wait_is_limited_as_a_whole(part: Any) -> None:
    """Whether the request to cancel or the end is late, the time is that of both."""
    sim = silent(part)
    sim.faults.add("events", faults.refuse(405), times=None)
    task_id = sim.create_task(LONG).id
    async with virtual_client(sim) as client:
        async with on_time(3) as caught:
            await client.cancel_and_wait(task_id, timeout=3)

    error = caught.value
    assert (error.cancel_requested, error.cancel_failed) == (part == "task", part == "cancel")
    assert error.resume_token is not None


# One request.


async def test_a_request_that_is_not_answered_has_a_total() -> None:
    """`Timeouts.total` bounds each try, also where a transport has no limit of its own."""
    sim = silent("task")
    task_id = sim.create_task(PLAN).id
    client = virtual_client(sim, timeouts=Timeouts(total=10), retries=RetryPolicy(max_attempts=1))
    async with client:
        begun = anyio.current_time()
        with pytest.raises(ServiceUnavailableError, match="did not answer within 10 s"):
            await client.tasks.get(task_id)
        assert 10 <= anyio.current_time() - begun <= 11.1
