"""Values of the service: frozen, slotted, compared by content, and at home in any process."""

import copy
import inspect
import json
import pickle
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

import cyberun_async
from cyberun_async import (
    Agent,
    ArtifactLink,
    ClientStatistics,
    CreatedWebhook,
    GpuDevice,
    ParameterDef,
    RawResult,
    Response,
    ResumeToken,
    TaskSnapshot,
    TaskStatus,
    Webhook,
    Workflow,
    webhooks,
)
from cyberun_async._model import (
    TERMINAL_STATUSES,
    WAITING_STATUSES,
    WebhookEvent,
    is_terminal,
    parse_status,
)


TASK = "0197a1b2-0000-7000-8000-00000000abcd"
AT = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
STEPS = ParameterDef(key="steps", type="number", default=[20], min=1, options=("a",))
LINK = ArtifactLink(
    output_id="9.images.0", url="https://store.example/a?sig=1", metadata={"width": 512}
)

EXAMPLES: list[Any] = [
    TaskSnapshot(id=TASK, status=TaskStatus.RUNNING, created_at=AT, agent_labels=("gpu",)),
    ResumeToken(task_id=TASK, status="running", attempt=2, submitted_at=AT),
    STEPS,
    Workflow(id=TASK, slug="text-to-image", parameters=(STEPS,)),
    GpuDevice(name="RTX 4090", vram_total=24),
    Agent(id="gpu-node-01", gpu_devices=(GpuDevice(name="RTX 4090"),)),
    LINK,
    RawResult(id=TASK, status="completed", output={"a": [1]}, links=(LINK,)),
    Response(status=200, headers={"content-type": "application/json"}, body=b"{}"),
    ClientStatistics(
        transport="httpx",
        **{name: 5 for name in attrs.fields_dict(ClientStatistics) if name != "transport"},
    ),
    Webhook(id=TASK, secret="whsec_abc", events=("task.completed",)),
    CreatedWebhook(id=TASK, secret="whsec_abc"),
    WebhookEvent(event_type="task.completed", task_id=TASK, task_output={"a": [1]}),
]
EVERY_VALUE = [pytest.param(value, id=type(value).__name__) for value in EXAMPLES]
WITH_RAW = [pytest.param(value, id=type(value).__name__) for value in EXAMPLES if "raw" in
            {field.name for field in value.__attrs_attrs__}]  # fmt: skip


def exported_classes() -> Iterator[Any]:
    for module in (cyberun_async, webhooks):
        for name in module.__all__:
            if inspect.isclass(getattr(module, name)):
                yield pytest.param(getattr(module, name), id=f"{module.__name__}.{name}")


def field_names(value: Any) -> list[str]:
    return [field.name for field in value.__attrs_attrs__]


@pytest.mark.parametrize("value", EVERY_VALUE)
def test_a_value_survives_a_pickle_and_a_copy(value: Any) -> None:
    """What comes back is equal, of the same class, and just as whole."""
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(value, protocol))
        assert type(again) is type(value)
        assert again == value
        assert attrs.asdict(again) == attrs.asdict(value)
    for again in (copy.copy(value), copy.deepcopy(value)):
        assert again == value


@pytest.mark.parametrize("value", EVERY_VALUE)
def test_equal_values_have_equal_hashes(value: Any) -> None:
    """Values can be members of sets and keys, also with objects of JSON in them."""
    twin = copy.deepcopy(value)

    assert hash(twin) == hash(value)
    assert {value, twin} == {value}
    assert value != object()


@pytest.mark.parametrize("value", EVERY_VALUE)
def test_a_value_is_frozen_and_slotted(value: Any) -> None:
    """Neither a field nor an attribute of the caller's own can be set."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(value, field_names(value)[0], "other")
    with pytest.raises((AttributeError, attrs.exceptions.FrozenInstanceError)):
        value.brand_new = 5
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("value", EVERY_VALUE)
def test_a_changed_field_makes_another_value(value: Any) -> None:
    """Every field that is compared makes a difference, and ``raw`` does not."""
    for field in value.__attrs_attrs__:
        changed = attrs.evolve(value, **{field.name: "something else"})
        assert (changed == value) is (field.name == "raw"), field.name


@pytest.mark.parametrize("value", WITH_RAW)
def test_the_raw_reply_is_reachable_and_out_of_sight(value: Any) -> None:
    """It is bytes, so that it costs little; it is not printed and not compared."""
    with_raw = attrs.evolve(value, raw=b'{"brand_new": 5}')

    assert with_raw == value
    assert "brand_new" not in repr(with_raw)
    if hasattr(value, "raw_json"):
        assert with_raw.raw_json() == {"brand_new": 5}
        assert attrs.evolve(value, raw=b"").raw_json() is None


@pytest.mark.parametrize("value", EVERY_VALUE)
def test_a_value_prints_without_secrets_and_links(value: Any) -> None:
    """A representation names the class, and shows nothing that gives access."""
    text = repr(value)

    assert text.startswith(type(value).__name__)
    assert "whsec_" not in text
    assert "sig=1" not in text


@pytest.mark.parametrize("cls", list(exported_classes()))
def test_type_hints_of_exported_classes_resolve(cls: type) -> None:
    """Tools that read hints at run time can read those of every class."""
    typing.get_type_hints(cls)


@pytest.mark.parametrize("cls", [type(value) for value in EXAMPLES])
def test_type_hints_of_methods_resolve(cls: type) -> None:
    """So they can those of the methods of values, constructors included."""
    for thing in vars(cls).values():
        function = thing.fget if isinstance(thing, property) else thing
        if inspect.isfunction(function):
            typing.get_type_hints(function)


def test_states_are_strings() -> None:
    """A member equals its text, prints as it, and is JSON."""
    assert [TaskStatus.RUNNING] == ["running"]
    assert f"{TaskStatus.RUNNING}" == "running"
    assert json.dumps([TaskStatus.RUNNING]) == '["running"]'
    assert pickle.loads(pickle.dumps(TaskStatus.RUNNING)) is TaskStatus.RUNNING


def test_each_state_is_running_waiting_or_final() -> None:
    """No documented state was forgotten in the sets that decisions rest on."""
    assert set(TaskStatus) == {*TERMINAL_STATUSES, *WAITING_STATUSES, TaskStatus.RUNNING}
    assert not TERMINAL_STATUSES & WAITING_STATUSES


@pytest.mark.parametrize("text", [*TaskStatus, "hibernating", "", "Running", " running"])
def test_a_state_is_a_member_where_it_is_known(text: str) -> None:
    """An unknown one is its own text, and no end."""
    status = parse_status(str(text))

    assert status == text
    assert isinstance(status, TaskStatus) is (text in list(TaskStatus))
    assert is_terminal(status) is (text in {"completed", "failed", "cancelled"})
    assert TaskSnapshot(id="a", status=status).is_terminal is is_terminal(status)


def test_no_state_is_no_end() -> None:
    """Where nothing is known, the task goes on."""
    assert is_terminal(None) is False


@pytest.mark.parametrize(("retries", "attempt"), [(None, 1), (0, 1), (2, 3)])
def test_attempts_are_counted_from_one(retries: int | None, attempt: int) -> None:
    """The service counts repetitions; a user counts attempts."""
    assert TaskSnapshot(id="a", status="running", retry_count=retries).attempt == attempt


def test_a_token_is_one_line_of_json() -> None:
    """What is None is left out, moments are ISO 8601."""
    token = ResumeToken(task_id=TASK, status=TaskStatus.RUNNING, retry_count=1, submitted_at=AT)

    assert json.loads(token.dumps()) == {
        "task_id": TASK,
        "status": "running",
        "attempt": 1,
        "retry_count": 1,
        "submitted_at": "2026-03-01T10:00:00+00:00",
    }
    assert "\n" not in token.dumps()


@pytest.mark.parametrize(
    ("status", "success"), [(199, False), (200, True), (299, True), (300, False)]
)
def test_success_is_2xx(status: int, success: bool) -> None:
    """Any status from 200 to 299, and no other."""
    assert Response(status=status).is_success is success
    assert Response(status=status).content_type is None
