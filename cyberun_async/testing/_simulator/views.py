"""How tasks, workflows, agents, pages and events are written."""

import json
from collections.abc import Mapping, Sequence

import attrs

from .behaviour import Behaviour, Empties, Vocabulary
from .clock import ServiceClock
from .tasks import SimTask
from .timeline import Mark
from .workflows import Workflow


Fields = dict[str, object]

_EVENT_NAMES = {"status": "task_status", "output": "task_output", "error": "task_error"}
_NO_TEXT = frozenset({"agent_labels", "download_urls", "task_output"})
_REST_NAMES = {rest: event for event, rest in _EVENT_NAMES.items()}


def task_view(
    task: SimTask, now: float, behaviour: Behaviour, clock: ServiceClock, *, in_list: bool
) -> Fields:
    """Write a task as its own endpoint does, or as an item of the list."""
    mark = task.mark(now)
    fields: Fields = {
        "id": task.id,
        "workflow_id": task.workflow.id,
        "creation_source": task.source,
        "task_status": mark.status,
        "created_at": clock.stamp(task.created),
        "task_error": _error(mark),
        "retry_count": mark.attempt,
        **_execution(task, mark, clock),
        **task.dispatch,
    }
    if in_list:
        del fields["task_error"]
    if not behaviour.reports_retry_count:
        del fields["retry_count"]
    return renamed(with_empties(fields, behaviour.empties), behaviour.vocabulary, rest=True)


def _error(mark: Mark) -> object:
    has_error = mark.status == "failed" or mark.is_over
    return mark.details.get("error", "") if has_error else ""


def _execution(task: SimTask, mark: Mark, clock: ServiceClock) -> Fields:
    placed = mark.status not in {"pending", "waiting", "provisioning"}
    placed = placed and (mark.status != "cancelled" or mark.started is not None)
    return {
        "started_at": _stamp(clock, task, mark.started),
        "completed_at": _stamp(clock, task, mark.at if mark.is_terminal else None),
        "agent_id": task.agent_id if placed else None,
        "gateway_id": "gw-a1b2c3d4" if placed else None,
        "agent_labels": ["gpu", "linux"] if placed else None,
        "gpu_type": "NVIDIA GeForce RTX 4090" if placed else None,
    }


def result_view(
    task: SimTask,
    mark: Mark,
    behaviour: Behaviour,
    clock: ServiceClock,
    links: Mapping[str, str],
    expires_at: float,
) -> Fields:
    """Write a task's result; *links* are the files' ids and addresses, if it has any."""
    single = next(iter(links.values()), None) if task.plan.links == "single" else None
    many = dict(links) if links and task.plan.links == "many" else None
    fields: Fields = {
        "id": task.id,
        "task_status": mark.status,
        "task_output": output_of(task) if mark.status == "completed" else None,
        "download_url": single,
        "download_urls": many,
        "expires_at": clock.stamp(expires_at) if links else None,
        "task_error": _error(mark),
        "completed_at": _stamp(clock, task, mark.at if mark.is_terminal else None),
    }
    return renamed(with_empties(fields, behaviour.empties), behaviour.vocabulary, rest=True)


def output_of(task: SimTask) -> Mapping[str, object]:
    """Return the output object of a completed task."""
    if task.plan.output is not None:
        return task.plan.output
    keys = file_keys(task)
    if task.plan.links == "many":
        return {name: {"s3_key": key, "content_type": "image/png"} for name, key in keys.items()}
    return {"storage_key": next(iter(keys.values()), None), "image_count": len(keys)}


def file_keys(task: SimTask) -> dict[str, str]:
    """Return the ids of the files a task makes and where they are stored."""
    names = [*task.plan.file_names[: task.plan.outputs]]
    names += [f"out_{number + 1:05}_.png" for number in range(len(names), task.plan.outputs)]
    return {f"9.images.{n}": f"tasks/{task.id}/{name}" for n, name in enumerate(names)}


def workflow_view(workflow: Workflow, created_at: str) -> Fields:
    """Write a workflow for an API-key caller, that is without its graph."""
    return {
        "id": workflow.id,
        "workflow_slug": workflow.slug,
        "display_name": workflow.display_name,
        "version": workflow.version,
        "workflow_status": workflow.status,
        "created_at": created_at,
        "updated_at": created_at,
        "description": workflow.description,
        "parameters": [dict(one) for one in workflow.parameters],
        "required_labels": list(workflow.required_labels),
        "task_timeout": 0,
        "max_retries": workflow.max_retries,
        "default_dispatch_target": "agent",
        "required_models": [],
        "tool_type": workflow.tool_type,
    }


def page_view(name: str, rows: Sequence[Fields], page: int, size: int, total: int) -> Fields:
    """Write one page of a list."""
    meta = {"current_page": page, "per_page": size, "total_count": total}
    return {name: list(rows), "page_meta": meta}


def with_empties(fields: Fields, empties: Empties) -> Fields:
    """Write unset fields in the way that *empties* names."""
    match empties:
        case "documented":
            return fields
        case "absent":
            return {name: value for name, value in fields.items() if value not in (None, "")}
        case "null":
            return {name: None if value == "" else value for name, value in fields.items()}
        case "blank":
            return {
                name: "" if value is None and name not in _NO_TEXT else value
                for name, value in fields.items()
            }


def renamed(fields: Fields, vocabulary: Vocabulary, *, rest: bool) -> Fields:
    """Name fields as documented for REST or events, as the other does, or both."""
    if vocabulary == "documented":
        return fields
    names = _REST_NAMES if rest else _EVENT_NAMES
    other = {names.get(name, name): value for name, value in fields.items()}
    return {**fields, **other} if vocabulary == "both" else other


def _stamp(clock: ServiceClock, task: SimTask, offset: float | None) -> str | None:
    return None if offset is None else clock.stamp(task.created + offset)


def agents(running: Sequence[str], clock: ServiceClock) -> list[dict[str, object]]:
    """Return the connected agents, the running tasks being dealt out among them."""
    return [_agent(number, running[number::2], clock) for number in range(2)]


def _agent(number: int, running: Sequence[str], clock: ServiceClock) -> dict[str, object]:
    return {
        "agent_id": f"gpu-node-{number + 1:02}",
        "agent_status": "busy" if running else "idle",
        "agent_labels": ["gpu", "linux"],
        "last_heartbeat": clock.stamp(clock.now()),
        "agent_version": "1.4.0",
        "tool": "comfyui",
        "tool_version": "0.3.40",
        "comfyui_version": "0.3.40",
        "gpu_capacity": 1,
        "running_count": len(running),
        "running_tasks": list(running),
        "platform_arch": "linux/amd64",
        "sync_phase": None,
        "sync_detail": None,
        "sync_percent": None,
        "connected_at": clock.stamp(0.0),
        "tasks_completed": 0,
        "current_task_id": running[0] if running else None,
        "system_stats": {
            "comfyui_version": "0.3.40",
            "pytorch_version": "2.7.0",
            "os_type": "posix",
            "gpu_devices": [
                {
                    "device_name": "NVIDIA GeForce RTX 4090",
                    "device_type": "cuda",
                    "vram_total": 25757220864,
                    "vram_free": 24159191040,
                }
            ],
        },
    }


COMMENT = b": keep-alive"
_STEPS = ("step_current", "step_total")


@attrs.frozen
class Frame:
    """One event on its way to the stream; *id* is the number of its mark."""

    name: str
    payload: Mapping[str, object]
    id: int


def frames_of(
    task: SimTask, number: int, mark: Mark, behaviour: Behaviour, clock: ServiceClock
) -> list[Frame]:
    """Return the events that report *mark*, which is the task's mark of this number."""
    frame = Frame(mark.name, _payload(task, mark, behaviour, clock), number)
    if not mark.is_terminal:
        return [frame]
    frames = [frame, frame] if behaviour.repeat_terminal else [frame]
    if behaviour.final_status:
        state = attrs.evolve(mark, name="status", details={})
        frames.insert(0, Frame("status", _payload(task, state, behaviour, clock), number))
    if behaviour.late_progress:
        frames.append(Frame("progress", {"task_id": task.id, "progress": 0.99}, number))
    return frames


def encoded(frame: Frame, behaviour: Behaviour, data: bytes | None = None) -> bytes:
    """Write an event; *data* replaces its payload."""
    lines = [b"event: " + frame.name.encode()]
    if behaviour.event_ids:
        lines.append(b"id: %d" % frame.id)
    text = payload_bytes(frame, multiline=behaviour.multiline_data) if data is None else data
    lines += [b"data: " + line for line in text.split(b"\n")]
    return block(lines, behaviour)


def payload_bytes(frame: Frame, *, multiline: bool = False) -> bytes:
    """Write an event's payload as JSON."""
    if multiline:
        return json.dumps(frame.payload, indent=2).encode()
    return json.dumps(frame.payload, separators=(",", ":")).encode()


def block(lines: list[bytes], behaviour: Behaviour) -> bytes:
    """Join lines and end them with an empty one."""
    end = behaviour.line_end.encode()
    return end.join([*lines, b"", b""])


def _payload(task: SimTask, mark: Mark, behaviour: Behaviour, clock: ServiceClock) -> Fields:
    fields: Fields = {"task_id": task.id, **_details(task, mark, behaviour)}
    if not mark.is_terminal or mark.name == "status" or behaviour.terminal_timestamp:
        fields["timestamp"] = clock.stamp(task.created + mark.at)
    if mark.name == "error":
        return fields
    fields = with_empties(fields, behaviour.empties)
    return renamed(fields, behaviour.vocabulary, rest=False)


def _details(task: SimTask, mark: Mark, behaviour: Behaviour) -> Fields:
    match mark.name:
        case "status" if mark.is_over:
            return {"status": mark.status}
        case "status" | "cancelled" | "failed":
            return {"status": mark.status, **mark.details}
        case "completed":
            return {"status": mark.status, "output": output_of(task)}
        case "progress" if not behaviour.progress_steps:
            return {name: value for name, value in mark.details.items() if name not in _STEPS}
        case _:
            return dict(mark.details)
