"""
A service that costs next to nothing: runs are accepted, live for 0.3 s, and are completed.

Nothing runs while a task lives; its state is computed from its age. Served are the
workflow, runs, tasks, the list by state, and how many requests of each there were.
"""

import asyncio
import json
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from itertools import count
from typing import Any, ClassVar
from urllib.parse import parse_qs


BASE = "/api/v1"
SLUG = "text-to-image"
WORKFLOW = "01890000-0000-7000-8000-000000000001"
# Age in seconds from which a task is in a state.
LIFE = ((0.3, "completed"), (0.15, "running"), (0.1, "queued"), (0.05, "waiting"), (0.0, "pending"))
CREATED_AT = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def task_view(task_id: str, state: str) -> dict[str, object]:
    """Write a task."""
    return {
        "id": task_id,
        "workflow_id": WORKFLOW,
        "creation_source": "api_key",
        "task_status": state,
        "created_at": CREATED_AT,
        "retry_count": 0,
        "task_error": "",
    }


def workflow_view() -> dict[str, object]:
    """Write the workflow."""
    prompt = {"key": "prompt", "type": "string", "label": "Prompt", "required": True}
    return {
        "id": WORKFLOW,
        "workflow_slug": SLUG,
        "display_name": "Text to image",
        "version": 1,
        "workflow_status": "active",
        "created_at": CREATED_AT,
        "updated_at": CREATED_AT,
        "parameters": [prompt],
        "tool_type": "comfyui",
    }


class Connection(asyncio.Protocol):
    """One connection; the state of the whole service is shared by all of them."""

    born: ClassVar[dict[str, float]] = {}
    living: ClassVar[deque[str]] = deque()
    numbers: ClassVar[Iterator[int]] = count(1)
    requests: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        self._rest = b""
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole; bodies are not looked into."""
        self._rest += data
        while True:
            head, found, rest = self._rest.partition(b"\r\n\r\n")
            if not found:
                return
            length = _length(head)
            if len(rest) < length:
                return
            self._rest = rest[length:]
            method, target, _ = head.decode("latin-1").split(" ", 2)
            self._answer(method, target)

    def _answer(self, method: str, target: str) -> None:
        path, _, query = target.removeprefix(BASE).partition("?")
        body = json.dumps(self._body(method, path.strip("/").split("/"), query)).encode()
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (len(body), body)
        )

    def _body(self, method: str, parts: list[str], query: str) -> object:
        match method, parts:
            case "POST", [*_, "run"]:
                return self._run()
            case "GET", [_, "tasks"]:
                self.requests["list"] += 1
                return self._list(parse_qs(query))
            case "GET", [_, "tasks", task_id]:
                self.requests["task"] += 1
                return task_view(task_id, _state(self.born[task_id]))
            case "GET", ["requests"]:
                return dict(self.requests)
            case _:
                self.requests["workflow"] += 1
                return workflow_view()

    def _run(self) -> object:
        self.requests["run"] += 1
        task_id = f"01890000-0000-7000-9000-{next(self.numbers):012x}"
        self.born[task_id] = time.monotonic()
        self.living.append(task_id)
        return {"task_id": task_id, "status": "pending"}

    def _list(self, query: dict[str, list[str]]) -> object:
        while self.living and _state(self.born[self.living[0]]) == "completed":
            self.living.popleft()
        wanted = (query.get("status") or query.get("task_status") or [""])[0]
        size, page = int(query.get("per_page", ["20"])[0]), int(query.get("current_page", ["1"])[0])
        states = ((task_id, _state(self.born[task_id])) for task_id in self.living)
        rows = [task_view(task_id, state) for task_id, state in states if wanted in ("", state)]
        meta = {"current_page": page, "per_page": size, "total_count": len(rows)}
        return {"tasks": rows[(page - 1) * size : page * size], "page_meta": meta}


def _state(born: float) -> str:
    age = time.monotonic() - born
    return next(state for since, state in LIFE if age >= since)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def main() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0)
    sys.stdout.write(json.dumps({"port": server.sockets[0].getsockname()[1]}) + "\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
