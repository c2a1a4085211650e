"""
Count the package's own calls for one event of a stream, and print which they are.

``python tests/house/calls_per_event.py`` serves one stream whose events come one by one, each
a wake-up of its own, and counts with ``sys.setprofile`` what runs of the package between the
socket and the reader's buffer. What the reader itself calls to take an event from its buffer
is counted apart.
"""

import asyncio
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import cyberun_async
from cyberun_async import CyberunClient


PACKAGE = str(Path(cyberun_async.__file__).parent)
TASK = "0197a000-0000-7000-8000-000000000001"
EVENTS = 200
WARM_UP = 50
# The caller's own side: taking an event out of the buffer.
TAKING = {
    "EventStream.__anext__",
    "EventStream._next",
    "EventStream._ready",
    "HeldIterator.__anext__",
    "Runtime.check_loop",
    "Runtime.check_process",
    "EventBuffer.take",
    "EventBuffer.next",
    "EventBuffer._woken",
    "BaseEvent.is_terminal",
}

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
SNAPSHOT = (
    f'{{"id":"{TASK}","workflow_id":"{TASK}","task_status":"running",'
    '"created_at":"2026-03-01T10:00:00Z"}'
).encode()


def block(name: str, data: str) -> bytes:
    """Return one event as one HTTP chunk."""
    text = f"event: {name}\ndata: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(text), text)


def progress(number: int) -> bytes:
    """Return the progress event of one step."""
    fields = f'"progress":{number / 1000},"step_current":{number},"step_total":1000'
    return block("progress", f'{{"task_id":"{TASK}",{fields},"timestamp":"2026-03-01T10:00:09Z"}}')


class Service:
    """A service of one task; it sends the next event when it is asked to."""

    def __init__(self) -> None:
        self.go_on = asyncio.Semaphore(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await self._request(reader):
            if b"/events" in head:
                await self._stream(writer)
                return
            body = SNAPSHOT if b"/result" not in head else b'{"task_status":"completed"}'
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
            await writer.drain()

    async def _request(self, reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + block("status", f'{{"task_id":"{TASK}","status":"running"}}'))
        for number in range(EVENTS):
            await self.go_on.acquire()
            writer.write(progress(number))
            await writer.drain()
        writer.write(block("cancelled", f'{{"task_id":"{TASK}"}}') + b"0\r\n\r\n")
        await writer.drain()
        writer.close()


class Calls:
    """Counts the calls of functions of the package while it is switched on."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE):
            name = Path(code.co_filename).relative_to(PACKAGE).as_posix()
            self.counts[name, code.co_qualname] += 1


async def count() -> tuple[Counter[tuple[str, str]], int]:
    """Return the calls of all events after the warm-up, and how many events those were."""
    service, calls = Service(), Calls()
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    seen = 0
    async with server, CyberunClient("sk-" + "0" * 32, base_url=f"http://127.0.0.1:{port}") as c:
        async with c.watch(TASK) as events:
            async for event in events:
                if event.is_terminal:
                    break
                seen += 1
                if seen == WARM_UP:
                    # The status check beside the opening stream is over by now.
                    sys.setprofile(calls)
                if seen == EVENTS:
                    sys.setprofile(None)
                # One at a time: the next event is sent when this one has been read.
                service.go_on.release()
    return calls.counts, EVENTS - WARM_UP


def main() -> None:
    counts, events = asyncio.run(count())
    taking = {key for key in counts if key[1] in TAKING}
    sums = {True: 0.0, False: 0.0}
    for key, number in counts.most_common():
        per_event = number / events
        sums[key in taking] += per_event
        if per_event >= 0.05:
            side = "reader" if key in taking else ""
            print(f"{per_event:6.2f}  {key[0]:34} {key[1]:44} {side}".rstrip())
    modules = len({key[0] for key in counts.keys() - taking})
    print(f"{sums[False]:6.2f}  calls between bytes and buffer, in {modules} modules")
    print(f"{sums[True]:6.2f}  calls of the reader")


if __name__ == "__main__":
    main()
