"""Ticks that are made field by field are what their class makes."""

import copy
import pickle

import attrs
import pytest

from cyberun_async import ProgressEvent
from cyberun_async._protocol import make_progress_event


FIELDS = {
    "raw": {"progress": 0.5, "new": True},
    "progress": 0.5,
    "step_current": 10,
    "step_total": 20,
    "current_node": "sampler",
    "stage": "train",
    "message": "going well",
}


def test_a_tick_is_what_its_class_makes() -> None:
    """No field is forgotten or mixed up with another, those that do not compare included."""
    made = make_progress_event("task", 2, *FIELDS.values())  # type: ignore[arg-type]
    expected = ProgressEvent(task_id="task", attempt=2, **FIELDS)  # type: ignore[arg-type]
    assert attrs.asdict(made) == attrs.asdict(expected)
    assert (made, hash(made), repr(made)) == (expected, hash(expected), repr(expected))


def test_a_tick_copies_and_pickles() -> None:
    """It has everything that its class has, so whatever works on events works on it."""
    tick = make_progress_event("task", 1, {"a": 1}, None, None, None, None, None, None)
    for copied in (copy.copy(tick), copy.deepcopy(tick), pickle.loads(pickle.dumps(tick))):
        assert attrs.asdict(copied) == attrs.asdict(tick)
    assert attrs.evolve(tick, stage="train").stage == "train"


def test_a_tick_is_frozen() -> None:
    """What sets its fields once sets them for nobody else."""
    tick = make_progress_event("task", 1, {}, 0.5, 1, 2, None, None, None)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        tick.progress = 1.0  # type: ignore[misc]
