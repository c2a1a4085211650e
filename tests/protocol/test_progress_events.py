"""Progress events that are made field by field are what their class makes."""

import copy
import json
import pickle
from typing import Any

import attrs
import pytest

from cyberun_async import ProgressEvent
from cyberun_async._protocol import decode_event


FIELDS: dict[str, Any] = {
    "progress": 0.5,
    "step_current": 10,
    "step_total": 20,
    "current_node": "sampler",
    "stage": "train",
    "message": "going well",
}


def decoded(attempt: int = 1, **payload: Any) -> ProgressEvent:
    event = decode_event("progress", json.dumps(payload), "task", attempt)
    assert isinstance(event, ProgressEvent)
    return event


def test_a_progress_event_is_what_its_class_makes() -> None:
    """No field is forgotten or mixed up with another, those that do not compare included."""
    made = decoded(2, **FIELDS, new=True)
    expected = ProgressEvent(task_id="task", attempt=2, raw={**FIELDS, "new": True}, **FIELDS)
    assert attrs.asdict(made) == attrs.asdict(expected)
    assert (made, hash(made), repr(made)) == (expected, hash(expected), repr(expected))


def test_a_progress_event_copies_and_pickles() -> None:
    """It has everything that its class has, so whatever works on events works on it."""
    event = decoded(a=1)
    for copied in (copy.copy(event), copy.deepcopy(event), pickle.loads(pickle.dumps(event))):
        assert attrs.asdict(copied) == attrs.asdict(event)
    assert attrs.evolve(event, stage="train").stage == "train"


def test_a_progress_event_is_frozen() -> None:
    """What sets its fields once sets them for nobody else."""
    event = decoded(progress=0.5, step_current=1, step_total=2)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.progress = 1.0  # type: ignore[misc]
