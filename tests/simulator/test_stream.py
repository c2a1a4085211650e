"""The event stream: the documented course, and every switch where nothing is documented."""

import threading
from collections.abc import Callable
from typing import Any

import attrs
import httpx
import pytest

from cyberun_async.testing import Attempt, Behaviour, Simulator, TaskPlan

from .conftest import Reader


# Long enough in `pending` to be connected before anything happens.
PLAN = TaskPlan(pending=10, waiting=0.5, queued=0.5, steps=2)
COURSE = ["pending", "waiting", "queued", "running", "progress", "progress", "completed"]


def later(action: Callable[[], object], seconds: float = 0.1) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def with_behaviour(**switches: Any) -> TaskPlan:
    return attrs.evolve(PLAN, behaviour=Behaviour(**switches))


def test_a_task_goes_through_its_states(sim: Simulator, reader: Reader) -> None:
    """Events come in the order of the life cycle, then the server ends the stream."""
    reader.read(sim.create_task(PLAN).id)

    assert reader.names == COURSE
    assert reader.error is None


def test_each_event_is_a_chunk_of_one_data_line(sim: Simulator, http: httpx.Client) -> None:
    """An event is sent whole, as a name, one line of data and an empty line."""
    live = sim.create_task(PLAN)
    with http.stream("GET", f"/r/tasks/{live.id}/events") as answer:
        chunks = list(answer.iter_raw())

    assert len(chunks) == len(COURSE)
    assert all(chunk.endswith(b"}\n\n") and chunk.count(b"\n") == 3 for chunk in chunks)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize(
    ("on_connect", "expected"),
    [
        pytest.param("current", ["running", "progress", "completed"], id="current"),
        pytest.param(
            "history",
            ["pending", "waiting", "running", "progress", "progress", "completed"],
            id="history",
        ),
        pytest.param("nothing", ["completed"], id="nothing"),
    ],
)
def test_what_a_late_reader_gets_is_a_switch(
    sim: Simulator, reader: Reader, on_connect: str, expected: list[str]
) -> None:
    """A stream opened late begins with the present state, with all events, or with neither."""
    live = sim.create_task(with_behaviour(on_connect=on_connect), manual=True)
    live.status("waiting")
    live.status("running")
    live.progress(0.1)
    live.progress(0.2)
    later(live.complete)
    reader.read(live.id)

    assert reader.names == expected


@pytest.mark.parametrize(
    ("finished", "status", "expected"),
    [
        pytest.param("terminal", 200, ["completed"], id="terminal"),
        pytest.param("close", 200, [], id="close"),
        pytest.param("not_found", 404, [], id="not found"),
        pytest.param("no_content", 204, [], id="no content"),
    ],
)
def test_a_stream_on_a_finished_task_is_a_switch(
    sim: Simulator, reader: Reader, finished: str, status: int, expected: list[str]
) -> None:
    """A stream on a finished task tells the end, closes at once, or is refused."""
    live = sim.create_task(with_behaviour(finished_stream=finished), manual=True)
    live.complete()
    answer = reader.http.get(f"/r/tasks/{live.id}/events")
    reader.lines = answer.text.splitlines() if status == 200 else []

    assert (answer.status_code, reader.names) == (status, expected)


def test_provisioning_is_a_switch(sim: Simulator, reader: Reader) -> None:
    """With the switch on, tasks pass through `provisioning` before `queued`."""
    sim.behaviour = Behaviour(provisioning=True)
    reader.read(sim.create_task(PLAN).id)

    assert reader.names[:4] == ["pending", "waiting", "provisioning", "queued"]


def test_heartbeats_are_comments_on_a_silent_stream(sim: Simulator, reader: Reader) -> None:
    """With a period set, comment lines fill the silence and disturb no event."""
    live = sim.create_task(with_behaviour(heartbeat=0.02), manual=True)
    later(live.complete, 0.2)
    reader.read(live.id)

    assert reader.names == ["pending", "completed"]
    assert 4 <= sum(line.startswith(":") for line in reader.lines) <= 12


def test_no_heartbeats_by_default(sim: Simulator, reader: Reader) -> None:
    """A silent stream is silent, and has neither ids nor a retry hint."""
    reader.read(sim.create_task(PLAN).id)

    assert {line.partition(":")[0] for line in reader.lines} == {"event", "data", ""}


def test_ids_resume_a_stream(sim: Simulator, reader: Reader) -> None:
    """With ids on, `Last-Event-ID` is followed by the next event and nothing before it."""
    live = sim.create_task(with_behaviour(event_ids=True))
    reader.read(live.id)
    ids = [line.removeprefix("id: ") for line in reader.lines if line.startswith("id: ")]
    reader.read(live.id, **{"Last-Event-ID": ids[3]})

    assert len(set(ids)) == len(COURSE)
    assert reader.names == COURSE[4:]


def test_a_stream_resumed_at_the_end_ends(sim: Simulator, reader: Reader) -> None:
    """The last status and the end share an id: resumed there, the end is sent, and it closes."""
    live = sim.create_task(with_behaviour(event_ids=True, final_status=True))
    reader.read(live.id)
    last = [line.removeprefix("id: ") for line in reader.lines if line.startswith("id: ")][-1]
    reader.read(live.id, **{"Last-Event-ID": last})

    assert reader.error is None
    assert reader.names[-1] == "completed"


def test_a_retry_hint_comes_first(sim: Simulator, reader: Reader) -> None:
    """With a hint set, the stream begins with it."""
    reader.read(sim.create_task(with_behaviour(retry_hint=1500)).id)

    assert reader.lines[:2] == ["retry: 1500", ""]
    assert reader.names == COURSE


def test_data_may_take_several_lines(sim: Simulator, reader: Reader) -> None:
    """With the switch on, the JSON of an event is spread over several data lines."""
    reader.read(sim.create_task(with_behaviour(multiline_data=True)).id)

    assert reader.names == COURSE
    assert sum(line.startswith("data: ") for line in reader.lines) > 3 * len(COURSE)


@pytest.mark.parametrize("line_end", ["\r\n", "\r"])
def test_line_ends_are_a_switch(sim: Simulator, reader: Reader, line_end: str) -> None:
    """All three line ends of the standard can be had."""
    live = sim.create_task(with_behaviour(line_end=line_end))
    text = reader.http.get(f"/r/tasks/{live.id}/events").text

    assert text.count("\n") == (text.count(line_end) if line_end == "\r\n" else 0)
    assert text.count(f"}}{line_end}{line_end}") == len(COURSE)


def test_chunks_may_be_smaller_than_events(sim: Simulator, http: httpx.Client) -> None:
    """With a chunk size set, events are split wherever it falls."""
    live = sim.create_task(with_behaviour(chunk_bytes=7), manual=True)
    later(live.complete)
    with http.stream("GET", f"/r/tasks/{live.id}/events") as answer:
        chunks = list(answer.iter_raw())

    assert max(map(len, chunks)) <= 7
    assert b"".join(chunks).count(b"\n\n") == 2


def test_unknown_events_are_a_switch(sim: Simulator, reader: Reader) -> None:
    """With the switch on, events that no page names come between the others."""
    reader.read(sim.create_task(with_behaviour(unknown_events=True)).id)

    assert [*COURSE[:4], "log", "preview", *COURSE[4:]] == reader.names


def test_an_error_event_may_leave_the_stream_alive(sim: Simulator, reader: Reader) -> None:
    """An `error` event is followed by the rest of the task."""
    reader.read(sim.create_task(with_behaviour(error_event="continue")).id)

    assert [*COURSE[:4], "error", *COURSE[4:]] == reader.names


def test_an_error_event_may_end_the_stream(sim: Simulator, reader: Reader) -> None:
    """With the other setting the connection is cut behind `error`, but not twice."""
    live = sim.create_task(with_behaviour(error_event="drop"))
    reader.read(live.id)
    first, cause = reader.names, reader.error
    reader.read(live.id)

    assert (first, type(cause)) == ([*COURSE[:4], "error"], httpx.RemoteProtocolError)
    assert (reader.names[-1], reader.error) == ("completed", None)


@pytest.mark.parametrize(
    ("switch", "expected"),
    [
        pytest.param({"final_status": True}, ["completed", "completed"], id="status first"),
        pytest.param({"repeat_terminal": True}, ["completed", "completed"], id="twice"),
        pytest.param({"late_progress": True}, ["completed", "progress"], id="late progress"),
    ],
)
def test_what_surrounds_the_end_is_a_switch(
    sim: Simulator, reader: Reader, switch: dict[str, bool], expected: list[str]
) -> None:
    """The end may have a status before it, a twin or a late progress event behind it."""
    reader.read(sim.create_task(with_behaviour(**switch)).id)

    assert [*COURSE[:-1], *expected] == reader.names


def test_the_end_may_carry_a_timestamp(sim: Simulator, reader: Reader) -> None:
    """With the switch on, the terminal event has a timestamp."""
    events = reader.read(sim.create_task(with_behaviour(terminal_timestamp=True)).id)

    assert "timestamp" in events[-1][1]


def test_progress_may_lack_its_steps(sim: Simulator, reader: Reader) -> None:
    """With the switch off, progress tells a share but no steps."""
    events = reader.read(sim.create_task(with_behaviour(progress_steps=False)).id)
    event = next(payload for name, payload in events if name == "progress")

    assert {"task_id", "progress", "current_node", "timestamp"} == set(event)


@pytest.mark.parametrize(
    ("vocabulary", "names"),
    [
        pytest.param("documented", {"status", "output"}, id="documented"),
        pytest.param("swapped", {"task_status", "task_output"}, id="swapped"),
        pytest.param("both", {"status", "output", "task_status", "task_output"}, id="both"),
    ],
)
def test_the_names_in_events_are_a_switch(
    sim: Simulator, reader: Reader, vocabulary: str, names: set[str]
) -> None:
    """Events use their own names, those of REST, or both."""
    events = reader.read(sim.create_task(with_behaviour(vocabulary=vocabulary)).id)

    assert {"task_id", *names} == set(events[-1][1])


def test_a_stream_may_have_a_longest_life(sim: Simulator, reader: Reader) -> None:
    """With a lifetime set, the stream is closed in good order before the task ends."""
    live = sim.create_task(with_behaviour(stream_lifetime=0.05), manual=True)
    reader.read(live.id)

    assert (reader.names, reader.error) == (["pending"], None)


def test_a_lost_attempt_steps_back_and_starts_over(sim: Simulator, reader: Reader) -> None:
    """A retry shows as `waiting` again, progress from the start, and `retry_count`."""
    live = sim.create_task(attrs.evolve(PLAN, attempts=(Attempt(steps=1),)))
    events = reader.read(live.id)
    shares = [payload["progress"] for name, payload in events if name == "progress"]

    assert [*COURSE[:4], "progress", *COURSE[1:]] == reader.names
    assert shares == [0.5, 0.5, 1.0]
    assert reader.get(f"/r/tasks/{live.id}")["retry_count"] == 1


def test_an_attempt_may_be_lost_before_it_runs(sim: Simulator, reader: Reader) -> None:
    """An attempt lost in the queue never shows `running`."""
    reader.read(sim.create_task(attrs.evolve(PLAN, attempts=(Attempt(lost_in="queued"),))).id)

    assert ["pending", "waiting", "queued", *COURSE[1:]] == reader.names


def test_a_task_may_wait_forever(sim: Simulator, reader: Reader) -> None:
    """A task without a fitting agent stays in `waiting`, whatever time passes."""
    live = sim.create_task(TaskPlan(forever_waiting=True))
    sim.advance(10**6)

    assert live.state == "waiting"


def test_revoking_a_key_may_end_its_streams(sim: Simulator, reader: Reader) -> None:
    """With the switch on, a stream is cut when its key is revoked."""
    sim.behaviour = Behaviour(revoke_ends_streams=True)
    live = sim.create_task(manual=True)
    later(lambda: sim.revoke(sim.key))
    reader.read(live.id)

    assert isinstance(reader.error, httpx.RemoteProtocolError)


def test_streams_are_counted(sim: Simulator, reader: Reader) -> None:
    """Open streams and their peak are known while they are open and afterwards."""
    live = sim.create_task(manual=True)
    counts: list[int] = []
    with reader.http.stream("GET", f"/r/tasks/{live.id}/events") as answer:
        lines = answer.iter_lines()
        next(lines)
        counts += [sim.open_streams, live.open_streams]
        live.complete()
        assert any("completed" in line for line in lines)
    wait_until(lambda: sim.open_streams == 0)

    assert (counts, sim.peak_streams) == ([1, 1], 1)


def test_a_reader_that_leaves_is_noticed(sim: Simulator, reader: Reader) -> None:
    """A stream ends when its reader closes the connection, also in silence."""
    live = sim.create_task(manual=True)
    with httpx.Client(headers=reader.http.headers, trust_env=False, verify=False) as other:
        request = other.build_request("GET", f"{sim.url}/r/tasks/{live.id}/events")
        other.send(request, stream=True).close()

    wait_until(lambda: sim.open_streams == 0)


def wait_until(holds: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(500):
        if holds():
            return
        pause.wait(0.01)
    raise AssertionError("it never came to hold")
