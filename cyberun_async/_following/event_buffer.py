"""
The bounded buffer between a task's follower and one reader; of progress it keeps the newest.

A reader that falls behind loses progress (the newest replaces the one before), never a
status and never the end. Where it does not read at all, what is bounded by nothing else
(errors of the service, unknown events) is dropped in the end, and an error says so behind
what was kept, unless the task has ended by then.
"""

from collections.abc import Sequence

import anyio
import attrs

from .._model import (
    CyberunError,
    Event,
    Notice,
    ProgressEvent,
    SlowReaderError,
    StatusEvent,
    TerminalEvent,
)


# A reader this far behind is not reading at all.
_OVERFLOW_FACTOR = 8
# Statuses of an attempt are few, but attempts may be many.
_STATUS_FACTOR = 16


@attrs.define(eq=False)
class EventBuffer:
    """
    What waits for one reader. Filled by the follower, emptied by :meth:`next`.

    Attributes:
        notices: Whether notices are pushed, too.
        dropped_progress: How many progress events were dropped.
        last_read_status: The status event that was read last.
        has_lost: Whether more than progress was dropped: it ends with :class:`SlowReaderError`.
    """

    _capacity: int
    notices: bool = attrs.field(default=False, kw_only=True)
    dropped_progress: int = attrs.field(default=0, init=False)
    has_lost: bool = attrs.field(default=False, init=False)
    last_read_status: StatusEvent | None = attrs.field(default=None, init=False)
    # No deque, which has room for 64 items from the start: mostly there is one at most.
    _buffer: list[Event | Notice] = attrs.field(factory=list[Event | Notice], init=False)
    _failure: CyberunError | None = attrs.field(default=None, init=False)
    _finished: bool = attrs.field(default=False, init=False)
    _waker: anyio.Event | None = attrs.field(default=None, init=False)
    _make_event: type[anyio.Event] = attrs.field(default=anyio.Event, init=False)

    def push(self, item: Event | Notice) -> None:
        """Add *item*, when full in place of older progress; after the end, nothing."""
        if self._finished:
            return
        buffer = self._buffer
        if len(buffer) >= self._capacity or self.has_lost:
            self._make_room(item)
        else:
            buffer.append(item)
        self.wake()

    def push_all(self, items: Sequence[Event | Notice]) -> None:
        """Add *items* in order, as :meth:`push` does; who overrides one overrides both."""
        is_full = len(self._buffer) + len(items) > self._capacity
        if is_full or self._finished or self.has_lost:
            for item in items:
                self.push(item)
        elif items:
            self._buffer.extend(items)
            if self._waker is not None:
                self._waker.set()

    def finish(self, failure: CyberunError | None = None) -> None:
        """End the reader: after what is buffered comes *failure*, or the end."""
        self._finished = True
        self._failure = failure
        self.wake()

    def wake(self) -> None:
        """Let the reader look for what has come."""
        if self._waker is not None:
            self._waker.set()

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will be pushed."""
        return self._finished

    @property
    def is_drained(self) -> bool:
        """Whether the end was read."""
        return self._finished and self._failure is None and not self._buffer

    def take(self) -> Event | Notice | None:
        """Return the next item that is there, or None."""
        if not self._buffer:
            return None
        item = self._buffer.pop(0)
        if type(item) is StatusEvent:
            self.last_read_status = item
        return item

    async def next(self) -> Event | Notice | None:
        """Return the next item, or None at the end; raise the failure that ended it."""
        while (item := self.take()) is None:
            if self.has_lost and not self._finished:
                self.finish(SlowReaderError(_TOO_SLOW))
            if self._finished:
                self._raise_failure()
                return None
            await self._woken()
        return item

    @property
    def is_behind(self) -> bool:
        """Whether a status, or the end, was pushed that was not read and may never be."""
        return self.has_lost or any(
            isinstance(item, Event) and not isinstance(item, ProgressEvent) for item in self._buffer
        )

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _woken(self) -> None:
        waker = self._waker = self._make_event()
        # Which library runs the loop is looked for once: that takes longer than to wait.
        self._make_event = type(waker)
        try:
            await waker.wait()
        finally:
            self._waker = None

    def _make_room(self, item: Event | Notice) -> None:
        buffer = self._buffer
        if isinstance(item, ProgressEvent) and buffer and isinstance(buffer[-1], ProgressEvent):
            buffer[-1] = item
            self.dropped_progress += 1
            return
        for index, waiting in enumerate(buffer):
            if isinstance(waiting, ProgressEvent):
                del buffer[index]
                self.dropped_progress += 1
                break
        if self._must_drop(item):
            self.has_lost = True
        else:
            buffer.append(item)

    def _must_drop(self, item: Event | Notice) -> bool:
        """Return whether there is no room left: least for what may come without limit."""
        if isinstance(item, TerminalEvent):
            return False
        factor = _STATUS_FACTOR if isinstance(item, StatusEvent) else _OVERFLOW_FACTOR
        # Nothing follows what is missing but what must not be missed.
        is_full = len(self._buffer) >= self._capacity * factor
        return is_full or (self.has_lost and not isinstance(item, StatusEvent))


_TOO_SLOW = "the reader fell too far behind, and events were dropped; watch the task again"
