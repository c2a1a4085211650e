"""
A raw service in a process of its own, so that the descriptors counted are the client's.

Every answer takes 10 ms; ``/events`` sends one event and then stays open.
"""

import asyncio
import contextlib
import ssl
import subprocess
import sys
from collections.abc import Iterator


DELAY = 0.01

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_EVENT = b"event: progress\ndata: {}\n\n"
_STREAM = b"%s%x\r\n%s\r\n" % (_HEAD, len(_EVENT), _EVENT)
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def _connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            asked = await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(DELAY)
            writer.write(_STREAM if b"/events" in asked else _REPLY)
            await writer.drain()
    writer.close()


async def _serve(certificate: str | None) -> None:
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    server = await asyncio.start_server(_connected, "127.0.0.1", 0, ssl=tls, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


@contextlib.contextmanager
def service(certificate: str | None = None) -> Iterator[str]:
    """Run the service; yield its URL."""
    command = [sys.executable, __file__, *([certificate] if certificate else [])]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            yield f"{'https' if certificate else 'http'}://127.0.0.1:{port}/api/v1"
        finally:
            process.terminate()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1] if len(sys.argv) > 1 else None))
