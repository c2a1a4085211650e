"""An app's lifespan: begun before its requests, ended after them, as servers do it."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
import anyio.lowlevel

from .task import OwnedTask


Message = MutableMapping[str, Any]
ASGIApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

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
            # It does not look at what it is given, and would wait for a request for ever.
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
