"""The main job over real sockets: submit, follow, collect, in every form a caller may choose."""

import asyncio
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias
from uuid import UUID

import anyio
import pytest

from cyberun_async import (
    CancelledEvent,
    CompletedEvent,
    CyberunClient,
    DetachedHandleError,
    FailedEvent,
    InvalidInputError,
    ProgressEvent,
    ResumeToken,
    StatusEvent,
    TaskCancelledError,
    TaskFailedError,
    TaskHandle,
    WaitTimeoutError,
)
from cyberun_async.testing import Simulator, TaskPlan

from .kit import COURSE, SHORT, assert_in_order, follow


Outcome: TypeAlias = Literal["completed", "failed", "cancelled"]
PNG = b"\x89PNG\r\n\x1a\n"


async def test_the_first_example_runs_as_written(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of the README works word for word, with key and address from the environment."""
    monkeypatch.setenv("CYBERUN_API_KEY", sim.key)
    monkeypatch.setenv("CYBERUN_BASE_URL", sim.url)
    monkeypatch.chdir(tmp_path)
    seen: list[object] = []
    printed: list[ProgressEvent] = []

    async with CyberunClient() as client:
        task = await client.submit("text-to-image", {"prompt": "a fox", "steps": 20})
        async with client.watch(task) as events:
            async for event in events:
                match event:
                    case ProgressEvent(progress=p, step_current=i, step_total=n):
                        seen.append((p, i, n))
                    case CompletedEvent(output=output):
                        seen.append(output)
        result = await client.result(task)
        paths = await result.download_to("out/")
        again = await client.run("text-to-image", {"prompt": "a fox"}, on_progress=printed.append)

    assert seen[:-1] == [(step / 4, step, 4) for step in (1, 2, 3, 4)]
    assert seen[-1] == result.output
    assert [Path(path).read_bytes()[:8] for path in paths] == [PNG]
    assert [event.step_current for event in printed] == [1, 2, 3, 4]
    assert len(again) == 1


async def test_a_watch_delivers_the_whole_life_in_order(client: CyberunClient) -> None:
    """Each status once, in order, then the progress, and the end last."""
    task = await client.submit("text-to-image", {"prompt": "a fox"})
    watched = await follow(client.watch(task))

    assert watched.statuses == [(1, status) for status in COURSE]
    assert [event.progress for event in watched.progress] == [0.25, 0.5, 0.75, 1.0]
    assert isinstance(watched.end, CompletedEvent)
    assert watched.end.output is not None
    assert {event.task_id for event in watched.events} == {task.id}
    assert_in_order(watched)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(lambda sim: "text-to-image", id="slug"),
        pytest.param(lambda sim: "text-to-image@1", id="slug@version"),
        pytest.param(lambda sim: sim.workflow_id("text-to-image"), id="id"),
        pytest.param(lambda sim: UUID(sim.workflow_id("text-to-image")), id="UUID"),
    ],
)
async def test_a_workflow_has_several_names(
    sim: Simulator, client: CyberunClient, name: Callable[[Simulator], str | UUID]
) -> None:
    """A slug, a pinned version and an id all name a workflow."""
    task = await client.submit(name(sim), {"prompt": "a fox"})

    assert sim.submissions[-1].task_id == task.id
    assert sim.submissions[-1].workflow_slug == "text-to-image"


async def test_run_awaits_a_coroutine_function(client: CyberunClient) -> None:
    """A callback that is a coroutine function is awaited for each progress event."""
    seen: list[float | None] = []

    async def note(event: ProgressEvent) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(event.progress)

    await client.run("text-to-image", {"prompt": "a fox"}, on_progress=note)

    assert seen == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("watched", [False, True], ids=["waiting", "watching"])
async def test_run_raises_for_a_failed_task(
    sim: Simulator, client: CyberunClient, watched: bool
) -> None:
    """A failure of the task is a `TaskFailedError` with the service's words."""
    sim.plan(TaskPlan(pending=0, waiting=0, queued=0, steps=1, step_seconds=0, outcome="failed"))
    callback = (lambda event: None) if watched else None

    with pytest.raises(TaskFailedError, match="CUDA out of memory") as caught:
        await client.run("text-to-image", {"prompt": "a fox"}, on_progress=callback)

    error = caught.value
    assert error.error == "node 3: CUDA out of memory"
    assert error.snapshot is not None
    assert error.snapshot.status == "failed"
    assert isinstance(pickle.loads(pickle.dumps(error)), TaskFailedError)


async def test_run_raises_for_a_cancelled_task(sim: Simulator, client: CyberunClient) -> None:
    """A cancelled task is a `TaskCancelledError`."""
    sim.plan(TaskPlan(pending=0, waiting=0, queued=0, steps=1, step_seconds=0, outcome="cancelled"))

    with pytest.raises(TaskCancelledError):
        await client.run("text-to-image", {"prompt": "a fox"})


@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled"])
async def test_wait_returns_the_final_state_whatever_it_is(
    sim: Simulator, client: CyberunClient, outcome: Outcome
) -> None:
    """`wait` gives the final snapshot and raises for no outcome."""
    plan = TaskPlan(pending=0, waiting=0, queued=0, steps=1, step_seconds=0, outcome=outcome)
    live = sim.create_task(plan)

    snapshot = await client.wait(live.id)

    assert (snapshot.id, snapshot.status) == (live.id, outcome)
    assert bool(snapshot.error) == (outcome == "failed")


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [("completed", CompletedEvent), ("failed", FailedEvent), ("cancelled", CancelledEvent)],
)
async def test_the_end_has_a_class_of_its_own(
    sim: Simulator, client: CyberunClient, outcome: Outcome, kind: type
) -> None:
    """Each outcome is one class of event, and carries its own words."""
    plan = TaskPlan(pending=0, waiting=0, queued=0, steps=1, step_seconds=0, outcome=outcome)
    watched = await follow(client.watch(sim.create_task(plan).id))

    assert type(watched.end) is kind
    assert getattr(watched.end, "error", None) == (plan.error if outcome == "failed" else None)


async def test_cancel_stops_the_remote_task(sim: Simulator, client: CyberunClient) -> None:
    """`cancel` asks, the watch shows how it ended, and cancelling again does nothing."""
    live = sim.create_task(manual=True)
    async with client.watch(live.id) as events:
        first = await anext(events)
        await client.cancel(live.id)
        rest = [event async for event in events]
    await client.cancel(live.id)

    assert isinstance(first, StatusEvent)
    assert isinstance(rest[-1], CancelledEvent)
    assert live.state == "cancelled"


async def test_cancel_and_wait_tells_how_it_really_ended(
    sim: Simulator, client: CyberunClient
) -> None:
    """A task that completes while it is being cancelled is reported as completed."""
    racing = sim.create_task(
        TaskPlan(pending=0, waiting=0, queued=0, steps=1, step_seconds=0.3, cancel_seconds=60)
    )
    resting = sim.create_task(manual=True)
    await anyio.sleep(0.05)

    assert (await client.cancel_and_wait(racing.id, timeout=10)).status == "completed"
    assert (await client.cancel_and_wait(resting.id, timeout=10)).status == "cancelled"


async def test_a_result_of_a_task_that_does_not_start_is_given_up(
    sim: Simulator, client: CyberunClient
) -> None:
    """A limit for the start holds for results as it does for waits, with a handle or without."""
    queued = sim.create_task(TaskPlan(pending=0, waiting=60, queued=60))

    with pytest.raises(WaitTimeoutError, match="start"):
        await client.result(queued.id, start_timeout=0.2, cancel_on_timeout=True)
    with pytest.raises(TaskCancelledError):
        await client.handle(queued.id).result(start_timeout=5)


async def test_a_handle_does_everything(sim: Simulator, client: CyberunClient) -> None:
    """Events, state, end, result and cancelling are all there on the handle."""
    task = await client.submit("text-to-image", {"prompt": "a fox"})
    snapshot = await task.refresh()
    watched = await follow(task.watch())
    result = await task
    final = await task.wait()
    await task.cancel()
    resting = client.handle(sim.create_task(manual=True).id)
    cancelled = await resting.cancel_and_wait(timeout=10)

    assert cancelled.status == "cancelled"
    assert snapshot.status in COURSE
    assert isinstance(watched.end, CompletedEvent)
    assert (result.task_id, final.status) == (task.id, "completed")
    assert (await result[0].read())[:8] == PNG


async def test_handles_can_be_gathered(client: CyberunClient) -> None:
    """Awaiting a handle is awaiting its result, also side by side."""
    tasks = [await client.submit("text-to-image", {"prompt": f"fox {n}"}) for n in range(5)]
    results: dict[str, str] = {}

    async def collect(task: TaskHandle) -> None:
        results[task.id] = (await task).task_id

    async with anyio.create_task_group() as group:
        for task in tasks:
            group.start_soon(collect, task)

    assert results == {task.id: task.id for task in tasks}


@pytest.mark.asyncio_only(reason="asyncio.gather")
async def test_handles_can_be_gathered_by_asyncio(client: CyberunClient) -> None:
    """`asyncio.gather(*handles)` gives the results in the order of the handles."""
    tasks = [await client.submit("text-to-image", {"prompt": f"fox {n}"}) for n in range(5)]
    results = await asyncio.gather(*tasks)

    assert [result.task_id for result in results] == [task.id for task in tasks]


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda task: task, id="handle"),
        pytest.param(lambda task: task.id, id="str"),
        pytest.param(lambda task: task.id.upper(), id="upper-case"),
        pytest.param(lambda task: UUID(task.id), id="UUID"),
        pytest.param(lambda task: ResumeToken(task_id=task.id), id="token"),
        pytest.param(lambda task: pickle.loads(pickle.dumps(task)), id="pickled-handle"),
    ],
)
async def test_a_task_may_be_given_in_many_forms(
    sim: Simulator, client: CyberunClient, form: Callable[[TaskHandle], TaskHandle | UUID | str]
) -> None:
    """A handle, a `UUID`, a string and a token all name a task, for every method."""
    task = client.handle(sim.create_task(SHORT).id)
    given = form(task)

    assert (await client.tasks.get(given)).id == task.id
    assert client.handle(given).id.lower() == task.id
    assert (await follow(client.watch(given))).end.task_id.lower() == task.id
    assert (await client.wait(given)).id == task.id
    assert (await client.result(given)).task_id == task.id


async def test_binding_a_task_asks_nobody(sim: Simulator, client: CyberunClient) -> None:
    """`client.handle(id)` makes no request, and neither does a watch that is not begun."""
    live = sim.create_task(manual=True)
    task = client.handle(live.id)
    client.watch(task)

    assert (task.id, sim.requests) == (live.id, [])


async def test_a_pickled_handle_comes_back_detached(sim: Simulator, client: CyberunClient) -> None:
    """A handle from another process says that it has to be bound, and works when it is."""
    task = await client.submit("text-to-image", {"prompt": "a fox"})
    copy = pickle.loads(pickle.dumps(task))

    with pytest.raises(DetachedHandleError, match=r"client\.handle"):
        await copy
    with pytest.raises(DetachedHandleError):
        copy.watch()

    assert copy == task
    assert copy.submitted_at == task.submitted_at
    assert (await client.handle(copy)).task_id == task.id


@pytest.mark.parametrize("bad", ["", "..", "a/b", "x\r\ny", "%2f", "not-an-id\x00", "é"])
async def test_a_malformed_task_is_refused_before_anything_is_sent(
    sim: Simulator, client: CyberunClient, bad: str
) -> None:
    """What cannot be a task's id is refused locally."""
    with pytest.raises(InvalidInputError):
        client.watch(bad)
    with pytest.raises(InvalidInputError):
        await client.wait(bad)

    assert sim.requests == []


async def test_readers_of_one_task_share_one_stream(sim: Simulator, client: CyberunClient) -> None:
    """Three readers see the same life over one connection."""
    task = await client.submit("text-to-image", {"prompt": "a fox"})
    found: list[list[str]] = []

    async def read() -> None:
        watched = await follow(client.watch(task))
        assert isinstance(watched.end, CompletedEvent)
        found.append([status for _, status in watched.statuses])

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(read)

    assert [statuses[-1] for statuses in found] == ["running"] * 3
    assert len(sim.requests_to("events", task.id)) == 1


async def test_waiting_opens_no_stream(sim: Simulator, client: CyberunClient) -> None:
    """`wait` and `result` need no event stream."""
    await client.result(sim.create_task(SHORT).id)

    assert sim.requests_to("events") == []


async def test_an_ended_task_can_be_watched(sim: Simulator, client: CyberunClient) -> None:
    """A watch of a task that ended long ago tells its end at once."""
    live = sim.create_task(SHORT)
    sim.advance(3600)
    watched = await follow(client.watch(live.id))

    assert isinstance(watched.end, CompletedEvent)
    assert watched.end.output is not None
