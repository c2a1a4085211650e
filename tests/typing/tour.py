"""
A tour of the API as type checkers see it; read for the types, never run.

Three checkers agree on every `assert_type` in here (`nox -s types`), so what an editor
shows to a user is what stands here.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, assert_never, assert_type

from cyberun_async import (
    Agent,
    Artifact,
    CancelledEvent,
    ClientStatistics,
    CompletedEvent,
    Connected,
    CyberunClient,
    CyberunError,
    Event,
    EventStream,
    FailedEvent,
    Gap,
    GaveUp,
    MergedEvents,
    Notice,
    Outcome,
    PollingStarted,
    ProgressEvent,
    ProgressUpdate,
    ProgressView,
    Response,
    ResumeToken,
    ServerErrorEvent,
    StatusEvent,
    StreamingResumed,
    StreamLost,
    Submission,
    TaskFailedError,
    TaskHandle,
    TaskResult,
    TaskSnapshot,
    UnknownEvent,
    UploadedFile,
    WaitTimeoutError,
    WatchPolicy,
    Workflow,
)
from cyberun_async._model import WebhookEvent
from cyberun_async.batch import Batch, Job, JobOutcome, JobState, OutcomeState
from cyberun_async.webhooks import verify


async def the_main_job(client: CyberunClient) -> None:
    """Submit, watch, wait, collect."""
    task = await client.submit("text-to-image", {"prompt": "a fox", "steps": 20})
    assert_type(task, TaskHandle)
    assert_type(task.id, str)

    async with client.watch(task) as events:
        assert_type(events, EventStream[Event])
        async for event in events:
            assert_type(event, Event)
    async with client.watch(task, notices=True) as events_and_notices:
        assert_type(events_and_notices, EventStream[Event | Notice])
        async for item in events_and_notices:
            assert_type(item, Event | Notice)
    async with task.watch() as by_handle:
        assert_type(by_handle, EventStream[Event])
    assert_type(task.watch(notices=True), EventStream[Event | Notice])

    assert_type(await client.wait(task, timeout=60), TaskSnapshot)
    result = await client.result(task)
    assert_type(result, TaskResult)
    assert_type(await task, TaskResult)
    assert_type(result[0], Artifact)
    assert_type(await result[0].read(), bytes)
    assert_type(await result.download_to("out/"), list[Path])
    assert_type(await client.run("text-to-image", on_progress=print), TaskResult)


def what_an_event_says(event: Event) -> str:
    """`match` narrows to the fields of each class."""
    match event:
        case StatusEvent(status=status):
            return assert_type(status, str)
        case ProgressEvent(progress=progress, step_current=step):
            assert_type(progress, float | None)
            assert_type(step, int | None)
            return ""
        case CompletedEvent(output=output):
            assert_type(output, Mapping[str, Any] | None)
            return ""
        case FailedEvent(error=error):
            assert_type(error, str | None)
            return ""
        case CancelledEvent() | ServerErrorEvent() | UnknownEvent():
            return assert_type(event.task_id, str)
        case _:
            assert_never(event)


def what_a_watch_says(item: Event | Notice) -> float | str:
    """`isinstance` separates events from notices, and the notices are as closed."""
    if isinstance(item, Event):
        assert_type(item, Event)
        return what_an_event_says(item)
    match item:
        case StreamLost(delay=seconds) | Gap(seconds=seconds):
            return assert_type(seconds, float)
        case PollingStarted(cause=cause) | GaveUp(cause=cause):
            return assert_type(cause, str)
        case Connected() | StreamingResumed():
            return assert_type(item.task_id, str)
        case _:
            assert_never(item)


def a_stream_of_either_kind(events: EventStream[Event | Notice]) -> None:
    """Who reads notices, too, reads any stream; the plain name is that of events alone."""


def a_stream_of_events(events: EventStream) -> None:
    """`EventStream` is short for the stream without notices."""
    assert_type(events, EventStream[Event])
    a_stream_of_either_kind(events)


async def one_message(task: TaskHandle) -> str:
    """Progress for a chat."""
    async with task.progress(min_interval=2.0) as updates:
        assert_type(updates, ProgressView)
        async for update in updates:
            assert_type(update, ProgressUpdate)
            assert_type(update.seconds_left, float | None)
            end = update.end
            match end:
                case None:
                    continue
                case CompletedEvent() | FailedEvent() | CancelledEvent():
                    return end.status
                case _:
                    assert_never(end)
    return ""


async def many_tasks(client: CyberunClient, tasks: list[TaskHandle]) -> None:
    """Helpers take handles, ids and tokens; the plain forms of asyncio work, too."""
    assert_type([one.status for one in await client.wait_many(tasks)], list[str])
    assert_type(await client.wait_many(tasks), list[TaskSnapshot])
    assert_type(
        await client.wait_many(tasks, return_exceptions=True), list[TaskSnapshot | CyberunError]
    )
    assert_type(await client.result_many(tasks), list[TaskResult])
    assert_type(
        await client.result_many(tasks, return_exceptions=True), list[TaskResult | CyberunError]
    )
    sets = [{"prompt": "a fox"}, {"prompt": "a hare"}]
    assert_type(await client.run_many("text-to-image", sets, target_pool="a"), list[TaskResult])
    assert_type(
        await client.run_many("text-to-image", sets, return_exceptions=True),
        list[TaskResult | CyberunError],
    )
    async for outcome in client.as_completed(tasks):
        assert_type(outcome, Outcome)
    async for submission in client.submit_many("text-to-image", [{"prompt": "a fox"}]):
        assert_type(submission, Submission)
    async with client.watch_many(tasks) as merged:
        assert_type(merged, MergedEvents[Event])
        async for event in merged:
            assert_type(event, Event)
    assert_type(client.watch_many(tasks, notices=True), MergedEvents[Event | Notice])
    assert_type(await asyncio.gather(*tasks), list[TaskResult])
    async with asyncio.TaskGroup() as group:
        assert_type(group.create_task(tasks[0].result()), asyncio.Task[TaskResult])


async def what_the_service_holds(client: CyberunClient) -> None:
    """Workflows, tasks, agents, files, and whatever is not wrapped yet."""
    async for workflow in client.workflows.list():
        assert_type(workflow, Workflow)
    async for snapshot in client.tasks.list(status="running"):
        assert_type(snapshot, TaskSnapshot)
    async for agent in client.agents.list():
        assert_type(agent, Agent)
    assert_type(await client.files.upload(Path("fox.png")), UploadedFile)
    assert_type(await client.request("GET", "/r/containers"), Response)
    assert_type(client.statistics(), ClientStatistics)


async def when_time_is_up(client: CyberunClient, task: TaskHandle) -> ResumeToken | None:
    """Errors carry what is needed to continue."""
    try:
        await client.wait(task, timeout=60)
    except WaitTimeoutError as error:
        assert_type(error.snapshot, TaskSnapshot | None)
        return assert_type(error.resume_token, ResumeToken | None)
    except TaskFailedError as error:
        assert_type(error.error, str | None)
    return None


async def a_batch(client: CyberunClient, jobs: AsyncIterator[Job]) -> None:
    """Jobs with a ledger."""
    async with Batch(client, ledger="runs.sqlite") as batch:
        async for outcome in batch.run(jobs):
            assert_type(outcome, JobOutcome)
            assert_type(outcome.state, OutcomeState)
            what_came_of_it(outcome)


def what_came_of_it(outcome: JobOutcome) -> str:
    """The state of an outcome is one of six."""
    match outcome.state:
        case JobState.COMPLETED:
            return "done"
        case JobState.FAILED | JobState.CANCELLED | JobState.LOST:
            return "no result"
        case JobState.REJECTED | JobState.SKIPPED:
            return "no task"
        case _:
            assert_never(outcome.state)


def a_webhook(body: bytes, signature: str) -> None:
    """A verified delivery."""
    assert_type(verify(body, signature, ["whsec_new", "whsec_old"]), WebhookEvent)


def settings() -> CyberunClient:
    """A key may come from a callable, sync or async."""

    async def key() -> str:
        return "sk-..."

    CyberunClient(lambda: "sk-...")
    return CyberunClient(key, watch_policy=WatchPolicy(poll_interval=5.0))
