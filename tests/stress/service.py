"""
A raw service in a process of its own, so that the descriptors counted are the client's.

Every answer takes 10 ms and says that a task runs; ``/events`` sends that and stays open.
"""

import asyncio
import contextlib
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator


DELAY = 0.01

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_EVENT = b'event: status\ndata: {"status": "running"}\n\n'
_STREAM = b"%s%x\r\n%s\r\n" % (_HEAD, len(_EVENT), _EVENT)
_BODY = b'{"task_id": "x", "task_status": "running"}'
_REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY)


class _Connection(asyncio.Protocol):
    """
    Answers one request after the other.

    Streams of asyncio would take a task and several objects for each of ten thousand
    connections, most of which are gone before they ask for anything.
    """

    def __init__(self) -> None:
        self._asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._asked += data
        while b"\r\n\r\n" in self._asked:
            head, _, self._asked = self._asked.partition(b"\r\n\r\n")
            self._asked = self._asked[_length_of(head) :]
            answer = _STREAM if b"/events" in head else _REPLY
            asyncio.get_running_loop().call_later(DELAY, self._transport.write, answer)


def _length_of(head: bytes) -> int:
    found = re.search(rb"content-length: *([0-9]+)", head, re.IGNORECASE)
    return int(found[1]) if found else 0


async def _serve(certificate: str | None) -> None:
    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, "127.0.0.1", 0, ssl=tls, backlog=1024)
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
