"""The answer of the events endpoint: a task's events as they happen, with the faults between."""

from collections.abc import Awaitable, Callable

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..faults import Close, Corrupt, Drip, Drop, Foreign, Raw, Repeat, Replay, Stall
from .behaviour import Behaviour
from .clock import running_loop
from .errors import ConnectionCutError, StreamEndError
from .faults import Claim, corrupted
from .keys import Caller
from .open_streams import OpenStream
from .state import State
from .tasks import SimTask
from .timeline import ROUNDING
from .views import COMMENT, Frame, block, encoded, frames_of, payload_bytes


_FOREIGN_TASK = "0197ffff-ffff-7fff-bfff-ffffffffffff"


class EventWriter:
    """Writes events, counts them, and applies the faults of this request."""

    def __init__(
        self, behaviour: Behaviour, claim: Claim, write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        self._behaviour = behaviour
        self._claim = claim
        self._write = write
        self._replays = any(isinstance(action, Replay) for action in claim.actions)
        self._sent: list[bytes] = []
        self._count = 0
        self._size = 0
        self._close = next((a for a in claim.actions if isinstance(a, Close)), None)
        self._drip = next((a for a in claim.actions if isinstance(a, Drip)), None)
        self._drips = False
        self.last_write = anyio.current_time()

    async def write(self, data: bytes) -> None:
        """
        Write bytes that do not count as an event.

        Raises:
            StreamEndError: A fault closes the stream here.
        """
        rest = self._until_end()
        self._size += len(data)
        await self._put(data[:rest])
        self.last_write = anyio.current_time()
        if self._close is not None and rest is not None and len(data) >= rest:
            self._claim.fire(self._close)
            raise StreamEndError

    def _until_end(self) -> int | None:
        """Return how many bytes may still be written."""
        if self._close is None or self._close.bytes is None:
            return None
        return max(0, self._close.bytes - self._size)

    async def _put(self, data: bytes) -> None:
        drip = self._drip
        if drip is None or self._count < drip.events:
            await self._write(data)
            return
        if not self._drips:
            self._drips = True
            self._claim.fire(drip)
        for start in range(len(data)):
            await self._write(data[start : start + 1])
            await anyio.sleep(drip.every)

    async def write_event(self, frame: Frame) -> None:
        """
        Write one event, changed and repeated as the faults say.

        Raises:
            StreamEndError: A fault closes the stream.
            ConnectionCutError: A fault cuts the connection.
        """
        data = self._encoded(frame)
        for _ in range(self._copies()):
            await self.write(data)
            self._count += 1
            if self._replays:
                self._sent.append(data)
            await self.apply_faults()

    async def apply_faults(self) -> None:
        """Apply the faults that are due after as many events as were sent."""
        for action in self._claim.actions:
            match action:
                case Drop(events=self._count):
                    self._claim.fire(action)
                    raise ConnectionCutError(reset=action.reset)
                case Close(events=self._count):
                    self._claim.fire(action)
                    raise StreamEndError
                case Stall(events=self._count):
                    self._claim.fire(action)
                    await self._stall(action)
                case Replay() | Foreign() | Raw() if action.events == self._count:
                    self._claim.fire(action)
                    await self.write(self._extra(action))
                case _:
                    pass

    def _copies(self) -> int:
        for action in self._claim.actions:
            if isinstance(action, Repeat):
                if self._count == 0:
                    self._claim.fire(action)
                return action.copies
        return 1

    def _encoded(self, frame: Frame) -> bytes:
        for action in self._claim.actions:
            if isinstance(action, Corrupt) and action.events == self._count:
                self._claim.fire(action)
                return encoded(frame, self._behaviour, corrupted(payload_bytes(frame), action.how))
        return encoded(frame, self._behaviour)

    def _extra(self, action: Replay | Foreign | Raw) -> bytes:
        match action:
            case Replay():
                return b"".join(self._sent)
            case Raw(data=data):
                return data
            case Foreign(name=name):
                payload: dict[str, object] = {
                    "task_id": _FOREIGN_TASK,
                    "status": name,
                    "output": {},
                }
                return encoded(Frame(name, payload, 0), self._behaviour)

    async def _stall(self, action: Stall) -> None:
        seconds = float("inf") if action.seconds is None else action.seconds
        with anyio.move_on_after(seconds):
            while True:
                await _sleep(action.heartbeat)
                await self.write(block([COMMENT], self._behaviour))


async def _sleep(seconds: float | None) -> None:
    if seconds is None:
        await anyio.sleep_forever()
    else:
        await anyio.sleep(seconds)


_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class EventStream(Response):
    """Streams the events of one task to one reader."""

    def __init__(
        self, state: State, task: SimTask, caller: Caller, claim: Claim, resume_after: str | None
    ) -> None:
        super().__init__()
        self._state = state
        self._task = task
        self._caller = caller
        self._claim = claim
        self._resume_after = resume_after
        self._behaviour = state.behaviour_towards(task)
        self._opened = state.clock.now()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        loop = running_loop()
        assert loop is not None
        ending: StreamEndError | ConnectionCutError | None = None
        cancel_scope = anyio.CancelScope()
        stream = OpenStream(self._task.id, self._caller.key, loop, cancel_scope)
        with cancel_scope:
            self._state.streams.opened(stream)
            try:
                ending = await self._serve(stream, receive, send)
            finally:
                self._state.streams.closed(stream)
        match ending or stream.ending:
            case ConnectionCutError() as cut:
                raise cut
            case StreamEndError():
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            case None:
                # The reader has left.
                return

    async def _serve(
        self, stream: OpenStream, receive: Receive, send: Send
    ) -> StreamEndError | ConnectionCutError | None:
        ending: StreamEndError | ConnectionCutError | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(_end_when_gone, receive, group.cancel_scope)
            try:
                await self._write_all(stream, send)
            except (StreamEndError, ConnectionCutError) as reason:
                ending = reason
            group.cancel_scope.cancel()
        return ending

    async def _write_all(self, stream: OpenStream, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        writer = EventWriter(self._behaviour, self._claim, _chunked(send, self._behaviour))
        if self._behaviour.retry_hint is not None:
            hint = b"retry: %d" % self._behaviour.retry_hint
            await writer.write(block([hint], self._behaviour))
        await writer.apply_faults()
        sent = await self._open(writer)
        while True:
            stream.arm()
            sent = await self._write_since(sent, writer)
            await self._pause(stream, writer, sent)

    async def _open(self, writer: EventWriter) -> int:
        """Send what a new reader gets first, and return how many marks that covers."""
        past = self._task.past(self._opened)
        resumed = self._resumed(len(past))
        if resumed is not None:
            return resumed
        if past[-1].is_terminal and self._behaviour.finished_stream == "close":
            raise StreamEndError
        match self._behaviour.on_connect:
            case "history":
                return 0
            case "nothing" if not past[-1].is_terminal:
                return len(past)
            case _:
                return await self._write_present(len(past), writer)

    def _resumed(self, reached: int) -> int | None:
        last = self._resume_after
        if not self._behaviour.event_ids or last is None or not last.isdecimal():
            return None
        # The id of the last status may be that of the end, which is sent again then: each
        # stream of a task that has ended ends itself.
        sent = min(int(last) + 1, reached)
        return sent - 1 if sent == reached and self._task.marks[sent - 1].is_terminal else sent

    async def _write_present(self, reached: int, writer: EventWriter) -> int:
        past = self._task.marks[:reached]
        if past[-1].is_terminal:
            return reached - 1
        state = max(n for n, mark in enumerate(past) if mark.name == "status")
        progress = [n for n, mark in enumerate(past) if n > state and mark.name == "progress"]
        for number in (state, *progress[-1:]):
            await self._write_mark(number, writer)
        return reached

    async def _write_since(self, sent: int, writer: EventWriter) -> int:
        reached = self._task.reached(self._state.clock.now())
        for number in range(sent, reached):
            await self._write_mark(number, writer)
            mark = self._task.marks[number]
            if mark.is_terminal:
                raise StreamEndError
            is_live = self._task.created + mark.at > self._opened
            if mark.name == "error" and is_live and self._behaviour.error_event == "drop":
                raise ConnectionCutError
        return max(sent, reached)

    async def _write_mark(self, number: int, writer: EventWriter) -> None:
        mark = self._task.marks[number]
        clock = self._state.clock
        for frame in frames_of(self._task, number, mark, self._behaviour, clock):
            await writer.write_event(frame)

    async def _pause(self, stream: OpenStream, writer: EventWriter, sent: int) -> None:
        now = self._state.clock.now()
        # By number, not by time: a mark may have become due since the last one was sent.
        due = [at - now for at in (self._task.due_at(sent), self._closes_at()) if at is not None]
        beat_in = self._beat_in(writer)
        await stream.pause(min([*due, beat_in]))
        if beat_in <= 0:
            await writer.write(block([COMMENT], self._behaviour))
        closes_at = self._closes_at()
        if closes_at is not None and self._state.clock.now() >= closes_at:
            raise StreamEndError

    def _beat_in(self, writer: EventWriter) -> float:
        """Return in how many seconds a comment is due, exactly 0 if it is now."""
        period = self._behaviour.heartbeat
        if period is None:
            return float("inf")
        seconds = writer.last_write + period - anyio.current_time()
        return seconds if seconds > ROUNDING else 0.0

    def _closes_at(self) -> float | None:
        lifetime = self._behaviour.stream_lifetime
        return None if lifetime is None else self._opened + lifetime


def _chunked(send: Send, behaviour: Behaviour) -> Callable[[bytes], Awaitable[None]]:
    async def write(data: bytes) -> None:
        size = behaviour.chunk_bytes or len(data) or 1
        for start in range(0, len(data), size):
            body = data[start : start + size]
            await send({"type": "http.response.body", "body": body, "more_body": True})

    return write


async def _end_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
