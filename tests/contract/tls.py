"""
TLS for tests: an authority, a TLS server before a plain service, and a proxy that cuts bytes.

``over_tls(port)`` puts both before a service on loopback::

    client --TLS--> Cutter --the same bytes--> front --plain--> service

The cutter knows nothing of TLS: it counts bytes, and so it can end a connection before,
in and after the handshake. All of it runs on an event loop of its own in a thread, so
that clients of any back end meet the same bytes.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import attrs
import trustme

from ..wire.server import LoopThread, closed


_NO_LINGER: Final = struct.pack("ii", 1, 0)
_PIECE: Final = 65536
# More than any test takes: what stalls ends with the client or with the test.
_LONGEST_STALL: Final = 120.0

At = Literal["accept", "hello"]
How = Literal["fin", "close", "reset", "stall"]


class Authority:
    """A certificate authority that exists for one test session."""

    def __init__(self) -> None:
        self._authority = trustme.CA()

    def server_context(self, name: str = "127.0.0.1") -> ssl.SSLContext:
        """Return the context of a server whose certificate is valid for *name*."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(name).configure_cert(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return a context that trusts this authority."""
        context = ssl.create_default_context()
        self._authority.configure_trust(context)
        return context

    def write_bundle(self, path: Path) -> Path:
        """Write the authority's certificate to *path*, for ``SSL_CERT_FILE`` or ``verify``."""
        self._authority.cert_pem.write_to_path(str(path))
        return path

    def write_server_files(self, folder: Path, name: str = "127.0.0.1") -> tuple[Path, Path]:
        """Write a certificate chain and its key to *folder*, for servers of other programs."""
        issued = self._authority.issue_cert(name)
        chain, key = folder / "chain.pem", folder / "key.pem"
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return chain, key


@attrs.frozen
class Cut:
    """
    How one connection ends too early.

    Attributes:
        at:
            ``"accept"``: before anything is read. ``"hello"``: after the first bytes of the
            client, which are not passed on. A number: after so many bytes of the server.
        how:
            ``"fin"`` ends only this side's sending, ``"close"`` closes at once (which
            the kernel turns into a reset where bytes are unread), ``"reset"`` is an RST,
            ``"stall"`` is silence until the client leaves.
        answer: Sent to the client before that, in the server's place.
    """

    at: At | int = "accept"
    how: How = "fin"
    answer: bytes = b""


def alert(code: int) -> bytes:
    """Return a fatal TLS alert in the clear, as servers send it in a handshake."""
    return bytes([21, 3, 3, 0, 2, 2, code])


PLAIN_HTTP: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n"
    b"Content-Length: 19\r\nConnection: close\r\n\r\n<h1>no TLS here</h1>"[:-1]
)

# Every way in which a handshake can fail without a word about a certificate. In TLS 1.3 the
# first two hundred bytes of the server are part of its hello, and a thousand of its certificate.
HANDSHAKE_CUTS: Final[Mapping[str, Cut]] = {
    "fin-at-accept": Cut("accept", "fin"),
    "close-at-accept": Cut("accept", "close"),
    "reset-at-accept": Cut("accept", "reset"),
    "fin-after-hello": Cut("hello", "fin"),
    "reset-after-hello": Cut("hello", "reset"),
    "fin-within-server-hello": Cut(40, "fin"),
    "reset-within-server-hello": Cut(40, "reset"),
    "fin-within-certificate": Cut(300, "fin"),
    "reset-within-certificate": Cut(300, "reset"),
    "alert-internal-error": Cut("hello", "fin", alert(80)),
    "alert-handshake-failure": Cut("hello", "fin", alert(40)),
    "alert-unrecognized-name": Cut("hello", "fin", alert(112)),
    "plain-http": Cut("hello", "fin", PLAIN_HTTP),
    "no-tls": Cut("hello", "fin", b"\x00" * 64),
}
# Those that end by the client's patience; the client's ``Timeouts(connect=...)`` bounds them.
HANDSHAKE_STALLS: Final[Mapping[str, Cut]] = {
    "stall-at-accept": Cut("accept", "stall"),
    "stall-after-hello": Cut("hello", "stall"),
    "stall-within-certificate": Cut(300, "stall"),
}


@attrs.define(eq=False)
class Cutter:
    """
    Passes bytes on between clients and one port of 127.0.0.1, and cuts as it is set.

    Attributes:
        connections: How many were accepted.
        cuts_made: How many of them were ended by a cut.
        struck: Those cuts, in order.
    """

    target: int
    connections: int = 0
    cuts_made: int = 0
    struck: list[Cut] = attrs.field(factory=list[Cut], init=False)
    port: int = attrs.field(init=False, default=0)
    _next: deque[Cut | None] = attrs.field(factory=deque["Cut | None"], init=False)
    _rest: Cut | None = attrs.field(default=None, init=False)
    _writers: set[asyncio.StreamWriter] = attrs.field(factory=set[asyncio.StreamWriter], init=False)
    _thread: LoopThread = attrs.field(factory=LoopThread, init=False)
    _listener: asyncio.Server | None = attrs.field(default=None, init=False)

    @property
    def url(self) -> str:
        """Where the service is reached over TLS, without a path."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def decided(self) -> int:
        """How many of the next connections :meth:`cut_next` has decided about already."""
        return len(self._next)

    def cut_next(self, *cuts: Cut | None) -> None:
        """Cut the next connections so, one each; None lets one pass."""
        self._next.extend(cuts)

    def cut_all(self, cut: Cut | None) -> None:
        """Cut all connections so from now on, after those of :meth:`cut_next`; None lets pass."""
        self._rest = cut

    def drop_all(self, how: Literal["close", "reset"] = "reset") -> None:
        """End all open connections now."""
        self._thread.run(self._drop_all(how))

    def go_down(self) -> None:
        """Accept nothing any more and drop what is open, as a server that restarts."""
        self._thread.run(self._go_down())

    def come_up(self) -> None:
        """Accept connections again, on the same port."""
        self._thread.run(self._listen())

    # From here on in the thread's loop.

    async def _listen(self) -> None:
        listener = await asyncio.start_server(
            self._connected, "127.0.0.1", self.port, backlog=1024, reuse_address=True
        )
        self.port = listener.sockets[0].getsockname()[1]
        self._listener = listener

    async def _go_down(self) -> None:
        if self._listener is not None:
            await closed(self._listener)
            self._listener = None
        await self._drop_all("reset")

    async def _drop_all(self, how: Literal["close", "reset"]) -> None:
        for writer in list(self._writers):
            _end(writer, how)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        cut = self._next.popleft() if self._next else self._rest
        try:
            with contextlib.suppress(ConnectionError, EOFError, OSError):
                await self._serve(reader, writer, cut)
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Cut | None
    ) -> None:
        if cut is not None and not isinstance(cut.at, int):
            if cut.at == "hello":
                await reader.read(_PIECE)
            await self._make_cut(cut, reader, writer)
            return
        there_reader, there = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers.add(there)
        up = asyncio.ensure_future(_pass_on(reader, there))
        try:
            room = None if cut is None or not isinstance(cut.at, int) else cut.at
            whole = await _pass_on(there_reader, writer, room)
            if cut is None or whole:
                return
            # Only one may read what the client still sends.
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            await self._make_cut(cut, reader, writer)
        finally:
            up.cancel()
            self._writers.discard(there)
            there.transport.abort()

    async def _make_cut(
        self, cut: Cut, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.cuts_made += 1
        self.struck.append(cut)
        if cut.answer:
            writer.write(cut.answer)
            await writer.drain()
        if cut.how in ("close", "reset"):
            _end(writer, "reset" if cut.how == "reset" else "close")
            return
        if cut.how == "fin":
            writer.write_eof()
        async with asyncio.timeout(_LONGEST_STALL):
            while await reader.read(_PIECE):
                pass


def _end(writer: asyncio.StreamWriter, how: Literal["close", "reset"]) -> None:
    raw = writer.get_extra_info("socket")
    if how == "reset" and raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()


async def _pass_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, room: int | None = None
) -> bool:
    """Pass bytes on to the end, or to the end of *room*; return whether it was the end."""
    try:
        while data := await reader.read(_PIECE if room is None else min(room, _PIECE)):
            writer.write(data)
            await writer.drain()
            if room is not None and not (room := room - len(data)):
                return False
    except ConnectionResetError:
        _end(writer, "reset")
        return True
    if writer.can_write_eof():
        with contextlib.suppress(OSError):
            writer.write_eof()
    else:
        writer.close()
    return True


@contextlib.contextmanager
def cutting(target: int) -> Iterator[Cutter]:
    """Put a cutter before the port *target* of 127.0.0.1."""
    cutter = Cutter(target)
    cutter.come_up()
    try:
        yield cutter
    finally:
        cutter.go_down()
        cutter._thread.stop()


@contextlib.contextmanager
def speaking_tls(target: int, context: ssl.SSLContext) -> Iterator[int]:
    """Speak TLS before the plain port *target* of 127.0.0.1, and yield the port of it."""
    thread = LoopThread()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError, ConnectionError, EOFError, OSError):
            there_reader, there = await asyncio.open_connection("127.0.0.1", target)
            up = asyncio.ensure_future(_pass_on(reader, there))
            try:
                await _pass_on(there_reader, writer)
            finally:
                up.cancel()
                there.transport.abort()
        writer.close()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context, backlog=1024)

    listener = thread.run(listen())
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        thread.run(closed(listener))
        thread.stop()


@contextlib.contextmanager
def over_tls(target: int, authority: Authority, name: str = "127.0.0.1") -> Iterator[Cutter]:
    """Serve the plain port *target* over TLS with a certificate for *name*, behind a cutter."""
    with speaking_tls(target, authority.server_context(name)) as port, cutting(port) as cutter:
        yield cutter
