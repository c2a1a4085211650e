"""
Replies of the REST interface to values.

Names are taken from both of the service's vocabularies (``status`` and ``task_status``);
null, absent and the empty string are alike. What is essential and cannot be read raises
:class:`UnexpectedResponseError`, and nothing else is ever raised.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import attrs

from .._model import (
    Agent,
    ArtifactLink,
    CreatedWebhook,
    GpuDevice,
    InvalidInputError,
    ParameterDef,
    RawResult,
    TaskSnapshot,
    Webhook,
    Workflow,
    parse_status,
)
from .._validation import header_text, task_id_of
from .exchange import Response
from .fields import (
    Fields,
    essential,
    is_list,
    is_object,
    nested,
    number,
    object_in,
    raw_of,
    read_json,
    read_object,
    rows,
    text,
    texts,
    timestamp,
    unexpected,
    whole,
)
from .pages import Page, TaskRow
from .tracebacks import without_locals


T = TypeVar("T")
V = TypeVar("V", bound=attrs.AttrsInstance)

TaskPage = Page[TaskSnapshot]

# How a field is read, by its type; what has another type is read by hand.
_READERS: Mapping[object, Callable[..., object]] = {
    str | None: text,
    int | None: whole,
    float | None: number,
    datetime | None: timestamp,
    tuple[str, ...]: texts,
}

_SINGLE_OUTPUT = "output"
_RESULT_MARKS = ("task_output", "output", "download_url", "download_urls")


@attrs.frozen(kw_only=True)
class PresignedUpload:
    """Where a file is to be put, with which headers, and the key that then names it."""

    file_key: str
    url: str = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False, hash=False)
    raw: bytes = attrs.field(default=b"", repr=False, eq=False)


def _decoder(kind: type[V], **names: tuple[str, ...]) -> Callable[..., V]:
    """
    Return what makes a *kind* of an object's fields, read by their types, and of what is given.

    *names* says where a field is sent under another name than its own.
    """
    plan = [
        (field.name, _READERS[field.type], names.get(field.name, (field.name,)))
        for field in attrs.fields(kind)
        if field.type in _READERS
    ]

    def decode(fields: Fields, **given: object) -> V:
        read = {name: reader(fields, *sent) for name, reader, sent in plan if name not in given}
        return kind(**read, **given)

    return decode


_make_task = _decoder(TaskSnapshot, error=("task_error", "error"))
_make_workflow = _decoder(
    Workflow, slug=("workflow_slug", "slug"), status=("workflow_status", "status")
)
_make_parameter = _decoder(ParameterDef)
_make_agent = _decoder(
    Agent,
    status=("agent_status", "status"),
    labels=("agent_labels",),
    last_heartbeat_at=("last_heartbeat",),
    version=("agent_version",),
)
_make_gpu = _decoder(GpuDevice, name=("device_name",), type=("device_type",))
_make_webhook = _decoder(
    Webhook,
    url=("webhook_url",),
    secret=("webhook_secret",),
    events=("webhook_events",),
    status=("webhook_status", "status"),
)


@without_locals()
def decode_submission(reply: Response) -> str:
    """Return the id of the task that a run was accepted as."""
    fields = read_object(reply)
    return _safe_id(essential(fields, reply, "task_id", "id"), reply)


@without_locals()
def decode_id(reply: Response) -> str:
    """Return the id that a create or update call answers with."""
    return _safe_id(essential(read_object(reply), reply, "id"), reply)


def _safe_id(value: str, reply: Response) -> str:
    try:
        return task_id_of(value)
    except InvalidInputError:
        raise unexpected(reply, "the reply has an id that cannot be one") from None


@without_locals()
def decode_acknowledgement(reply: Response) -> bool:
    """Return whether an action was taken; an empty answer says so too."""
    if not reply.body.strip():
        return True
    return read_object(reply).get("is_success") is not False


@without_locals()
def decode_task(reply: Response) -> TaskSnapshot:
    """Return the state of one task."""
    return _task(read_object(reply), reply, reply.body)


def _task(fields: Fields, reply: Response, raw: bytes) -> TaskSnapshot:
    return _make_task(
        fields,
        id=essential(fields, reply, "id", "task_id"),
        status=parse_status(essential(fields, reply, "task_status", "status")),
        raw=raw,
    )


@without_locals()
def decode_task_page(reply: Response) -> TaskPage:
    """Return a page of the task list; a row without id or status spoils it."""
    return _page(reply, ("task_list", "tasks"), _task)


@without_locals()
def decode_task_rows(reply: Response) -> Page[TaskRow]:
    """Return the rows of a page of the task list that say something, and only what they say."""
    items, meta = _list_in(read_json(reply), reply, ("task_list", "tasks"))
    read = [_task_row(row) for row in items if is_object(row)]
    seen = tuple(row for row in read if row is not None)
    if items and not seen:
        raise unexpected(reply, "no row of the list has an id and a status")
    return _paged(seen, len(items), meta)


def _task_row(row: Fields) -> TaskRow | None:
    task_id, status = row.get("id"), row.get("task_status")
    if not (type(task_id) is str and type(status) is str and task_id and status):
        # Thousands of rows pass here, so only the unusual ones are looked at closely.
        task_id, status = text(row, "id", "task_id"), text(row, "task_status", "status")
        if task_id is None or status is None:
            return None
    retries = row.get("retry_count")
    is_plain = type(retries) is int and retries >= 0
    return TaskRow(task_id, parse_status(status), retries if is_plain else None)


def _page(
    reply: Response, names: tuple[str, ...], decode: Callable[[Fields, Response, bytes], T]
) -> Page[T]:
    items, meta = _list_in(read_json(reply), reply, names)
    decoded = tuple(decode(object_in(item, reply), reply, raw_of(item)) for item in items)
    return _paged(decoded, len(items), meta)


def _list_in(value: Any, reply: Response, names: tuple[str, ...]) -> tuple[Sequence[Any], Fields]:
    if is_list(value):
        return value, {}
    fields = object_in(value, reply)
    for name in names:
        if is_list(fields.get(name)):
            return rows(fields, name), nested(fields, "page_meta")
    # Some servers write an empty list as null, or leave it out.
    is_empty = any(name in fields and fields[name] is None for name in names)
    if is_empty or ("page_meta" in fields and not any(name in fields for name in names)):
        return (), nested(fields, "page_meta")
    raise unexpected(reply, f"the reply has no list under {names[0]}")


def _paged(items: tuple[T, ...], row_count: int, meta: Fields) -> Page[T]:
    return Page(
        items=items,
        current_page=whole(meta, "current_page"),
        per_page=whole(meta, "per_page"),
        total_count=whole(meta, "total_count"),
        row_count=row_count,
    )


@without_locals()
def decode_result(reply: Response) -> RawResult:
    """Return output, links and error of a task; all may be missing before its end."""
    fields = read_object(reply)
    status = text(fields, "task_status", "status")
    if status is None and not any(name in fields for name in _RESULT_MARKS):
        raise unexpected(reply, "the reply has neither a status nor an output")
    output = nested(fields, "task_output") or nested(fields, "output")
    has_output = any(is_object(fields.get(name)) for name in ("task_output", "output"))
    return RawResult(
        id=text(fields, "id", "task_id") or "",
        status=None if status is None else parse_status(status),
        output=output if has_output else None,
        links=_links(fields, output),
        expires_at=timestamp(fields, "expires_at"),
        completed_at=timestamp(fields, "completed_at"),
        error=text(fields, "task_error", "error"),
        raw=reply.body,
    )


def _links(fields: Fields, output: Fields) -> tuple[ArtifactLink, ...]:
    urls = nested(fields, "download_urls")
    links = [_link(name, url, nested(output, name)) for name, url in urls.items() if _is_url(url)]
    single = text(fields, "download_url")
    # The same file may be named by both forms; its signature differs, its place does not.
    if single is not None and _place(single) not in {_place(link.url) for link in links}:
        name = _SINGLE_OUTPUT if _SINGLE_OUTPUT not in urls else f"{_SINGLE_OUTPUT}.single"
        links.append(_link(name, single, output))
    return tuple(links)


def _is_url(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _place(url: str) -> str:
    return url.partition("?")[0]


def _link(output_id: str, url: str, metadata: Fields) -> ArtifactLink:
    return ArtifactLink(
        output_id=output_id,
        url=url,
        storage_key=text(metadata, "s3_key", "storage_key"),
        metadata=metadata,
    )


@without_locals()
def decode_workflow(reply: Response) -> Workflow:
    """Return one workflow."""
    return _workflow(read_object(reply), reply, reply.body)


@without_locals()
def decode_workflows(reply: Response) -> Page[Workflow]:
    """Return a page of the workflow list."""
    return _page(reply, ("workflow_list", "workflows"), _workflow)


def _workflow(fields: Fields, reply: Response, raw: bytes) -> Workflow:
    workflow_id = essential(fields, reply, "id", "workflow_id")
    return _make_workflow(fields, id=workflow_id, parameters=_parameters(fields), raw=raw)


def _parameters(fields: Fields) -> tuple[ParameterDef, ...] | None:
    listed = fields.get("parameters")
    if not is_list(listed):
        return None
    read = [_parameter(one) for one in listed]
    known = tuple(one for one in read if one is not None)
    # With one definition unreadable, a key of the user's could be refused wrongly.
    return known if len(known) == len(read) else None


def _parameter(value: Any) -> ParameterDef | None:
    fields: Fields = value if is_object(value) else {}
    key = text(fields, "key")
    if key is None:
        return None
    options = texts(fields, "options")
    return _make_parameter(
        fields,
        key=key,
        required=fields.get("required") is True,
        default=fields.get("default"),
        # Options that are not all texts are of a form not known, so nothing is checked by them.
        options=options if len(options) == len(rows(fields, "options")) else (),
    )


@without_locals()
def decode_agents(reply: Response) -> Page[Agent]:
    """Return a page of the list of agents."""
    return _page(reply, ("agent_list", "agents"), _agent)


def _agent(fields: Fields, reply: Response, raw: bytes) -> Agent:
    stats = nested(fields, "system_stats")
    return _make_agent(
        fields,
        id=essential(fields, reply, "agent_id", "id"),
        comfyui_version=text(fields, "comfyui_version") or text(stats, "comfyui_version"),
        gpu_devices=tuple(_make_gpu(one) for one in rows(stats, "gpu_devices") if is_object(one)),
        raw=raw,
    )


@without_locals()
def decode_presign(reply: Response) -> PresignedUpload:
    """Return where to put a file; an address or header that cannot be sent is unexpected."""
    fields = read_object(reply)
    url = essential(fields, reply, "upload_url")
    if not url.lower().startswith(("https://", "http://")):
        raise unexpected(reply, "the reply has an upload_url that is no address")
    return PresignedUpload(
        file_key=essential(fields, reply, "file_key"),
        url=url,
        headers=_headers(fields, reply),
        raw=reply.body,
    )


def _headers(fields: Fields, reply: Response) -> Mapping[str, str]:
    headers = fields.get("upload_headers")
    if headers is None:
        return {}
    sent = object_in(headers, reply)
    try:
        # A number is as good as its text: only Content-Length can be meant.
        return {
            name: header_text(name, str(value) if type(value) is int else value)
            for name, value in sent.items()
        }
    except InvalidInputError:
        raise unexpected(reply, "the reply has upload_headers that cannot be sent") from None


@without_locals()
def decode_webhook(reply: Response) -> Webhook:
    """Return one webhook."""
    return _webhook(read_object(reply), reply, reply.body)


@without_locals()
def decode_webhooks(reply: Response) -> Page[Webhook]:
    """Return a page of the list of webhooks."""
    return _page(reply, ("webhook_list", "webhooks"), _webhook)


def _webhook(fields: Fields, reply: Response, raw: bytes) -> Webhook:
    return _make_webhook(fields, id=essential(fields, reply, "id"), raw=raw)


@without_locals()
def decode_created_webhook(reply: Response) -> CreatedWebhook:
    """Return a new webhook's id, and its secret if the service sent it."""
    fields = read_object(reply)
    webhook_id = _safe_id(essential(fields, reply, "id"), reply)
    return CreatedWebhook(id=webhook_id, secret=text(fields, "webhook_secret"), raw=reply.body)


@without_locals()
def decode_webhook_secret(reply: Response) -> str:
    """Return the secret that replaced the former one."""
    return essential(read_object(reply), reply, "webhook_secret")
