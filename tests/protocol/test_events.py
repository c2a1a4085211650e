"""From a message of the stream to an event, whatever the service put into it."""

import contextlib
import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given, strategies as st

from cyberun_async._model import (
    CancelledEvent,
    CompletedEvent,
    Event,
    FailedEvent,
    ProgressEvent,
    ServerErrorEvent,
    StatusEvent,
    UnknownEvent,
)
from cyberun_async._protocol import PayloadError, decode_event, resumable_id

from ..watch.kit import TASK


def decoded(name: str, payload: Any, *, attempt: int = 1) -> Event:
    data = payload if isinstance(payload, str) else json.dumps(payload)
    return decode_event(name, data, TASK, attempt)


@pytest.mark.parametrize(
    "name, payload, expected",
    [
        pytest.param(
            "status", {"status": "queued"}, StatusEvent(task_id=TASK, status="queued"), id="status"
        ),
        pytest.param(
            "status",
            {"task_status": "queued"},
            StatusEvent(task_id=TASK, status="queued"),
            id="status-by-its-other-name",
        ),
        pytest.param(
            "status",
            {"status": "paused"},
            StatusEvent(task_id=TASK, status="paused"),
            id="status-of-tomorrow",
        ),
        pytest.param(
            "progress",
            {"progress": 0.5, "step_current": 10, "step_total": 20, "current_node": "3"},
            ProgressEvent(
                task_id=TASK, progress=0.5, step_current=10, step_total=20, current_node="3"
            ),
            id="progress",
        ),
        pytest.param(
            "progress",
            {"progress": 1, "stage": "train", "message": "epoch 3"},
            ProgressEvent(task_id=TASK, progress=1.0, stage="train", message="epoch 3"),
            id="progress-of-nerfstudio",
        ),
        pytest.param("progress", {}, ProgressEvent(task_id=TASK), id="progress-of-nothing"),
        pytest.param(
            "completed",
            {"output": {"a": 1}},
            CompletedEvent(task_id=TASK, output={"a": 1}),
            id="completed",
        ),
        pytest.param(
            "completed",
            {"task_output": {"a": 1}},
            CompletedEvent(task_id=TASK, output={"a": 1}),
            id="completed-by-the-other-name",
        ),
        pytest.param(
            "completed", {"output": "x"}, CompletedEvent(task_id=TASK), id="completed-oddly"
        ),
        pytest.param(
            "failed", {"error": "oom"}, FailedEvent(task_id=TASK, error="oom"), id="failed"
        ),
        pytest.param(
            "failed",
            {"error": {"message": "oom"}},
            FailedEvent(task_id=TASK, error="oom"),
            id="failed-with-a-nested-message",
        ),
        pytest.param("failed", {}, FailedEvent(task_id=TASK), id="failed-without-words"),
        pytest.param("cancelled", {}, CancelledEvent(task_id=TASK), id="cancelled"),
        pytest.param(
            "error",
            {"message": "no status"},
            ServerErrorEvent(task_id=TASK, message="no status"),
            id="error",
        ),
        pytest.param(
            "error", "plain", ServerErrorEvent(task_id=TASK, message="plain"), id="error-in-words"
        ),
        pytest.param(
            "log",
            {"line": 1},
            UnknownEvent(task_id=TASK, name="log", data='{"line": 1}'),
            id="unknown",
        ),
        pytest.param(
            "log", "not json", UnknownEvent(task_id=TASK, name="log", data="not json"), id="text"
        ),
    ],
)
def test_messages_become_events(name: str, payload: Any, expected: Event) -> None:
    """Each documented event has a class of its own, and an unknown one is passed on."""
    assert decoded(name, payload) == expected


def test_every_field_stays_reachable() -> None:
    """What is not modelled is in the raw payload, and the attempt is the watch's."""
    event = decoded("status", {"status": "queued", "gpu": "H100"}, attempt=3)

    assert (event.raw, event.attempt) == ({"status": "queued", "gpu": "H100"}, 3)


@pytest.mark.parametrize("name", ["status", "progress", "completed", "failed", "cancelled"])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param('{"status": "runn', id="cut"),
        pytest.param("", id="empty"),
        pytest.param("[]", id="list"),
        pytest.param("null", id="null"),
        pytest.param('"running"', id="text"),
        pytest.param("NaN", id="nan"),
        pytest.param("[" * 100_000, id="deep"),
        pytest.param('{"a":' * 100_000, id="deep-objects"),
    ],
)
def test_what_is_no_object_cannot_be_read(name: str, data: str) -> None:
    """Wrong JSON, however deep, is one typed error that names the event, not its contents."""
    with pytest.raises(PayloadError) as caught:
        decode_event(name, data, TASK, 1)

    assert caught.value.name == name
    assert "runn" not in str(caught.value)


@pytest.mark.parametrize("payload", [{}, {"status": ""}, {"status": 7}, {"status": None}])
def test_a_status_needs_a_status(payload: dict[str, Any]) -> None:
    """An event without what it is about cannot be read."""
    with pytest.raises(PayloadError, match="without a status"):
        decoded("status", payload)


@pytest.mark.parametrize(
    "field, value",
    [
        *itertools.product(["progress"], ["0.5", True, [0.5], None, 10**400]),
        *itertools.product(["progress"], [math.nan, math.inf, -math.inf, 1e300]),
        *itertools.product(["step_current"], ["3", 3.5, True, {}]),
        *itertools.product(["current_node"], [3, "", {}]),
    ],
)
def test_an_odd_field_spoils_only_itself(field: str, value: Any) -> None:
    """A progress event with one field of another type keeps the others."""
    event = decoded("progress", {"step_total": 20, field: value})

    assert event == ProgressEvent(task_id=TASK, step_total=20)


def test_whole_numbers_may_be_written_as_fractions() -> None:
    """JSON knows one kind of number: 10.0 steps are 10 steps."""
    assert decoded("progress", {"step_current": 10.0}) == ProgressEvent(
        task_id=TASK, step_current=10
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(["status", "progress", "completed", "failed", "cancelled", "error", "x"])


@given(NAMES, JSON.map(json.dumps) | st.text(max_size=30))
def test_any_payload_is_an_event_or_a_payload_error(name: str, data: str) -> None:
    """Nothing that a service may send escapes as another exception."""
    with contextlib.suppress(PayloadError):
        assert decode_event(name, data, TASK, 1).task_id == TASK


@pytest.mark.parametrize(
    "event_id, resumed",
    [
        pytest.param("17", True, id="number"),
        pytest.param("a b:c", True, id="printable"),
        pytest.param("\u20ac\u2028", True, id="beyond-ascii"),
        pytest.param("x" * 1024, True, id="long"),
        pytest.param("x" * 1025, False, id="too-long"),
        pytest.param("\u20ac" * 400, False, id="too-long-as-bytes"),
        pytest.param("a\x01b", False, id="control-character"),
        pytest.param("a\tb", False, id="tab"),
        pytest.param(" a", False, id="leading-blank"),
        pytest.param("a ", False, id="trailing-blank"),
        pytest.param("\ud800", False, id="half-a-character"),
        pytest.param("", False, id="empty"),
        pytest.param(None, False, id="none"),
    ],
)
def test_an_id_is_sent_back_only_where_a_header_can_hold_it(
    event_id: str | None, resumed: bool
) -> None:
    """A stream whose ids cannot be sent is resumed without one, and an ask finds the rest."""
    assert resumable_id(event_id) == (event_id if resumed else None)
