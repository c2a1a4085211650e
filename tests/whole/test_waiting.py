"""Deadlines, cancelling on the way out, going on elsewhere, and draining; in virtual time."""

import json
import pickle
from typing import Any

import anyio
import attrs
import pytest

from cyberun_async import (
    ClientClosedError,
    CompletedEvent,
    CyberunClient,
    InvalidInputError,
    ProgressEvent,
    ResumeToken,
    StatusEvent,
    TaskFailedError,
    TaskHandle,
    TaskSnapshot,
    WaitTimeoutError,
)
from cyberun_async.testing import Simulator, TaskPlan, faults

from .kit import (
    COURSE,
    OUTPUT,
    SLOW,
    VIRTUAL,
    ended_watch,
    library_tasks,
    virtual_backend,
    virtual_client,
)


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


ENDLESS = TaskPlan(pending=1, waiting=1, queued=1, steps=2000, step_seconds=1, output=OUTPUT)
STUCK = TaskPlan(pending=1, forever_waiting=True)


@pytest.mark.parametrize("method", ["wait", "result", "run", "run-watched", "cancel_and_wait"])
async def test_a_deadline_is_kept(method: str) -> None:
    """Every way of waiting ends at its timeout, with a token; the task goes on."""
    sim = Simulator(seed=7, default_plan=attrs.evolve(ENDLESS, cancel_seconds=1e6))
    known = [] if method.startswith("run") else [sim.create_task().id]
    async with virtual_client(sim) as client:
        calls: dict[str, Any] = {
            "wait": lambda: client.wait(known[0], timeout=100),
            "result": lambda: client.result(known[0], timeout=100),
            "run": lambda: client.run("text-to-image", {"prompt": "x"}, timeout=100),
            "run-watched": lambda: client.run(
                "text-to-image", {"prompt": "x"}, timeout=100, on_progress=lambda _: None
            ),
            "cancel_and_wait": lambda: client.cancel_and_wait(known[0], timeout=100),
        }
        if method == "cancel_and_wait":
            await anyio.sleep(10)
        began = anyio.current_time()
        with pytest.raises(TimeoutError) as caught:
            await calls[method]()
        took = anyio.current_time() - began
        await anyio.sleep(5)
        assert sim.open_streams == 0
        assert client.statistics().followed_tasks == 0

    error = caught.value
    assert isinstance(error, WaitTimeoutError)
    assert took == pytest.approx(100, abs=0.01)
    assert error.resume_token is not None
    assert error.resume_token.task_id == error.task_id == sim.tasks[0].id
    assert (error.timeout, error.cancel_requested) == (100, method == "cancel_and_wait")
    assert sim.tasks[0].state == "running"
    assert pickle.loads(pickle.dumps(error)).resume_token == error.resume_token


async def test_a_time_out_says_what_is_known() -> None:
    """The error carries the last known state."""
    sim = Simulator(seed=7)
    live = sim.create_task(ENDLESS)
    async with virtual_client(sim) as client:
        with pytest.raises(WaitTimeoutError, match="running") as caught:
            await client.wait(live.id, timeout=60)

    assert caught.value.snapshot is not None
    assert caught.value.snapshot.status == "running"
    assert caught.value.resume_token is not None
    assert caught.value.resume_token.status == "running"


async def test_a_task_that_never_starts_is_distinguished() -> None:
    """`start_timeout` passes for a task that never leaves the queue."""
    sim = Simulator(seed=7)
    live = sim.create_task(STUCK)
    async with virtual_client(sim) as client:
        began = anyio.current_time()
        with pytest.raises(WaitTimeoutError, match="did not start within 60 s") as caught:
            await client.wait(live.id, timeout=1000, start_timeout=60)
        took = anyio.current_time() - began

    assert 60 <= took < 64
    assert caught.value.what == "start"


async def test_a_task_that_starts_in_time_is_waited_for() -> None:
    """`start_timeout` is no limit for a task that runs, nor for one that has ended."""
    sim = Simulator(seed=7)
    running = sim.create_task(attrs.evolve(SLOW, steps=100))
    ended = sim.create_task(attrs.evolve(SLOW, steps=1))
    async with virtual_client(sim) as client:
        first = await client.wait(ended.id, start_timeout=30)
        second = await client.wait(running.id, start_timeout=30, timeout=500)

    assert (first.status, second.status) == ("completed", "completed")


@pytest.mark.parametrize("outcome", ["completed", "failed"])
async def test_a_wait_that_shares_a_stream_ends_with_its_end(outcome: Any) -> None:
    """A replica that does not know it cannot make a task that has ended look as if it ran."""
    sim = Simulator(seed=7)
    live = sim.create_task(attrs.evolve(SLOW, steps=3, outcome=outcome, error="out of memory"))
    lagging = json.dumps({"id": live.id, "task_status": "running", "retry_count": 0})
    answer = faults.refuse(200, body=lagging, content_type="application/json")
    sim.faults.add("task", answer, times=None)
    found: list[TaskSnapshot] = []
    async with virtual_client(sim) as client, anyio.create_task_group() as group:

        async def wait() -> None:
            found.append(await client.wait(live.id))

        async with client.watch(live.id) as events:
            await anext(events)
            group.start_soon(wait)
            async for _ in events:
                pass

    [snapshot] = found
    assert snapshot.status == outcome
    assert snapshot.error == (None if outcome == "completed" else "out of memory")


@pytest.mark.parametrize("answer", [503, 403, 404], ids=str)
@pytest.mark.parametrize("was_asked", [True, False], ids=["asked-before", "never-answered"])
@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled"])
async def test_a_wait_that_shares_a_stream_needs_no_answer_for_the_end_it_knows(
    outcome: Any, was_asked: bool, answer: int
) -> None:
    """The end that the stream has brought is returned, though the state cannot be asked for."""
    sim = Simulator(seed=7)
    live = sim.create_task(attrs.evolve(SLOW, steps=9, outcome=outcome, error="out of memory"))
    found: list[TaskSnapshot] = []
    if not was_asked:
        sim.faults.add("task", faults.refuse(503), times=None)
    async with virtual_client(sim) as client, anyio.create_task_group() as group:

        async def wait() -> None:
            found.append(await client.wait(live.id))

        async with client.watch(live.id) as events:
            group.start_soon(wait)
            async for event in events:
                if isinstance(event, ProgressEvent) and event.step_current == 8:
                    sim.faults.clear()
                    sim.faults.add("task", faults.refuse(answer), times=None)
            began = anyio.current_time()
        with anyio.fail_after(60):
            while not found:
                await anyio.sleep(0.1)
        assert anyio.current_time() - began < 60

    [snapshot] = found
    assert (snapshot.id, snapshot.status) == (live.id, outcome)
    assert snapshot.error == ("out of memory" if outcome == "failed" else None)
    assert (snapshot.workflow_id is not None) is was_asked


async def test_a_result_that_shares_a_stream_tells_the_failure_it_knows() -> None:
    """A task that failed is that error in an outage too, not one of the service."""
    sim = Simulator(seed=7)
    live = sim.create_task(attrs.evolve(SLOW, steps=9, outcome="failed", error="out of memory"))
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        group.start_soon(ended_watch, client, live.id)
        await anyio.sleep(5)
        sim.faults.add("task", faults.refuse(503), times=None)
        with pytest.raises(TaskFailedError, match="out of memory") as caught:
            await client.result(live.id)

    assert caught.value.task_id == live.id


async def test_both_limits_hold() -> None:
    """A task that started in time still meets the limit of the whole wait."""
    sim = Simulator(seed=7)
    live = sim.create_task(ENDLESS)
    async with virtual_client(sim) as client:
        began = anyio.current_time()
        with pytest.raises(WaitTimeoutError, match="did not end within 200 s"):
            await client.wait(live.id, timeout=200, start_timeout=50)
        took = anyio.current_time() - began

    assert took == pytest.approx(200, abs=1)


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
async def test_a_senseless_limit_is_refused(seconds: float) -> None:
    """A timeout has to be a positive number."""
    sim = Simulator(seed=7)
    async with virtual_client(sim) as client:
        with pytest.raises(InvalidInputError, match="timeout"):
            await client.wait(sim.create_task(ENDLESS).id, timeout=seconds)

    assert sim.requests == []


@pytest.mark.parametrize("method", ["wait", "start", "result", "run", "run-watched"])
async def test_the_task_is_cancelled_on_a_time_out_where_asked(method: str) -> None:
    """`cancel_on_timeout` cancels the remote task, and the error says so."""
    sim = Simulator(seed=7, default_plan=STUCK if method == "start" else ENDLESS)
    known = [] if method.startswith("run") else [sim.create_task().id]
    run = ("text-to-image", {"prompt": "x"})
    async with virtual_client(sim) as client:
        calls: dict[str, Any] = {
            "wait": lambda: client.wait(known[0], timeout=9, cancel_on_timeout=True),
            "start": lambda: client.wait(known[0], start_timeout=9, cancel_on_timeout=True),
            "result": lambda: client.result(known[0], timeout=9, cancel_on_timeout=True),
            "run": lambda: client.run(*run, timeout=9, cancel_on_timeout=True),
            "run-watched": lambda: client.run(
                *run, timeout=9, cancel_on_timeout=True, on_progress=lambda _: None
            ),
        }
        with pytest.raises(WaitTimeoutError, match="cancellation was requested") as caught:
            await calls[method]()

    assert caught.value.cancel_requested
    assert sim.tasks[0].state == "cancelled"


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(faults.refuse(503), id="declined"),
        pytest.param(faults.refuse(403), id="forbidden"),
        pytest.param(faults.hold(before=3600), id="unanswered"),
    ],
)
@pytest.mark.parametrize("method", ["wait", "run-watched"])
async def test_a_cancellation_that_was_not_taken_is_not_claimed(
    method: str, action: faults.Action
) -> None:
    """A task that goes on, and costs, is not said to have been asked to cancel."""
    sim = Simulator(seed=7, default_plan=ENDLESS)
    sim.faults.add("cancel", action, times=None)
    async with virtual_client(sim) as client:
        with pytest.raises(WaitTimeoutError, match="cancellation could not be requested") as caught:
            if method == "wait":
                live = sim.create_task()
                await client.wait(live.id, timeout=9, cancel_on_timeout=True)
            else:
                await client.run(
                    "text-to-image",
                    {"prompt": "x"},
                    timeout=9,
                    cancel_on_timeout=True,
                    on_progress=lambda _: None,
                )

    assert not caught.value.cancel_requested
    assert caught.value.cancel_failed
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.cancel_failed, str(copy)) == (True, str(caught.value))
    assert sim.tasks[0].state == "running"


async def test_cancelling_on_a_time_out_is_bounded() -> None:
    """A service that does not answer holds the timeout up by some seconds, not forever."""
    sim = Simulator(seed=7)
    sim.faults.add("cancel", faults.hold(before=3600), times=None)
    live = sim.create_task(ENDLESS)
    async with virtual_client(sim) as client:
        began = anyio.current_time()
        with pytest.raises(WaitTimeoutError):
            await client.wait(live.id, timeout=50, cancel_on_timeout=True)
        took = anyio.current_time() - began

    assert 50 <= took <= 65


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not-asked"])
@pytest.mark.parametrize("way", ["break", "exception", "cancelled"])
async def test_leaving_a_watch_cancels_the_task_only_where_asked(asked: bool, way: str) -> None:
    """`cancel_on_exit` cancels the remote task however the watch is left early."""
    sim = Simulator(seed=7)
    live = sim.create_task(ENDLESS)
    async with virtual_client(sim) as client:
        with anyio.CancelScope() as scope:
            try:
                async with client.watch(live.id, cancel_on_exit=asked) as events:
                    async for event in events:
                        if isinstance(event, ProgressEvent):
                            if way == "break":
                                break
                            if way == "exception":
                                raise LookupError
                            scope.cancel()
            except LookupError:
                pass

    assert live.state == ("cancelled" if asked else "running")
    assert sim.open_streams == 0


async def test_a_watch_that_ended_cancels_nothing() -> None:
    """`cancel_on_exit` sends nothing when the task has ended by itself."""
    sim = Simulator(seed=7)
    live = sim.create_task(SLOW)
    async with virtual_client(sim) as client:
        async with client.watch(live.id, cancel_on_exit=True) as events:
            async for _ in events:
                pass

    assert sim.requests_to("cancel") == []


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "not-asked"])
@pytest.mark.parametrize("watched", [True, False], ids=["watching", "waiting"])
async def test_cancelling_run_leaves_the_paid_task_unless_asked(asked: bool, watched: bool) -> None:
    """`run` cancelled locally leaves the remote task running, or cancels it if asked to."""
    sim = Simulator(seed=7, default_plan=ENDLESS)
    async with virtual_client(sim) as client:
        with anyio.move_on_after(20):
            await client.run(
                "text-to-image",
                {"prompt": "x"},
                cancel_on_exit=asked,
                on_progress=(lambda _: None) if watched else None,
            )
        await anyio.sleep(1)

    assert sim.tasks[0].state == ("cancelled" if asked else "running")


async def test_another_client_goes_on_from_a_token() -> None:
    """A pickled token from a timeout resumes the watch: nothing is delivered twice."""
    sim = Simulator(seed=7)
    live = sim.create_task(attrs.evolve(SLOW, steps=60, output=OUTPUT))
    async with virtual_client(sim) as client:
        async with client.watch(live.id) as events:
            async for event in events:
                if isinstance(event, ProgressEvent):
                    break
            token = events.token()
    carried: ResumeToken = pickle.loads(pickle.dumps(token))
    async with virtual_client(sim) as client:
        watched = await ended_watch(client, carried)

    assert (token.task_id, token.status, token.attempt) == (live.id, "running", 1)
    assert watched.statuses == []
    assert isinstance(watched.end, CompletedEvent)
    assert watched.end.output == OUTPUT


async def test_closing_ends_watches_and_waits_with_a_token() -> None:
    """Readers and waiters under a closing client get an error with which to go on."""
    sim = Simulator(seed=7)
    live = sim.create_task(ENDLESS)
    errors: list[ClientClosedError] = []
    async with anyio.create_task_group() as group:
        client = virtual_client(sim)
        async with client:

            async def watch() -> None:
                watched = await ended_watch(client, live.id)
                assert isinstance(watched.error, ClientClosedError)
                errors.append(watched.error)

            async def wait() -> None:
                with pytest.raises(ClientClosedError) as caught:
                    await client.wait(live.id)
                errors.append(caught.value)

            group.start_soon(watch)
            group.start_soon(wait)
            await anyio.sleep(10)

    assert len(errors) == 2
    for error in errors:
        assert error.resume_token is not None
        assert (error.resume_token.task_id, error.resume_token.status) == (live.id, "running")
    assert sim.open_streams == 0
    assert library_tasks() == []


@pytest.mark.parametrize("ends_in_time", [True, False], ids=["in-time", "too-late"])
async def test_draining_lets_tasks_end(ends_in_time: bool) -> None:
    """`aclose(drain=...)` waits so long for the tasks being followed, and no longer."""
    sim = Simulator(seed=7)
    live = sim.create_task(SLOW if ends_in_time else ENDLESS)
    found: list[Any] = []
    async with anyio.create_task_group() as group:
        async with virtual_client(sim) as client:

            async def read() -> None:
                found.append(await ended_watch(client, live.id))

            group.start_soon(read)
            await anyio.sleep(1)
            began = anyio.current_time()
            await client.aclose(drain=30)
            took = anyio.current_time() - began

    if ends_in_time:
        assert isinstance(found[0].end, CompletedEvent)
        assert took == pytest.approx(6, abs=1)
    else:
        assert isinstance(found[0].error, ClientClosedError)
        assert took == pytest.approx(30, abs=1)


async def test_thousands_wait_on_few_requests() -> None:
    """A thousand waits cost no stream, and requests within the pace of the client."""
    sim = Simulator(seed=7)
    tasks = [sim.create_task(attrs.evolve(SLOW, steps=60)) for _ in range(300)]
    ended: list[str] = []
    async with virtual_client(sim) as client:
        began = anyio.current_time()

        async def wait(task: TaskHandle) -> None:
            ended.append((await client.wait(task)).status)

        async with anyio.create_task_group() as group:
            for live in tasks:
                group.start_soon(wait, client.handle(live.id))
        took = anyio.current_time() - began

    assert ended == ["completed"] * 300
    assert sim.requests_to("events") == []
    assert len(sim.requests) <= 20 * took + 300


async def test_a_late_reader_first_gets_the_current_state() -> None:
    """A second reader first gets the present state, then what both see."""
    sim = Simulator(seed=7)
    live = sim.create_task(attrs.evolve(SLOW, steps=20))
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        group.start_soon(ended_watch, client, live.id)
        await anyio.sleep(10)
        async with client.watch(live.id) as events:
            first = await anext(events)
            second = await anext(events)

    assert isinstance(first, StatusEvent)
    assert first.status == COURSE[-1]
    assert isinstance(second, ProgressEvent)
    assert len(sim.requests_to("events")) == 1


async def test_leaving_early_keeps_the_stream_for_others() -> None:
    """One reader leaving does not disturb another; the last one closes the stream."""
    sim = Simulator(seed=7)
    live = sim.create_task(attrs.evolve(SLOW, steps=20, output=OUTPUT))
    found: list[Any] = []

    async def read(client: CyberunClient) -> None:
        found.append(await ended_watch(client, live.id))

    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        group.start_soon(read, client)
        await anyio.sleep(5)
        async with client.watch(live.id) as events:
            await anext(events)
        await anyio.sleep(5)
        assert sim.open_streams == 1

    assert [event.step_current for event in found[0].progress] == list(range(1, 21))
    assert len(sim.requests_to("events")) == 1
