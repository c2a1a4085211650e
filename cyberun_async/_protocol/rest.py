"""
Replies of the REST interface to values.

Names are taken from both of the service's vocabularies (``status`` and ``task_status``);
null, absent and the empty string are alike. What is essential and cannot be read raises
:class:`UnexpectedResponseError`, and nothing else is ever raised.
"""

from collections.abc import Callable, Mapping, Sequence
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
    load_json,
    load_object,
    moment,
    nested,
    number,
    object_in,
    raw_of,
    rows,
    text,
    texts,
    unexpected,
    whole,
)
from .pages import Page, Sighting
from .tracebacks import without_locals


T = TypeVar("T")

TaskPage = Page[TaskSnapshot]

_SINGLE_OUTPUT = "output"
_RESULT_MARKS = ("task_output", "output", "download_url", "download_urls")


@attrs.frozen(kw_only=True)
class PresignedUpload:
    """Where a file is to be put, with which headers, and the key that then names it."""

    file_key: str
    url: str = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False, hash=False)
    raw: bytes = attrs.field(default=b"", repr=False, eq=False)


@without_locals()
def decode_submission(reply: Response) -> str:
    """Return the id of the task that a run was accepted as."""
    fields = load_object(reply)
    return _safe_id(essential(fields, reply, "task_id", "id"), reply)


@without_locals()
def decode_id(reply: Response) -> str:
    """Return the id that a create or update call answers with."""
    return _safe_id(essential(load_object(reply), reply, "id"), reply)


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
    return load_object(reply).get("is_success") is not False


@without_locals()
def decode_task(reply: Response) -> TaskSnapshot:
    """Return the state of one task."""
    return _task(load_object(reply), reply, reply.body)


def _task(fields: Fields, reply: Response, raw: bytes) -> TaskSnapshot:
    return TaskSnapshot(
        id=essential(fields, reply, "id", "task_id"),
        status=parse_status(essential(fields, reply, "task_status", "status")),
        workflow_id=text(fields, "workflow_id"),
        created_at=moment(fields, "created_at"),
        started_at=moment(fields, "started_at"),
        completed_at=moment(fields, "completed_at"),
        error=text(fields, "task_error", "error"),
        retry_count=whole(fields, "retry_count"),
        agent_id=text(fields, "agent_id"),
        gateway_id=text(fields, "gateway_id"),
        agent_labels=texts(fields, "agent_labels"),
        gpu_type=text(fields, "gpu_type"),
        dispatch_target=text(fields, "dispatch_target"),
        target_pool=text(fields, "target_pool"),
        tool_type=text(fields, "tool_type"),
        raw=raw,
    )


@without_locals()
def decode_task_page(reply: Response) -> TaskPage:
    """Return a page of the task list; a row without id or status spoils it."""
    return _page(reply, ("task_list", "tasks"), _task)


@without_locals()
def decode_sightings(reply: Response) -> Page[Sighting]:
    """Return the rows of a page of the task list that say something, and only what they say."""
    items, meta = _list_in(load_json(reply), reply, ("task_list", "tasks"))
    sightings = [_sighting(row) for row in items if is_object(row)]
    seen = tuple(sighting for sighting in sightings if sighting is not None)
    if items and not seen:
        raise unexpected(reply, "no row of the list has an id and a status")
    return _paged(seen, len(items), meta)


def _sighting(row: Fields) -> Sighting | None:
    task_id, status = row.get("id"), row.get("task_status")
    if not (type(task_id) is str and type(status) is str and task_id and status):
        # Thousands of rows pass here, so only the unusual ones are looked at closely.
        task_id, status = text(row, "id", "task_id"), text(row, "task_status", "status")
        if task_id is None or status is None:
            return None
    retries = row.get("retry_count")
    is_plain = type(retries) is int and retries >= 0
    return Sighting(task_id, parse_status(status), retries if is_plain else None)


def _page(
    reply: Response, names: tuple[str, ...], decode: Callable[[Fields, Response, bytes], T]
) -> Page[T]:
    items, meta = _list_in(load_json(reply), reply, names)
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
    fields = load_object(reply)
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
        expires_at=moment(fields, "expires_at"),
        completed_at=moment(fields, "completed_at"),
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
    return _workflow(load_object(reply), reply, reply.body)


@without_locals()
def decode_workflows(reply: Response) -> Page[Workflow]:
    """Return a page of the workflow list."""
    return _page(reply, ("workflow_list", "workflows"), _workflow)


def _workflow(fields: Fields, reply: Response, raw: bytes) -> Workflow:
    return Workflow(
        id=essential(fields, reply, "id", "workflow_id"),
        slug=text(fields, "workflow_slug", "slug"),
        display_name=text(fields, "display_name"),
        version=whole(fields, "version"),
        status=text(fields, "workflow_status", "status"),
        description=text(fields, "description"),
        parameters=_parameters(fields),
        required_labels=texts(fields, "required_labels"),
        required_models=texts(fields, "required_models"),
        task_timeout=whole(fields, "task_timeout"),
        max_retries=whole(fields, "max_retries"),
        preferred_gpu=text(fields, "preferred_gpu"),
        min_vram_gb=whole(fields, "min_vram_gb"),
        default_dispatch_target=text(fields, "default_dispatch_target"),
        tool_type=text(fields, "tool_type"),
        created_at=moment(fields, "created_at"),
        updated_at=moment(fields, "updated_at"),
        raw=raw,
    )


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
    return ParameterDef(
        key=key,
        type=text(fields, "type"),
        label=text(fields, "label"),
        description=text(fields, "description"),
        required=fields.get("required") is True,
        default=fields.get("default"),
        min=number(fields, "min"),
        max=number(fields, "max"),
        # Options that are not all texts are of a form not known, so nothing is checked by them.
        options=options if len(options) == len(rows(fields, "options")) else (),
        accept=texts(fields, "accept"),
        node_id=text(fields, "node_id"),
        field=text(fields, "field"),
        target_path=text(fields, "target_path"),
        source_key=text(fields, "source_key"),
    )


@without_locals()
def decode_agents(reply: Response) -> Page[Agent]:
    """Return a page of the list of agents."""
    return _page(reply, ("agent_list", "agents"), _agent)


def _agent(fields: Fields, reply: Response, raw: bytes) -> Agent:
    stats = nested(fields, "system_stats")
    return Agent(
        id=essential(fields, reply, "agent_id", "id"),
        status=text(fields, "agent_status", "status"),
        labels=texts(fields, "agent_labels"),
        last_heartbeat_at=moment(fields, "last_heartbeat"),
        connected_at=moment(fields, "connected_at"),
        version=text(fields, "agent_version"),
        tool=text(fields, "tool"),
        tool_version=text(fields, "tool_version"),
        comfyui_version=text(fields, "comfyui_version") or text(stats, "comfyui_version"),
        gpu_capacity=whole(fields, "gpu_capacity"),
        running_count=whole(fields, "running_count"),
        running_tasks=texts(fields, "running_tasks"),
        current_task_id=text(fields, "current_task_id"),
        tasks_completed=whole(fields, "tasks_completed"),
        platform_arch=text(fields, "platform_arch"),
        sync_phase=text(fields, "sync_phase"),
        sync_detail=text(fields, "sync_detail"),
        sync_percent=number(fields, "sync_percent"),
        gpu_devices=tuple(_gpu(one) for one in rows(stats, "gpu_devices") if is_object(one)),
        raw=raw,
    )


def _gpu(fields: Fields) -> GpuDevice:
    return GpuDevice(
        name=text(fields, "device_name"),
        type=text(fields, "device_type"),
        vram_total=whole(fields, "vram_total"),
        vram_free=whole(fields, "vram_free"),
    )


@without_locals()
def decode_presign(reply: Response) -> PresignedUpload:
    """Return where to put a file; an address or header that cannot be sent is unexpected."""
    fields = load_object(reply)
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
    return _webhook(load_object(reply), reply, reply.body)


@without_locals()
def decode_webhooks(reply: Response) -> Page[Webhook]:
    """Return a page of the list of webhooks."""
    return _page(reply, ("webhook_list", "webhooks"), _webhook)


def _webhook(fields: Fields, reply: Response, raw: bytes) -> Webhook:
    return Webhook(
        id=essential(fields, reply, "id"),
        display_name=text(fields, "display_name"),
        url=text(fields, "webhook_url"),
        secret=text(fields, "webhook_secret"),
        events=texts(fields, "webhook_events"),
        status=text(fields, "webhook_status", "status"),
        created_at=moment(fields, "created_at"),
        last_delivered_at=moment(fields, "last_delivered_at"),
        raw=raw,
    )


@without_locals()
def decode_created_webhook(reply: Response) -> CreatedWebhook:
    """Return a new webhook's id, and its secret if the service told it."""
    fields = load_object(reply)
    webhook_id = _safe_id(essential(fields, reply, "id"), reply)
    return CreatedWebhook(id=webhook_id, secret=text(fields, "webhook_secret"), raw=reply.body)


@without_locals()
def decode_webhook_secret(reply: Response) -> str:
    """Return the secret that replaced the former one."""
    return essential(load_object(reply), reply, "webhook_secret")
