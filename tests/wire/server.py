"""
A server whose behaviour is data: what it waits for, what it sends, how it goes away.

It runs on an event loop of its own in a thread, so that tests of any back end meet
the same bytes.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Literal

import attrs


@attrs.frozen
class Request:
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes


class Step:
    """One step of a script."""


@attrs.frozen
class Expect(Step):
    """Read one whole request."""


@attrs.frozen
class Send(Step):
    """Send these bytes in one piece."""

    data: bytes


@attrs.frozen
class Drip(Step):
    """Send these bytes one by one."""

    data: bytes


@attrs.frozen
class Wait(Step):
    """Do nothing for a number of seconds."""

    seconds: float


@attrs.frozen
class Fin(Step):
    """Close in the ordinary way."""


@attrs.frozen
class Reset(Step):
    """Close with an RST."""


@attrs.frozen
class Stall(Step):
    """Stay silent until the other side goes away."""


@attrs.frozen
class Answer(Step):
    """
    Answer one request after the other: streams by scripts of their own, the rest at once.

    The n-th request for events gets the n-th of *streams*, and the last one from then on;
    *plain* makes the answer to any other request from its line.
    """

    streams: "Sequence[Script]"
    plain: "Callable[[str], bytes]"


Script = Sequence[Step]

# What every server speaks for which a test says nothing else; None is plain HTTP.
usual_tls: ssl.SSLContext | None = None

_NO_LINGER = struct.pack("ii", 1, 0)


def head(status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def reply(body: bytes = b"{}", status: str = "200 OK", **headers: str) -> bytes:
    return head(status, Content_Length=str(len(body)), **headers) + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


STREAM_HEAD = head(Content_Type="text/event-stream", Transfer_Encoding="chunked")
LAST_CHUNK = b"0\r\n\r\n"


@attrs.define(eq=False)
class LoopThread:
    """An event loop in a thread."""

    loop: asyncio.AbstractEventLoop = attrs.field(factory=asyncio.new_event_loop)
    _thread: threading.Thread = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def stop(self, abandon: Callable[[], None] = lambda: None) -> None:
        self.run(_end_all_tasks(abandon))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


async def _end_all_tasks(abandon: Callable[[], None]) -> None:
    # A task that is cancelled before its first step cannot close its connection.
    for _ in range(5):
        await asyncio.sleep(0)
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    # What was written to a client that has gone is never sent: closing would wait for it.
    abandon()
    # Transports that were closed let go of their sockets in the next turns.
    for _ in range(3):
        await asyncio.sleep(0)


@attrs.define(eq=False)
class WireServer:
    """
    Plays the n-th script to the n-th connection, and the last one to all after it.

    Attributes:
        requests: What was asked, over all connections.
        connections: How many connections there were.
        streams: How many requests for events there were.
        gone: How many of them the client closed while the server stalled.
        ended: How many of them are closed.
    """

    _scripts: Sequence[Script]
    tls: ssl.SSLContext | None = None
    requests: list[Request] = attrs.field(factory=list[Request])
    connections: int = 0
    streams: int = 0
    gone: int = 0
    ended: int = 0
    port: int = attrs.field(init=False, default=0)
    _writers: list[asyncio.StreamWriter] = attrs.field(factory=list[asyncio.StreamWriter])
    _changed: threading.Condition = attrs.field(factory=threading.Condition)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        self._writers.append(writer)
        with contextlib.suppress(asyncio.CancelledError, ConnectionError, EOFError):
            for step in script:
                await self._play(step, reader, writer)
        writer.close()
        with self._changed:
            self.ended += 1
            self._changed.notify_all()

    async def _play(
        self, step: Step, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match step:
            case Expect():
                self.requests.append(await read_request(reader))
            case Send(data):
                writer.write(data)
                await writer.drain()
            case Drip(data):
                for byte in data:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0)
            case Answer(streams, plain):
                await self._answer(streams, plain, reader, writer)
            case Wait(seconds):
                await asyncio.sleep(seconds)
            case Fin():
                writer.close()
            case Reset():
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                writer.transport.abort()
            case Stall():
                with contextlib.suppress(ConnectionError):
                    await reader.read()
                self._note_gone()

    async def _answer(
        self,
        streams: Sequence[Script],
        plain: Callable[[str], bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        while True:
            request = await read_request(reader)
            self.requests.append(request)
            if "/events " not in request.line:
                writer.write(plain(request.line))
                await writer.drain()
                continue
            script = streams[min(self.streams, len(streams) - 1)]
            self.streams += 1
            for step in script:
                await self._play(step, reader, writer)
            return

    def abandon(self) -> None:
        """Drop every connection that is still open."""
        for writer in self._writers:
            writer.transport.abort()

    def _note_gone(self) -> None:
        with self._changed:
            self.gone += 1
            self._changed.notify_all()

    def wait_until_gone(self, count: int = 1) -> None:
        """Wait until the client has closed so many stalled connections."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.gone >= count, timeout=5)

    def wait_until_all_ended(self) -> None:
        """Wait until no connection is open."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.ended == self.connections, timeout=5)

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"


async def read_request(reader: asyncio.StreamReader) -> Request:
    raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *fields = raw.rstrip("\r\n").split("\r\n")
    pairs = [field.partition(":") for field in fields]
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if headers.get("transfer-encoding") == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(line, headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    found = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        found += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return found


async def closed(listener: asyncio.Server) -> None:
    # asyncio fails on a connection that is being accepted while its server closes.
    for listening in listener.sockets:
        asyncio.get_running_loop().remove_reader(listening.fileno())
    for _ in range(5):
        await asyncio.sleep(0)
    listener.close()


@contextlib.contextmanager
def serving(
    *scripts: Script, tls: ssl.SSLContext | Literal["usual"] | None = "usual"
) -> Iterator[WireServer]:
    """Serve *scripts* on a free port of 127.0.0.1; None is plain HTTP whatever is usual."""
    context = usual_tls if tls == "usual" else tls
    server = WireServer(scripts, context)
    thread = LoopThread()
    listener = thread.run(
        asyncio.start_server(server.connected, "127.0.0.1", 0, ssl=context, backlog=1024)
    )
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        thread.run(closed(listener))
        thread.stop(server.abandon)
