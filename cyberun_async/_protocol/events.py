"""Messages of a stream, decoded into events."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from .._model import (
    CancelledEvent,
    CompletedEvent,
    Event,
    FailedEvent,
    ProgressEvent,
    ServerErrorEvent,
    StatusEvent,
    UnknownEvent,
    parse_status,
    words,
)
from .fields import is_object, nested, text


Loads = Callable[[str], Any]
_raw_decode = json.JSONDecoder().raw_decode
_MAX_ID_BYTES = 1024
_UNSENDABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]|^ | $")


class PayloadError(Exception):
    """The data of a known event cannot be read; carries the event's name."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        super().__init__(f"the payload of a {name!r} event is {problem}")


def load_json(text: str) -> Any:
    """As ``json.loads``, without looking for blanks around the value where there are none."""
    try:
        value, end = _raw_decode(text)
    except ValueError:
        return json.loads(text)
    return value if end == len(text) else json.loads(text)


def decode_event(
    name: str, data: str, task_id: str, attempt: int, loads: Loads = load_json
) -> Event:
    """
    Return the event that a stream message stands for.

    *loads* reads JSON, and raises a ValueError where ``json.loads`` does.

    Raises:
        PayloadError: A known event's data is no JSON object, or misses its essence.
    """
    decoder = _DECODERS.get(name)
    if decoder is None:
        return _free_form(name, data, task_id, attempt, loads)
    try:
        payload = loads(data)
    except (ValueError, RecursionError):
        raise PayloadError(name, "no JSON") from None
    if payload.__class__ is not dict:
        raise PayloadError(name, "no JSON object")
    return decoder(payload, task_id, attempt)


def _free_form(name: str, data: str, task_id: str, attempt: int, loads: Loads) -> Event:
    # The payload of `error` is not documented, and that of an unknown event
    # cannot be: plain text is as good as JSON here.
    try:
        payload = loads(data)
    except (ValueError, RecursionError):
        payload = None
    raw: Mapping[str, Any] = payload if is_object(payload) else {}
    if name == "error":
        if payload is None and data:
            raw = {"message": data}
        message = error_text(raw) or data or None
        return ServerErrorEvent(task_id=task_id, attempt=attempt, raw=raw, message=message)
    return UnknownEvent(task_id=task_id, attempt=attempt, raw=raw, name=name, data=data)


def _whole(value: object) -> int | None:
    if type(value) is int:
        return value
    return int(value) if type(value) is float and value.is_integer() else None


def _fraction(value: object) -> float | None:
    # NaN and the infinities are valid for json.loads, but are no progress.
    if type(value) is float:
        return value if -1e9 < value < 1e9 else None
    return float(value) if type(value) is int and abs(value) < 1_000_000_000 else None


def _status(payload: dict[str, Any], task_id: str, attempt: int) -> Event:
    status = text(payload, "status", "task_status")
    if status is None:
        raise PayloadError("status", "without a status")
    return StatusEvent(task_id=task_id, attempt=attempt, raw=payload, status=parse_status(status))


_new = object.__new__


def _setter(field: str) -> Callable[[ProgressEvent, object], None]:
    setter: Callable[[ProgressEvent, object], None] = getattr(ProgressEvent, field).__set__
    return setter


_task_id, _attempt, _origin, _raw = map(_setter, ("task_id", "attempt", "origin", "raw"))
_fraction_done, _step_current, _step_total = map(
    _setter, ("progress", "step_current", "step_total")
)
_current_node, _stage, _message = map(_setter, ("current_node", "stage", "message"))


def _progress(payload: dict[str, Any], task_id: str, attempt: int) -> ProgressEvent:
    """
    Return a progress event, the one kind that comes by the hundred thousand.

    attrs sets each field of a frozen class by its name, through ``object.__setattr__``; for
    ten fields that takes longer than everything else that is done for such an event. The
    slots of the class are set here instead, by the descriptors that Python has made for them.
    """
    get = payload.get
    progress, current, total = get("progress"), get("step_current"), get("step_total")
    node = get("current_node")
    is_plain = type(progress) is float and -1e9 < progress < 1e9
    event = _new(ProgressEvent)
    _task_id(event, task_id)
    _attempt(event, attempt)
    _origin(event, "stream")
    _raw(event, payload)
    _fraction_done(event, progress if is_plain else _fraction(progress))
    _step_current(event, current if type(current) is int else _whole(current))
    _step_total(event, total if type(total) is int else _whole(total))
    _current_node(event, node if type(node) is str and node else None)
    _stage(event, text(payload, "stage") if "stage" in payload else None)
    _message(event, words(text(payload, "message")) if "message" in payload else None)
    return event


def _completed(payload: dict[str, Any], task_id: str, attempt: int) -> Event:
    output = payload.get("output", payload.get("task_output"))
    return CompletedEvent(
        task_id=task_id, attempt=attempt, raw=payload, output=output if is_object(output) else None
    )


def resumable_id(event_id: str | None) -> str | None:
    """
    Return *event_id* if a request can carry it, or None.

    The standard allows ids that no header may hold; and one of many kilobytes would be
    refused again and again, by whatever stands in front of the service.
    """
    if not event_id or _UNSENDABLE.search(event_id) or len(event_id.encode()) > _MAX_ID_BYTES:
        return None
    return event_id


def error_text(payload: Mapping[str, Any]) -> str | None:
    """Return the words of a failure, whichever of the service's names they stand under."""
    for key in ("error", "task_error", "error_message", "message"):
        if found := text(payload, key) or text(nested(payload, key), "message"):
            return found
    return None


def _failed(payload: dict[str, Any], task_id: str, attempt: int) -> Event:
    return FailedEvent(task_id=task_id, attempt=attempt, raw=payload, error=error_text(payload))


def _cancelled(payload: dict[str, Any], task_id: str, attempt: int) -> Event:
    return CancelledEvent(task_id=task_id, attempt=attempt, raw=payload)


_DECODERS: Mapping[str, Callable[[dict[str, Any], str, int], Event]] = {
    "status": _status,
    "progress": _progress,
    "completed": _completed,
    "failed": _failed,
    "cancelled": _cancelled,
}


class Message(Protocol):
    """A message of an event stream, as httpx-sse has it."""

    @property
    def event(self) -> str: ...
    @property
    def data(self) -> str: ...
    @property
    def id(self) -> str: ...
