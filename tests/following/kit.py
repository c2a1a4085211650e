"""A stream that the test plays by hand, foreverything that follows one."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

import anyio
import attrs
from httpx_sse import ServerSentEvent

from cyberun_async._following import EventBuffer
from cyberun_async._model import Event, Notice
from cyberun_async._protocol import ExchangeFailedError, FailureKind

from ..watch.kit import TASK


EVENT_STREAM: Final = "text/event-stream"


def message(name: str, **payload: Any) -> ServerSentEvent:
    """Return a message of the stream, as the service sends it."""
    return ServerSentEvent(event=name, data=json.dumps({"task_id": TASK, **payload}))


def status_message(name: str) -> ServerSentEvent:
    return message("status", status=name)


def progress_message(step: int) -> ServerSentEvent:
    return message("progress", step_current=step)


def end_message(output: Mapping[str, Any]) -> ServerSentEvent:
    return message("completed", status="completed", output=output)


def lost(kind: FailureKind = FailureKind.LOST) -> ExchangeFailedError:
    return ExchangeFailedError(kind, maybe_sent=True, reason=f"played: {kind.value}")


@attrs.define(eq=False)
class FakeConnection:
    """An open stream, or a refusal of one; what comes, and when, is for the test to say."""

    status: int = 200
    content_type: str | None = EVENT_STREAM
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str])
    last_byte_at: float = 0.0
    retry: int | None = None
    last_event_id: str = ""
    is_closed: bool = False
    _waiting: list[ServerSentEvent] = attrs.field(factory=list[ServerSentEvent])
    _is_fresh: bool = False
    _is_over: bool = False
    _failure: ExchangeFailedError | None = None
    _changed: anyio.Event = attrs.field(factory=anyio.Event)

    @property
    def is_event_stream(self) -> bool:
        return self.content_type == EVENT_STREAM

    def bring(self, *messages: ServerSentEvent) -> None:
        """Let *messages* arrive in one piece."""
        self._is_fresh = self._is_fresh or not self._waiting
        self._waiting.extend(messages)
        self.last_byte_at = anyio.current_time()
        self._changed.set()

    def ask_to_pause(self, milliseconds: int) -> None:
        """Let a block arrive that has a `retry:` and no data."""
        self.retry = milliseconds
        self.bring()

    def end(self) -> None:
        """Let the stream end in good order."""
        self._is_over = True
        self._changed.set()

    def break_off(self) -> None:
        """Let the connection be lost."""
        self._failure = lost()
        self._changed.set()

    async def read(self, deliver: Callable[[Sequence[ServerSentEvent], None], None]) -> None:
        while True:
            if self._is_fresh:
                self._is_fresh = False
                taken, self._waiting = self._waiting, []
                last = next((one.id for one in reversed(taken) if one.id), self.last_event_id)
                self.last_event_id = last
                deliver(taken, None)
            elif self._failure is not None:
                raise self._failure
            elif self._is_over:
                return
            else:
                self._changed = anyio.Event()
                await self._changed.wait()

    async def read_body(self, limit: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        return self.body[:limit]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.aclose()

    async def aclose(self) -> None:
        self.is_closed = True  # before this first suspends, as the real one
        await anyio.lowlevel.checkpoint()


@attrs.define(eq=False)
class FakeStreams:
    """
    What answers requests for the stream: the n-th with the n-th of *answers*, then the last.

    Attributes:
        asked: The headers of each request.
        opened: What was given out.
    """

    answers: Sequence[Callable[[], Any] | ExchangeFailedError] = (FakeConnection,)
    asked: list[Mapping[str, str]] = attrs.field(factory=list[Mapping[str, str]])
    opened: list[Any] = attrs.field(factory=list[Any])

    async def open(self, headers: Mapping[str, str]) -> Any:
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(dict(headers))
        await anyio.lowlevel.checkpoint()
        if isinstance(answer, ExchangeFailedError):
            raise answer
        connection = answer()
        if isinstance(connection, FakeConnection):
            connection.last_event_id = headers.get("Last-Event-ID", "")
        self.opened.append(connection)
        return connection

    @property
    def latest(self) -> FakeConnection:
        connection: FakeConnection = self.opened[-1]
        return connection

    @property
    def open_now(self) -> int:
        return sum(not connection.is_closed for connection in self.opened)


def waiting_in(reader: EventBuffer) -> list[Event | Notice]:
    """Return what *reader* could read at once, without reading it."""
    return list(reader._buffer)


async def read_all(reader: EventBuffer, into: list[Event | Notice]) -> None:
    """Read until the end, or until the failure that stands in its place."""
    while (item := await reader.next()) is not None:
        into.append(item)


async def settle(turns: int = 30) -> None:
    """Let everything that can run run; no time passes."""
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
