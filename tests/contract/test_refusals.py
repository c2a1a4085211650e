"""Which refusals end a watch: only those that the service itself has said, and said again."""

from collections.abc import Callable

import anyio
import pytest

from cyberun_async import (
    AuthenticationError,
    CyberunClient,
    CyberunError,
    Event,
    PermissionDeniedError,
    ProgressEvent,
    SubmissionUncertainError,
    TaskNotFoundError,
    WatchLostError,
    WatchPolicy,
)
from cyberun_async.testing import RecordedRequest, Simulator, TaskPlan, faults

from ..whole.kit import VIRTUAL, ended_watch, virtual_backend, virtual_client


PAGE = "<html><head><title>error_message</title></head><body>nginx</body></html>"
PLAN = TaskPlan(pending=1, waiting=1, queued=1, steps=8, step_seconds=1, output={"a": 1})
NOBODY = "0197a000-0000-7000-8000-000000000009"


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


def during(begin: float, end: float) -> Callable[[RecordedRequest], bool]:
    return lambda request: begin <= request.at < end


@pytest.mark.parametrize("begin", [0.0, 2.0, 5.0, 9.5], ids=lambda at: f"from-{at:g}-s")
@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 405, 407, 409, 410, 418, 421, 425, 451, 499]
)
async def test_a_proxys_page_ends_no_watch_and_no_wait(status: int, begin: float) -> None:
    """Four seconds of pages for everything, whatever their status, are an outage."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(PLAN).id for _ in range(6)]
    when = during(begin, begin + 4)
    rule = sim.faults.add("*", faults.refuse(status, body=PAGE), times=None, when=when)
    sim.faults.add(
        "events", faults.drop_after(events=0), times=None, when=during(begin - 0.5, begin)
    )
    ends: list[str] = []

    async def wait(client: CyberunClient, task: str) -> None:
        ends.append((await client.wait(task)).status)

    async def watch(client: CyberunClient, task: str) -> None:
        ends.append((await ended_watch(client, task)).end.status)

    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        for number, task in enumerate(ids):
            group.start_soon(watch if number % 2 else wait, client, task)

    assert ends == ["completed"] * 6
    assert rule.fired > 0 or begin > 0


@pytest.mark.parametrize(
    "status", [400, 401, 403, 404, 405, 407, 409, 410, 418, 421, 425, 431, 451, 499]
)
@pytest.mark.parametrize("body", [None, PAGE], ids=["in-its-own-words", "a-page"])
async def test_a_single_refused_check_ends_no_watch_whose_stream_brings_events(
    status: int, body: str | None
) -> None:
    """The stream knows better."""
    sim = Simulator(seed=7)
    live = sim.create_task(PLAN)
    rule = sim.faults.add("task", faults.refuse(status, body=body), skip=1)
    async with virtual_client(sim, watch_policy=WatchPolicy(check_after=0.5)) as client:
        watched = await ended_watch(client, live.id)

    assert rule.fired == 1
    assert watched.end.status == "completed"
    assert len(watched.progress) == 8


async def test_events_outweigh_a_check_that_is_always_refused() -> None:
    """A key that may read the stream but not the status is no reason to stop reading."""
    sim = Simulator(seed=7)
    live = sim.create_task(TaskPlan(steps=30, step_seconds=2, output={"a": 1}))
    rule = sim.faults.add("task", faults.refuse(403, "not yours"), times=None, skip=1)
    async with virtual_client(sim, watch_policy=WatchPolicy(check_after=1)) as client:
        watched = await ended_watch(client, live.id)

    assert rule.fired > 5
    assert watched.end.status == "completed"
    assert len([item for item in watched.items if isinstance(item, ProgressEvent)]) == 30


@pytest.mark.parametrize(
    "status, kind", [(403, PermissionDeniedError), (404, TaskNotFoundError)], ids=str
)
async def test_three_refusals_within_two_seconds_end_nothing(
    status: int, kind: type[CyberunError]
) -> None:
    """Once is an accident; what the service says again five seconds later holds."""
    sim = Simulator(seed=7)
    live = sim.create_task(manual=True)
    sim.faults.add("*", faults.refuse(status, "no"), times=None, when=during(1, 4))
    gone = sim.faults.add("*", faults.refuse(status, "no"), times=None, when=during(60, 1e9))
    async with virtual_client(sim) as client:
        with anyio.move_on_after(59):
            await client.wait(live.id)
        began = anyio.current_time()
        with pytest.raises(kind) as caught:
            await client.wait(live.id)

    assert gone.fired >= 2
    assert 5 <= anyio.current_time() - began <= 12
    assert caught.value.resume_token is not None


@pytest.mark.parametrize("way", ["watch", "wait"])
@pytest.mark.parametrize("what", ["id", "key"])
async def test_a_wrong_id_or_key_is_reported_soon(way: str, what: str) -> None:
    """Nothing was ever seen of it: within ten seconds, with the error that says so."""
    sim = Simulator(seed=7)
    live = sim.create_task(manual=True)
    key, task = (sim.key, NOBODY) if what == "id" else ("sk-0123456789abcdefghij", live.id)
    kind = TaskNotFoundError if what == "id" else AuthenticationError
    async with virtual_client(sim, key) as client:
        began = anyio.current_time()
        with pytest.raises(kind) as caught:
            if way == "wait":
                await client.wait(task)
            async with client.watch(task) as events:
                async for _ in events:
                    pass

    assert anyio.current_time() - began <= 10
    assert caught.value.resume_token is not None


@pytest.mark.parametrize("status", [401, 403, 404, 407])
async def test_what_is_said_of_a_page_is_true(status: int) -> None:
    """Neither the key nor the task is blamed for what a proxy has answered."""
    sim = Simulator(seed=7)
    live = sim.create_task(manual=True)
    sim.faults.add("*", faults.refuse(status, body=PAGE), times=None)
    async with virtual_client(sim) as client:
        with pytest.raises(CyberunError) as plain:
            await client.tasks.get(live.id)
        with pytest.raises(WatchLostError) as lost:
            await client.wait(live.id)

    for error in (plain.value, lost.value):
        assert "a proxy may have answered" in str(error)
        assert "API key" not in str(error)
        assert "not yours" not in str(error)
        assert "lacks this right" not in str(error)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 407, 413, 422, 429])
@pytest.mark.parametrize(
    "body, kind",
    [(PAGE, None), ('{"message": "no"}', "application/json"), ("", "application/json")],
    ids=["page", "other-json", "empty"],
)
async def test_a_page_leaves_the_fate_of_a_submission_open(
    status: int, body: str, kind: str | None
) -> None:
    """It is sent once, whoever could give another key, and the error says that a task may exist."""
    sim = Simulator(seed=7)
    rule = sim.faults.add("run", faults.refuse(status, body=body, content_type=kind), times=None)
    async with virtual_client(sim, lambda: sim.key) as client:
        with pytest.raises(SubmissionUncertainError, match=str(status)):
            await client.submit("text-to-image", {"prompt": "a fox"})

    assert rule.fired == 1


async def test_a_407_where_no_proxy_is_configured_is_an_outage() -> None:
    """Nobody here can be asked for a password, so it is a page like any other."""
    sim = Simulator(seed=7)
    live = sim.create_task(PLAN)
    rule = sim.faults.add("task", faults.refuse(407, body="<h1>407</h1>"), task=live.id)
    sim.faults.add("events", faults.refuse(503), times=None)
    async with virtual_client(sim) as client:
        end = await client.wait(live.id)

    assert end.status == "completed"
    assert rule.fired == 1


async def test_a_list_that_a_proxy_refuses_is_used_again_when_it_is_back() -> None:
    """Only the service can say that it does not know a state; a page is an outage."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(TaskPlan(steps=200, step_seconds=1)).id for _ in range(60)]
    sim.faults.add("*", faults.refuse(400, body=PAGE), times=None, when=during(20, 24))
    ends: list[Event | str] = []

    async def wait(client: CyberunClient, task: str) -> None:
        ends.append((await client.wait(task)).status)

    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        for task in ids:
            group.start_soon(wait, client, task)

    assert ends == ["completed"] * 60
    lists = [request for request in sim.requests if request.endpoint == "tasks"]
    assert len([one for one in lists if 40 < one.at < 150]) > 10
