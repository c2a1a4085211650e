"""States that this version does not know: in progress, unless the service says that it is over."""

import json
import logging

import anyio
import pytest

from cyberun_async import CyberunClient, ResumeToken, StatusEvent, TaskEndedError, UnknownEndError
from cyberun_async.testing import Behaviour, Simulator, TaskPlan, faults

from ..whole.kit import VIRTUAL, ended_watch, virtual_backend, virtual_client


OVER = TaskPlan(
    pending=1, waiting=1, queued=1, steps=2, step_seconds=1, unknown_end="archived", error="too old"
)
ENDED_AT = 5.0


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


@pytest.mark.parametrize("on_connect", ["history", "current", "nothing"])
@pytest.mark.parametrize("way", ["watch", "wait", "result"])
async def test_a_task_that_is_over_in_an_unknown_state_ends_all_that_follow_it(
    way: str, on_connect: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The error names the state, comes some seconds after it, is logged, and can be resumed."""
    sim = Simulator(seed=7, behaviour=Behaviour(on_connect=on_connect))  # type: ignore[arg-type]
    live = sim.create_task(OVER)
    caplog.set_level(logging.WARNING, "cyberun_async")
    async with virtual_client(sim) as client:
        with anyio.fail_after(3600), pytest.raises(UnknownEndError, match="archived") as caught:
            if way == "wait":
                await client.wait(live.id)
            elif way == "result":
                await client.result(live.id)
            else:
                watched = await ended_watch(client, live.id)
                assert watched.statuses[-1] == (1, "archived")
                assert watched.error is not None
                raise watched.error
        seconds = anyio.current_time()

    error = caught.value
    assert isinstance(error, TaskEndedError)
    assert (error.status, error.task_id) == ("archived", live.id)
    assert error.snapshot is not None
    assert error.snapshot.completed_at is not None
    assert error.resume_token is not None
    assert "archived" in caplog.text
    assert ENDED_AT + 5 <= seconds <= ENDED_AT + 75


async def test_many_that_end_so_are_all_delivered() -> None:
    """Pages of the list do not show that a task is over; each is asked about by itself."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(OVER).id for _ in range(50)]
    errors: list[BaseException] = []

    async def wait(client: CyberunClient, task: str) -> None:
        try:
            await client.wait(task)
        except UnknownEndError as error:
            errors.append(error)

    async with virtual_client(sim) as client:
        with anyio.fail_after(300):
            async with anyio.create_task_group() as group:
                for task in ids:
                    group.start_soon(wait, client, task)

    assert len(errors) == 50


async def test_an_unknown_state_without_an_end_is_in_progress() -> None:
    """Nothing ends a watch but what the service shows as over, and only if it stays so."""
    sim = Simulator(seed=7)
    live = sim.create_task(TaskPlan(steps=60, step_seconds=1, output={"a": 1}))
    words = {
        "task_id": live.id,
        "task_status": "reticulating",
        "retry_count": 0,
        "completed_at": None,
    }
    odd = faults.refuse(200, body=json.dumps(words), content_type="application/json")
    over = json.dumps({**words, "completed_at": "2026-03-01T10:00:00Z"})
    sim.faults.add("task", odd, times=5, skip=1)
    once = sim.faults.add(
        "task", faults.refuse(200, body=over, content_type="application/json"), skip=6
    )
    async with virtual_client(sim) as client:
        snapshot = await client.wait(live.id)

    assert snapshot.status == "completed"
    assert once.fired == 1


UNKNOWN = b'event: status\ndata: {"status": "reticulating"}\n\n'


@pytest.mark.parametrize(
    "known, after",
    [*(("running", after) for after in (1, 2, 3)), *(("reticulating", n) for n in (3, 4))],
)
async def test_a_replay_is_not_reported_again_for_an_unknown_state_in_it(
    known: str, after: int
) -> None:
    """What a token knows is no news, wherever the unknown state stands in the life."""
    sim = Simulator(seed=7, behaviour=Behaviour(on_connect="history", event_ids=False))
    live = sim.create_task(
        TaskPlan(pending=0, waiting=0, queued=0, steps=5, step_seconds=1, output={"a": 1})
    )
    sim.faults.add("events", faults.raw_after(UNKNOWN, events=after))
    async with virtual_client(sim) as client:
        await anyio.sleep(2.5)
        watched = await ended_watch(
            client, ResumeToken(task_id=live.id, status=known, retry_count=0)
        )

    # From `reticulating` the task has gone on to `running`, which nobody could know.
    news = [] if known == "running" else ["running"]
    events = [one for one in watched.events if isinstance(one, StatusEvent)]
    assert [one.status for one in events] == news
    assert watched.end.status == "completed"


async def test_an_unknown_state_that_is_new_is_reported() -> None:
    """After the present state has been shown, what follows it is news."""
    sim = Simulator(seed=7, behaviour=Behaviour(on_connect="history", event_ids=False))
    live = sim.create_task(TaskPlan(steps=5, step_seconds=1, output={"a": 1}))
    # Behind the four states of its life, and the first progress event.
    sim.faults.add("events", faults.raw_after(UNKNOWN, events=5))
    async with virtual_client(sim) as client:
        await anyio.sleep(1.0)
        watched = await ended_watch(
            client, ResumeToken(task_id=live.id, status="running", retry_count=0)
        )

    assert "reticulating" in [status for _, status in watched.statuses]
