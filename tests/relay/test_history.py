"""What browsers are reported: numbers, snapshots and frames, as plain functions."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from cyberun_async import (
    CancelledEvent,
    CompletedEvent,
    Event,
    FailedEvent,
    ProgressEvent,
    ServerErrorEvent,
    StatusEvent,
    UnknownEvent,
)
from cyberun_async.relay._history import (
    HEARTBEAT,
    Entry,
    History,
    frame,
    is_end,
    message_of,
    retry_after,
)


def status(history: History, text: str, attempt: int = 1) -> None:
    history.add("status", {"status": text}, attempt=attempt)


def event(history: History, progress: float, attempt: int = 1) -> None:
    history.add("progress", {"progress": progress}, attempt=attempt)


def seen(entries: Iterable[Entry]) -> list[tuple[int, str]]:
    """Return number and value of each entry."""
    return [(entry.number, _value(entry)) for entry in entries]


def _value(entry: Entry) -> str:
    data = json.loads(entry.frame.decode().partition("data: ")[2])
    return str(next(iter(data.values())))


def connecting(history: History, event_id: str | None) -> Sequence[Entry]:
    """Return all that a browser gets that comes with *event_id*."""
    position = history.position(event_id)
    if position is None:
        return history.snapshot()
    return history.since(position, whole_to=history.last)


@pytest.fixture
def history() -> History:
    return History("e", 8)


def test_a_new_browser_gets_the_newest_of_each_state(history: History) -> None:
    """A snapshot is the state, the progress and whether it is live, in the order they came."""
    status(history, "queued")
    history.add("liveness", {"progress_is_live": True})
    status(history, "running")
    event(history, 0.1)
    history.add("server-error", {"message": "passing"})
    event(history, 0.2)

    assert seen(connecting(history, None)) == [(2, "True"), (3, "running"), (6, "0.2")]


def test_a_browser_that_comes_back_gets_what_it_missed(history: History) -> None:
    """With an id of this history all that followed comes, progress too, and nothing twice."""
    status(history, "running")
    event(history, 0.1)
    event(history, 0.2)
    event(history, 0.3)

    assert seen(connecting(history, "e-2")) == [(3, "0.2"), (4, "0.3")]
    assert seen(connecting(history, "e-4")) == []


@pytest.mark.parametrize(
    "event_id",
    [
        *("f-1", "e-9", "e-", "e", "", "-", "e--1", "e-+1", "e-1x", "e-²", "e-1-1"),
        *("e-" + "9" * 5000, "x" * 5000),
    ],
)
def test_an_unknown_id_gets_a_snapshot(history: History, event_id: str) -> None:
    """An id of another process, of before a restart, or made up is as good as none."""
    status(history, "queued")
    status(history, "running")

    assert seen(connecting(history, event_id)) == [(2, "running")]


def test_a_history_is_bounded_and_progress_goes_first(history: History) -> None:
    """However long a task runs, a few entries stay, among them its statuses."""
    status(history, "queued")
    status(history, "running")
    for step in range(100):
        event(history, step / 100)

    missed = seen(connecting(history, "e-0"))
    assert len(missed) == 8
    assert missed[:3] == [(1, "queued"), (2, "running"), (97, "0.94")]


def test_a_browser_beyond_the_history_gets_a_snapshot(history: History) -> None:
    """Where something other than progress was dropped meanwhile, the present state is reported."""
    status(history, "queued")
    for number in range(20):
        history.add("unknown", {"name": number})
    status(history, "running")

    assert seen(connecting(history, "e-1")) == [(22, "running")]
    assert seen(history.since(1)) == [(22, "running")]


def test_a_slow_browser_gets_the_newest_progress_and_every_status(history: History) -> None:
    """Who reads on after a while gets the states between, but of progress only the last."""
    status(history, "running")
    event(history, 0.1)
    event(history, 0.2)
    status(history, "waiting", attempt=2)
    status(history, "running", attempt=2)
    event(history, 0.05, attempt=2)

    assert seen(history.since(1)) == [(4, "waiting"), (5, "running"), (6, "0.05")]
    assert seen(history.since(6)) == []


def test_a_new_attempt_takes_the_old_progress_out_of_the_snapshot(history: History) -> None:
    """What the lost attempt had reached is not reported as the state of the new one."""
    status(history, "running")
    event(history, 0.9)
    status(history, "waiting", attempt=2)

    assert seen(connecting(history, None)) == [(3, "waiting")]


@pytest.mark.parametrize("name", ["completed", "failed", "cancelled"])
def test_nothing_follows_the_end(history: History, name: str) -> None:
    """The end is the last entry, whatever comes later, and its id says so in any process."""
    status(history, "running")
    history.add(name, {"status": name})
    event(history, 0.5)

    assert history.is_over
    assert seen(connecting(history, None)) == [(2, name)]
    assert connecting(history, "e-1")[-1].frame.startswith(b"id: e-2-end\n")
    assert is_end("e-2-end")
    assert is_end("of-another-process-17-end")


@pytest.mark.parametrize("event_id", [None, "", "e-2", "end", "e-2-end-"])
def test_other_ids_are_no_end(event_id: str | None) -> None:
    """A browser that has not seen the end is not sent away."""
    assert not is_end(event_id)


def test_a_history_can_stop_without_an_end(history: History) -> None:
    """Where the relay gives up, ids stay such that browsers come back."""
    status(history, "running")
    history.stop()
    event(history, 0.5)

    assert history.is_over
    assert seen(connecting(history, "e-1")) == []


TASK: dict[str, Any] = {"task_id": "t", "attempt": 2}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (StatusEvent(**TASK, status="running"), ("status", {**TASK, "status": "running"})),
        (
            ProgressEvent(**TASK, progress=0.5, step_current=1, step_total=2),
            ("progress", {**TASK, "progress": 0.5, "step_current": 1, "step_total": 2}),
        ),
        (
            ProgressEvent(**TASK, stage="train", message="epoch 1"),
            ("progress", {**TASK, "stage": "train", "message": "epoch 1"}),
        ),
        (
            CompletedEvent(**TASK, output={"a": 1}),
            ("completed", {**TASK, "status": "completed", "output": {"a": 1}}),
        ),
        (
            FailedEvent(**TASK, error="out of memory"),
            ("failed", {**TASK, "status": "failed", "error": "out of memory"}),
        ),
        (CancelledEvent(**TASK), ("cancelled", {**TASK, "status": "cancelled"})),
        (ServerErrorEvent(**TASK, message="m"), ("server-error", {**TASK, "message": "m"})),
        (
            UnknownEvent(**TASK, name="open", data="x\ny"),
            ("unknown", {**TASK, "name": "open", "data": "x\ny"}),
        ),
    ],
    ids=["status", "steps", "stages", "completed", "failed", "cancelled", "trouble", "unknown"],
)
def test_events_have_the_names_of_the_service(
    event: Event, expected: tuple[str, dict[str, object]]
) -> None:
    """Each event keeps its name, but for those that `EventSource` would misunderstand."""
    assert message_of(event) == expected


def test_what_the_service_sent_beside_is_not_passed_on() -> None:
    """Only the documented fields reach a browser, not whatever the payload had."""
    event = StatusEvent(task_id="t", status="running", raw={"agent_key": "ak-1"})

    assert message_of(event) == ("status", {"task_id": "t", "attempt": 1, "status": "running"})


def test_a_frame_is_one_line_of_json() -> None:
    """Line breaks in texts stay within the JSON, so one event cannot pose as two."""
    assert frame("failed", {"error": "a\n\nevent: x\r"}, "e-1") == (
        b'id: e-1\nevent: failed\ndata: {"error":"a\\n\\nevent: x\\r"}\n\n'
    )
    assert frame("x", {}) == b"event: x\ndata: {}\n\n"


def test_numbers_beyond_json_become_null() -> None:
    """What a browser could not parse is not sent to it."""
    endless = {"a": [float("inf"), {"b": float("nan")}], "c": 0.5}

    assert frame("x", endless) == b'event: x\ndata: {"a":[null,{"b":null}],"c":0.5}\n\n'


def test_heartbeat_and_retry_are_no_events() -> None:
    """A comment, and a field in whole milliseconds; neither is a block of its own."""
    assert HEARTBEAT == b":\n"
    assert retry_after(2.0006) == b"retry: 2001\n"
