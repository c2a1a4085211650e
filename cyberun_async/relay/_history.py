"""
What a task has told so far, numbered, and what each browser is told of it.

One history per task and process, of bounded length; each browser is a position in it. A
browser that comes back with an id of this history gets what it missed. One with an id that
this history did not give - the process is another, or was started again - gets a snapshot:
the newest of each kind of state.

A browser that reads slowly is not buffered for: it takes one entry at a time. Its position
stays behind, and when it reads on, only the newest tick is there for it; statuses and the
end are all there.
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


_ENDS = frozenset({"completed", "failed", "cancelled"})
# Of these only the newest matters to who has fallen behind.
_OVERWRITTEN = frozenset({"progress", "liveness"})
# A snapshot has the newest of each: the state or the end, the tick, and whether ticks come.
_SLOTS = {
    **dict.fromkeys(("status", *_ENDS), "state"),
    **{name: name for name in _OVERWRITTEN},
}
_END_MARK = "end"


def is_end(event_id: str | None) -> bool:
    """
    Return whether a browser that has seen *event_id* has seen everything.

    Any process can tell, so a browser is not told again of an end by each worker in turn.
    """
    return event_id is not None and event_id.endswith(f"-{_END_MARK}")


@attrs.frozen
class Entry:
    """One thing told: its number, its name, the attempt it belongs to, and its bytes."""

    number: int
    name: str
    attempt: int
    frame: bytes


@attrs.define
class History:
    """
    The last things told of one task.

    Args:
        epoch: Tells the ids of this history from those of any other; no hyphens.
        limit: How many entries are kept; ticks go first.
    """

    epoch: str
    limit: int
    is_over: bool = attrs.field(default=False, init=False)
    last: int = attrs.field(default=0, init=False)
    _entries: deque[Entry] = attrs.field(factory=deque[Entry], init=False)
    _newest: dict[str, Entry] = attrs.field(factory=dict[str, Entry], init=False)
    # The highest number that was dropped though no newer entry stands for it.
    _lost: int = attrs.field(default=0, init=False)

    def add(self, name: str, data: Mapping[str, Any], *, attempt: int = 1) -> None:
        """Number and keep one thing told."""
        self._append(name, data, attempt, ends=name in _ENDS)

    def add_end(self, name: str, data: Mapping[str, Any]) -> None:
        """Add something other than the task's own end after which nothing can come."""
        self._append(name, data, attempt=1, ends=True)

    def stop(self) -> None:
        """Let nothing more come, without an end: browsers are to come back."""
        self.is_over = True

    def position(self, event_id: str | None) -> int | None:
        """Return where a browser goes on that comes with *event_id*; None for a snapshot."""
        position = self._position(event_id)
        return None if position is None or position < self._lost else position

    def snapshot(self) -> Sequence[Entry]:
        """Return the newest of each kind of state, in their order."""
        return sorted(self._newest.values(), key=lambda entry: entry.number)

    def since(self, position: int, *, whole_to: int = 0) -> Sequence[Entry]:
        """Return what comes after *position*; of ticks after *whole_to* only the newest."""
        if position < self._lost:
            return [entry for entry in self.snapshot() if entry.number > position]
        missed = self._after(position)
        newest = {entry.name: entry for entry in missed}
        return [
            entry
            for entry in missed
            if entry.number <= whole_to
            or entry.name not in _OVERWRITTEN
            or newest[entry.name] is entry
        ]

    def _append(self, name: str, data: Mapping[str, Any], attempt: int, *, ends: bool) -> None:
        if self.is_over:
            return
        self.last += 1
        self.is_over = ends
        event_id = f"{self.epoch}-{self.last}" + (f"-{_END_MARK}" if ends else "")
        entry = Entry(self.last, name, attempt, frame(name, data, event_id))
        self._note_newest(entry)
        self._entries.append(entry)
        if len(self._entries) > self.limit:
            self._drop_one()

    def _note_newest(self, entry: Entry) -> None:
        slot = _SLOTS.get(entry.name, "state" if self.is_over else None)
        if slot is None:
            return
        tick = self._newest.get("progress")
        if tick is not None and tick.attempt < entry.attempt:
            del self._newest["progress"]
        self._newest[slot] = entry

    def _drop_one(self) -> None:
        for index, entry in enumerate(self._entries):
            if entry.name in _OVERWRITTEN and entry is not self._newest.get(entry.name):
                del self._entries[index]
                return
        self._lost = self._entries.popleft().number

    def _position(self, event_id: str | None) -> int | None:
        epoch, _, number = (event_id or "").partition("-")
        if epoch != self.epoch or not (number.isascii() and number.isdigit()):
            return None
        position = int(number) if len(number) <= len(str(self.last)) else self.last + 1
        return position if position <= self.last else None

    def _after(self, position: int) -> list[Entry]:
        found: list[Entry] = []
        for entry in reversed(self._entries):
            if entry.number <= position:
                break
            found.append(entry)
        found.reverse()
        return found
