"""An open event stream: bytes of one answer, as batches of Server-Sent Events."""

from collections.abc import Callable, Generator, Mapping, Sequence
from types import coroutine
from typing import Any, Self

import anyio
import httpx
from httpx_sse import ServerSentEvent

from .._model import Limits
from .._protocol import ExchangeFailedError, FailureKind, Framer, FramingError
from .body import Body, read_start
from .connections import Connection
from .failures import RAISED_BY_TRANSPORTS, cause_of, failure


CONTENT_TYPE = "text/event-stream"

# How much may wait to be framed before reading pauses: some eighty events.
_PAUSE_AT_BYTES = 16 * 1024

Deliver = Callable[[Sequence[ServerSentEvent], ExchangeFailedError | None], None]


class EventConnection:
    """
    One stream, from its headers to its end, with a connection of its own.

    It yields the events of httpx-sse, but its framing is strict and bounded.

    Attributes:
        status: The HTTP status.
        headers: Names in lower case.
        last_byte_at: The clock at the last bytes, heartbeats included.
        retry: The last ``retry:`` in milliseconds, also of a block without data, or None.
        last_event_id: The id as of the last complete block, also of one without data.
    """

    def __init__(
        self,
        response: httpx.Response,
        connection: Connection,
        *,
        host: str,
        limits: Limits,
        body_timeout: float,
        clock: Callable[[], float],
        on_close: Callable[["EventConnection"], None],
        last_event_id: str = "",
    ) -> None:
        self._body = Body(response)
        self._connection = connection
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
        self.retry: int | None = None
        self.last_event_id = last_event_id
        self._waiting = bytearray()

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
    def is_closed(self) -> bool:
        """Whether this side has closed the stream."""
        return self._body.is_closed

    @coroutine
    def read(self, deliver: Deliver) -> Generator[Any, Any, None]:
        """
        Read to the end, and hand over what has come each time before this waits for more.

        A server may send each event in a chunk of its own: all that comes in one go is
        framed, and delivered, in one go. A long burst is handed over in pieces, with a
        turn of the event loop between them.

        Args:
            deliver:
                Takes the events, and why no more can be read, if so. It must not raise, and
                ends reading by cancelling it.

        Raises:
            ExchangeFailedError: The stream was lost.
        """
        while True:
            # By hand what `await` does, to act between a read and the wait that it asks for.
            reading = self._body.collect(self._waiting, _PAUSE_AT_BYTES)
            resume: Callable[[Any], Any] = reading.send
            value: Any = None
            while True:
                try:
                    wait = resume(value)
                except StopIteration:
                    break
                except RAISED_BY_TRANSPORTS as error:
                    self._hand_over(deliver)
                    raise self._lost(error) from cause_of(error)
                if self._waiting:
                    self._hand_over(deliver)
                try:
                    resume, value = reading.send, (yield wait)
                except BaseException as error:  # noqa: BLE001 - the reading's own
                    resume, value = reading.throw, error
            self._hand_over(deliver)
            if self._body.is_over:
                return
            yield from anyio.lowlevel.checkpoint().__await__()

    def _hand_over(self, deliver: Deliver) -> None:
        data = bytes(self._waiting)
        if not data:
            return
        self._waiting.clear()
        self.last_byte_at = self._clock()
        framer = self._framer
        try:
            messages = framer.feed(data)
        except FramingError:
            messages = []
        self.retry, self.last_event_id = framer.retry, framer.last_event_id
        deliver(messages, None if framer.failure is None else _malformed(framer.failure))

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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self.aclose()

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
            await self._connection.aclose()


def _malformed(error: FramingError) -> ExchangeFailedError:
    return ExchangeFailedError(FailureKind.PROTOCOL, maybe_sent=True, reason=str(error))
