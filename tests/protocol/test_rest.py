"""Documented replies become values; whatever else comes is tolerated, or is one typed error."""

import json
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest
from hypothesis import example, given, strategies as st

from cyberun_async._model import (
    Agent,
    ArtifactLink,
    CreatedWebhook,
    CyberunError,
    GpuDevice,
    ParameterDef,
    RawResult,
    TaskSnapshot,
    TaskStatus,
    UnexpectedResponseError,
    Webhook,
    Workflow,
)
from cyberun_async._protocol import (
    Page,
    PresignedUpload,
    Response,
    TaskRow,
    decode_acknowledgement,
    decode_agents,
    decode_created_webhook,
    decode_error_message,
    decode_id,
    decode_presign,
    decode_result,
    decode_submission,
    decode_task,
    decode_task_page,
    decode_task_rows,
    decode_webhook,
    decode_webhook_secret,
    decode_webhooks,
    decode_workflow,
    decode_workflows,
    rejection,
)


TASK = "0197a1b2-0000-7000-8000-00000000abcd"
FLOW = "0197a1b2-0000-7000-8000-00000000beef"
MOMENT = "2026-03-01T10:00:00Z"
LATER = "2026-03-01T11:00:00Z"
AT = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
LINK = "https://store.example/tasks/a.png?X-Amz-Signature=abc"

Fields = dict[str, Any]
Decoder = Callable[[Response], object]


def reply_of(value: object, status: int = 200) -> Response:
    # A number too large for a float is JSON; the words that Python would write are not.
    text = json.dumps(value).replace("Infinity", "1e999").replace("NaN", "null")
    return raw_reply(text.encode(), status)


def raw_reply(body: bytes, status: int = 200, kind: str | None = "application/json") -> Response:
    headers = {} if kind is None else {"content-type": kind}
    return Response(status=status, headers=headers, body=body, path="/r/tasks")


def in_list(name: str) -> Callable[[Fields], object]:
    """Return what puts a row into a page of its own."""
    return lambda row: {
        name: [row],
        "page_meta": {"current_page": 1, "per_page": 20, "total_count": 1},
    }


def alone(fields: Fields) -> object:
    return fields


def only_item(value: Any) -> Any:
    return value.items[0]


def itself(value: Any) -> Any:
    return value


@attrs.frozen
class Documented:
    """A reply as documented: how it is read, and which attributes come of which field."""

    name: str
    decode: Decoder
    sample: Fields
    attributes: Mapping[str, tuple[str, ...]]
    essential: frozenset[str] = frozenset()
    wrap: Callable[[Fields], object] = alone
    pick: Callable[[Any], Any] = itself

    def read(self, fields: Fields) -> Any:
        """Return what *fields*, in their place, are decoded to."""
        return self.pick(self.decode(reply_of(self.wrap(fields))))


TASK_SAMPLE: Fields = {
    "id": TASK,
    "workflow_id": FLOW,
    "task_status": "completed",
    "created_at": MOMENT,
    "started_at": MOMENT,
    "completed_at": LATER,
    "task_error": "no VRAM",
    "retry_count": 2,
    "agent_id": "gpu-node-01",
    "gateway_id": "gw-a1b2c3d4",
    "agent_labels": ["gpu:rtx4090", "team"],
    "gpu_type": "NVIDIA GeForce RTX 4090",
    "dispatch_target": "agent",
    "target_pool": "team",
    "tool_type": "comfyui",
}
TASK_ATTRIBUTES = {
    **{name: (name,) for name in TASK_SAMPLE},
    "task_status": ("status",),
    "task_error": ("error",),
}
PARAMETER_SAMPLE: Fields = {
    "key": "steps",
    "type": "number",
    "label": "Steps",
    "description": "How many",
    "required": True,
    "default": 20,
    "min": 1,
    "max": 150.5,
    "options": ["a", "b"],
    "accept": ["image/png"],
    "node_id": "3",
    "field": "steps",
    "target_path": "train.steps",
    "source_key": "input_image",
}
WORKFLOW_SAMPLE: Fields = {
    "id": FLOW,
    "workflow_slug": "text-to-image",
    "display_name": "Text to image",
    "version": 3,
    "workflow_status": "active",
    "created_at": MOMENT,
    "updated_at": LATER,
    "description": "A picture",
    "parameters": [PARAMETER_SAMPLE],
    "required_labels": ["gpu"],
    "task_timeout": 600,
    "max_retries": 1,
    "preferred_gpu": "RTX_4090",
    "default_dispatch_target": "agent",
    "min_vram_gb": 24,
    "required_models": ["checkpoints/sdxl.safetensors"],
    "tool_type": "comfyui",
}
WORKFLOW_ATTRIBUTES = {
    **{name: (name,) for name in WORKFLOW_SAMPLE},
    "workflow_slug": ("slug",),
    "workflow_status": ("status",),
}
AGENT_SAMPLE: Fields = {
    "agent_id": "gpu-node-01",
    "agent_status": "busy",
    "agent_labels": ["gpu"],
    "last_heartbeat": LATER,
    "agent_version": "1.4.0",
    "tool": "comfyui",
    "tool_version": "0.3",
    "comfyui_version": "0.3.1",
    "gpu_capacity": 2,
    "running_count": 1,
    "running_tasks": [TASK],
    "platform_arch": "linux/amd64",
    "sync_phase": "downloading",
    "sync_detail": "sdxl",
    "sync_percent": 45.5,
    "connected_at": MOMENT,
    "tasks_completed": 7,
    "current_task_id": TASK,
    "system_stats": {
        "gpu_devices": [
            {"device_name": "RTX 4090", "device_type": "cuda", "vram_total": 24, "vram_free": 20}
        ],
    },
}
AGENT_ATTRIBUTES = {
    **{name: (name,) for name in AGENT_SAMPLE},
    "agent_id": ("id",),
    "agent_status": ("status",),
    "agent_labels": ("labels",),
    "last_heartbeat": ("last_heartbeat_at",),
    "agent_version": ("version",),
    "system_stats": ("gpu_devices",),
}
RESULT_SAMPLE: Fields = {
    "id": TASK,
    "task_status": "completed",
    "task_output": {"9.images.0": {"s3_key": "tasks/a.png", "width": 512}},
    "download_url": "https://store.example/tasks/b.png?sig=1",
    "download_urls": {"9.images.0": LINK},
    "expires_at": LATER,
    "task_error": "a warning",
    "completed_at": MOMENT,
}
RESULT_ATTRIBUTES = {
    **{name: (name,) for name in RESULT_SAMPLE},
    "task_status": ("status",),
    "task_output": ("output", "links"),
    "download_url": ("links",),
    "download_urls": ("links",),
    "task_error": ("error",),
}
WEBHOOK_SAMPLE: Fields = {
    "id": FLOW,
    "display_name": "Ours",
    "webhook_url": "https://hooks.example/a",
    "webhook_secret": "whsec_abc",
    "webhook_events": ["task.completed"],
    "webhook_status": "active",
    "created_at": MOMENT,
    "last_delivered_at": LATER,
}
WEBHOOK_ATTRIBUTES = {
    **{name: (name,) for name in WEBHOOK_SAMPLE},
    "webhook_url": ("url",),
    "webhook_secret": ("secret",),
    "webhook_events": ("events",),
    "webhook_status": ("status",),
}
ID, STATUS = frozenset({"id"}), frozenset({"id", "task_status"})

DOCUMENTED = [
    Documented("task", decode_task, TASK_SAMPLE, TASK_ATTRIBUTES, STATUS),
    Documented(
        "task list", decode_task_page, TASK_SAMPLE, TASK_ATTRIBUTES, STATUS,
        in_list("task_list"), only_item,
    ),
    Documented("workflow", decode_workflow, WORKFLOW_SAMPLE, WORKFLOW_ATTRIBUTES, ID),
    Documented(
        "workflow list", decode_workflows, WORKFLOW_SAMPLE, WORKFLOW_ATTRIBUTES, ID,
        in_list("workflow_list"), only_item,
    ),
    Documented(
        "agent list", decode_agents, AGENT_SAMPLE, AGENT_ATTRIBUTES, frozenset({"agent_id"}),
        in_list("agent_list"), only_item,
    ),
    Documented("result", decode_result, RESULT_SAMPLE, RESULT_ATTRIBUTES),
    Documented("webhook", decode_webhook, WEBHOOK_SAMPLE, WEBHOOK_ATTRIBUTES, ID),
    Documented(
        "webhook list", decode_webhooks, WEBHOOK_SAMPLE, WEBHOOK_ATTRIBUTES, ID,
        in_list("webhook_list"), only_item,
    ),
    Documented(
        "presign", decode_presign,
        {"file_key": "inputs/a", "upload_url": LINK, "upload_headers": {"If-None-Match": "*"}},
        {"file_key": ("file_key",), "upload_url": ("url",), "upload_headers": ("headers",)},
        frozenset({"file_key", "upload_url"}),
    ),
    Documented(
        "created webhook", decode_created_webhook, {"id": FLOW, "webhook_secret": "whsec_abc"},
        {"id": ("id",), "webhook_secret": ("secret",)}, ID,
    ),
]  # fmt: skip
EVERY_FIELD = [
    pytest.param(one, name, id=f"{one.name}-{name}") for one in DOCUMENTED for name in one.sample
]
EVERY_REPLY = [pytest.param(one, id=one.name) for one in DOCUMENTED]

NOTHING: tuple[object, ...] = (None, "")
ODD: tuple[object, ...] = (
    *(0, -1, 1.5, 10**30, float("inf"), True, False, [], {}, [None], [1, "a"], {"a": None}),
    *({"a": {"b": [1]}}, [[["a"]]], "text", "\ud800", "x" * 10_000, "\x00\r\n"),
)


def fields_of(value: Any) -> dict[str, Any]:
    return {field.name: field.default for field in value.__attrs_attrs__}


def differences(one: Any, other: Any) -> set[str]:
    """Return the names of the attributes in which two values of a class differ."""
    names = [name for name in fields_of(one) if name != "raw"]
    return {name for name in names if getattr(one, name) != getattr(other, name)}


def default_of(value: Any, name: str) -> object:
    """Return what an attribute is when nothing was sent for it."""
    default = fields_of(value)[name]
    return default.factory() if hasattr(default, "factory") else default


@pytest.mark.parametrize("documented", EVERY_REPLY)
def test_each_documented_field_arrives(documented: Documented) -> None:
    """No documented field is forgotten: each attribute the table names differs from nothing."""
    value = documented.read(documented.sample)

    for name, attributes in documented.attributes.items():
        for attribute in attributes:
            assert getattr(value, attribute), name


@pytest.mark.parametrize(("documented", "name"), EVERY_FIELD)
def test_a_field_that_is_missing_null_or_empty_is_nothing(
    documented: Documented, name: str
) -> None:
    """The three ways to say nothing are alike, and touch no other attribute."""
    whole = documented.read(documented.sample)
    absent = {key: value for key, value in documented.sample.items() if key != name}
    for fields in (absent, *({**documented.sample, name: value} for value in NOTHING)):
        if name in documented.essential:
            with pytest.raises(UnexpectedResponseError, match=name):
                documented.read(fields)
            continue
        if name == "upload_headers" and fields.get(name) == "":
            continue  # of the wrong type, which the next test is about
        value = documented.read(fields)
        assert differences(whole, value) <= set(documented.attributes[name])
        for attribute in documented.attributes[name][: name != "task_output"]:
            if attribute != "links" and not (name == "id" and documented.name == "result"):
                assert getattr(value, attribute) == default_of(value, attribute)


@pytest.mark.parametrize(("documented", "name"), EVERY_FIELD)
def test_a_field_of_another_type_spoils_only_itself(documented: Documented, name: str) -> None:
    """What is essential is refused, all else is tolerated and touches no other attribute."""
    whole = documented.read(documented.sample)
    for odd in ODD:
        try:
            value = documented.read({**documented.sample, name: odd})
        except UnexpectedResponseError:
            assert name in documented.essential | {"upload_headers"}
            continue
        assert name not in documented.essential or isinstance(odd, str)
        assert differences(whole, value) <= set(documented.attributes[name])
        hash(value)
        assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize("documented", EVERY_REPLY)
def test_what_is_not_known_is_kept_and_does_no_harm(documented: Documented) -> None:
    """A field of tomorrow changes nothing, and is found in the raw reply."""
    extra: Fields = {"brand_new": {"a": [1, None]}, "": 5, "\ud800": "\ud800"}

    value = documented.read({**documented.sample, **extra})

    assert value == documented.read(documented.sample)
    if hasattr(value, "raw"):
        assert json.loads(value.raw) == {**documented.sample, **extra}


@pytest.mark.parametrize(
    ("decode", "old", "new"),
    [
        (decode_task, {"task_status": "running", "task_error": "a", "id": TASK},
         {"status": "running", "error": "a", "task_id": TASK}),
        (decode_result, {"task_status": "failed", "task_error": "a", "task_output": {"b": 1}},
         {"status": "failed", "error": "a", "output": {"b": 1}}),
        (decode_submission, {"task_id": TASK}, {"id": TASK}),
        (decode_workflow, {"id": FLOW, "workflow_slug": "ab"}, {"workflow_id": FLOW, "slug": "ab"}),
        (decode_task_rows, {"task_list": [{"id": "a", "task_status": "running"}]},
         {"tasks": [{"task_id": "a", "status": "running"}]}),
    ],
)  # fmt: skip
def test_both_vocabularies_are_understood(decode: Decoder, old: object, new: object) -> None:
    """The stream and the REST interface name the same things differently; either is read."""
    both = decode(reply_of(old)), decode(reply_of(new))

    assert both[0] == both[1]


def test_a_known_field_wins_over_its_other_name() -> None:
    """With both names sent, that of the REST interface counts, unless it is empty."""
    both = {"id": TASK, "task_status": "running", "status": "queued"}

    assert decode_task(reply_of(both)).status == "running"
    assert decode_task(reply_of({**both, "task_status": ""})).status == "queued"


def test_a_task_is_read() -> None:
    """Statuses are members where they are known, moments are aware, nothing is None."""
    task = decode_task(reply_of({**TASK_SAMPLE, "task_error": "", "started_at": None}))

    assert task.status is TaskStatus.COMPLETED
    assert (task.created_at, task.started_at, task.error, task.attempt) == (AT, None, None, 3)
    assert task.raw_json()["agent_id"] == "gpu-node-01"


def test_an_unknown_status_is_still_in_progress() -> None:
    """A state of tomorrow is a text, and no end."""
    task = decode_task(reply_of({"id": TASK, "task_status": "hibernating"}))

    assert (task.status, task.is_terminal) == ("hibernating", False)


@pytest.mark.parametrize(
    "moment",
    ["2026-03-01T10:00:00", "0001-01-01T00:00:00Z", "2026-13-01T00:00:00Z", "now", "2026-03-01",
     "2026-03-01T10:00:00+99:00", 1772359200, "9" * 5000],
)  # fmt: skip
def test_a_malformed_timestamp_is_nothing(moment: object) -> None:
    """Naive, impossible or zero moments are not guessed at."""
    assert decode_task(reply_of({**TASK_SAMPLE, "created_at": moment})).created_at is None


@pytest.mark.parametrize(
    "task_id", ["../x", "a b", "a\r\nb", "x" * 300, "tâche", "\ud800", "sk-live-abcdef"]
)
@pytest.mark.parametrize("decode", [decode_submission, decode_id, decode_created_webhook])
def test_an_id_that_cannot_be_one_is_unexpected(decode: Decoder, task_id: str) -> None:
    """An id goes into later paths, so it is checked where it comes in; a key is not repeated."""
    with pytest.raises(UnexpectedResponseError) as caught:
        decode(reply_of({"task_id": task_id, "id": task_id}))

    assert "sk-live-abcdef" not in str(caught.value)


def test_ids_of_new_things_are_read() -> None:
    """Submitting, creating and updating answer with an id."""
    assert decode_submission(reply_of({"task_id": TASK.upper()}, 202)) == TASK
    assert decode_id(reply_of({"id": FLOW})) == FLOW
    assert decode_created_webhook(reply_of({"id": FLOW})) == CreatedWebhook(id=FLOW)
    assert decode_webhook_secret(reply_of({"webhook_secret": "whsec_a"})) == "whsec_a"


@pytest.mark.parametrize("value", [None, "", 5, [], {}, True])
def test_a_secret_is_a_text(value: object) -> None:
    """A rotation that tells no secret is unexpected, since the old one is dead."""
    with pytest.raises(UnexpectedResponseError, match="webhook_secret"):
        decode_webhook_secret(reply_of({"webhook_secret": value}))


@pytest.mark.parametrize(
    ("body", "taken"),
    [(b'{"is_success": true}', True), (b'{"is_success": false}', False), (b"{}", True),
     (b'{"is_success": null}', True), (b'{"is_success": "no"}', True), (b"", True), (b" \n", True)],
)  # fmt: skip
def test_an_action_is_taken_unless_it_says_not(body: bytes, taken: bool) -> None:
    """An empty answer acknowledges as well as the documented one."""
    assert decode_acknowledgement(raw_reply(body)) is taken


# --- lists ---------------------------------------------------------------------------

ROW: Fields = {"id": TASK, "task_status": "running"}
LISTS: list[tuple[Decoder, str]] = [
    (decode_task_page, "task_list"),
    (decode_task_rows, "task_list"),
    (decode_workflows, "workflow_list"),
    (decode_agents, "agent_list"),
    (decode_webhooks, "webhook_list"),
]


@pytest.mark.parametrize(("decode", "name"), LISTS)
def test_an_empty_list_may_be_said_in_many_ways(decode: Callable[..., Any], name: str) -> None:
    """An empty list, null, or only the numbers of the page: all are no rows."""
    empty: list[object] = [{name: []}, {name: None}, {"page_meta": {"total_count": 0}}, []]
    for value in empty:
        page = decode(reply_of(value))
        assert (page.items, page.row_count) == ((), 0)


@pytest.mark.parametrize(("decode", "name"), LISTS)
@pytest.mark.parametrize("value", [5, "a", True, {}, {"a": 1}], ids=repr)
def test_what_is_no_list_is_unexpected(decode: Decoder, name: str, value: object) -> None:
    """A list of another type is the reply of something else."""
    foreign: list[object] = [{name: value}, {name: value, "page_meta": {}}, {"other": []}, {}]
    for reply in foreign:
        with pytest.raises(UnexpectedResponseError, match=name):
            decode(reply_of(reply))


@pytest.mark.parametrize("decode", [decode_task_page, decode_workflows, decode_agents])
@pytest.mark.parametrize("row", [None, 5, "a", [], {}, {"id": 5}], ids=repr)
def test_a_row_of_another_shape_is_unexpected(decode: Decoder, row: object) -> None:
    """A row that nothing can be done with is reported rather than dropped."""
    with pytest.raises(UnexpectedResponseError):
        decode(reply_of([row]))


def test_the_numbers_of_a_page_are_read() -> None:
    """The page says which it is, how many rows it may have and how many there are in all."""
    meta = {"current_page": 2, "per_page": 20, "total_count": 42}

    page = decode_task_page(reply_of({"task_list": [ROW], "page_meta": meta}))

    assert (page.current_page, page.per_page, page.total_count, page.row_count) == (2, 20, 42, 1)


@pytest.mark.parametrize("odd", ODD, ids=lambda value: ascii(value)[:20])
@pytest.mark.parametrize("name", ["current_page", "per_page", "total_count"])
def test_odd_numbers_of_a_page_are_nothing(name: str, odd: object) -> None:
    """Only whole numbers from 0 on are reckoned with."""
    meta = {"current_page": 2, "per_page": 20, "total_count": 42, name: odd}
    expected = 0 if odd == 0 and odd is not False else None

    for value in ({"task_list": [ROW], "page_meta": meta}, {"task_list": [ROW], "page_meta": odd}):
        page = decode_task_page(reply_of(value))
        assert getattr(page, name) == (expected if value["page_meta"] is meta else None)


@pytest.mark.parametrize(
    ("rows", "size", "total", "asked", "last"),
    [
        (20, 20, 42, 1, False),
        (20, 20, 40, 2, True),
        (2, 20, 42, 3, True),
        (2, 20, 1000, 1, True),
        (0, None, None, 1, True),
        (20, None, None, 1, False),
        (10, 10, None, 1, False),
        (10, 10, 30, 3, True),
    ],
)
def test_a_short_page_is_the_last(
    rows: int, size: int | None, total: int | None, asked: int, last: bool
) -> None:
    """A short page ends the list whatever the total says; a smaller page size is the service's."""
    page = Page[int](items=(), row_count=rows, per_page=size, total_count=total)

    assert page.is_last(asked, 20) is last


def test_a_page_of_no_rows_is_the_last_even_of_size_zero() -> None:
    """A page size of 0 is no size, so paging ends."""
    assert Page[int](items=(), row_count=0, per_page=0).is_last(1, 20)


@pytest.mark.parametrize(
    ("row", "sighting"),
    [
        (ROW, TaskRow(TASK, "running", None)),
        ({**ROW, "retry_count": 3}, TaskRow(TASK, "running", 3)),
        ({**ROW, "retry_count": -1}, TaskRow(TASK, "running", None)),
        ({**ROW, "retry_count": True}, TaskRow(TASK, "running", None)),
        ({**ROW, "retry_count": "3"}, TaskRow(TASK, "running", None)),
        ({"task_id": TASK, "status": "new"}, TaskRow(TASK, "new", None)),
    ],
)
def test_a_sighting_is_what_following_needs(row: Fields, sighting: TaskRow) -> None:
    """A row gives id, status and attempt, or what of them it has."""
    assert decode_task_rows(reply_of({"task_list": [row]})).items == (sighting,)


def test_rows_that_say_nothing_are_passed_over_but_counted() -> None:
    """One odd row does not stop the watching of all others."""
    rows = [None, 5, {}, {"id": TASK}, {"id": 5, "task_status": "running"}, ROW]

    page = decode_task_rows(reply_of({"task_list": rows}))

    assert (page.items, page.row_count) == ((TaskRow(TASK, "running", None),), 6)
    with pytest.raises(UnexpectedResponseError, match="no row"):
        decode_task_rows(reply_of({"task_list": rows[:-1]}))


# --- results and links ----------------------------------------------------------------


def links_of(**fields: object) -> tuple[ArtifactLink, ...]:
    return decode_result(reply_of({"id": TASK, "task_status": "completed", **fields})).links


def test_one_link_and_many_are_one_sequence() -> None:
    """Both link forms give links with an id, their storage key and what else is known."""
    local = links_of(task_output={"storage_key": "a", "image_count": 1}, download_url=LINK)
    cloud = links_of(
        task_output={"9.images.0": {"s3_key": "a"}}, download_urls={"9.images.0": LINK}
    )

    assert [(link.output_id, link.url, link.storage_key) for link in local + cloud] == [
        ("output", LINK, "a"), ("9.images.0", LINK, "a"),
    ]  # fmt: skip
    assert local[0].metadata["image_count"] == 1


def test_a_file_named_by_both_forms_comes_once() -> None:
    """Two signatures of one place are one file; two places are two."""
    other = LINK.replace("abc", "def")

    assert len(links_of(download_url=other, download_urls={"a": LINK})) == 1
    assert len(links_of(download_url="https://s/b", download_urls={"a": LINK})) == 2


def test_a_single_link_does_not_take_anothers_name() -> None:
    """Names of outputs stay distinct."""
    links = links_of(download_url="https://s/b", download_urls={"output": LINK})

    assert [link.output_id for link in links] == ["output", "output.single"]


def test_what_is_no_link_is_passed_over() -> None:
    """A null among the links is an output without a file."""
    assert links_of(download_urls={"a": None, "b": 5, "c": "", "d": LINK})[0].output_id == "d"


@pytest.mark.parametrize("fields", [{}, {"id": TASK}, {"is_success": True}])
def test_a_result_says_something(fields: Fields) -> None:
    """An object without status and output is the reply of something else."""
    with pytest.raises(UnexpectedResponseError, match="neither"):
        decode_result(reply_of(fields))


def test_a_failed_task_has_a_result_too() -> None:
    """Null output and links, and the service's words."""
    record = decode_result(
        reply_of(
            {
                "id": TASK,
                "task_status": "failed",
                "task_output": None,
                "download_url": None,
                "task_error": "no VRAM",
            }
        )
    )

    assert record == RawResult(id=TASK, status="failed", error="no VRAM", raw=record.raw)


def test_links_stay_out_of_sight() -> None:
    """Whoever has a presigned link can fetch the file, so no representation shows it."""
    record = decode_result(reply_of(RESULT_SAMPLE))
    presigned = decode_presign(reply_of({"file_key": "a", "upload_url": LINK}))

    assert "Signature" not in repr(record) + repr(record.links) + repr(presigned)


# --- workflows, agents, uploads ---------------------------------------------------------


def definition_of(**fields: object) -> ParameterDef:
    reply = reply_of({"id": FLOW, "parameters": [{"key": "a", **fields}]})
    definitions = decode_workflow(reply).parameters
    assert definitions is not None
    return definitions[0]


def test_a_definition_is_read() -> None:
    """Every documented field of a parameter arrives."""
    assert definition_of(**PARAMETER_SAMPLE) == ParameterDef(
        key="steps",
        type="number",
        label="Steps",
        description="How many",
        required=True,
        default=20,
        min=1,
        max=150.5,
        options=("a", "b"),
        accept=("image/png",),
        node_id="3",
        field="steps",
        target_path="train.steps",
        source_key="input_image",
    )


@pytest.mark.parametrize("name", [name for name in PARAMETER_SAMPLE if name != "key"])
def test_an_odd_field_of_a_definition_spoils_only_itself(name: str) -> None:
    """A definition with a detail of another type still names its parameter."""
    whole = definition_of(**PARAMETER_SAMPLE)

    for odd in (*NOTHING, *ODD):
        assert differences(whole, definition_of(**{**PARAMETER_SAMPLE, name: odd})) <= {name}


def test_options_of_an_unknown_form_are_no_options() -> None:
    """With options that are not all texts, nothing is refused by them."""
    assert definition_of(options=["a", {"value": "b"}]).options == ()


@pytest.mark.parametrize("odd", [None, 5, "a", [], {}, {"key": ""}, {"key": 5}], ids=repr)
def test_a_definition_that_cannot_be_read_makes_all_unknown(odd: object) -> None:
    """A key of the user's must not be refused because its definition was unreadable."""
    reply = reply_of({"id": FLOW, "parameters": [{"key": "a"}, odd]})

    assert decode_workflow(reply).parameters is None


def test_no_parameters_and_none_known_differ() -> None:
    """An empty list takes no parameters; an absent one says nothing about them."""
    assert decode_workflow(reply_of({"id": FLOW, "parameters": []})).parameters == ()
    assert decode_workflow(reply_of({"id": FLOW})).parameters is None


@pytest.mark.parametrize("odd", ODD, ids=lambda value: ascii(value)[:20])
@pytest.mark.parametrize("name", ["device_name", "device_type", "vram_total", "vram_free"])
def test_an_odd_gpu_spoils_only_itself(name: str, odd: object) -> None:
    """The statistics of an agent are tolerated like all else."""
    gpu = {"device_name": "RTX", "device_type": "cuda", "vram_total": 24, "vram_free": 20}
    stats = {"gpu_devices": [{**gpu, name: odd}, odd, gpu]}

    (agent,) = decode_agents(reply_of([{"agent_id": "a", "system_stats": stats}])).items

    assert agent.gpu_devices[-1] == GpuDevice(name="RTX", type="cuda", vram_total=24, vram_free=20)
    assert len(differences(agent.gpu_devices[0], agent.gpu_devices[-1])) <= 1


def test_the_version_of_comfyui_may_be_in_the_statistics() -> None:
    """Both places are documented; the first one counts."""
    stats = {"comfyui_version": "2"}

    def version(**fields: object) -> str | None:
        agent = decode_agents(reply_of([{"agent_id": "a", "system_stats": stats, **fields}]))
        return agent.items[0].comfyui_version

    assert (version(), version(comfyui_version="1")) == ("2", "1")


def test_upload_headers_are_taken_verbatim() -> None:
    """A number is sent as its text, all else as it came; none at all is fine."""
    headers = {"Content-Length": 5, "If-None-Match": "*", "x-amz-meta-a": "b c"}
    fields = {"file_key": "a", "upload_url": LINK}

    presigned = decode_presign(reply_of({**fields, "upload_headers": headers}))

    assert presigned.headers == {**headers, "Content-Length": "5"}
    assert decode_presign(reply_of(fields)) == PresignedUpload(file_key="a", url=LINK)


@pytest.mark.parametrize(
    "headers",
    [{"A": "b\r\nC: d"}, {"A\n": "b"}, {"": "b"}, {"A B": "c"}, {"A": None}, {"A": True},
     {"A": ["b"]}, {"A": "é"}, {"A": 1.5}, [], "A: b", 5],
    ids=ascii,
)  # fmt: skip
def test_upload_headers_that_cannot_be_sent_are_unexpected(headers: object) -> None:
    """A header that would change the request is not sent, nor silently left out."""
    reply = reply_of({"file_key": "a", "upload_url": LINK, "upload_headers": headers})

    with pytest.raises(UnexpectedResponseError):
        decode_presign(reply)


@pytest.mark.parametrize("url", ["ftp://a", "file:///etc/passwd", "/relative", "javascript:1"])
def test_an_upload_goes_to_an_http_address(url: str) -> None:
    """A file is put to no other scheme."""
    with pytest.raises(UnexpectedResponseError, match="upload_url"):
        decode_presign(reply_of({"file_key": "a", "upload_url": url}))


# --- what is not the protocol ------------------------------------------------------------

DECODERS: list[Decoder] = [
    decode_agents,
    decode_created_webhook,
    decode_id,
    decode_presign,
    decode_result,
    decode_task_rows,
    decode_submission,
    decode_task,
    decode_task_page,
    decode_webhook,
    decode_webhook_secret,
    decode_webhooks,
    decode_workflow,
    decode_workflows,
]
FOREIGN = [
    pytest.param(b"", id="empty"),
    pytest.param(b"  \r\n", id="blank"),
    pytest.param(b"<html><body>502 Bad Gateway</body></html>", id="html"),
    pytest.param(json.dumps(TASK_SAMPLE).encode()[:-1], id="truncated"),
    pytest.param(b'{"id": "a', id="within-a-text"),
    pytest.param(b"OK", id="text"),
    pytest.param(b"null", id="null"),
    pytest.param(b"true", id="true"),
    pytest.param(b"5", id="number"),
    pytest.param(b'"a"', id="json-text"),
    pytest.param(b"{}", id="nothing"),
    pytest.param(b"[[]]", id="list-of-lists"),
    pytest.param(b'{"id": NaN}', id="nan"),
    pytest.param(b'{"id": Infinity}', id="infinity"),
    pytest.param(b'{"id": ' + b"9" * 5000 + b"}", id="endless-integer"),
    pytest.param(b"[" * 100_000, id="open-lists"),
    pytest.param(b"[" * 100_000 + b"]" * 100_000, id="deep-lists"),
    pytest.param(b'{"id":' * 100_000 + b"1" + b"}" * 100_000, id="deep-objects"),
    pytest.param(b"\xff\xfe{\x00}\x00", id="utf-16"),
    pytest.param(b'{"id": "\xe9"}', id="latin-1"),
    pytest.param(b"\x1f\x8b\x08\x00junk", id="gzip"),
    pytest.param(b"data: {}\n\n", id="event-stream"),
]


@pytest.mark.parametrize("body", FOREIGN)
@pytest.mark.parametrize("decode", DECODERS, ids=lambda one: one.__name__)
def test_what_is_not_the_protocol_is_unexpected(decode: Decoder, body: bytes) -> None:
    """A proxy's page or a cut reply is one type of error, with what is needed to see why."""
    with pytest.raises(UnexpectedResponseError) as caught:
        decode(raw_reply(body, kind="text/html"))

    error = caught.value
    assert (error.status, error.content_type) == (200, "text/html")
    assert len(error.excerpt) <= 200
    assert error.excerpt == body.decode("utf-8", "replace")[:200]
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_byte_order_mark_does_no_harm() -> None:
    """Some servers begin their JSON with one."""
    body = b"\xef\xbb\xbf" + json.dumps(TASK_SAMPLE).encode()

    assert decode_task(raw_reply(body)).id == TASK


def test_an_unexpected_reply_shows_no_secret() -> None:
    """Neither a key that a proxy echoes nor a presigned link gets into the message."""
    body = f'{{"url": "{LINK}", "key": "sk-live-abcdef"'.encode()
    with pytest.raises(UnexpectedResponseError) as caught:
        decode_task(raw_reply(body, kind="text/html; key=sk-live-abcdef" + "x" * 500))

    shown = str(caught.value) + caught.value.excerpt + str(caught.value.content_type)
    assert "abcdef" not in shown
    assert "Signature" not in shown
    assert len(str(caught.value)) < 700


def test_the_excerpt_holds_no_half_of_a_secret() -> None:
    """A key across the place of the cut is left out before the cut is made."""
    body = b"x" * 195 + b" sk-live-abcdef"

    with pytest.raises(UnexpectedResponseError) as caught:
        decode_task(raw_reply(body))

    assert "live" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
NAMES = sorted({name for one in DOCUMENTED for name in one.sample} | {"status", "page_meta"})
LIST_NAMES = ["task_list", "workflow_list", "agent_list", "webhook_list", "page_meta"]
ROWS = st.dictionaries(st.sampled_from(NAMES), JSON, max_size=8)


def outcomes(reply: Response) -> Iterator[object]:
    """Yield what each decoder makes of *reply*; an error of another type is not caught."""
    for decode in [*DECODERS, decode_acknowledgement]:
        try:
            yield decode(reply)
        except UnexpectedResponseError as error:
            yield error


@given(JSON | ROWS | st.dictionaries(st.sampled_from(LIST_NAMES), JSON | st.lists(JSON | ROWS)))
@example({"task_list": [{"id": "a", "task_status": "b", "retry_count": 1e308}]})
def test_any_json_is_a_value_or_unexpected(value: object) -> None:
    """Whatever the service sends as JSON, no decoder fails in another way."""
    for outcome in outcomes(reply_of(value)):
        assert repr(outcome)
        hash(outcome)


@given(st.binary() | st.text().map(str.encode), st.none() | st.text())
def test_any_bytes_are_a_value_or_unexpected(body: bytes, kind: str | None) -> None:
    """Whatever the bytes, no decoder fails in another way."""
    for outcome in outcomes(raw_reply(body, kind=kind)):
        assert repr(outcome)


ERROR_BODIES: Sequence[tuple[str, bytes, str | None]] = [
    ("application/json", b'{"error_message": "resource not found"}', "resource not found"),
    ("application/json", b'{"error_message": "resource not fou', None),
    ("application/json", b"", None),
    ("text/html", b"<html><body>Bad Gateway</body></html>", None),
    ("application/json", b"[" * 100_000, None),
    ("application/json", b'{"error_message": null}', None),
    ("application/json", b"[]", None),
    ("text/html", b"\xff\xfe\x00", None),
]


@pytest.mark.parametrize(("kind", "body", "message"), ERROR_BODIES, ids=range(len(ERROR_BODIES)))
def test_every_refusal_is_a_typed_error_whatever_its_body(
    kind: str, body: bytes, message: str | None
) -> None:
    """All statuses from 400 to 599 give an error of the tree with status and words."""
    for status in range(400, 600):
        for task in (False, True):
            error = rejection(raw_reply(body, status, kind), task=task)
            assert isinstance(error, CyberunError)
            assert getattr(error, "status", None) == status
            assert getattr(error, "error_message", None) == message
            assert str(status) in str(error)
            assert str(pickle.loads(pickle.dumps(error))) == str(error)
        assert decode_error_message(raw_reply(body, status, kind)) == message


def test_values_are_of_their_classes() -> None:
    """The table of documented replies covers every class that replies are read to."""
    classes = (
        Agent,
        CreatedWebhook,
        PresignedUpload,
        RawResult,
        TaskSnapshot,
        Webhook,
        Workflow,
    )
    made = {one.read(one.sample).__class__.__name__ for one in DOCUMENTED}

    assert made == {cls.__name__ for cls in classes}
