"""Observers are reported of everything that watches do, and cannot disturb them."""

from collections.abc import Mapping

import anyio
import pytest

from cyberun_async import (
    CompletedEvent,
    Connected,
    CyberunError,
    Event,
    Notice,
    Observer,
    PollingStarted,
    StatusEvent,
    StreamLost,
    TaskNotFoundError,
)
from cyberun_async.testing import Simulator, TaskPlan, faults

from .kit import SLOW, VIRTUAL, ended_watch, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


@pytest.fixture
def sim() -> Simulator:
    return Simulator(seed=7)


class Recorder(Observer):
    """Remembers what it received, and marks requests."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.events: list[Event] = []
        self.notices: list[Notice] = []
        self.ended: list[tuple[str, object]] = []

    def watch_began(self, task_id: str) -> None:
        self.began.append(task_id)

    def received(self, event: Event) -> None:
        self.events.append(event)

    def noticed(self, notice: Notice) -> None:
        self.notices.append(notice)

    def watch_ended(self, task_id: str, outcome: Event | CyberunError | None) -> None:
        self.ended.append((task_id, outcome))

    def headers(self, task_id: str | None) -> Mapping[str, str]:
        return {"X-Mark": task_id or "none"}


async def test_a_watch_is_reported_from_its_beginning_to_its_end(sim: Simulator) -> None:
    """Each event once, however many read it, and the end with the terminal event."""
    reported = Recorder()
    live = sim.create_task(SLOW)
    async with virtual_client(sim, observer=reported) as client, anyio.create_task_group() as group:
        group.start_soon(client.wait, live.id)
        group.start_soon(ended_watch, client, live.id)
        watched = await ended_watch(client, live.id)

    assert reported.began == [live.id]
    statuses = [event.status for event in reported.events if isinstance(event, StatusEvent)]
    assert statuses == [status for _, status in watched.statuses]
    assert reported.ended == [(live.id, watched.end)]
    assert Connected(task_id=live.id) in reported.notices


async def test_a_loss_and_a_switch_are_reported(sim: Simulator) -> None:
    """Notices reach the observer as they reach the callback."""
    reported = Recorder()
    seen: list[Notice] = []
    refused = faults.on("events", faults.refuse(403), times=None)
    async with virtual_client(sim, observer=reported, on_notice=seen.append) as client:
        polled = sim.create_task(TaskPlan(faults=(refused,)))
        await ended_watch(client, polled.id)
        cut = sim.create_task(TaskPlan(step_seconds=1, faults=(faults.drop_after(events=6),)))
        await ended_watch(client, cut.id)

    assert reported.notices == seen
    assert PollingStarted in [type(n) for n in seen if n.task_id == polled.id]
    assert StreamLost in [type(n) for n in seen if n.task_id == cut.id]


async def test_a_watch_that_fails_or_is_left_is_reported(sim: Simulator) -> None:
    """The error stands for the end; a watch left early ended with nothing."""
    reported = Recorder()
    live = sim.create_task(manual=True)
    missing = "0197a1b2-0000-7000-8000-00000000abcd"
    async with virtual_client(sim, observer=reported) as client:
        async with client.watch(live.id) as events:
            await anext(events)
        await ended_watch(client, missing)

    assert reported.ended[0] == (live.id, None)
    assert reported.ended[1][0] == missing
    assert isinstance(reported.ended[1][1], TaskNotFoundError)


async def test_headers_go_with_requests_of_the_api_alone(sim: Simulator) -> None:
    """Requests for a watch carry its headers, others the general ones, links none."""
    reported = Recorder()
    async with virtual_client(sim, observer=reported) as client:
        task = await client.submit("text-to-image", {"prompt": "a fox"})
        await ended_watch(client, task.id)
        await (await client.result(task)).artifacts[0].read()

    marks = {(r.path.rpartition("/")[2], r.headers.get("x-mark")) for r in sim.requests}
    assert ("run", "none") in marks
    assert ("events", task.id) in marks
    assert ("result", "none") in marks
    assert {mark for _, mark in marks} <= {"none", task.id, None}
    assert [mark for name, mark in marks if name.endswith(".png")] == [None]


class Broken(Observer):
    """Fails at whatever it is asked."""

    def watch_began(self, task_id: str) -> None:
        raise LookupError("mine")

    def received(self, event: Event) -> None:
        raise LookupError("mine")

    def noticed(self, notice: Notice) -> None:
        raise LookupError("mine")

    def watch_ended(self, task_id: str, outcome: Event | CyberunError | None) -> None:
        raise LookupError("mine")

    def headers(self, task_id: str | None) -> Mapping[str, str]:
        raise LookupError("mine")


async def test_a_broken_observer_disturbs_nothing(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """What an observer raises is logged; the watch goes on."""
    live = sim.create_task(SLOW)
    async with virtual_client(sim, observer=Broken()) as client:
        watched = await ended_watch(client, live.id)

    assert isinstance(watched.end, CompletedEvent)
    assert "mine" in caplog.text


async def test_an_invalid_header_is_left_out(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """An observer cannot break into a request with a line end."""

    class Evil(Observer):
        def headers(self, task_id: str | None) -> Mapping[str, str]:
            return {"X-Mark": "a\r\nX-Other: b"}

    live = sim.create_task(SLOW)
    async with virtual_client(sim, observer=Evil()) as client:
        await client.wait(live.id)

    assert all("x-mark" not in r.headers and "x-other" not in r.headers for r in sim.requests)
    assert "headers failed" in caplog.text
