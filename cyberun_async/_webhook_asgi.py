"""An ASGI application that receives webhook deliveries; it needs no framework."""

import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from datetime import UTC, datetime
from inspect import isawaitable
from typing import Any, Protocol, TypeVar, cast

import anyio
import attrs

from ._errors import ConfigurationError, InvalidInputError, WebhookVerificationError
from ._inputs import callable_of, positive_seconds
from ._redaction import told
from ._webhook_models import WebhookEvent
from ._webhook_verify import (
    DEFAULT_TOLERANCE,
    MAX_BODY_BYTES,
    SIGNATURE_HEADER,
    DedupStore,
    DeliveryKey,
    RecentDeliveries,
    check_delivery,
    is_store,
    keys_of,
)


Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")

Callback = Callable[[WebhookEvent], Awaitable[object]]

_OK, _BAD_REQUEST, _BAD_METHOD, _TOO_LARGE, _FAILED = 200, 400, 405, 413, 500
_SIGNATURE_NAME = SIGNATURE_HEADER.lower().encode("ascii")
_LOGGER = logging.getLogger("cyberun_async")


class AsyncDedupStore(Protocol):
    """As :class:`DedupStore`, for a store that is reached over the network."""

    async def contains(self, key: DeliveryKey, /) -> bool:
        """Return whether *key* was added."""
        ...

    async def add(self, key: DeliveryKey, /) -> None:
        """Remember *key*."""
        ...


class _DisconnectedError(Exception):
    """The sender left before the body was complete."""


class _TooLargeError(Exception):
    """The body is larger than allowed."""


@attrs.define(eq=False)
class _Handling:
    """A callback under way, and whether it took its event."""

    done: anyio.Event = attrs.field(factory=anyio.Event)
    is_taken: bool = False


class WebhookEndpoint:
    """
    Receive deliveries and hand each event to *callback*, once.

    An ASGI application: mount it, give it to a Starlette or FastAPI route, or serve it
    alone. It answers 200 only after the callback has returned; if the callback raises, 500,
    so that the service tries again. A delivery seen before is answered 200 without a call;
    the same delivery arriving while the callback still runs waits for its outcome.
    What cannot be verified is answered 400 without a reason, which goes to the log.

    The service sets no time limit that is documented: a callback should note the event and
    return. Cancelled while the callback runs, the event counts as not taken.

    Args:
        secret: The webhook's secret, or several while one replaces another.

        callback: Called with each new :class:`WebhookEvent`.

        tolerance: Seconds by which time stamps may differ from now. None checks no age.

        seen:
            Remembers what the callback took. True is the last 10,000 deliveries, in this
            process; give a store of your own for several processes. False remembers
            nothing.

        max_body_bytes: Larger bodies are answered 413.

        now: Returns the present as an aware datetime, for tests.

    Raises:
        ConfigurationError: *secret* is empty or malformed, *max_body_bytes* below 1, or *seen*
            no store.
        InvalidInputError: *tolerance* is no positive number, or *callback* or *now* not callable.
    """

    def __init__(
        self,
        secret: str | Sequence[str],
        callback: Callback,
        *,
        tolerance: float | None = DEFAULT_TOLERANCE,
        seen: DedupStore | AsyncDedupStore | bool = True,
        max_body_bytes: int = MAX_BODY_BYTES,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self._keys = keys_of(secret)
        self._callback = _callable("callback", callback)
        self._tolerance = None if tolerance is None else positive_seconds("tolerance", tolerance)
        self._seen = _store_of(seen)
        self._max_body_bytes = _checked_size(max_body_bytes)
        self._now = _present if now is None else _callable("now", now)
        self._under_way: dict[DeliveryKey, _Handling] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        match scope["type"]:
            case "http":
                await self._serve(scope, receive, send)
            case "lifespan":
                await _live(receive, send)
            case _:
                await send({"type": "websocket.close", "code": 1003})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status = await self._status(scope, receive)
        except _DisconnectedError:
            return
        await _answer(send, status)

    async def _status(self, scope: Scope, receive: Receive) -> int:
        if scope["method"] != "POST":
            return _BAD_METHOD
        try:
            body = await _read(scope, receive, self._max_body_bytes)
            event = self._verified(body, scope["headers"])
        except _TooLargeError:
            return _TOO_LARGE
        except WebhookVerificationError as error:
            _LOGGER.warning("a webhook delivery was refused: %s", error)
            return _BAD_REQUEST
        return _OK if await self._take(event) else _FAILED

    def _verified(self, body: bytes, headers: Iterable[tuple[bytes, bytes]]) -> WebhookEvent:
        signatures = [value for name, value in headers if name.lower() == _SIGNATURE_NAME]
        return check_delivery(
            body,
            signatures[0] if len(signatures) == 1 else None,
            self._keys,
            now=self._now(),
            tolerance=self._tolerance,
            limit=self._max_body_bytes,
        )

    async def _take(self, event: WebhookEvent) -> bool:
        earlier = self._under_way.get(event.key)
        if earlier is not None and self._seen is not None:
            await earlier.done.wait()
            return earlier.is_taken
        handling = self._under_way[event.key] = _Handling()
        try:
            handling.is_taken = await self._handled(event)
        finally:
            if self._under_way.get(event.key) is handling:
                del self._under_way[event.key]
            handling.done.set()
        return handling.is_taken

    async def _handled(self, event: WebhookEvent) -> bool:
        try:
            if await self._was_seen(event.key):
                return True
            await self._callback(event)
            await self._note(event.key)
        except Exception:
            _LOGGER.exception("the callback failed for %s", event.event_type)
            return False
        return True

    async def _was_seen(self, key: DeliveryKey) -> bool:
        if self._seen is None:
            return False
        contains = getattr(self._seen, "contains", None)
        if contains is None:
            return key in cast("DedupStore", self._seen)
        return bool(await contains(key))

    async def _note(self, key: DeliveryKey) -> None:
        noted: object = None if self._seen is None else self._seen.add(key)
        if isawaitable(noted):
            await noted


def _store_of(
    seen: DedupStore | AsyncDedupStore | bool,
) -> DedupStore | AsyncDedupStore | None:
    if isinstance(seen, bool):
        return RecentDeliveries() if seen else None
    if not is_store(seen):
        raise ConfigurationError(
            f"seen must be True, False, or what can add and tell deliveries, not {told(seen)}"
        )
    return seen


def _callable(name: str, value: T) -> T:
    if value is None:
        raise InvalidInputError(f"{name} must be callable, not None")
    callable_of(name, value)
    return value


def _checked_size(size: object) -> int:
    if type(size) is not int or size < 1:
        raise ConfigurationError(
            f"max_body_bytes must be a whole number from 1 on, not {told(size)}"
        )
    return size


def _present() -> datetime:
    return datetime.now(UTC)


async def _read(scope: Scope, receive: Receive, limit: int) -> bytes:
    if _announced(scope["headers"]) > limit:
        raise _TooLargeError
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _DisconnectedError
        body += message.get("body", b"")
        if len(body) > limit:
            raise _TooLargeError
        if not message.get("more_body", False):
            return bytes(body)


def _announced(headers: Iterable[tuple[bytes, bytes]]) -> int:
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    is_number = len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) <= 18
    return int(lengths[0]) if is_number else 0


async def _answer(send: Send, status: int) -> None:
    headers = [(b"content-length", b"0")]
    if status == _BAD_METHOD:
        headers.append((b"allow", b"POST"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
