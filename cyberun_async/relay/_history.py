"""
The events of a task so far, numbered, and which of them each browser gets.

One history per task and process, of bounded length; each browser is a position in it. A
browser that comes back with an id of this history gets what it missed. One with an id that
this history did not give - the process is another, or was started again - gets a snapshot:
the newest of each kind of state.

A browser that reads slowly is not buffered for: it takes one entry at a time. Its position
stays behind, and when it reads on, only the newest progress event is there for it; statuses
and the end are all there.
"""

import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, cast

import attrs

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

_ENDS = frozenset({"completed", "failed", "cancelled"})
# Of these only the newest matters to a browser that has fallen behind.
_OVERWRITTEN = frozenset({"progress", "liveness"})
# A snapshot has the newest of each: the state or the end, the progress, and the liveness.
_SLOTS = {
    **dict.fromkeys(("status", *_ENDS), "state"),
    **{name: name for name in _OVERWRITTEN},
}
_END_MARK = "end"
_PROGRESS_FIELDS = (
    *("progress", "step_current", "step_total"),
    *("current_node", "stage", "message"),
)


def message_of(event: Event) -> tuple[str, dict[str, Any]]:
    """Return the name and the data of *event* for a browser."""
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
    values = ((name, getattr(event, name)) for name in _PROGRESS_FIELDS)
    return {name: value for name, value in values if value is not None}


def frame(name: str, data: Mapping[str, Any], event_id: str | None = None) -> bytes:
    """Return one event as bytes; JSON has no line breaks, so its data is one line."""
    first = f"id: {event_id}\n" if event_id is not None else ""
    text = json.dumps(_finite(data), separators=(",", ":"), allow_nan=False)
    return f"{first}event: {name}\ndata: {text}\n\n".encode()


def retry_after(seconds: float) -> bytes:
    """
    Return the field that says when a browser comes back after a lost connection.

    It belongs in front of a frame, within the block of that event: many parsers make an
    empty event of a block that has no other field.
    """
    return f"retry: {round(seconds * 1000)}\n".encode()


def _finite(value: object) -> object:
    """Return *value* with null for numbers beyond all bounds, which JSON does not have."""
    if isinstance(value, Mapping):
        items = cast("Mapping[str, object]", value).items()
        return {key: _finite(item) for key, item in items}
    if isinstance(value, list):
        return [_finite(item) for item in cast("list[object]", value)]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_end(event_id: str | None) -> bool:
    """
    Return whether a browser that has seen *event_id* has seen everything.

    Any process can see it, so that not every worker in turn sends the end again.
    """
    return event_id is not None and event_id.endswith(f"-{_END_MARK}")


@attrs.frozen
class Entry:
    """One event: its number, its name, the attempt it belongs to, and its bytes."""

    number: int
    name: str
    attempt: int
    frame: bytes


@attrs.define
class History:
    """
    The last events of one task.

    Args:
        epoch: Distinguishes the ids of this history from all others; no hyphens.
        limit: How many entries are kept; progress is dropped first.
    """

    epoch: str
    limit: int
    is_over: bool = attrs.field(default=False, init=False)
    last: int = attrs.field(default=0, init=False)
    _entries: deque[Entry] = attrs.field(factory=deque[Entry], init=False)
    _newest: dict[str, Entry] = attrs.field(factory=dict[str, Entry], init=False)
    # The highest number that was dropped though no newer entry stands for it.
    _lost: int = attrs.field(default=0, init=False)

    def add(
        self, name: str, data: Mapping[str, Any], *, attempt: int = 1, is_end: bool = False
    ) -> None:
        """Number and keep one event; nothing can follow a task's own end, or *is_end*."""
        if self.is_over:
            return
        self.last += 1
        self.is_over = is_end or name in _ENDS
        event_id = f"{self.epoch}-{self.last}" + (f"-{_END_MARK}" if self.is_over else "")
        entry = Entry(self.last, name, attempt, frame(name, data, event_id))
        self._note_newest(entry)
        self._entries.append(entry)
        if len(self._entries) > self.limit:
            self._drop_one()

    def stop(self) -> None:
        """Let nothing more come, without an end: browsers are to come back."""
        self.is_over = True

    def position(self, event_id: str | None) -> int | None:
        """Return where a browser continues that comes with *event_id*; None for a snapshot."""
        epoch, _, number = (event_id or "").partition("-")
        if epoch != self.epoch or not (number.isascii() and number.isdigit()):
            return None
        position = int(number) if len(number) <= len(str(self.last)) else self.last + 1
        return position if self._lost <= position <= self.last else None

    def snapshot(self) -> Sequence[Entry]:
        """Return the newest of each kind of state, in their order."""
        return sorted(self._newest.values(), key=lambda entry: entry.number)

    def since(self, position: int, *, whole_to: int = 0) -> Sequence[Entry]:
        """Return what comes after *position*; of progress after *whole_to* only the newest."""
        if position < self._lost:
            return [entry for entry in self.snapshot() if entry.number > position]
        missed = [entry for entry in self._entries if entry.number > position]
        newest = {entry.name: entry for entry in missed}
        return [
            entry
            for entry in missed
            if entry.number <= whole_to
            or entry.name not in _OVERWRITTEN
            or newest[entry.name] is entry
        ]

    def _note_newest(self, entry: Entry) -> None:
        slot = _SLOTS.get(entry.name, "state" if self.is_over else None)
        if slot is None:
            return
        progress = self._newest.get("progress")
        if progress is not None and progress.attempt < entry.attempt:
            del self._newest["progress"]
        self._newest[slot] = entry

    def _drop_one(self) -> None:
        for index, entry in enumerate(self._entries):
            if entry.name in _OVERWRITTEN and entry is not self._newest.get(entry.name):
                del self._entries[index]
                return
        self._lost = self._entries.popleft().number
