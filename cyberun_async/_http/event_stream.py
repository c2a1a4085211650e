"""An open event stream: bytes of one answer, as batches of Server-Sent Events."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

import anyio
import httpx
from httpx_sse import EventSource, ServerSentEvent

from .._model import Limits
from .._protocol import ExchangeFailedError, FailureKind, Framer, FramingError
from .body import Body, read_start
from .connections import Connection
from .failures import RAISED_BY_TRANSPORTS, cause_of, failure


CONTENT_TYPE = "text/event-stream"

# How much may wait to be framed before reading pauses: some eighty events.
_PAUSE_AT_BYTES = 16 * 1024


class EventConnection(EventSource):
    """
    One stream, from its headers to its end, with a connection of its own.

    It is httpx-sse's event source and yields its events, but the framing between
    is strict and bounded, and whole batches can be had.

    Attributes:
        status: The HTTP status.
        headers: Names in lower case.
        last_byte_at: The clock at the last bytes, heartbeats included.
        bytes_seen: How many bytes came.
    """

    def __init__(
        self,
        response: httpx.Response,
        lane: Connection,
        *,
        host: str,
        limits: Limits,
        body_timeout: float,
        clock: Callable[[], float],
        on_close: Callable[["EventConnection"], None],
        last_event_id: str = "",
    ) -> None:
        super().__init__(response)
        self._body = Body(response)
        self._lane = lane
        self._host = host
        self._body_timeout = body_timeout
        self._clock = clock
        self._on_close = on_close
        self._framer: Framer[ServerSentEvent] = Framer(
            ServerSentEvent,
            max_line_bytes=limits.max_line_bytes,
            max_event_bytes=limits.max_event_bytes,
            last_event_id=last_event_id,
        )
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers.items())
        self.last_byte_at = clock()
        self.bytes_seen = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0

    @property
    def content_type(self) -> str | None:
        """The content type as sent, or None."""
        return self.headers.get("content-type")

    @property
    def is_event_stream(self) -> bool:
        """
        Whether the body can be read as events: its type says so, and it is not compressed.

        A compressor may hold events back for minutes and unpack to any size, so
        nothing but the identity that was asked for is read.
        """
        kind = (self.content_type or "").partition(";")[0].strip().lower()
        encoding = self.headers.get("content-encoding", "").strip().lower()
        return kind == CONTENT_TYPE and encoding in {"", "identity"}

    @property
    def retry(self) -> int | None:
        """The last ``retry:`` in milliseconds, also of a block without data; None if none came."""
        return self._framer.retry

    @property
    def last_event_id(self) -> str:
        """The id as of the last complete block, also of one without data; empty if cleared."""
        return self._framer.last_event_id

    @property
    def is_closed(self) -> bool:
        """Whether this side has closed the stream."""
        return self._body.is_closed

    def batches(self) -> AsyncIterator[list[ServerSentEvent]]:
        """
        Read the stream: each item holds all events that one piece of it completed.

        It ends when the stream ends cleanly, which says nothing of the task. One
        reader at a time; calling this again reads on.

        Raises:
            ExchangeFailedError: The stream was lost or passed a limit.
        """
        return _Batches(self)

    async def aiter_sse(self) -> AsyncGenerator[ServerSentEvent, None]:
        """
        Yield the events one by one.

        Raises:
            ExchangeFailedError: As :meth:`batches`, or the answer is no event stream.
        """
        if not self.is_event_stream:
            raise ExchangeFailedError(
                FailureKind.PROTOCOL, maybe_sent=True, reason="the answer is no event stream"
            )
        async for batch in self.batches():
            for event in batch:
                yield event

    async def next_batch(self) -> list[ServerSentEvent]:
        """
        Return the events that the next bytes complete; none at the end.

        Raises:
            ExchangeFailedError: As :meth:`batches`.
        """
        found: list[ServerSentEvent] = []
        try:
            # A limit passed behind the last events is told before anything is waited for.
            self._framer.feed(b"")
            while not found and (chunk := await self._body.read()):
                self.last_byte_at = self._clock()
                self.bytes_seen += len(chunk)
                found = self._framer.feed(chunk)
            if not found:
                self._framer.end()
        except FramingError as error:
            raise _malformed(error) from error
        except RAISED_BY_TRANSPORTS as error:
            raise self._lost(error) from cause_of(error)
        return found

    async def fill(self, arrived: Callable[[], bool]) -> bool:
        """
        Read on and keep what comes for :meth:`messages`.

        A server may send each event in a chunk of its own: all that comes in one go is
        then framed and decoded in one go.

        Args:
            arrived: Called when the first bytes wait; True pauses reading.

        Returns:
            False at the end; otherwise reading has paused, as too much waits or as asked.

        Raises:
            ExchangeFailedError: The stream was lost.
        """
        waiting = self._waiting

        def take(chunk: bytes) -> bool:
            waiting.append(chunk)
            self._waiting_bytes += len(chunk)
            if len(waiting) == 1:
                self.last_byte_at = self._clock()
                return arrived() or self._waiting_bytes >= _PAUSE_AT_BYTES
            return self._waiting_bytes >= _PAUSE_AT_BYTES

        try:
            await self._body.each(take)
        except RAISED_BY_TRANSPORTS as error:
            raise self._lost(error) from cause_of(error)
        return not self._body.is_over

    def messages(self) -> list[ServerSentEvent]:
        """
        Return the events that the waiting bytes complete.

        Raises:
            ExchangeFailedError: The stream passed a limit; events before it come first.
        """
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0
        self.bytes_seen += len(data)
        try:
            return self._framer.feed(data)
        except FramingError as error:
            raise _malformed(error) from error

    async def read_body(self, limit: int = 65536) -> bytes:
        """
        Return the first *limit* bytes of an answer that is no stream.

        Raises:
            ExchangeFailedError: The connection was lost before the end, or it took too long.
        """
        try:
            with anyio.fail_after(self._body_timeout):
                return await read_start(self._body, limit)
        except TimeoutError as error:
            reason = f"{self._host} did not end its answer within {self._body_timeout:g} s"
            raise ExchangeFailedError(
                FailureKind.TIMEOUT, maybe_sent=True, reason=reason
            ) from error
        except RAISED_BY_TRANSPORTS as error:
            raise self._lost(error) from cause_of(error)

    def _lost(self, error: Exception) -> ExchangeFailedError:
        if self.is_closed:
            return ExchangeFailedError(
                FailureKind.LOST, maybe_sent=True, reason="the stream was closed by this side"
            )
        return failure(error, host=self._host, is_sent=True)

    async def aclose(self) -> None:
        """
        Close the stream. Idempotent, and permitted from any task.

        A reader in another task gets an :class:`ExchangeFailedError`. The connection
        is aborted before this first suspends: no cancellation leaves it open.
        """
        if self.is_closed:
            return
        self._on_close(self)
        try:
            await self._body.aclose()
        finally:
            await self._lane.aclose()


class _Batches:
    """An iterator and no generator, which could not be left without closing it."""

    __slots__ = ("_connection",)

    def __init__(self, connection: EventConnection) -> None:
        self._connection = connection

    def __aiter__(self) -> "_Batches":
        return self

    async def __anext__(self) -> list[ServerSentEvent]:
        if found := await self._connection.next_batch():
            return found
        raise StopAsyncIteration


def _malformed(error: FramingError) -> ExchangeFailedError:
    return ExchangeFailedError(FailureKind.PROTOCOL, maybe_sent=True, reason=str(error))
