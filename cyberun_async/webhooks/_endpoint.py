"""An ASGI application that receives webhook deliveries; it needs no framework."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from inspect import Parameter, Signature, isawaitable
from typing import Any, ClassVar, Protocol, TypeVar, cast, overload

import anyio
import attrs

from .._http import sealed
from .._model import (
    ConfigurationError,
    InvalidInputError,
    WebhookEvent,
    WebhookVerificationError,
    quoted,
)
from .._protocol import without_locals
from .._validation import callable_of, positive_seconds
from ._verify import (
    DEFAULT_TOLERANCE,
    MAX_BODY_BYTES,
    SIGNATURE_HEADER,
    DedupStore,
    DeliveryKey,
    RecentDeliveries,
    check_delivery,
    is_store,
    keys_of,
    signature_in,
)


Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")

Callback = Callable[[WebhookEvent], Awaitable[object] | object]
Secrets = str | Sequence[str]
SecretSource = Secrets | Callable[[], Secrets | Awaitable[Secrets]]

_OK, _BAD_REQUEST, _BAD_METHOD, _TOO_SLOW, _TOO_LARGE, _FAILED = 200, 400, 405, 408, 413, 500
_UNREAD = frozenset({_TOO_SLOW, _TOO_LARGE})
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


class RouteRequest(Protocol):
    """A request as Starlette and FastAPI hand it to a route."""

    @property
    def scope(self) -> Scope:
        """What the server knows of the connection."""
        ...

    def stream(self) -> AsyncIterator[bytes]:
        """Return the parts of the body."""
        ...


class _DisconnectedError(Exception):
    """The sender left before the body was complete."""


class _RefusedError(Exception):
    """The delivery cannot be handled, and is answered with *status*."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


class _RouteSignature:
    """How FastAPI sees an endpoint of ours that it is given: it takes the request."""

    def __get__(self, endpoint: object, owner: type) -> Signature:
        if endpoint is None:
            raise AttributeError  # the class has the signature of its constructor
        try:
            from starlette.requests import Request
        except ImportError:
            raise AttributeError from None
        kind = Parameter.POSITIONAL_OR_KEYWORD
        return Signature([Parameter("scope", kind, annotation=Request)])


@attrs.define(eq=False)
class _Handling:
    """A running callback, and whether it handled its event."""

    done: anyio.Event = attrs.field(factory=anyio.Event)
    is_taken: bool = False


class WebhookEndpoint:
    """
    Receive deliveries and hand each event to *callback*, at least once.

    An ASGI application: give it to a route of Starlette or FastAPI
    (``app.add_api_route(path, endpoint, methods=["POST"])``), mount it, or serve it alone.
    It answers 200 only after the callback has returned; if the callback raises, 500,
    so that the service tries again. A delivery seen before is answered 200 without a call;
    the same delivery arriving while the callback still runs waits for its outcome, up to
    *join_timeout* seconds, and then calls the callback itself.
    What cannot be verified is answered 400 without a reason, which goes to the log.

    An event is delivered twice only where the callback took longer than *join_timeout* beside
    another attempt, where the process ended before the store knew, or where processes share
    no store. So the callback should be idempotent.

    The service documents no time limit: a callback should store the event and return.
    Cancelled while the callback runs, the event counts as not handled.

    Args:
        secret:
            The webhook's secret, or several while one replaces another; or what returns
            them, plain or asynchronous, called for each delivery. If it fails, the answer
            is 500, and the service tries again.

        callback:
            Called with each new :class:`WebhookEvent`. A plain function runs in the event
            loop, so it must not block.

        tolerance: Seconds by which time stamps may differ from now. None checks no age.

        seen:
            Remembers what the callback handled. True is the last 10,000 deliveries, in this
            process; give a store of your own for several processes. False remembers
            nothing. If a store fails to add, the answer is 500, and the next attempt in
            this process adds again without calling the callback again.

        max_body_bytes: Larger bodies are answered 413.

        body_timeout: Seconds within which a body has to be complete; then the answer is 408.

        join_timeout: Seconds to wait for an earlier attempt whose callback still runs.

        now: Returns the present as an aware datetime, for tests.

    Raises:
        ConfigurationError: *secret* is empty or malformed, *max_body_bytes* below 1, or *seen*
            no store.
        InvalidInputError: *tolerance* or a timeout is no positive number, or *callback* or
            *now* not callable.
    """

    __signature__: ClassVar[_RouteSignature] = _RouteSignature()

    def __init__(
        self,
        secret: SecretSource,
        callback: Callback,
        *,
        tolerance: float | None = DEFAULT_TOLERANCE,
        seen: DedupStore | AsyncDedupStore | bool = True,
        max_body_bytes: int = MAX_BODY_BYTES,
        body_timeout: float = 30.0,
        join_timeout: float = 5.0,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        # What error reporters show of this frame.
        if isinstance(secret, list | tuple):
            secret = [sealed(each) for each in cast("Sequence[str]", secret)]
        else:
            secret = sealed(secret)
        self._source = secret if callable(secret) else None
        with without_locals():
            self._fixed_keys = () if callable(secret) else keys_of(secret)
        self._callback = _callable("callback", callback)
        self._tolerance = None if tolerance is None else positive_seconds("tolerance", tolerance)
        self._seen = _store_of(seen)
        self._max_body_bytes = _checked_size(max_body_bytes)
        self._body_timeout = positive_seconds("body_timeout", body_timeout)
        self._join_timeout = positive_seconds("join_timeout", join_timeout)
        self._now = partial(datetime.now, UTC) if now is None else _callable("now", now)
        self._in_flight: dict[DeliveryKey, _Handling] = {}
        # What the callback handled and the store failed to add.
        self._unstored = RecentDeliveries()

    @overload
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    @overload
    async def __call__(self, scope: RouteRequest) -> Any: ...

    async def __call__(
        self,
        scope: Scope | RouteRequest,
        receive: Receive | None = None,
        send: Send | None = None,
    ) -> Any:
        """Serve one ASGI connection, or return the answer to the request a route was given."""
        if receive is None or send is None:
            return await self._response_to(scope)
        await self._serve(cast("Scope", scope), receive, send)
        return None

    async def _response_to(self, request: object) -> Any:
        from starlette.requests import ClientDisconnect, Request
        from starlette.responses import Response

        if not isinstance(request, Request):
            raise TypeError("an ASGI application is called with a scope, receive and send")
        async with aclosing(request.stream()) as parts:

            async def receive() -> Message:
                try:
                    return {"type": "http.request", "body": await anext(parts), "more_body": True}
                except StopAsyncIteration:
                    return {"type": "http.request"}
                except ClientDisconnect:
                    return {"type": "http.disconnect"}

            try:
                status = await self._status(request.scope, receive)
            except _DisconnectedError:
                status = _BAD_REQUEST  # the client is gone
        headers = {name.decode(): value.decode() for name, value in _headers(status, request.scope)}
        return Response(status_code=status, headers=headers)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._receive(scope, receive, send)
            case "lifespan":
                await _live(receive, send)
            case _:
                await send({"type": "websocket.close", "code": 1003})

    async def _receive(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            status = await self._status(scope, receive)
        except _DisconnectedError:
            return
        headers = _headers(status, scope)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async def _status(self, scope: Scope, receive: Receive) -> int:
        if scope["method"] != "POST":
            return _BAD_METHOD
        try:
            body = await self._body(scope, receive)
            signature = _signature(scope["headers"])
            keys = await self._keys()
            event = check_delivery(
                body,
                signature,
                keys,
                now=self._now(),
                tolerance=self._tolerance,
                limit=self._max_body_bytes,
            )
        except _RefusedError as error:
            return error.status
        except WebhookVerificationError as error:
            _LOGGER.warning("a webhook delivery was refused: %s", error)
            return _BAD_REQUEST
        return _OK if await self._take(event) else _FAILED

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        with anyio.move_on_after(self._body_timeout):
            return await _read(scope, receive, self._max_body_bytes)
        raise _RefusedError(_TOO_SLOW)

    async def _keys(self) -> tuple[bytes, ...]:
        if self._source is None:
            return self._fixed_keys
        try:
            with without_locals():
                secrets = sealed(self._source())
                return keys_of(sealed(await secrets) if isawaitable(secrets) else secrets)
        except Exception:
            _LOGGER.exception("the webhook secret could not be obtained")
            raise _RefusedError(_FAILED) from None

    async def _take(self, event: WebhookEvent) -> bool:
        while self._seen is not None and (earlier := self._in_flight.get(event.key)) is not None:
            with anyio.move_on_after(self._join_timeout):
                await earlier.done.wait()
                return earlier.is_taken
            if self._in_flight.get(event.key) is earlier:
                # It hangs, and must not hold up others.
                break
        handling = self._in_flight[event.key] = _Handling()
        try:
            handling.is_taken = await self._handled(event)
        finally:
            if self._in_flight.get(event.key) is handling:
                del self._in_flight[event.key]
            handling.done.set()
        return handling.is_taken

    async def _handled(self, event: WebhookEvent) -> bool:
        try:
            if self._seen is None:
                await _result_of(self._callback(event))
            else:
                await self._handled_once(event, self._seen)
        except Exception:
            _LOGGER.exception("%s of task %s was not taken", event.event_type, event.task_id)
            return False
        return True

    async def _handled_once(self, event: WebhookEvent, seen: DedupStore | AsyncDedupStore) -> None:
        # Not by `in`: a store may be asynchronous, and the truth of a coroutine is True.
        contains: Callable[[DeliveryKey], object] = (
            getattr(seen, "contains", None) or cast("DedupStore", seen).__contains__
        )
        if await _result_of(contains(event.key)):
            return
        if event.key not in self._unstored:
            await _result_of(self._callback(event))
            self._unstored.add(event.key)
        await _result_of(seen.add(event.key))
        self._unstored.discard(event.key)


def _store_of(
    seen: DedupStore | AsyncDedupStore | bool,
) -> DedupStore | AsyncDedupStore | None:
    if isinstance(seen, bool):
        return RecentDeliveries() if seen else None
    if not is_store(seen):
        raise ConfigurationError(
            f"seen must be True, False, or a store with `in` and add(), not {quoted(seen)}"
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
            f"max_body_bytes must be a whole number from 1 on, not {quoted(size)}"
        )
    return size


async def _result_of(answer: Awaitable[object] | object) -> object:
    return await answer if isawaitable(answer) else answer


async def _read(scope: Scope, receive: Receive, limit: int) -> bytes:
    if _content_length(scope["headers"]) > limit:
        raise _RefusedError(_TOO_LARGE)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _DisconnectedError
        body += message.get("body", b"")
        if len(body) > limit:
            raise _RefusedError(_TOO_LARGE)
        if not message.get("more_body", False):
            return bytes(body)


def _content_length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    is_number = len(lengths) == 1 and lengths[0].isdigit() and len(lengths[0]) <= 18
    return int(lengths[0]) if is_number else 0


def _signature(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the header's value, checked before the secret is looked up."""
    signatures = [value for name, value in headers if name.lower() == _SIGNATURE_NAME]
    signature = signatures[0] if len(signatures) == 1 else None
    signature_in(signature)
    return signature


def _headers(status: int, scope: Scope) -> list[tuple[bytes, bytes]]:
    headers = [(b"content-length", b"0")]
    if status == _BAD_METHOD:
        headers.append((b"allow", b"POST"))
    if status in _UNREAD and scope.get("http_version", "").startswith("1"):
        # Else the server would read the rest.
        headers.append((b"connection", b"close"))
    return headers


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
