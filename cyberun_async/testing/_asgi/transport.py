"""An httpx transport that calls an ASGI app in process and really streams."""

import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, Self, TypeAlias

import anyio
import anyio.lowlevel
import httpx

from .task import OwnedTask


Message: TypeAlias = MutableMapping[str, Any]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

_KEPT = "_cyberun_async_lifespan"


class Lifespan:
    """
    The task in which an app's lifespan runs, from its first user to its last.

    An app that ends, fails or reads on before its startup is complete has no lifespan; it
    is served all the same, as servers do with it.

    Attributes:
        state: What the lifespan yields; each request gets a copy of it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._users = 0
        self._loop = anyio.lowlevel.current_token()
        self._task: OwnedTask | None = None
        self._answered = anyio.Event()
        self._stopping = anyio.Event()
        self._was_asked = False
        self._is_up = False
        self._refusal: str | None = None
        self._failure: Exception | None = None

    @property
    def is_usable(self) -> bool:
        """Whether it has users, on this event loop."""
        return self._users > 0 and self._loop == anyio.lowlevel.current_token()

    async def start(self) -> None:
        """
        Send the startup, unless another user did, and wait for the answer.

        Raises:
            Exception: The app's own, which ended its startup; :meth:`stop` is due all the same.
            RuntimeError: The app says that its startup failed; likewise.
        """
        self._users += 1
        if self._task is None:
            self._task = OwnedTask(self._run, on_done=self._answered.set)
        await self._answered.wait()
        if not self._is_up:
            await self._end()
        self._raise_refusal("startup")

    async def stop(self) -> None:
        """
        After the last user, send the shutdown and wait until the app is through with it.

        Cancelled meanwhile, the lifespan is cancelled and awaited.

        Raises:
            Exception: The app's own, which ended its shutdown.
            RuntimeError: The app says that its shutdown failed.
        """
        self._users -= 1
        task = self._task
        if self._users or task is None or task.is_done:
            return
        if not self._is_up:
            await self._end()
            return
        self._stopping.set()
        try:
            await task.wait()
        finally:
            await self._end()
        if self._failure is not None:
            raise self._failure
        self._raise_refusal("shutdown")

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with anyio.CancelScope(shield=True):
                await self._task.wait()

    def _raise_refusal(self, what: str) -> None:
        if self._refusal is None:
            return
        if self._failure is not None:
            raise self._failure
        said = f": {self._refusal}" if self._refusal else ""
        raise RuntimeError(f"the app's {what} failed{said}")

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - judged by who started the lifespan
            self._failure = error

    async def _receive(self) -> Message:
        if not self._was_asked:
            self._was_asked = True
            return {"type": "lifespan.startup"}
        if not self._is_up:
            # It does not look at the message, and would wait for a request forever.
            self._answered.set()
            await anyio.sleep_forever()
        await self._stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "lifespan.startup.complete":
                self._is_up = True
            case "lifespan.startup.failed" | "lifespan.shutdown.failed":
                self._refusal = message.get("message", "")
                # What it raises is better than its text, and comes next.
                return
            case "lifespan.shutdown.complete":
                return
            case kind:
                raise RuntimeError(f"the app sent {kind!r} in its lifespan")
        self._answered.set()


def lifespan_of(app: ASGIApp) -> Lifespan:
    """
    Return the lifespan that *app* has on this event loop, or a new one.

    It is kept where it belongs, with the app: two clients of one app are served by one, as
    two browsers are.
    """
    kept: dict[str, Any] = getattr(app, "__dict__", {})
    found = kept.get(_KEPT)
    if isinstance(found, Lifespan) and found.is_usable:
        return found
    fresh = kept[_KEPT] = Lifespan(app)
    return fresh


_LOGGER: Final = logging.getLogger("cyberun_async.testing")
_MAX_DROPPED: Final = 1000
_ERROR: Final = 400
_CUT: Final = "peer closed connection without sending complete message body"


class StreamingASGITransport(httpx.AsyncBaseTransport):
    """
    Call an ASGI app in process, with requests and responses that really stream.

    The response is there as soon as the app has sent its headers, each part of the body as
    soon as the app has sent it. An app that is faster than its reader waits in ``send``.
    Closing the response early, as ``async with client.stream(...)`` does on leaving, gives
    the app ``http.disconnect``; what it sends from then on is dropped, and if it has not
    ended within the *disconnect_grace*, it is cancelled and awaited. After a complete
    response the app may go on (background work) until it ends or the transport is closed.

    Works on asyncio and trio, in virtual time too. A response may be closed by another task
    than the one that opened it. The read timeout of a request is obeyed; connect, write and
    pool timeouts cannot occur.

    Entered, as ``async with httpx.AsyncClient(transport=...)`` does, it runs the lifespan of
    an application of Starlette or FastAPI: what that yields is in ``request.state``. Closing
    ends it, after the last request; transports of one app that are open together share it.

    Exceptions of the app reach the caller, as with :class:`httpx.ASGITransport`:

    - One that is raised before the headers is raised as it is, and so is one behind a whole
      response of 400 or more, which stands for it: Starlette and FastAPI answer an exception
      of a handler with a whole 500 and raise it then. So a response of 400 or more is
      returned once it is whole, or after the *disconnect_grace*. With *raise_app_exceptions*
      off, it is that response, or a plain 500 where there is none.
    - One that breaks a body off, or an end without the last part, raises
      :class:`httpx.RemoteProtocolError` from that exception, behind what was sent before.
    - One behind a whole response of less than 400, or one that comes later, is logged.

    Args:
        app: The application.

        raise_app_exceptions: Whether exceptions of the app reach the caller.

        lifespan:
            Whether entering the transport runs the app's lifespan. None does so for
            applications of Starlette and FastAPI, and serves one that does not start, for
            instance because its lifespan runs already, without it, which is logged. False
            is for those whose lifespan is run by something else and can be run twice.

        root_path: Where the app is mounted.

        client: The client's address as the app sees it.

        max_waiting_parts: How many parts of a body may wait for the reader.

        disconnect_grace:
            Seconds, of the event loop's clock, in which the app may end by itself after a
            disconnect.

    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        raise_app_exceptions: bool = True,
        lifespan: bool | None = None,
        root_path: str = "",
        client: tuple[str, int] = ("127.0.0.1", 123),
        max_waiting_parts: int = 16,
        disconnect_grace: float = 1.0,
    ) -> None:
        self._app = app
        self._raise_app_exceptions = raise_app_exceptions
        self._root_path = root_path
        self._client = client
        self._max_waiting_parts = max_waiting_parts
        self._grace = disconnect_grace
        self._exchanges: set[_Exchange] = set()
        self._has_lifespan = _is_starlette(app) if lifespan is None else lifespan
        self._must_start = lifespan is True
        self._lifespan: Lifespan | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        """
        Run the app's lifespan up to its startup.

        Raises:
            Exception: The app's own, which ended its startup, where *lifespan* is True.
            RuntimeError: The app says that its startup failed, likewise.
        """
        if self._has_lifespan:
            lifespan = lifespan_of(self._app)
            try:
                await lifespan.start()
            except Exception:
                await lifespan.stop()
                if self._must_start:
                    raise
                _LOGGER.exception("the app's lifespan did not start; it is served without")
            except BaseException:
                await lifespan.stop()
                raise
            else:
                self._lifespan = lifespan
        return self

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """
        Call the app and return its response as soon as it has begun.

        Cancelled before that, the app is given a disconnect and ended.

        Raises:
            httpx.ReadTimeout: The app has not begun to answer in time.

            httpx.RemoteProtocolError: The app returned without an answer.

            RuntimeError: The transport is closed.

        """
        if self._closed:
            raise RuntimeError("the transport is closed")
        scope = _scope_of(request, self._root_path, self._client)
        if self._lifespan is not None:
            scope["state"] = self._lifespan.state.copy()
        exchange = _Exchange(
            request,
            max_waiting_parts=self._max_waiting_parts,
            grace=self._grace,
            raise_app_exceptions=self._raise_app_exceptions,
            on_change=self._forget_if_finished,
        )
        self._exchanges.add(exchange)
        exchange.begin(self._app, scope)
        try:
            return await exchange.response()
        except BaseException:
            await exchange.aclose()
            raise

    async def aclose(self) -> None:
        """
        Disconnect every app that still runs, and wait for the end of them all.

        Those that do not end within the grace are cancelled; it is counted once for all.
        The app's lifespan, if it runs, ends after them.

        Raises:
            Exception: The app's own, which ended its shutdown.
        """
        self._closed = True
        exchanges = list(self._exchanges)
        for exchange in exchanges:
            exchange.disconnect()
        try:
            await end_all(exchanges, self._grace)
        finally:
            lifespan, self._lifespan = self._lifespan, None
            if lifespan is not None:
                await lifespan.stop()

    def _forget_if_finished(self, exchange: "_Exchange") -> None:
        if exchange.is_finished:
            self._exchanges.discard(exchange)


class _Exchange:
    """One request and its response, and the owner of the task that runs the app for it."""

    def __init__(
        self,
        request: httpx.Request,
        *,
        max_waiting_parts: int,
        grace: float,
        raise_app_exceptions: bool,
        on_change: Callable[["_Exchange"], None],
    ) -> None:
        self._request = request
        self._grace = grace
        self._raise_app_exceptions = raise_app_exceptions
        self._on_change = on_change
        self._upload = _Upload(request)
        self._task: OwnedTask

        # What the app has sent
        self._begun = anyio.Event()
        self._start: Message | None = None
        self._is_complete = False
        self._was_read = False
        self._failure: Exception | None = None

        # What the reader has not read yet, and whether it is still there
        self._sender, self._parts = anyio.create_memory_object_stream[bytes](max_waiting_parts)
        self._is_gone = False
        self._dropped = 0
        self._disconnects = 0
        self._over = anyio.Event()
        # Whether the response is whole, or as much of it as there is room for
        self._filled = anyio.Event()

    @property
    def is_finished(self) -> bool:
        """Whether neither side holds anything any more."""
        return self._is_gone and self._task.is_done

    def begin(self, app: ASGIApp, scope: Scope) -> None:
        """Start the task that runs *app*."""

        async def run() -> None:
            try:
                await app(scope, self._receive, self._send)
            except Exception as error:  # noqa: BLE001  # whatever an app raises is its answer
                self._note_failure(error)
            finally:
                self._end_body()
                await self._upload.aclose()

        self._task = OwnedTask(run, on_done=lambda: self._on_change(self))

    def _note_failure(self, error: Exception) -> None:
        self._failure = error
        if self._is_complete and (self._is_gone or not self._is_raised()):
            _LOGGER.error("the app failed behind its complete response", exc_info=error)

    # The client's side

    async def response(self) -> httpx.Response:
        """Wait for the headers."""
        with _read_timeout(self._request):
            await self._begun.wait()
        if self._stands_for_failure():
            with anyio.move_on_after(self._grace):
                await self._filled.wait()
        if self._start is not None:
            self._raise_if_failed()
            return httpx.Response(
                self._start["status"],
                headers=[(bytes(name), bytes(value)) for name, value in self._start["headers"]],
                stream=_Body(self),
                extensions={"http_version": b"HTTP/1.1"},
            )
        if self._upload.failure is not None:
            raise self._upload.failure
        if self._raise_app_exceptions and self._failure is not None:
            raise self._failure
        if self._raise_app_exceptions:
            message = "the app returned without a response"
            raise httpx.RemoteProtocolError(message, request=self._request)
        self.disconnect()
        return httpx.Response(500, text="Internal Server Error")

    async def next_part(self) -> bytes | None:
        """Wait for the next part of the body; None is its end."""
        try:
            with _read_timeout(self._request):
                return await self._parts.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            if self._is_gone:
                raise httpx.ReadError("the response was closed", request=self._request) from None
            if not self._is_complete:
                raise httpx.RemoteProtocolError(_CUT, request=self._request) from self._failure
            self._raise_if_failed()
            self._was_read = True
            return None

    def _stands_for_failure(self) -> bool:
        return self._start is not None and self._start["status"] >= _ERROR

    def _is_raised(self) -> bool:
        return self._raise_app_exceptions and self._stands_for_failure() and not self._was_read

    def _raise_if_failed(self) -> None:
        """Raise the exception for which a whole response stands."""
        if self._failure is not None and self._is_complete and self._is_raised():
            raise self._failure

    def disconnect(self) -> None:
        """Notify the app that the client is gone, and wake the reader of the next part."""
        self._is_gone = True
        self._over.set()
        self._sender.close()
        self._parts.close()
        self._on_change(self)

    async def aclose(self) -> None:
        """Disconnect; if the response was not complete, see to the end of the app."""
        self.disconnect()
        if not self._is_complete:
            await end_all([self], self._grace)

    async def wait(self) -> None:
        """Wait for the end of the app."""
        await self._task.wait()

    def cancel(self) -> None:
        """Cancel the app."""
        self._task.cancel()

    # The app's side

    async def _receive(self) -> Message:
        if self._over.is_set():
            # Without waiting, as servers do: `request.is_disconnected()` asks in a scope that
            # is cancelled already. But an app that never stops asking must run into its grace.
            self._disconnects += 1
            if self._disconnects > _MAX_DROPPED:
                await anyio.sleep(self._grace)
            return {"type": "http.disconnect"}
        if not self._upload.is_over:
            # Nor may such a look take a part of the body along.
            await anyio.lowlevel.checkpoint_if_cancelled()
            message = await self._upload.next_message()
            if self._upload.failure is not None:
                self._begun.set()
            return message
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start" and self._start is None:
            self._start = {"headers": (), **message}
            self._begun.set()
        elif kind == "http.response.body" and self._start is not None and not self._is_complete:
            await self._send_body(message)
        else:
            raise RuntimeError(f"the app sent {kind!r} at the wrong time")

    async def _send_body(self, message: Message) -> None:
        part = bytes(message.get("body", b""))
        if self._is_gone:
            # Without a word, as servers do. But an app that never stops must run into its
            # grace, also in virtual time, where only waiting takes time.
            self._dropped += 1
            await anyio.sleep(self._grace if self._dropped > _MAX_DROPPED else 0)
        elif part and self._request.method != "HEAD":
            # Broken while waiting: the client has gone meanwhile.
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await self._put(part)
        if not message.get("more_body", False):
            self._is_complete = True
            self._over.set()
            self._end_body()

    async def _put(self, part: bytes) -> None:
        try:
            await anyio.lowlevel.checkpoint()
            self._sender.send_nowait(part)
        except anyio.WouldBlock:
            self._filled.set()
            await self._sender.send(part)

    def _end_body(self) -> None:
        self._begun.set()
        self._filled.set()
        self._sender.close()


def _is_starlette(app: ASGIApp) -> bool:
    # Without an import: what is no part of the program is needed by no app of it.
    applications = sys.modules.get("starlette.applications")
    return applications is not None and isinstance(app, applications.Starlette)


async def end_all(exchanges: Sequence[_Exchange], grace: float) -> None:
    """
    Wait for the end of the apps, and cancel those that take longer than *grace*.

    The wait is shielded, so that an app sees the disconnect also when its client was
    cancelled; it ends early only if the waiting asyncio task is cancelled natively.
    """
    try:
        with anyio.move_on_after(grace, shield=True):
            for exchange in exchanges:
                await exchange.wait()
    finally:
        for exchange in exchanges:
            exchange.cancel()
        with anyio.CancelScope(shield=True):
            for exchange in exchanges:
                await exchange.wait()


class _Body(httpx.AsyncByteStream):
    """The body of a response as httpx reads and closes it."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part = await self._exchange.next_part()
        if part is None:
            raise StopAsyncIteration
        return part

    async def aclose(self) -> None:
        await self._exchange.aclose()


class _Upload:
    """The body of a request as the app receives it."""

    def __init__(self, request: httpx.Request) -> None:
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise TypeError("the request has a synchronous body")
        self._parts = aiter(request.stream)
        self.is_over = False
        self.failure: Exception | None = None

    async def next_message(self) -> Message:
        # Over unless a part comes: an iterator that failed would later look complete.
        self.is_over = True
        try:
            part = b""
            while not part:
                part = await anext(self._parts)
        except StopAsyncIteration:
            return {"type": "http.request", "body": b"", "more_body": False}
        except Exception as error:  # noqa: BLE001  # it is the caller's, and given back to it
            self.failure = error
            return {"type": "http.disconnect"}
        self.is_over = False
        return {"type": "http.request", "body": part, "more_body": True}

    async def aclose(self) -> None:
        aclose: Callable[[], Awaitable[None]] | None = getattr(self._parts, "aclose", None)
        if aclose is not None:
            with anyio.CancelScope(shield=True):
                await aclose()


@contextmanager
def _read_timeout(request: httpx.Request) -> Generator[None]:
    seconds: float | None = request.extensions.get("timeout", {}).get("read")
    try:
        with anyio.fail_after(seconds):
            yield
    except TimeoutError as error:
        raise httpx.ReadTimeout(f"the app was silent for {seconds} s", request=request) from error


def _scope_of(request: httpx.Request, root_path: str, client: tuple[str, int]) -> Scope:
    url = request.url
    return {
        "type": "http",
        # 2.3: the app learns of a disconnect from `receive`, not from an error of `send`.
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "query_string": url.query,
        "root_path": root_path,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": client,
        "server": (url.host, url.port or {"https": 443}.get(url.scheme, 80)),
    }
