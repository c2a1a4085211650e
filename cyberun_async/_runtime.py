"""
The event loop, its clock, and the tasks a client owns.

The one module that knows asyncio from trio. On asyncio a client may be closed from
another task than the one that opened it, so its tasks are plain asyncio tasks that are
cancelled and awaited; trio has no tasks outside a nursery, so there one is entered with
the client, and left with it, in the same task.
"""

import asyncio
import inspect
import os
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from contextvars import Context
from datetime import UTC, datetime
from typing import Any, Protocol, cast

import anyio
import anyio.abc

from ._model import ClientClosedError, ClientStateError, WrongEventLoopError


class _TrioToken(Protocol):
    def run_sync_soon(self, function: Callable[..., object], *args: object) -> None: ...


class Runtime:
    """The loop a client belongs to, and the one owner of the tasks it starts."""

    def __init__(self) -> None:
        self.is_asyncio: bool = _asyncio_is_running()
        self._token = anyio.lowlevel.current_token()
        self._process = os.getpid()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._group: anyio.abc.TaskGroup | None = None
        self._stack = AsyncExitStack()
        self._home: int | None = None
        self._is_closed = False
        self.now: Callable[[], float] = anyio.current_time
        self._loop: asyncio.AbstractEventLoop | None = None
        if self.is_asyncio:
            self._loop = asyncio.get_running_loop()
            self.now = self._loop.time

    async def open(self) -> None:
        """Make ready to start tasks."""
        if not self.is_asyncio:
            self._home = anyio.get_current_task().id
            self._group = await self._stack.enter_async_context(anyio.create_task_group())

    def check(self) -> None:
        """Raise :class:`WrongEventLoopError` unless this is the loop, and process, opened on."""
        self.check_process()
        self.check_loop()

    def check_process(self) -> None:
        """Check the process alone: a child may run its parent's loop, on sockets not its own."""
        if os.getpid() != self._process:
            raise WrongEventLoopError(_FORKED)

    def check_loop(self) -> None:
        """Check the loop alone, for what is done with every event."""
        try:
            if self._loop is None:
                is_same = anyio.lowlevel.current_token() == self._token
            else:
                is_same = asyncio.get_running_loop() is self._loop
        except Exception as error:
            raise WrongEventLoopError(self._complaint()) from error
        if not is_same:
            raise WrongEventLoopError(self._complaint())

    def _complaint(self) -> str:
        if os.getpid() != self._process:
            return _FORKED
        is_gone = self._loop is not None and self._loop.is_closed()
        return _LOOP_IS_GONE if is_gone else _WRONG_LOOP

    def check_closable(self) -> None:
        """Raise :class:`ClientStateError` where the running task may not call :meth:`aclose`."""
        self.check()
        if self._group is not None and anyio.get_current_task().id != self._home:
            raise ClientStateError(
                "on trio a client must be closed in the task that opened it; "
                "use `async with` around everything that uses it"
            )

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """
        Start *function* as a task that :meth:`aclose` cancels and awaits at the latest.

        However soon that is, the function is entered.

        Raises:
            ClientClosedError: All has been closed.
        """
        if self._is_closed:
            raise ClientClosedError("the client is closed; make a new one")
        if self._group is not None:
            self._group.start_soon(function, *args)
            return
        task = asyncio.create_task(function(*args))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def spawn_soon(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """
        Start *function* as a task, called by a finalizer: in any thread, on any loop or none.

        Where the loop or the client has ended by then, nothing is left to be done.
        """
        if os.getpid() != self._process:
            return
        with suppress(RuntimeError):  # the loop is closed
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._spawn_late, function)
            else:
                token = cast("_TrioToken", self._token.native_token)
                token.run_sync_soon(self._spawn_late, function)

    def _spawn_late(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with suppress(ClientClosedError):
            self.spawn(function)

    async def aclose(self) -> None:
        """Cancel every task and wait until all have ended."""
        try:
            await self._end_all()
        finally:
            self._is_closed = True

    async def _end_all(self) -> None:
        if self._group is not None:
            self._group.cancel_scope.cancel()
            await self._stack.aclose()
            return
        with anyio.CancelScope(shield=True):
            loop = asyncio.get_running_loop()
            while self._tasks:
                for task in tuple(self._tasks):
                    # One that was just started takes its first step before this: cancelled
                    # sooner it would end without its `finally`, for which others may wait.
                    loop.call_soon(task.cancel)
                await asyncio.wait(tuple(self._tasks))


def runs_uvloop() -> bool:
    """Return whether the running event loop is one of uvloop's."""
    return type(asyncio.get_running_loop()).__module__.startswith("uvloop")


def _asyncio_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def call_in(context: Context, function: Callable[[], Any]) -> Any:
    """
    Return what *function* returns in a copy of *context*; an awaitable is awaited there, too.

    So nothing of the running task's own context is seen by it, and it changes none.
    """
    own = context.copy()
    answer = own.run(function)
    if not inspect.isawaitable(answer):
        return answer
    results: list[Any] = []
    errors: list[Exception] = []

    async def wait() -> None:
        try:
            results.append(await answer)
        except Exception as error:  # noqa: BLE001 - the caller's
            errors.append(error)

    async with anyio.create_task_group() as group:
        own.run(group.start_soon, wait)
    if errors:
        raise errors.pop()
    if not results:
        raise RuntimeError("it was cancelled")
    return results.pop()


_WRONG_LOOP = (
    "this client belongs to another event loop; make one client per loop and use it only there"
)
_LOOP_IS_GONE = (
    "the event loop that this client belongs to is closed; "
    "make one client per loop and use it only there"
)
_FORKED = (
    "this client was opened by the process that this one was forked from; "
    "make a new client here, on an event loop of its own"
)


def draw() -> float:
    """Return an evenly distributed number from 0 to 1, for jitter."""
    return random.random()


def utc_now() -> datetime:
    """Return the present time by the wall clock."""
    return datetime.now(UTC)


def wall_minus_monotonic() -> float:
    """Return a number that jumps when the machine was suspended or its clock was set."""
    return time.time() - time.monotonic()
