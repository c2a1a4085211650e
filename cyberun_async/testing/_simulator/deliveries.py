"""Delivery of webhooks: at once, and again after 5, 30 and 120 seconds."""

import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias
from urllib.parse import urlsplit

import anyio
import attrs
from anyio.abc import ByteStream

from .records import Delivery
from .state import State
from .tasks import SimTask
from .timeline import Mark
from .views import output_of
from .webhooks import Webhook


logger = logging.getLogger("cyberun_async")

Sender: TypeAlias = Callable[[str, Mapping[str, str], bytes], Awaitable[int]]

_RETRY_DELAYS = (0.0, 5.0, 30.0, 120.0)
_POLL_INTERVAL = 0.02
_TIMEOUT = 10.0
_SUCCESS = range(200, 300)


@attrs.define(eq=False)
class WebhookDispatcher:
    """Notifies webhooks of the tasks that end, as long as it runs."""

    _state: State
    _send: Sender
    _noticed: int = 0

    async def run(self) -> None:
        """Deliver until cancelled; deliveries in flight are dropped then."""
        async with anyio.create_task_group() as group:
            while True:
                for task in self._newly_ended():
                    for hook in self._due(task):
                        group.start_soon(self._deliver, hook, task)
                await anyio.sleep(_POLL_INTERVAL)

    def _due(self, task: SimTask) -> list[Webhook]:
        event, at = event_type(task.marks[-1]), task.ends_at or 0.0
        return [
            hook
            for hook in tuple(self._state.webhooks.values())
            if event in hook.events and hook.status == "active" and hook.since <= at
        ]

    def _newly_ended(self) -> list[SimTask]:
        ended = self._state.tasks.ended(self._state.clock.now())
        first, self._noticed = self._noticed, len(ended)
        return ended[first : self._noticed]

    async def _deliver(self, hook: Webhook, task: SimTask) -> None:
        body = message(task, task.marks[-1], self._state.clock.stamp(self._state.clock.now()))
        attempts = self._state.behaviour.webhook_attempts
        for attempt in range(attempts):
            await anyio.sleep(
                _RETRY_DELAYS[min(attempt, len(_RETRY_DELAYS) - 1)] / self._state.speed
            )
            if await self._try(hook, task, body, attempt + 1) in _SUCCESS:
                hook.last_delivered = self._state.clock.now()
                return

    async def _try(self, hook: Webhook, task: SimTask, body: bytes, attempt: int) -> int:
        headers = {
            "Content-Type": "application/json",
            SIGNATURE_HEADER: signature(hook.secret, body),
        }
        at = self._state.clock.now()
        status: int | None = None
        try:
            with anyio.fail_after(_TIMEOUT):
                status = await self._send(hook.url, headers, body)
        except Exception:
            # A sender of any library may raise: one delivery fails and is retried.
            logger.info("a delivery to %s failed", hook.url, exc_info=True)
        self._state.records.deliveries.append(
            Delivery(
                hook.id, task.id, event_type(task.marks[-1]), attempt, status, headers, body, at
            )
        )
        return status or 0


async def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
    """Post *body* over a connection of its own and return the answer's status code."""
    async with await _connect(url) as stream:
        await stream.send(_request(url, headers, body))
        answer = b""
        while b"\r\n" not in answer:
            answer += await stream.receive()
    return int(answer.split(b" ", 2)[1])


async def _connect(url: str) -> ByteStream:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return await anyio.connect_tcp(host, parts.port or 443, tls=True)
    return await anyio.connect_tcp(host, parts.port or 80)


def _request(url: str, headers: Mapping[str, str], body: bytes) -> bytes:
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"POST {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


SIGNATURE_HEADER = "X-Webhook-Signature-256"


def event_type(mark: Mark) -> str:
    """Return the webhook event of a task's end; no webhook takes that of a cancelled task."""
    return f"task.{mark.status}"


def message(task: SimTask, mark: Mark, timestamp: str) -> bytes:
    """Write the body that reports a task's end."""
    failed = mark.status == "failed"
    fields: dict[str, object] = {
        "event_type": event_type(mark),
        "task_id": task.id,
        "task_status": mark.status,
        "task_output": None if failed else output_of(task),
        "task_error": mark.details.get("error", "") if failed else "",
        "timestamp": timestamp,
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def signature(secret: str, body: bytes) -> str:
    """Return the value of the signature header."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
