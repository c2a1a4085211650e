"""A small HTTP proxy: tunnels by CONNECT, forwards requests for absolute addresses."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import attrs

from .server import LoopThread, Request, closed, read_request


@attrs.define(eq=False)
class Proxy:
    """
    Passes everything on, or answers everything with *refusal*.

    Attributes:
        refusals: What the next requests are answered with, one each; nothing is a hang-up.
        hosts: Addresses of names that only the proxy knows.
        requests: What it was asked, tunnels included.
    """

    refusal: bytes | None = None
    hosts: Mapping[str, str] = attrs.field(factory=dict[str, str])
    refusals: list[bytes] = attrs.field(factory=list[bytes])
    requests: list[Request] = attrs.field(factory=list[Request])
    port: int = attrs.field(init=False, default=0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError, ConnectionError, EOFError):
            await self._serve(reader, writer)
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_request(reader)
        self.requests.append(request)
        refusal = self.refusals.pop(0) if self.refusals else self.refusal
        if refusal is not None:
            writer.write(refusal)
            await writer.drain()
            return
        method, target, _ = request.line.split(" ")
        address = urlsplit(f"//{target}" if method == "CONNECT" else target)
        host = address.hostname or ""
        there = await asyncio.open_connection(self.hosts.get(host, host), address.port)
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            there[1].write(_forwarded(request, method, address.path, address.query))
        try:
            await asyncio.gather(_pipe(reader, there[1]), _pipe(there[0], writer))
        finally:
            there[1].close()


def _forwarded(request: Request, method: str, path: str, query: str) -> bytes:
    target = f"{path}?{query}" if query else path
    headers = [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *headers, "", ""]).encode() + request.body


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.contextmanager
def proxying(
    refusal: bytes | None = None, *, hosts: Mapping[str, str] | None = None
) -> Iterator[Proxy]:
    proxy = Proxy(refusal, hosts or {})
    thread = LoopThread()
    listener = thread.run(asyncio.start_server(proxy.connected, "127.0.0.1", 0))
    proxy.port = listener.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        thread.run(closed(listener))
        thread.stop()
