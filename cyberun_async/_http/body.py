"""
The bytes of one answer, and how to let go of them at any moment.

An answer of httpx is read through five nested generators. Closing the outermost
one leaves the inner ones to the garbage collector, which on asyncio makes a task
of each and on trio warns. So a body that is closed early has its socket aborted
first, and is then read into the error that follows, which unwinds all of them.
"""

import contextlib
from typing import Protocol, TypeVar

import anyio
import httpx

from .._protocol import ExchangeFailedError, FailureKind, decompressor_for


class Closable(Protocol):
    """Something with an end."""

    async def aclose(self) -> None:
        """Close it."""
        ...


ClosableT = TypeVar("ClosableT", bound=Closable)


async def close_all(closables: list[ClosableT]) -> None:
    """Empty the list and close each; a cancellation in between is passed on at the end."""
    try:
        while closables:
            await closables.pop().aclose()
    finally:
        if closables:
            await close_all(closables)


class Body:
    """
    The body of an answer as sent: one reader, closable from another task.

    *aclose* is idempotent, and the socket is gone before it first suspends, so that
    even a cancellation in the middle of it leaves nothing open.
    """

    __slots__ = ("_chunks", "_is_reading", "_network", "_stream", "is_closed", "is_over")

    def __init__(self, response: httpx.Response) -> None:
        stream = response.stream
        if not isinstance(stream, httpx.AsyncByteStream):
            raise TypeError("the transport gave an answer that cannot be read asynchronously")
        self._stream = stream
        self._chunks = aiter(stream)
        self._network: Closable | None = response.extensions.get("network_stream")
        self._is_reading = False
        self.is_over = False
        self.is_closed = False

    async def read(self) -> bytes:
        """
        Return the next bytes; nothing at the end.

        Raises:
            httpx.StreamClosed: This side has closed the body before its end.
        """
        self._check_open()
        self._is_reading = True
        try:
            # An empty chunk is not the end.
            while not (chunk := await anext(self._chunks)):
                pass
        except StopAsyncIteration:
            self._check_open()
            self.is_over = True
            return b""
        finally:
            self._is_reading = False
        return chunk

    async def collect(self, into: bytearray, limit: int) -> None:
        """
        Add every piece to *into*, until it holds *limit* bytes, or to the end.

        Raises:
            httpx.StreamClosed: This side has closed the body before its end.
        """
        self._check_open()
        self._is_reading = True
        try:
            async for chunk in self._chunks:
                into += chunk
                if len(into) >= limit:
                    return
            self._check_open()
            self.is_over = True
        finally:
            self._is_reading = False

    def _check_open(self) -> None:
        # A socket that was aborted looks like the end of a body without a length, and what
        # another task unwinds just now cannot be read.
        if self.is_closed and not self.is_over:
            raise httpx.StreamClosed

    async def aclose(self) -> None:
        """Let go of the connection; a reader in another task is woken with an error."""
        if self.is_closed:
            return
        self.is_closed = True
        with anyio.CancelScope(shield=True):
            try:
                if self._network is not None and not self.is_over:
                    await self._network.aclose()
            finally:
                await self._unwind()

    async def _unwind(self) -> None:
        try:
            if not self._is_reading and not self.is_over:
                await self._exhaust()
        finally:
            # The whole answer was there already, so httpcore takes the connection for an
            # idle one and asks about its socket, which on trio raises, as it is closed.
            with contextlib.suppress(ValueError):
                await self._stream.aclose()

    async def _exhaust(self) -> None:
        if self._network is None:
            closable = getattr(self._chunks, "aclose", None)
            if closable is not None:
                await closable()
            return
        try:
            async for _ in self._chunks:
                pass
        except (httpx.RequestError, httpx.StreamError, OSError):
            return


async def read_whole(body: Body, limit: int, encoding: str | None) -> bytes:
    """
    Return the whole body, decompressed.

    Raises:
        ExchangeFailedError: It is longer than *limit* bytes, or not encoded as it says.
    """
    unpacker = decompressor_for(encoding, "the answer", _invalid)
    found = bytearray()
    while chunk := await body.read():
        for piece in (chunk,) if unpacker is None else unpacker.pieces(chunk):
            found += piece
            if len(found) > limit:
                raise _invalid(f"the answer is longer than {limit} bytes")
    if unpacker is not None and not unpacker.is_complete:
        raise _invalid("the compressed answer is cut")
    return bytes(found)


def _invalid(problem: str) -> ExchangeFailedError:
    return ExchangeFailedError(FailureKind.PROTOCOL, maybe_sent=True, reason=problem)


async def read_start(body: Body, limit: int) -> bytes:
    """Return the first *limit* bytes at most, of a body that may be of any size."""
    found = bytearray()
    while len(found) < limit and (chunk := await body.read()):
        found += chunk
    return bytes(found[:limit])
