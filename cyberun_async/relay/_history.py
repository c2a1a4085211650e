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

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from ._wire import frame


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
