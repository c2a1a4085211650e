"""
The event loop, its clock, and the tasks a client owns.

The one module that knows asyncio from trio. On asyncio a client may be closed from
another task than the one that opened it, so its tasks are plain asyncio tasks that are
cancelled and awaited; trio has no tasks outside a nursery, so there one is entered with
the client, and left with it, in the same task.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.abc

from ._errors import ClientClosedError, ClientStateError, WrongEventLoopError


class Runtime:
    """The loop a client belongs to, and the one owner of the tasks it starts."""

    def __init__(self) -> None:
        self.is_asyncio: bool = _asyncio_is_running()
        self._token = anyio.lowlevel.current_token()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._group: anyio.abc.TaskGroup | None = None
        self._stack = AsyncExitStack()
        self._home: int | None = None
        self._is_closed = False
        self.now: Callable[[], float] = anyio.current_time
        if self.is_asyncio:
            self.now = asyncio.get_running_loop().time

    async def open(self) -> None:
        """Make ready to start tasks."""
        if not self.is_asyncio:
            self._home = anyio.get_current_task().id
            self._group = await self._stack.enter_async_context(anyio.create_task_group())

    def check(self) -> None:
        """Raise :class:`WrongEventLoopError` unless the running loop is the one opened on."""
        try:
            same = anyio.lowlevel.current_token() == self._token
        except Exception as error:
            raise WrongEventLoopError(_WRONG_LOOP) from error
        if not same:
            raise WrongEventLoopError(_WRONG_LOOP)

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


def _asyncio_is_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


_WRONG_LOOP = (
    "this client belongs to another event loop; make one client per loop and use it only there"
)


def draw() -> float:
    """Return an evenly distributed number from 0 to 1, for jitter."""
    return random.random()


def utc_now() -> datetime:
    """Return the present moment by the wall clock."""
    return datetime.now(UTC)


def wall_minus_monotonic() -> float:
    """Return a number that jumps when the machine was suspended or its clock was set."""
    return time.time() - time.monotonic()
