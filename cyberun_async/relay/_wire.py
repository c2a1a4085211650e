"""What a browser is told: events as names, data and frames. No waiting, no clock."""

import json
import math
from collections.abc import Mapping
from typing import Any, cast

from .. import (
    CancelledEvent,
    CompletedEvent,
    Event,
    FailedEvent,
    ProgressEvent,
    ServerErrorEvent,
    StatusEvent,
    UnknownEvent,
)


# A comment: it proves the connection to every proxy on the way, and is no event. One line
# end, not two: parsers that dispatch at every empty line would make an empty event of it.
HEARTBEAT = b":\n"

_TICK_FIELDS = (
    *("progress", "step_current", "step_total"),
    *("current_node", "stage", "message"),
)


def told(event: Event) -> tuple[str, dict[str, Any]]:
    """Return the name and the data under which a browser hears of *event*."""
    name, details = _details(event)
    return name, {"task_id": event.task_id, "attempt": event.attempt, **details}


def _details(event: Event) -> tuple[str, dict[str, Any]]:
    match event:
        case StatusEvent(status=status):
            return "status", {"status": status}
        case ProgressEvent():
            return "progress", _known(event)
        case CompletedEvent(status=status, output=output):
            return "completed", {"status": status, "output": output}
        case FailedEvent(status=status, error=error):
            return "failed", {"status": status, "error": error}
        case CancelledEvent(status=status):
            return "cancelled", {"status": status}
        case ServerErrorEvent(message=message):
            return "server-error", {"message": message}
        case UnknownEvent(name=name, data=data):
            # Its own name could be one that EventSource gives a meaning, such as `open`.
            return "unknown", {"name": name, "data": data}
        case _:
            return "unknown", {"name": type(event).__name__, "data": ""}


def _known(event: ProgressEvent) -> dict[str, Any]:
    values = ((name, getattr(event, name)) for name in _TICK_FIELDS)
    return {name: value for name, value in values if value is not None}


def frame(name: str, data: Mapping[str, Any], event_id: str | None = None) -> bytes:
    """Return one event as bytes; JSON has no line breaks, so its data is one line."""
    first = f"id: {event_id}\n" if event_id is not None else ""
    return f"{first}event: {name}\ndata: {_json(data)}\n\n".encode()


def retry_after(seconds: float) -> bytes:
    """
    Return the field that says when a browser comes back after a lost connection.

    It belongs in front of a frame, within the block of that event: many parsers make an
    empty event of a block that has no other field.
    """
    return f"retry: {round(seconds * 1000)}\n".encode()


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(_finite(data), separators=(",", ":"), allow_nan=False)


def _finite(value: object) -> object:
    """Return *value* with null for numbers beyond all bounds, which JSON does not have."""
    if isinstance(value, Mapping):
        items = cast("Mapping[str, object]", value).items()
        return {key: _finite(item) for key, item in items}
    if isinstance(value, list):
        return [_finite(item) for item in cast("list[object]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value
