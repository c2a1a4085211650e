"""How a task's stream is opened, with which key, and what stands in its place."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import anyio

from .._http import Secret, retry_after_of
from .._model import CyberunError
from .._protocol import ExchangeFailedError, Message, Response, rejection, unexpected


Deliver = Callable[[Sequence[Message], ExchangeFailedError | None], None]


class Connection(Protocol):
    """An open event stream, or a refusal of one."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content_type(self) -> str | None: ...
    @property
    def is_event_stream(self) -> bool: ...
    @property
    def last_byte_at(self) -> float: ...
    @property
    def retry(self) -> int | None: ...
    @property
    def last_event_id(self) -> str: ...
    def read(self, deliver: Deliver) -> Awaitable[None]: ...
    async def read_body(self, limit: int = 65536) -> bytes: ...
    async def aclose(self) -> None: ...


class Opener(Protocol):
    """What opens streams, with keys that may be renewed."""

    async def stream_headers(self, refused: Secret | None) -> tuple[Secret, dict[str, str]]: ...
    @property
    def can_refresh(self) -> bool: ...
    async def open_stream(self, task_id: str, headers: Mapping[str, str]) -> Connection: ...


async def open_connection(opener: Opener, task_id: str, last_event_id: str | None) -> Connection:
    """
    Open the stream; a key that is refused is replaced once.

    Raises:
        ExchangeFailedError: There were no headers.
        CyberunError: There is no key, or the client is closed.
    """
    refused: Secret | None = None
    while True:
        key, headers = await opener.stream_headers(refused)
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        connection = await opener.open_stream(task_id, headers)
        if connection.status != 401 or refused is not None or not opener.can_refresh:
            return connection
        refused = key
        with anyio.CancelScope(shield=True):
            await connection.aclose()


async def refusal_of(connection: Connection, task_id: str) -> tuple[CyberunError, float | None]:
    """Return the error that an answer without events stands for, and what to wait for."""
    try:
        body = await connection.read_body()
    except ExchangeFailedError:
        body = b""
    reply = Response(
        status=connection.status,
        headers=connection.headers,
        body=body,
        path=f"/r/tasks/{task_id}/events",
    )
    return stream_refusal(reply), retry_after_of(reply.headers)


def stream_refusal(reply: Response) -> CyberunError:
    """Return the error that stands for an answer that is no event stream."""
    if 200 <= reply.status < 300:
        return unexpected(reply, "the event stream was answered with something else")
    return rejection(reply, task=True)
