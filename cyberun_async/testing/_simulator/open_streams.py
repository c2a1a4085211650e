"""The event streams that are open: how many, on which tasks, and how to reach them."""

import threading
from collections.abc import Callable, Iterator

import anyio
import attrs

from .clock import RunningLoop
from .errors import ConnectionCutError, StreamEndError


@attrs.define(eq=False)
class OpenStream:
    """A stream that is being served; woken and ended from any thread."""

    task_id: str
    key: str
    loop: RunningLoop
    scope: anyio.CancelScope
    ending: StreamEndError | ConnectionCutError | None = None
    _event: anyio.Event = attrs.field(factory=anyio.Event)

    def arm(self) -> None:
        """Notice what happens from now on."""
        self._event = anyio.Event()

    async def pause(self, seconds: float) -> None:
        """Wait for *seconds* or until something has happened since :meth:`arm`."""
        with anyio.move_on_after(seconds):
            await self._event.wait()

    def wake(self) -> None:
        """Make :meth:`pause` return: something has happened."""
        # Looked up when it is set, not here: the loop may have armed another meanwhile.
        self._post(self._set_event)

    def _set_event(self) -> None:
        self._event.set()

    def end(self, ending: StreamEndError | ConnectionCutError) -> None:
        """End the stream now, in good order or by cutting the connection."""
        self._post(lambda: self._end(ending))

    def _end(self, ending: StreamEndError | ConnectionCutError) -> None:
        self.ending = ending
        self.scope.cancel()

    def _post(self, action: Callable[[], object]) -> None:
        try:
            self.loop.post(action)
        except RuntimeError:
            # The loop has been closed, and the stream with it.
            return


class Streams:
    """The open streams of a service, now and at their peak."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_task: dict[str, set[OpenStream]] = {}
        self.count: int = 0
        self.peak: int = 0

    def opened(self, stream: OpenStream) -> None:
        """Count a stream in."""
        with self._lock:
            self._by_task.setdefault(stream.task_id, set()).add(stream)
            self.count += 1
            self.peak = max(self.peak, self.count)

    def closed(self, stream: OpenStream) -> None:
        """Count a stream out."""
        with self._lock:
            rest = self._by_task[stream.task_id]
            rest.discard(stream)
            self.count -= 1
            if not rest:
                del self._by_task[stream.task_id]

    def wake(self, task_id: str | None = None) -> None:
        """Wake the streams of a task, or all."""
        for stream in self.of(task_id):
            stream.wake()

    def end(
        self,
        ending: StreamEndError | ConnectionCutError,
        *,
        task_id: str | None = None,
        key: str | None = None,
    ) -> None:
        """End the streams of a task or all, those opened with *key* or all of them."""
        for stream in self.of(task_id):
            if key in (None, stream.key):
                stream.end(ending)

    def of(self, task_id: str | None = None) -> Iterator[OpenStream]:
        """Return the streams of a task, or all."""
        with self._lock:
            if task_id is not None:
                return iter(list(self._by_task.get(task_id, ())))
            return iter([one for streams in self._by_task.values() for one in streams])
