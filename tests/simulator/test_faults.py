"""Faults: each one does what its constructor says, to whom it is reported, as often as reported."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from cyberun_async.testing import Simulator, TaskPlan, faults

from .conftest import Reader
from .test_stream import COURSE, PLAN, later


@pytest.mark.parametrize("events", [0, 1, 3])
def test_a_stream_drops_after_so_many_events(sim: Simulator, reader: Reader, events: int) -> None:
    """The connection is cut as soon as so many events were sent, and only once."""
    live = sim.create_task(PLAN)
    rule = sim.faults.add("events", faults.drop_after(events=events), task=live.id)
    reader.read(live.id)
    reported, cause = reader.names, reader.error
    reader.read(live.id)

    assert (reported, type(cause)) == (COURSE[:events], httpx.RemoteProtocolError)
    assert reader.names[-1] == "completed"
    assert (rule.fired, sim.faults.fired) == (1, {"drop_after": 1})


@pytest.mark.parametrize("size", [0, 5, 40, 150])
def test_a_stream_drops_after_so_many_bytes(sim: Simulator, reader: Reader, size: int) -> None:
    """The connection is cut at the byte, inside an event if need be."""
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.drop_after(bytes=size))
    reader.read(live.id)

    assert isinstance(reader.error, httpx.RemoteProtocolError)
    assert reader.size == size


def test_a_drop_may_be_a_reset(sim: Simulator, reader: Reader) -> None:
    """With *reset* the client sees a reset, not an end."""
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.drop_after(events=2, reset=True))
    reader.read(live.id)

    assert isinstance(reader.error, httpx.ReadError)


def test_a_stream_closes_in_good_order(sim: Simulator, reader: Reader) -> None:
    """The stream ends as if nothing were wrong, without a terminal event."""
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.close_after(events=2))
    reader.read(live.id)

    assert (reader.names, reader.error) == (COURSE[:2], None)


@pytest.mark.parametrize("size", [0, 5, 40, 150])
def test_a_stream_closes_in_good_order_anywhere(sim: Simulator, reader: Reader, size: int) -> None:
    """With bytes the end may come inside an event, and still looks like an end."""
    live = sim.create_task(PLAN)
    rule = sim.faults.add("events", faults.close_after(bytes=size))
    reader.read(live.id)
    reported, length = reader.names, reader.size
    reader.read(live.id)

    assert (length, reader.error, rule.fired) == (size, None, 1)
    assert reported == COURSE[: len(reported)] != COURSE
    assert reader.names[-1] == "completed"


def test_a_stream_may_drip(sim: Simulator, reader: Reader) -> None:
    """From some event on bytes come singly; what they say is whole."""
    live = sim.create_task(PLAN)
    rule = sim.faults.add("events", faults.drip_after(events=len(COURSE) - 1, every=0.0001))
    reader.read(live.id)

    assert reader.names == COURSE
    assert reader.pieces[-2:] == [1, 1]
    assert (rule.fired, sim.faults.fired) == (1, {"drip_after": 1})


def test_a_stall_for_a_time_loses_nothing(sim: Simulator, reader: Reader) -> None:
    """After the silence comes everything that happened meanwhile."""
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.stall_after(events=1, seconds=0.3))
    reader.read(live.id)

    assert reader.names == COURSE


def test_a_stall_forever_is_silence_on_an_open_connection(sim: Simulator, reader: Reader) -> None:
    """A half-open connection ends by the client's own read timeout."""
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.stall_after(events=2))
    reader.http.timeout = httpx.Timeout(0.3)
    reader.read(live.id)

    assert reader.names == COURSE[:2]
    assert isinstance(reader.error, httpx.ReadTimeout)


def test_heartbeats_may_come_without_events(sim: Simulator, reader: Reader) -> None:
    """Comments keep coming while events are held back."""
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.heartbeats_after(events=1, seconds=0.2, every=0.03))
    reader.read(live.id)

    assert reader.names == COURSE
    assert sum(line.startswith(":") for line in reader.lines) >= 3


def test_events_may_be_repeated(sim: Simulator, reader: Reader) -> None:
    """Each event is sent as often as reported."""
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.repeat(copies=2))
    reader.read(live.id)

    assert [name for name in COURSE for _ in range(2)] == reader.names


def test_events_may_be_replayed(sim: Simulator, reader: Reader) -> None:
    """All that was reported is reported again."""
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.replay_after(events=4))
    reader.read(live.id)

    assert [*COURSE[:4], *COURSE] == reader.names


@pytest.mark.parametrize("how", ["json", "truncated", "empty", "html", "scalar"])
def test_an_event_may_be_corrupt(sim: Simulator, reader: Reader, how: faults.Spoiling) -> None:
    """One event loses its payload; those around it stay whole."""
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.corrupt_after(events=1, how=how))
    reader.read(live.id)
    sound = sum(isinstance(payload, dict) for _, payload in reader.events)

    assert sound == len(COURSE) - 1
    assert sum(line.startswith("event: ") for line in reader.lines) == len(COURSE)


def test_an_event_may_have_wrong_types(sim: Simulator, reader: Reader) -> None:
    """The payload is an object whose values are of other types."""
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.corrupt_after(events=0, how="types"))
    first = reader.read(live.id)[0]

    assert first == ("status", {"task_id": 7, "status": 7, "timestamp": 7})


def test_an_event_of_another_task_may_slip_in(sim: Simulator, reader: Reader) -> None:
    """A foreign event bears another task's id and leaves the stream's own course whole."""
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.foreign_after(events=3))
    reader.read(live.id)
    foreign = [payload for _, payload in reader.events if payload["task_id"] != live.id]

    assert [*COURSE[:3], "completed", *COURSE[3:]] == reader.names
    assert len(foreign) == 1


def test_raw_bytes_may_slip_in(sim: Simulator, reader: Reader) -> None:
    """Bytes of the test's choice stand between two events."""
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.raw_after(b"event: odd\ndata: {}\n\n", events=1))
    reader.read(live.id)

    assert reader.events[1] == ("odd", {})


def test_a_refusal_is_what_it_is_asked_to_be(sim: Simulator, http: httpx.Client) -> None:
    """Status, message and `Retry-After` are as reported, and the request has no effect."""
    sim.faults.add("run", faults.refuse(503, "try later", retry_after=2))
    body = {"parameters": {"prompt": "a"}}
    refused = http.post("/r/workflows/slug/text-to-image/run", json=body)

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
    assert refused.json() == {"error_message": "try later"}
    assert sim.submissions == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param("<html>502</html>", "text/html", id="html"),
        pytest.param(b"", "text/plain", id="empty"),
        pytest.param('{"id": ', "application/json", id="truncated"),
    ],
)
def test_a_refusal_may_have_any_body(
    sim: Simulator, http: httpx.Client, body: bytes | str, content_type: str
) -> None:
    """Body, type and further headers are free."""
    sim.faults.add(
        "task", faults.refuse(502, body=body, content_type=content_type, headers={"X-Via": "lb"})
    )
    answer = http.get(f"/r/tasks/{sim.create_task().id}")

    assert answer.content == (body.encode() if isinstance(body, str) else body)
    assert (content_type, "lb") == (answer.headers["content-type"], answer.headers["x-via"])


@pytest.mark.parametrize(
    ("action", "exists"),
    [
        pytest.param(faults.abandon, True, id="after"),
        pytest.param(faults.hang_up, False, id="before"),
    ],
)
def test_a_submission_may_be_cut_after_or_before_its_effect(
    sim: Simulator, http: httpx.Client, action: Callable[[], faults.HangUp], exists: bool
) -> None:
    """An abandoned run exists though its answer never came; one hung up on does not."""
    sim.faults.add("run", action())
    body = {"parameters": {"prompt": "a"}}
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/r/workflows/slug/text-to-image/run", json=body)

    assert (len(sim.submissions), len(sim.tasks)) == (exists, exists)


def test_an_answer_may_be_held_back(sim: Simulator, http: httpx.Client) -> None:
    """A held answer takes its time, before and after its effect."""
    sim.faults.add("task", faults.hold(before=0.1, after=0.1))
    before = sim.now
    http.get(f"/r/tasks/{sim.create_task().id}")

    assert sim.now - before >= 0.2


@pytest.mark.parametrize("how", ["json", "truncated", "empty", "html", "scalar", "utf8"])
def test_an_answer_may_be_garbage(sim: Simulator, http: httpx.Client, how: faults.Spoiling) -> None:
    """The request takes effect, the answer is no JSON object."""
    live = sim.create_task(manual=True)
    sim.faults.add("cancel", faults.garble(how))
    answer = http.post(f"/r/tasks/{live.id}/cancel")

    assert (answer.status_code, live.state) == (200, "cancelled")
    assert not isinstance(_json_or_none(answer), dict)


def test_a_body_may_be_cut_short_of_its_length(sim: Simulator, http: httpx.Client) -> None:
    """On an answer with a length, the cut falls short of it."""
    sim.faults.add("task", faults.drop_after(bytes=10))

    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        http.get(f"/r/tasks/{sim.create_task().id}")


def test_faults_of_one_endpoint_come_one_after_the_other(
    sim: Simulator, http: httpx.Client
) -> None:
    """Faults are used up in the order of adding, then all is well."""
    live = sim.create_task()
    sim.faults.add("task", faults.refuse(500), times=2)
    sim.faults.add("task", faults.refuse(503))
    codes = [http.get(f"/r/tasks/{live.id}").status_code for _ in range(4)]

    assert codes == [500, 500, 503, 200]


def test_a_fault_may_skip_requests_and_last_forever(sim: Simulator, http: httpx.Client) -> None:
    """*skip* lets requests pass first, *times* None never ends."""
    live = sim.create_task()
    sim.faults.add("task", faults.refuse(500), skip=2, times=None)
    codes = [http.get(f"/r/tasks/{live.id}").status_code for _ in range(5)]

    assert codes == [200, 200, 500, 500, 500]


def test_a_fault_may_concern_one_task_only(sim: Simulator, http: httpx.Client) -> None:
    """Requests about other tasks pass."""
    struck, spared = sim.create_task(), sim.create_task()
    sim.faults.add("*", faults.refuse(500), task=struck.id, times=None)
    codes = [http.get(f"/r/tasks/{one.id}").status_code for one in (struck, spared)]

    assert codes == [500, 200]


def test_a_fault_may_ask_the_request(sim: Simulator, http: httpx.Client) -> None:
    """*when* decides by what was recorded of the request."""
    sim.faults.add("tasks", faults.refuse(500), when=lambda request: "running" in request.query)
    codes = [http.get("/r/tasks", params=p).status_code for p in ({}, {"status": "running"})]

    assert codes == [200, 500]


def test_a_fault_may_ask_what_has_fired(sim: Simulator, http: httpx.Client) -> None:
    """*when* may look at the counters, and so make one fault wait for another."""
    sim.faults.add("tasks", faults.refuse(503))
    sim.faults.add("tasks", faults.refuse(500), when=lambda _: sim.faults.fired["refuse"] > 0)
    codes = [http.get("/r/tasks").status_code for _ in range(3)]

    assert codes == [503, 500, 200]


def test_a_plan_brings_its_faults_along(sim: Simulator, reader: Reader) -> None:
    """Faults of a plan hit its task: bare actions its stream, bound ones where they say."""
    plan = TaskPlan(
        pending=5, faults=(faults.close_after(events=1), faults.on("result", faults.refuse(500)))
    )
    sim.plan(plan, PLAN)
    struck, spared = reader.run(), reader.run()
    lengths = [len(reader.read(one)) for one in (struck, spared)]
    codes = [reader.http.get(f"/r/tasks/{struck}/result").status_code for _ in range(2)]

    assert lengths[0] == 1 < lengths[1]
    assert codes == [500, 200]


def test_a_fault_that_could_not_strike_stays_due(sim: Simulator, reader: Reader) -> None:
    """A stream that ends before the fault's event leaves the fault to the next one."""
    rule = sim.faults.add("events", faults.drop_after(events=5))
    short = sim.create_task(manual=True)
    later(short.complete)
    reader.read(short.id)
    unfired = rule.fired
    reader.read(sim.create_task(PLAN).id)

    assert (unfired, rule.fired, len(reader.events)) == (0, 1, 5)


def test_actions_may_happen_together(sim: Simulator, reader: Reader) -> None:
    """Several actions of one fault hit the same request."""
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.repeat(copies=2), faults.drop_after(events=3))
    reader.read(live.id)

    assert reader.names == ["pending", "pending", "waiting"]
    assert sim.faults.fired == {"repeat": 1, "drop_after": 1}


def test_cleared_faults_are_gone(sim: Simulator, http: httpx.Client) -> None:
    """After clearing, requests pass."""
    sim.faults.add("*", faults.refuse(500), times=None)
    sim.faults.clear()

    assert http.get("/r/tasks").status_code == 200


def test_a_drop_needs_one_measure() -> None:
    """A drop is after events or after bytes, not both and not neither."""
    with pytest.raises(ValueError, match="either"):
        faults.drop_after()
    with pytest.raises(ValueError, match="either"):
        faults.drop_after(events=1, bytes=1)
    with pytest.raises(ValueError, match="either"):
        faults.close_after()


def _json_or_none(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None
