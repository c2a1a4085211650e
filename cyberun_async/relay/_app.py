"""The ASGI application that browsers are connected to."""

import inspect
import logging
import secrets
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self, overload
from uuid import UUID

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from .. import (
    ClientStateError,
    ConfigurationError,
    CyberunClient,
    InvalidInputError,
    ServiceUnavailableError,
)
from ._follower import Browser, Follower, Notifier, passing_failure
from ._history import History, is_end
from ._signals import StopSignals


if TYPE_CHECKING:
    from anyio.abc import TaskGroup


Authorize = Callable[[Request, str], bool | Awaitable[bool]]
"""Answers whether whoever sent the request may see the task with this id."""

_LOGGER = logging.getLogger("cyberun_async")
_HEADERS = {
    # Neither cached, nor compressed, nor buffered by a proxy.
    "cache-control": "no-store, no-transform",
    "x-accel-buffering": "no",
}
# A refusal holds for now only: the next page may be allowed, the next task may exist.
_NO_STORE = {"cache-control": "no-store"}
# How FastAPI sees a relay that is given to it as an endpoint: it takes the request.
_SIGNATURE = inspect.Signature(
    [inspect.Parameter("scope", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)]
)
_SECONDS_BETWEEN_LOOKS = 0.1
# For browsers to take the end of their stream: many times what one needs that reads.
_SECONDS_TO_LEAVE = 2.0
_MOST_SECONDS = 86_400.0


class TaskRelay:
    """
    Re-streams tasks to browsers: an ASGI application for a route with ``{task_id}``.

    A route of Starlette takes it, and a route of FastAPI: ``app.add_api_route(path, relay)``.
    Mounted, it takes the rest of the path for the task's id.

    Enter it beside its client, in the lifespan of the application: ``async with client,
    relay``. It may be made before, as routes are. Each task is followed once, however many
    browsers look at it, from the first until *keep* seconds after the last has gone; a task
    without an event, or of which no browser was sent anything, only until then.

    A browser that comes back with an id of this relay gets what it missed; with any other
    id, or none, a snapshot of the present state. With the id of the end it gets 204, upon
    which ``EventSource`` stops. A browser that reads slowly misses progress events, as
    far as the history reaches no status, and never the end.

    Answers 403 unless *authorize* returns True, 404 for what cannot be the id of a task,
    405 for methods other than GET. It adds no CORS headers; that is for the application.

    It ends its streams when the process gets SIGINT or SIGTERM, since servers wait for open
    responses before they end the lifespan. A server that is stopped in another way has to
    be preceded by :meth:`close`. A stream whose browser has stopped reading is
    dropped after two seconds; the connection below it is the server's.

    Args:
        client: Follows the tasks. Its key stays with it.

        authorize:
            Called for each connection with Starlette's request and the task's id; plain or
            asynchronous. What it raises is raised to the server. None refuses everybody.

        heartbeat: Seconds without an event after which a comment is sent.

        history: How many events of a task a browser can come back for.

        keep: Seconds to go on following, and remembering, without a browser.

        max_tasks:
            How many tasks are followed at once. Beyond that, those without a browser make
            room; where there are none, a browser is sent a ``relay-error`` and comes back
            after 15 seconds.

        retry:
            Seconds after which a browser comes back when its connection broke. Each gets a
            number between this and twice this, so that not all come at once.

        close_on_signals: Whether to end the streams upon SIGINT and SIGTERM.

    Raises:
        ConfigurationError: A number is out of its range.
    """

    def __init__(
        self,
        client: CyberunClient,
        *,
        authorize: Authorize | None = None,
        heartbeat: float = 15.0,
        history: int = 64,
        keep: float = 30.0,
        max_tasks: int = 1000,
        retry: float = 2.0,
        close_on_signals: bool = True,
    ) -> None:
        self._client = client
        self._authorize = authorize
        self._heartbeat = _seconds("heartbeat", heartbeat)
        self._history = _whole("history", history)
        self._keep = _seconds("keep", keep)
        self._max_tasks = _whole("max_tasks", max_tasks)
        self._retry = _seconds("retry", retry)
        self._signals = StopSignals()
        self._close_on_signals = close_on_signals
        self._followers: dict[str, Follower] = {}
        self._open: set[anyio.CancelScope] = set()
        self._ended = Notifier()
        self._stack = AsyncExitStack()
        self._group: TaskGroup | None = None
        self._is_closed = False
        self.__signature__ = _SIGNATURE

    # Lifetime

    async def __aenter__(self) -> Self:
        """Begin; what follows tasks runs inside the block."""
        if self._group is not None:
            raise ClientStateError("a relay can be entered once; make a new one")
        if self._authorize is None:
            _LOGGER.warning("the relay refuses every browser, as it was given no `authorize`")
        self._group = await self._stack.enter_async_context(anyio.create_task_group())
        if self._close_on_signals:
            self._stack.enter_context(self._signals)
            if self._signals.is_listening:
                self._group.start_soon(self._close_on_signal)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End all streams, stop following, and wait until that is done."""
        self.close()
        with anyio.CancelScope(shield=True):
            await self._end_streams()
        if self._group is not None:
            self._group.cancel_scope.cancel()
        if _may_be_cancellation(exc):
            await self._stack.__aexit__(exc_type, exc, traceback)
        else:
            # The group would wrap it, though it is the application's own.
            await self._stack.aclose()

    def close(self) -> None:
        """
        End the streams of all browsers, which will come back.

        A browser that connects while the process still runs is sent away to come back. Call
        it from the event loop, before a server is stopped by anything but a signal.
        """
        if self._group is not None and not self._is_closed:
            self._group.start_soon(self._end_streams)
        self._is_closed = True
        for follower in self._followers.values():
            follower.changed.notify()

    async def _end_streams(self) -> None:
        """Let the open streams end by themselves, and end those that do not."""
        with anyio.move_on_after(_SECONDS_TO_LEAVE):
            while self._open:
                await self._ended.wait()
        for scope in self._open:
            scope.cancel()

    async def _close_on_signal(self) -> None:
        # Polled rather than waited for: a handler that Python calls at any point must not
        # touch the event loop, and one of the loop would replace the server's.
        while not self._signals.received:  # noqa: ASYNC110 - see above
            await anyio.sleep(_SECONDS_BETWEEN_LOOKS)
        self.close()

    # Serving

    @overload
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    @overload
    async def __call__(self, scope: Request) -> Response: ...

    async def __call__(
        self,
        scope: Scope | Request,
        receive: Receive | None = None,
        send: Send | None = None,
    ) -> Response | None:
        """Serve one connection, or return the answer to the request that a route was given."""
        if isinstance(scope, Request):
            return _Relayed(self)
        if receive is None or send is None:
            raise TypeError("an ASGI application is called with a scope, receive and send")
        await self._serve(scope, receive, send)
        return None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1003})
            return
        if scope["type"] != "http" or self._group is None:
            raise ClientStateError(
                "the relay is not entered; write `async with client, relay:` in the "
                "lifespan of the application that it is a route of"
            )
        request = Request(scope, receive)
        answer = await self._refusal(request, task_id := self._task_id(scope))
        if answer is not None:
            await answer(scope, receive, send)
        elif task_id is not None:
            await self._stream(task_id, request, send)

    async def _refusal(self, request: Request, task_id: str | None) -> Response | None:
        """Return the answer that is no stream, or None where there is to be one."""
        if request.method != "GET":
            return PlainTextResponse("use GET", 405, {"allow": "GET", **_NO_STORE})
        if task_id is None:
            return PlainTextResponse("no such task", 404, _NO_STORE)
        if not await self._may_see(request, task_id):
            return PlainTextResponse("not allowed to see this task", 403, _NO_STORE)
        if is_end(request.headers.get("last-event-id")):
            return Response(status_code=204, headers=_NO_STORE)
        return None

    async def _may_see(self, request: Request, task_id: str) -> bool:
        if self._authorize is None:
            return False
        answer = self._authorize(request, task_id)
        # Nothing but True: a hook that returns something else by mistake lets nobody in.
        return (await answer if inspect.isawaitable(answer) else answer) is True

    def _task_id(self, scope: Scope) -> str | None:
        named = scope.get("path_params", {}).get("task_id")
        if named is None:
            named = _rest_of_path(scope["path"], scope.get("root_path", ""))
        if isinstance(named, UUID):
            named = str(named)
        try:
            task_id = self._client.handle(named).id
        except InvalidInputError:
            return None
        # The text of a resume token would do there, but is no name of the task here.
        return task_id if task_id in (named, named.lower()) else None

    async def _stream(self, task_id: str, request: Request, send: Send) -> None:
        follower = self._follower(task_id)
        if follower is None:
            _LOGGER.warning("the relay follows %d tasks, and cannot take more", self._max_tasks)
            content = passing_failure(task_id, ServiceUnavailableError.__name__)
            full = Response(content, headers=_HEADERS, media_type="text/event-stream")
            await full(request.scope, request.receive, send)
            return
        browser = Browser(
            follower,
            last_event_id=request.headers.get("last-event-id"),
            heartbeat=self._heartbeat,
            retry=self._retry * (1 + secrets.randbelow(1000) / 1000),
            is_leaving=lambda: self._is_closed,
        )
        answer = StreamingResponse(browser, headers=_HEADERS, media_type="text/event-stream")
        with browser, self._tracked(), suppress(ClientDisconnect):
            await answer(request.scope, request.receive, send)

    @contextmanager
    def _tracked(self) -> Generator[None]:
        with anyio.CancelScope() as scope:
            self._open.add(scope)
            try:
                yield
            finally:
                self._open.discard(scope)
                self._ended.notify()

    def _follower(self, task_id: str) -> Follower | None:
        """Return the task's follower, made if need be; None if there is no room for one more."""
        follower = self._followers.get(task_id)
        if follower is None or not follower.is_usable:
            if not self._has_room(task_id):
                return None
            history = History(secrets.token_hex(4), self._history)
            follower = Follower(self._client, task_id, history, keep=self._keep)
            if self._group is not None and not self._is_closed:
                self._followers[task_id] = follower
                self._group.start_soon(self._run, follower)
        return follower

    def _has_room(self, task_id: str) -> bool:
        if task_id in self._followers or len(self._followers) < self._max_tasks:
            return True
        # In the order in which they were begun, which is about that of their last use.
        unused = next((one for one in self._followers.values() if not one.is_in_use), None)
        if unused is None:
            return False
        unused.dismiss()
        del self._followers[unused.task_id]
        return True

    async def _run(self, follower: Follower) -> None:
        try:
            await follower.run()
        finally:
            if self._followers.get(follower.task_id) is follower:
                del self._followers[follower.task_id]


class _Relayed(Response):
    """The answer of a route: the relay's own, once it is called with the connection."""

    def __init__(self, relay: TaskRelay) -> None:
        super().__init__()
        self._relay = relay

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._relay(scope, receive, send)


def _rest_of_path(path: str, root_path: str) -> str:
    """
    Return what follows the mount in *path*.

    A proxy may have taken a prefix away that *root_path* still begins with.
    """
    root = root_path.strip("/").split("/")
    for index in range(len(root) + 1):
        prefix = "/".join(["", *root[index:]])
        if path == prefix or path.startswith(f"{prefix}/"):
            return path.removeprefix(prefix).strip("/")
    return path.strip("/")


def _may_be_cancellation(error: BaseException | None) -> bool:
    if isinstance(error, Exception):
        return False
    return isinstance(error, anyio.get_cancelled_exc_class() | BaseExceptionGroup)


def _seconds(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not 0 < value <= _MOST_SECONDS:
        raise ConfigurationError(f"{name} must be above 0, and {_MOST_SECONDS:g} s at the most")
    return float(value)


def _whole(name: str, value: object) -> int:
    if type(value) is not int or value < 1:
        raise ConfigurationError(f"{name} must be a whole number from 1 on")
    return value
