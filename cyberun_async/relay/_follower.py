"""The one follower of a task in this process, and the stream that each browser reads."""

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Self

import anyio
import attrs

from .. import (
    ClientClosedError,
    Connected,
    CyberunClient,
    CyberunError,
    Event,
    Notice,
    PollingStarted,
    ResumeToken,
    StreamingResumed,
    StreamLost,
    TaskNotFoundError,
)
from ._history import HEARTBEAT, Entry, History, frame, message_of, retry_after


_LOGGER = logging.getLogger("cyberun_async")
# Seconds after which browsers come back where the client could not reach the service.
_RETRY_AFTER_FAILURE = 15.0


@attrs.define
class Liveness:
    """
    Whether the watch has live progress, as pages see it; None where that is not known yet.

    It follows the notices, which come in order between the events. The watch's own state is
    ahead of them, and counts only until the first of them: a watch that somebody else began
    reported its notices before.
    """

    is_live: bool | None = attrs.field(default=None, init=False)
    _is_polling: bool = attrs.field(default=False, init=False)

    def changed(self, item: Event | Notice, *, is_live: bool, phase: str) -> bool:
        """Apply *item*; return whether pages have to be notified."""
        before = self.is_live
        match item:
            case StreamLost():
                self.is_live = False
            case PollingStarted():
                self._is_polling = True
                self.is_live = False
            case StreamingResumed():
                self._is_polling = False
                self.is_live = True
            case Connected():
                # After polling, a stream has to prove itself with an event first.
                self.is_live = before if self._is_polling else True
            case _ if before is None and (is_live or phase == "polling"):
                self._is_polling = not is_live
                self.is_live = is_live
            case _:
                pass
        return self.is_live is not before


class Notifier:
    """Wakes everybody who waits now."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def notify(self) -> None:
        """Wake them."""
        self._event.set()
        self._event = anyio.Event()

    async def wait(self) -> None:
        """Wait for the next notification."""
        await self._event.wait()


class Follower:
    """Follows one task for all browsers, from the first until some time after the last."""

    def __init__(
        self, client: CyberunClient, task_id: str, history: History, *, keep: float
    ) -> None:
        self.task_id: str = task_id
        self.history: History = history
        self.last_frame: bytes = b""
        self.is_usable: bool = True
        self._is_known = False
        self._was_read = False
        self._client = client
        self._keep = keep
        self._browsers = 0
        self._liveness = Liveness()
        self.changed: Notifier = Notifier()
        self._use_changed = Notifier()

    async def run(self) -> None:
        """Follow the task; return when it was not used for a while, or failed."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._follow, group.cancel_scope)
                await self._wait_unused()
                self._end(group.cancel_scope)
        finally:
            self.is_usable = False
            self.history.stop()
            self.changed.notify()

    def joined(self) -> None:
        """Count a browser in."""
        self._browsers += 1
        self._use_changed.notify()

    def dismiss(self) -> None:
        """Stop now rather than later, to make room for another task; no browser uses it."""
        self.is_usable = False
        self._use_changed.notify()

    def was_read(self) -> None:
        """Note that a browser got an id with which it can come back."""
        self._was_read = True

    def left(self) -> None:
        """Count a browser out."""
        self._browsers -= 1
        self._use_changed.notify()

    @property
    def is_in_use(self) -> bool:
        """Whether a browser uses it now."""
        return self._browsers > 0

    async def _wait_unused(self) -> None:
        """
        Return when no browser uses it any more, and none is expected to come back.

        None is expected where no event came, or where no browser was sent one: it has no id
        to come back with.
        """
        is_unused = False
        while not is_unused:
            while self._browsers:
                await self._use_changed.wait()
            if not (self._is_known and self._was_read) or not self.is_usable:
                return
            with anyio.move_on_after(self._keep) as patience:
                await self._use_changed.wait()
            is_unused = patience.cancelled_caught or not self.is_usable

    def _end(self, scope: anyio.CancelScope) -> None:
        # Before the watch is closed, so that no browser joins what is about to end.
        self.is_usable = False
        scope.cancel()

    async def _follow(self, scope: anyio.CancelScope) -> None:
        try:
            await self._read()
            return
        except ClientClosedError:
            pass  # browsers come back, perhaps to another process
        except CyberunError as error:
            self._fail(error)
        except Exception:
            # A fault must not take down the task group, and with it the whole service.
            _LOGGER.exception("the relay failed to follow task %s", self.task_id)
            self.last_frame = passing_failure(self.task_id, CyberunError.__name__)
        self._end(scope)

    async def _read(self) -> None:
        # A page is often opened right after its task was submitted, perhaps by another process.
        # The time of the submission gives a replica that does not know the task yet some time.
        start = ResumeToken(task_id=self.task_id, submitted_at=datetime.now(UTC))
        async with self._client.watch(start, notices=True) as events:
            async for item in events:
                if isinstance(item, Event):
                    self._is_known = True
                    name, data = message_of(item)
                    self.history.add(name, data, attempt=item.attempt)
                if self._liveness.changed(
                    item, is_live=events.progress_is_live, phase=events.phase
                ):
                    self.history.add("liveness", {"progress_is_live": self._liveness.is_live})
                self.changed.notify()

    def _fail(self, error: CyberunError) -> None:
        name = type(error).__name__
        if isinstance(error, TaskNotFoundError):
            self.history.add(
                "relay-error", _failure(self.task_id, name, is_final=True), is_end=True
            )
        else:
            self.last_frame = passing_failure(self.task_id, name)


def passing_failure(task_id: str, error: str) -> bytes:
    """Return the event after which a browser comes back, later."""
    data = _failure(task_id, error, is_final=False)
    return retry_after(_RETRY_AFTER_FAILURE) + frame("relay-error", data)


def _failure(task_id: str, error: str, *, is_final: bool) -> dict[str, object]:
    return {"task_id": task_id, "error": error, "is_final": is_final}


class Browser:
    """The stream of one browser, in parts: a context manager and an iterator of bytes."""

    def __init__(
        self,
        follower: Follower,
        *,
        last_event_id: str | None,
        heartbeat: float,
        retry: float,
        is_leaving: Callable[[], bool],
    ) -> None:
        self._follower = follower
        self._last_event_id = last_event_id
        self._heartbeat = heartbeat
        # Sent within the block of the first event.
        self._retry = retry_after(retry)
        self._is_leaving = is_leaving
        self._position: int | None = None
        # Up to this entry it gets everything that it missed, progress included.
        self._whole_to = 0
        self._is_over = False

    def __enter__(self) -> Self:
        self._follower.joined()
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.left()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._is_over:
            raise StopAsyncIteration
        if self._position is None:
            # A comment where there is no event yet, so that proxies pass the headers on.
            return self._take() or HEARTBEAT
        if part := self._take() or await self._wait():
            return part
        raise StopAsyncIteration

    async def _wait(self) -> bytes:
        """Return what comes next, a heartbeat if that takes long, or nothing at the end."""
        with anyio.move_on_after(self._heartbeat):
            while not self._is_over:
                await self._follower.changed.wait()
                if part := self._take():
                    return part
            return b""
        return HEARTBEAT

    def _take(self) -> bytes:
        """Return what comes next, if anything is there, and note whether more can follow."""
        history = self._follower.history
        parts = [entry.frame for entry in self._entries()]
        if parts:
            self._follower.was_read()
            parts.insert(0, self._retry)
            self._retry = b""
        is_ending = history.is_over or self._is_leaving()
        self._is_over = is_ending and self._position == history.last
        if self._is_over:
            parts.append(self._follower.last_frame)
        return b"".join(parts)

    def _entries(self) -> Sequence[Entry]:
        """Return one entry, so that no more than that waits for a slow reader, or a snapshot."""
        history = self._follower.history
        if self._position is None:
            self._position = history.position(self._last_event_id)
            self._whole_to = history.last
            if self._position is None:
                self._position = history.last
                return history.snapshot()
        entries = history.since(self._position, whole_to=self._whole_to)[:1]
        self._position = entries[0].number if entries else history.last
        return entries
