"""
A lean service: tasks as plain records, every answer 20 ms late, everything counted.

It has OWN tasks of the client's and FOREIGN ones of the same team, all of which go on.
Its first line says where it listens; ``/control/...`` tells it what is to happen next.
The clock is the machine's monotonic one, which all its processes share.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs


LATENCY = 0.02
BASE = "/api/v1"
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"cache-control: no-store\r\ntransfer-encoding: chunked\r\n\r\n"
)
# Of the foreign tasks, so many in a hundred are in each state.
FOREIGN_SHARES = {"waiting": 80, "queued": 10, "running": 10}
OWN, FOREIGN = "0", "f"


def task_id(kind: str, number: int) -> str:
    """Return the id of a task; the client makes up the same ones."""
    return f"{kind}0000000-0000-7000-8000-{number:012d}"


def _chunk(name: str, **data: object) -> bytes:
    text = f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(text), text)


@attrs.define(eq=False)
class Task:
    """A task, who listens to it, and its row of the list."""

    id: str
    state: str
    ticks: int = 0
    ended_at: float | None = None
    listeners: set["Connection"] = attrs.field(factory=set["Connection"])

    def row(self) -> str:
        error = '"error_message":"",' if self.state != "completed" else ""
        return (
            f'{{"id":"{self.id}","workflow_id":"11111111-1111-7111-8111-111111111111",'
            f'"workflow_slug":"text-to-image","task_status":"{self.state}",{error}'
            f'"retry_count":0,"created_at":"2026-11-24T12:00:00Z",'
            f'"agent_id":"gpu-node-01","submission_source":"api_key"}}'
        )


@attrs.define
class World:
    """All tasks and all counts."""

    tasks: dict[str, Task] = attrs.field(factory=dict[str, Task])
    requests: dict[str, int] = attrs.field(factory=dict[str, int])
    accepts: list[float] = attrs.field(factory=list[float])
    connections: set["Connection"] = attrs.field(factory=set["Connection"])
    peak_connections: int = 0
    peak_streams: int = 0
    streams: int = 0
    server: asyncio.Server | None = None

    def fill(self, own: int, running: int, foreign: int) -> None:
        for number in range(own):
            self._add(OWN, number, "running" if number < running else "waiting")
        number = 0
        for state, share in FOREIGN_SHARES.items():
            for _ in range(foreign * share // 100):
                self._add(FOREIGN, number, state)
                number += 1

    def _add(self, kind: str, number: int, state: str) -> None:
        found = Task(task_id(kind, number), state)
        self.tasks[found.id] = found

    def count(self, what: str) -> None:
        self.requests[what] = self.requests.get(what, 0) + 1

    # What happens to tasks.

    def tick(self, total: int) -> int:
        """Let every running task that is listened to make a step; return how many did."""
        sent = 0
        for task in self.tasks.values():
            if task.state == "running" and task.listeners:
                task.ticks += 1
                sent += 1
                chunk = _chunk(
                    "progress",
                    task_id=task.id,
                    status="running",
                    progress=task.ticks / total,
                    step_current=task.ticks,
                    step_total=total,
                )
                for listener in task.listeners:
                    listener.send(chunk)
        return sent

    def turn(self, task: Task, state: str) -> None:
        """Put *task* into *state*, and tell its listeners."""
        task.state = state
        name, extra = "status", {}
        if state == "completed":
            task.ended_at = time.monotonic()
            name, extra = "completed", {"output": {"images": 1}}
        chunk = _chunk(name, task_id=task.id, status=state, **extra)
        for listener in tuple(task.listeners):
            listener.send(chunk)
            if name == "completed":
                listener.end()

    def end_some(self, count: int) -> list[str]:
        """End *count* running tasks of the client's; as many others begin to run."""
        own = [task for task in self.tasks.values() if task.id.startswith(OWN)]
        ending = [task for task in own if task.state == "running"][:count]
        beginning = [task for task in own if task.state == "waiting"][:count]
        for task in ending:
            self.turn(task, "completed")
        for task in beginning:
            self.turn(task, "running")
        return [task.id for task in ending]

    def end_all(self) -> None:
        """Let every task of the client's come to its end."""
        for task in tuple(self.tasks.values()):
            if task.id.startswith(OWN) and task.state != "completed":
                self.turn(task, "completed")

    def page(self, query: dict[str, str]) -> bytes:
        """Write a page of the list, the newest tasks first."""
        state, number = query.get("status"), int(query.get("current_page", "1"))
        size = int(query.get("per_page", "20"))
        rows = [task for task in self.tasks.values() if state in (None, task.state)]
        rows.reverse()
        shown = ",".join(task.row() for task in rows[(number - 1) * size : number * size])
        meta = f'{{"current_page":{number},"per_page":{size},"total_count":{len(rows)}}}'
        return f'{{"task_list":[{shown}],"page_meta":{meta}}}'.encode()

    def report(self) -> bytes:
        return json.dumps(
            {
                "requests": self.requests,
                "accepts": self.accepts,
                "connections": len(self.connections),
                "peak_connections": self.peak_connections,
                "peak_streams": self.peak_streams,
                "streams": self.streams,
                "ended": {t.id: t.ended_at for t in self.tasks.values() if t.ended_at},
            }
        ).encode()

    def forget(self) -> None:
        """Count anew from here."""
        self.requests.clear()
        self.accepts.clear()
        self.peak_connections, self.peak_streams = len(self.connections), self.streams


class Connection(asyncio.Protocol):
    """One connection: plain requests one after the other, or a stream."""

    def __init__(self, world: World, commands: "Commands") -> None:
        self._world = world
        self._commands = commands
        self._buffer = b""
        self._transport: asyncio.Transport
        self._listens_to: Task | None = None
        self._is_control = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._world.accepts.append(time.monotonic())
        self._world.connections.add(self)
        self._world.peak_connections = max(
            self._world.peak_connections, len(self._world.connections)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._world.connections.discard(self)
        self._leave()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            target = head.split(b" ", 2)[1].decode()
            if target.startswith("/control/"):
                self._control(target)
            else:
                asyncio.get_running_loop().call_later(LATENCY, self._serve, target)

    def _control(self, target: str) -> None:
        if not self._is_control:
            self._is_control = True
            self._world.accepts.pop()
            self._world.connections.discard(self)
        self._answer(self._commands(target.removeprefix("/control/")))

    def _serve(self, target: str) -> None:
        if self._transport.is_closing():
            return
        url = urlsplit(target)
        parts = url.path.removeprefix(f"{BASE}/r/tasks").strip("/").split("/")
        if parts == [""]:
            self._world.count("list")
            self._answer(self._world.page(dict(parse_qsl(url.query))))
            return
        task = self._world.tasks[parts[0]]
        what = parts[1] if len(parts) > 1 else "task"
        self._world.count(what)
        if what == "events":
            self._listen(task)
        elif what == "result":
            self._answer(b'{"task_id":"%s","task_output":{"images":1}}' % task.id.encode())
        else:
            self._answer(task.row().encode())

    def _answer(self, body: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (len(body), body)
        )

    # A stream.

    def _listen(self, task: Task) -> None:
        self._listens_to = task
        task.listeners.add(self)
        self._world.streams += 1
        self._world.peak_streams = max(self._world.peak_streams, self._world.streams)
        self._transport.write(STREAM_HEAD + _chunk("status", task_id=task.id, status=task.state))
        if task.state == "completed":
            self.send(_chunk("completed", task_id=task.id, status="completed", output={"n": 1}))
            self.end()

    def send(self, chunk: bytes) -> None:
        self._transport.write(chunk)

    def end(self) -> None:
        self._transport.write(b"0\r\n\r\n")
        self._leave()

    def _leave(self) -> None:
        task, self._listens_to = self._listens_to, None
        if task is not None:
            task.listeners.discard(self)
            self._world.streams -= 1

    def cut(self) -> None:
        self._transport.abort()


@attrs.define
class Commands:
    """What a row may tell the service."""

    world: World
    listen: Callable[[], "asyncio.Task[None]"]
    _running: set["asyncio.Task[None]"] = attrs.field(factory=set["asyncio.Task[None]"])

    def __call__(self, command: str) -> bytes:
        name, *arguments = command.split("/")
        match name:
            case "report":
                return self.world.report()
            case "forget":
                self.world.forget()
            case "tick":
                self._begin(self._tick(int(arguments[0]), float(arguments[1]), int(arguments[2])))
            case "ends":
                self._begin(self._ends(int(arguments[0]), float(arguments[1])))
            case "end_all":
                self.world.end_all()
            case "kill":
                self._begin(self._kill(float(arguments[0])))
            case _:
                raise LookupError(command)
        return b"{}"

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _tick(self, count: int, pause: float, total: int) -> None:
        for _ in range(count):
            self.world.tick(total)
            await asyncio.sleep(pause)

    async def _ends(self, count: int, pause: float) -> None:
        for _ in range(count):
            await asyncio.sleep(pause)
            self.world.end_some(1)

    async def _kill(self, seconds: float) -> None:
        """Cut everything off and refuse connections; be there again after *seconds*."""
        await asyncio.sleep(0.1)
        self.world.forget()
        if seconds and self.world.server is not None:
            self.world.server.close()
        for connection in tuple(self.world.connections):
            connection.cut()
        if seconds:
            await asyncio.sleep(seconds)
            await self.listen()


async def main(own: int, running: int, foreign: int) -> None:
    """Serve until standard input ends or the process is terminated."""
    loop, world, port = asyncio.get_running_loop(), World(), 0
    world.fill(own, running, foreign)

    async def listen() -> None:
        world.server = await loop.create_server(
            lambda: Connection(world, commands), "127.0.0.1", port, backlog=8192
        )

    commands = Commands(world, lambda: asyncio.ensure_future(listen()))
    await listen()
    assert world.server is not None
    port = world.server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:4])))
