"""Every public value, wherever it is public: pickled, copied, compared, hashed and printed."""

import copy
import inspect
import pickle
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, Final

import attrs
import pytest

import cyberun_async
from cyberun_async import (
    CancelledEvent,
    CompletedEvent,
    Connected,
    CyberunClient,
    Event,
    FailedEvent,
    Gap,
    GaveUp,
    Limits,
    Outcome,
    PollingStarted,
    ProgressEvent,
    ProgressUpdate,
    ResumeToken,
    RetryPolicy,
    ServerErrorEvent,
    StatusEvent,
    StreamingResumed,
    StreamLost,
    Submission,
    TaskHandle,
    TaskSnapshot,
    Timeouts,
    UnknownEvent,
    UploadedFile,
    WatchPolicy,
    batch,
    otel,
    relay,
    testing,
    webhooks,
)

from .test_models import EXAMPLES as REPLIES


TASK = "0197a1b2-0000-7000-8000-00000000abcd"
AT = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
SNAPSHOT = TaskSnapshot(id=TASK, status="completed")
MODULES: Final = (cyberun_async, webhooks, batch, relay, testing, otel)

# Values of the service's replies have tests of their own in test_models.py.
EXAMPLES: Final[list[Any]] = [
    StatusEvent(task_id=TASK, status="running", attempt=2, unconfirmed=True),
    ProgressEvent(task_id=TASK, progress=0.5, step_current=10, step_total=20, message="half"),
    CompletedEvent(task_id=TASK, output={"a": [1, {"b": None}]}, origin="poll"),
    FailedEvent(task_id=TASK, error="no memory"),
    CancelledEvent(task_id=TASK),
    ServerErrorEvent(task_id=TASK, message="later"),
    UnknownEvent(task_id=TASK, name="of_tomorrow", data='{"a": [1]}'),
    Connected(task_id=TASK),
    StreamLost(task_id=TASK, cause="cut", delay=1.5),
    PollingStarted(task_id=TASK, cause="refused"),
    StreamingResumed(task_id=TASK),
    Gap(task_id=TASK, seconds=5.0),
    GaveUp(task_id=TASK, cause="mute", token=ResumeToken(task_id=TASK), snapshot=SNAPSHOT),
    ProgressUpdate(task_id=TASK, status="running", attempt=1, progress=0.5, seconds_left=3.0),
    Outcome(handle=TaskHandle(TASK), snapshot=SNAPSHOT),
    Submission(index=3, parameters={"prompt": "a fox"}, handle=TaskHandle(TASK)),
    Limits(max_streams=7),
    RetryPolicy(max_attempts=2),
    Timeouts(read=5.0),
    WatchPolicy(check_after=5.0),
    UploadedFile(key="inputs/a", name="a.png", size=3, content_type="image/png"),
    batch.BatchPolicy(concurrency=3),
    batch.BatchProgress(counts={batch.JobState.COMPLETED: 3}),
    batch.BatchReport(counts={batch.JobState.COMPLETED: 3}, fates=()),
    batch.Job(key="a", workflow="text-to-image", parameters={"prompt": ["a", {"b": 1}]}),
    batch.JobFault(place="line 3", key="a", problem="no prompt"),
    batch.JobOutcome(key="a", state=batch.JobState.COMPLETED, task_id=TASK, submissions=1),
    batch.UnconfirmedSubmission(
        key="a", workflow="text-to-image", intent_at=AT, verdict="uncertain"
    ),
    testing.Attempt(steps=3),
    testing.Behaviour(heartbeat=5.0),
    testing.TaskPlan(steps=3, output={"a": 1}),
    testing.story().plan,
    testing.story(),
]
EVERY_VALUE = [
    pytest.param(value, id=f"{type(value).__name__}-{index}")
    for index, value in enumerate(EXAMPLES)
]


def exported() -> Iterator[tuple[ModuleType, str, Any]]:
    for module in MODULES:
        for name in module.__all__:
            yield module, name, getattr(module, name)


def exported_classes() -> list[type]:
    return list(dict.fromkeys(value for _, _, value in exported() if inspect.isclass(value)))


@pytest.mark.parametrize("value", EVERY_VALUE)
def test_a_value_comes_back_from_a_pickle_and_a_copy(value: Any) -> None:
    """What comes back is equal, of the same class, and just as whole."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(value, protocol))
        assert (type(again), again) == (type(value), value)
        assert attrs.asdict(again, recurse=False) == attrs.asdict(value, recurse=False)
    for again in (copy.copy(value), copy.deepcopy(value), attrs.evolve(value)):
        assert (type(again), again) == (type(value), value)
        assert again is not value


@pytest.mark.parametrize("value", EVERY_VALUE)
def test_equal_values_are_one_member_of_a_set(value: Any) -> None:
    """Values hash by content, objects of JSON in them notwithstanding."""
    twin = copy.deepcopy(value)

    assert hash(twin) == hash(value)
    assert {value, twin} == {value}
    assert value != object()


@pytest.mark.parametrize("value", EVERY_VALUE)
def test_a_value_is_not_changed(value: Any) -> None:
    """No field can be set, and none of the caller's own added."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, attrs.fields(type(value))[0].name, "other")
    with pytest.raises((AttributeError, attrs.exceptions.FrozenInstanceError)):
        value.brand_new = 5
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("value", EVERY_VALUE)
def test_a_value_prints_as_what_it_is(value: Any) -> None:
    """A representation names the class, is one line, and shows no bytes of a reply."""
    text = repr(value)

    assert text.startswith(type(value).__name__)
    assert "\n" not in text
    assert "raw=" not in text


@pytest.mark.parametrize("value", [value for value in EXAMPLES if isinstance(value, Event)])
def test_events_of_other_classes_differ(value: Event) -> None:
    """An event equals none of another class, whatever its fields."""
    others = [other for other in EXAMPLES if type(other) is not type(value)]

    assert [other for other in others if other == value] == []


# Compared by identity, since what it holds may be read once.
SINGLE: Final = {cyberun_async.Upload}

# Made by the simulator alone, to be read in assertions.
RECORDS: Final = {
    testing.Delivery,
    testing.RecordedRequest,
    testing.RunRequest,
    testing.Sent,
    testing.Submission,
}


def test_every_frozen_class_has_an_example() -> None:
    """A new value is put into this table or into that of the service's values."""
    frozen = {cls for cls in exported_classes() if attrs.has(cls) and is_frozen(cls)}

    assert frozen - RECORDS - SINGLE == {type(value) for value in (*EXAMPLES, *REPLIES)}


def is_frozen(cls: type) -> bool:
    refuses: object = TaskSnapshot.__setattr__
    return cls.__setattr__ is refuses


@pytest.mark.parametrize(
    "cls", [pytest.param(cls, id=f"{cls.__module__}.{cls.__name__}") for cls in exported_classes()]
)
def test_type_hints_of_every_public_class_resolve(cls: type) -> None:
    """Tools that read hints at run time can read those of every class."""
    typing.get_type_hints(cls)


@pytest.mark.parametrize("function", [CyberunClient, webhooks.verify, webhooks.sign])
def test_type_hints_of_what_users_call_first_resolve(function: Any) -> None:
    """Tools that build a client from its signature find every type in it."""
    called = function.__init__ if inspect.isclass(function) else function

    assert set(inspect.signature(function).parameters) <= set(typing.get_type_hints(called))
