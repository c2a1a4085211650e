"""The format of events and errors: a line for people, a JSON object for programs."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs

from .. import (
    CancelledEvent,
    CompletedEvent,
    CyberunError,
    Event,
    FailedEvent,
    Gap,
    Notice,
    PollingStarted,
    ProgressEvent,
    ServerErrorEvent,
    StatusEvent,
    StreamingResumed,
    StreamLost,
    UnknownEvent,
)
from ._exit_codes import exit_code_of


LONGEST = 300
# Progress events come by the hundred; a log gets a line for every tenth.
_TENTHS = 10


def harmless(text: str) -> str:
    """Return *text*, lines and spaces as they are, without control characters."""
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text
    )


def clean(text: str, limit: int = LONGEST) -> str:
    """Return *text* on one line, without control characters."""
    line = "".join(char if char.isprintable() else " " for char in text)
    line = " ".join(line.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def note_of(item: Event | Notice) -> str:
    """Return *item* in a few words; nothing where there is nothing to say."""
    match item:
        case StreamLost(cause=cause):
            return clean(f"stream lost, reconnecting ({cause})")
        case PollingStarted(cause=cause):
            return clean(f"polling, no live progress ({cause})")
        case StreamingResumed():
            return "streaming again"
        case Gap(seconds=seconds):
            return f"{seconds:.0f} s of progress were not seen"
        case ServerErrorEvent(message=message):
            return clean(f"the service reports trouble: {message or 'no details'}")
        case UnknownEvent(name=name):
            return clean(f"unknown event {name}")
        case _:
            return ""


def line_of(item: Event | Notice) -> str:
    """Return the log line for *item*; nothing for what nobody needs to read."""
    match item:
        case ProgressEvent():
            return " ".join(_progress_parts(item))
        case StatusEvent(status=status, attempt=attempt):
            return clean(status) if attempt == 1 else f"{clean(status)} (attempt {attempt})"
        case FailedEvent(error=error):
            return f"failed: {clean(error)}" if error else "failed"
        case CompletedEvent(output_error=problem) if problem:
            return clean(f"completed; its output cannot be read: {problem}")
        case CompletedEvent() | CancelledEvent():
            return item.status
        case _:
            return note_of(item)


def _progress_parts(event: ProgressEvent) -> list[str]:
    parts = [clean(event.stage)] if event.stage else []
    if event.progress is not None:
        parts.append(f"{event.progress * 100:.0f} %")
    if event.step_current is not None and event.step_total:
        parts.append(f"(step {event.step_current}/{event.step_total})")
    return parts


def rough_progress(event: ProgressEvent) -> object:
    """Return what has to change between two progress events for both to be worth a line."""
    tenth = None if event.progress is None else int(event.progress * _TENTHS + 1e-9)
    return event.attempt, event.stage, tenth


def record_of(item: Event | Notice) -> dict[str, Any]:
    """Return *item* as a JSON object; its ``type`` is the class' name in small letters."""
    name = type(item).__name__.removesuffix("Event")
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    fields: dict[str, Any] = {
        field.name: getattr(item, field.name)
        for field in attrs.fields(type(item))
        if field.name != "raw"
    }
    if isinstance(item, CompletedEvent | FailedEvent | CancelledEvent):
        fields["status"] = item.status
    return {"type": kind, **{key: value for key, value in fields.items() if value is not None}}


def values_of(value: Any) -> dict[str, Any]:
    """Return the fields of an attrs value, without the bytes it was read from."""
    return attrs.asdict(value, filter=lambda field, _: field.name != "raw")


def error_record(error: CyberunError) -> dict[str, Any]:
    """Return *error* as a JSON object."""
    code = exit_code_of(error)
    found = {"type": "error", "error": type(error).__name__, "message": str(error)}
    more = {"task_id": task_of(error), "notes": notes_of(error)}
    return {**found, **{key: value for key, value in more.items() if value}, "exit_code": int(code)}


def error_line(error: CyberunError) -> str:
    """Return *error* for people, with its notes, each on a line of its own."""
    return harmless("\n  ".join([f"error: {error}", *notes_of(error)]))


def notes_of(error: CyberunError) -> list[str]:
    """Return the notes of *error*: what else went wrong."""
    return list(getattr(error, "__notes__", ()))


def task_of(error: CyberunError) -> str | None:
    """Return the id of the task that *error* is about, if it is about one."""
    if error.resume_token is not None:
        return error.resume_token.task_id
    found: object = getattr(error, "task_id", None)
    return found if isinstance(found, str) else None


def as_line(record: Mapping[str, Any]) -> str:
    """Return *record* as one line of JSON."""
    return json.dumps(record, default=_plain)


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case Path():
            return str(value)
        case Mapping():
            return dict(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case _ if attrs.has(type(value)):
            return values_of(value)
        case _:
            return str(value)
