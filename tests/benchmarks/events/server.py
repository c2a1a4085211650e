"""
A service that costs next to nothing: events made beforehand, written as fast as they go.

A task's id says what its stream brings::

    burst-EVENTS-STREAMS-N          EVENTS ticks at once, when STREAMS streams are open
    steady-TICKS-STREAMS-MS-N       a tick each MS milliseconds, the streams out of step
    idle-0-1-N                      nothing after the first status

Each event is an HTTP chunk of its own, as servers of ASGI send it. Ticks of steady
streams carry the moment at which they are written, by the clock that all processes of
the machine share, and are written by a thread that sleeps in between.

The list shows the tasks that were announced (``/stats?stem=idle-0-1&count=1000``) until
they end, whether their streams are open or not.
"""

import asyncio
import contextlib
import json
import os
import sys
import threading
import time
from collections import deque
from functools import cache
from typing import Any, ClassVar

import attrs


BASE = "/api/v1"
HEAD = (
    b"HTTP/1.1 200 OK\r\ndate: Tue, 24 Nov 2026 16:00:00 GMT\r\nserver: bench\r\n"
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-store\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
BLOCK = 64 * 1024
# All are open when the server has their requests; the client still has the answers to read.
SETTLE_SECONDS_EACH = 0.004
PAUSE_BEFORE_STEADY = 1.0


def chunk(event: str) -> bytes:
    data = event.encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def status(task_id: str) -> bytes:
    return chunk(f'event: status\ndata: {{"task_id":"{task_id}","status":"running"}}\n\n')


def tick(task_id: str, number: int, of: int, sent: float = 0.0) -> bytes:
    return chunk(
        f'event: progress\ndata: {{"task_id":"{task_id}","status":"running",'
        f'"progress":{number / of:.6f},"step_current":{number},"step_total":{of},'
        f'"current_node":"sampler","sent":{sent:.6f}}}\n\n'
    )


def end(task_id: str) -> bytes:
    return (
        chunk(
            f'event: completed\ndata: {{"task_id":"{task_id}","status":"completed",'
            f'"output":{{"images":1}}}}\n\n'
        )
        + b"0\r\n\r\n"
    )


@cache
def burst(task_id: str, events: int) -> tuple[bytes, ...]:
    """Return the whole stream, in blocks of some 64 KiB."""
    whole = b"".join(tick(task_id, n, events) for n in range(1, events + 1)) + end(task_id)
    return tuple(whole[start : start + BLOCK] for start in range(0, len(whole), BLOCK))


@attrs.define
class Group:
    """Streams that begin together."""

    waiting: "list[Connection]" = attrs.field(factory=list["Connection"])


class Connection(asyncio.Protocol):
    """One connection; the state of the whole service is shared by all of them."""

    groups: ClassVar[dict[str, Group]] = {}
    streams: ClassVar[dict[str, "Connection"]] = {}
    running: ClassVar[dict[str, None]] = {}
    accepted: ClassVar[int] = 0
    peak: ClassVar[int] = 0
    requests: ClassVar[int] = 0

    def __init__(self) -> None:
        self._rest = b""
        self._blocks: deque[bytes] = deque()
        self._is_paused = False
        self.task_id = ""
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        Connection.accepted += 1

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while b"\r\n\r\n" in self._rest:
            head, _, self._rest = self._rest.partition(b"\r\n\r\n")
            Connection.requests += 1
            self._answer(head.split(b" ", 2)[1].decode())

    def connection_lost(self, exc: Exception | None) -> None:
        if self.task_id:
            self._left()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self.write_on()

    def _answer(self, target: str) -> None:
        path = target.removeprefix(BASE).partition("?")[0]
        parts = path.strip("/").split("/")
        query = dict(part.split("=") for part in target.partition("?")[2].split("&") if part)
        if path.endswith("/events"):
            self._open(parts[-2])
        elif path == "/stats":
            self._reply({"accepted": self.accepted, "peak": self.peak, "requests": self.requests})
            Connection.accepted = Connection.requests = 0
            Connection.peak = len(self.streams)
            numbers = range(int(query.get("count", 0)))
            Connection.running = dict.fromkeys(f"{query.get('stem')}-{n}" for n in numbers)
        elif path == "/r/tasks":
            self._list(query)
        else:
            self._reply(_task(parts[-1]))

    def _reply(self, value: object) -> None:
        body = json.dumps(value).encode()
        head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
        self.transport.write(f"{head}{len(body)}\r\n\r\n".encode() + body)

    def _list(self, query: dict[str, str]) -> None:
        size, page = int(query.get("per_page", 100)), int(query.get("current_page", 1))
        ids = list(self.running) if query.get("status") == "running" else []
        rows = [_task(task_id) for task_id in ids[(page - 1) * size : page * size]]
        self._reply({"task_list": rows, "total_count": len(ids)})

    # Streams.

    def _open(self, task_id: str) -> None:
        self.task_id = task_id
        self.streams[task_id] = self
        Connection.peak = max(self.peak, len(self.streams))
        self.transport.write(HEAD + status(task_id))
        kind, events, streams, *rest = task_id.split("-")
        if kind == "idle":
            return
        name = task_id.rpartition("-")[0] if int(streams) > 1 else task_id
        group = self.groups.setdefault(name, Group())
        group.waiting.append(self)
        if len(group.waiting) < int(streams):
            return
        members = self.groups.pop(name).waiting
        if kind == "steady":
            work = (members, int(events), int(rest[0]) / 1000, asyncio.get_running_loop())
            threading.Thread(target=_write_ticks, args=work, daemon=True).start()
            return
        for member in members:
            member.begin(int(events))

    def begin(self, events: int) -> None:
        self._blocks.extend(burst(self.task_id, events))
        self.write_on()

    def write_on(self) -> None:
        while self._blocks and not self._is_paused:
            self.transport.write(self._blocks.popleft())
        if not self._blocks and not self._is_paused and self.task_id:
            self.running.pop(self.task_id, None)
            self._left()

    def finish(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(end(self.task_id))
        self.running.pop(self.task_id, None)
        self._left()

    def _left(self) -> None:
        if self.streams.get(self.task_id) is self:
            del self.streams[self.task_id]
        self.task_id = ""


def _task(task_id: str) -> dict[str, object]:
    return {"id": task_id, "task_status": "running", "retry_count": 0}


def _write_ticks(
    members: list[Connection], ticks: int, interval: float, loop: asyncio.AbstractEventLoop
) -> None:
    targets = [(m.transport.get_extra_info("socket").fileno(), m.task_id) for m in members]
    time.sleep(SETTLE_SECONDS_EACH * len(targets))
    for fd, task_id in targets:
        os.write(fd, tick(task_id, 0, ticks))
    start = time.perf_counter() + PAUSE_BEFORE_STEADY
    step = interval / len(targets)
    with contextlib.suppress(OSError):
        for number in range(ticks * len(targets)):
            due = start + number * step
            if (pause := due - time.perf_counter()) > 0:
                time.sleep(pause)
            fd, task_id = targets[number % len(targets)]
            os.write(fd, tick(task_id, number // len(targets) + 1, ticks, time.perf_counter()))
    time.sleep(0.05)
    for member in members:
        loop.call_soon_threadsafe(member.finish)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=8192)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
