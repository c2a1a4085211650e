"""How events are written on a stream."""

import json
from collections.abc import Mapping

import attrs

from .behaviour import Behaviour
from .clock import ServiceClock
from .tasks import SimTask
from .timeline import Mark
from .views import Fields, output_of, with_empties, worded


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
    """Return the events that tell *mark*, which is the task's mark of this number."""
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
    fields: Fields = {"task_id": task.id, **_told(task, mark, behaviour)}
    if not mark.is_terminal or mark.name == "status" or behaviour.terminal_timestamp:
        fields["timestamp"] = clock.stamp(task.created + mark.at)
    if mark.name == "error":
        return fields
    fields = with_empties(fields, behaviour.empties)
    return worded(fields, behaviour.vocabulary, rest=False)


def _told(task: SimTask, mark: Mark, behaviour: Behaviour) -> Fields:
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
