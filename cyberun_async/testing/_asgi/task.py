"""One task outside of every cancel scope, on asyncio and on trio, with one owner."""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import anyio


class OwnedTask:
    """
    A task that belongs to an object instead of to a block of code.

    It may be cancelled and awaited from any task, which a task group does not allow, and
    keeps nothing open in the task that started it. *function* must not let exceptions
    escape; *on_done* is called when it has ended, however that came about.
    """

    def __init__(
        self, function: Callable[[], Coroutine[Any, Any, None]], on_done: Callable[[], None]
    ) -> None:
        self._done = anyio.Event()
        self._on_done = on_done
        self._cancel: Callable[[], object]
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._cancel = self._start_on_trio(function)
        else:
            task = loop.create_task(function(), name="ASGI app")
            # Not in a `finally` of the task: cancelled early, it would never have run.
            task.add_done_callback(lambda _: self._finish())
            self._cancel = task.cancel

    @property
    def is_done(self) -> bool:
        """Whether the task has ended."""
        return self._done.is_set()

    def cancel(self) -> None:
        """Cancel the task, which goes on until it has cleaned up."""
        self._cancel()

    async def wait(self) -> None:
        """Wait until the task has ended; to be cancelled meanwhile does not cancel it."""
        await self._done.wait()

    def _start_on_trio(
        self, function: Callable[[], Coroutine[Any, Any, None]]
    ) -> Callable[[], object]:
        import trio

        scope = trio.CancelScope()

        async def run() -> None:
            try:
                with scope:
                    await function()
            finally:
                self._finish()

        # A system task, because a nursery has to be left by the task that entered it. It is
        # given the context of the caller, as a task of asyncio is.
        trio.lowlevel.spawn_system_task(run, name="ASGI app", context=contextvars.copy_context())
        return scope.cancel

    def _finish(self) -> None:
        self._done.set()
        self._on_done()
