"""A coroutine that is cancelled at its n-th suspension."""

import asyncio
import functools
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any


class Steps:
    """
    Runs a coroutine and cancels its task at the n-th suspension, several times in a row.

    With *instead*, that is called rather than cancelling.
    """

    def __init__(
        self, at: int, times: int = 1, *, instead: Callable[[], object] | None = None
    ) -> None:
        self._at = at
        self._times = times
        self._instead = instead
        self.reached = False

    async def run(self, work: Awaitable[Any]) -> Any:
        return await self._stepping(work.__await__())

    @types.coroutine
    def _stepping(self, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        count = 0
        send: Callable[[], Any] = functools.partial(steps.send, None)
        while True:
            try:
                suspended = send()
            except StopIteration as end:
                return end.value
            count += 1
            if count == self._at:
                self.reached = True
                self._act()
            try:
                yield suspended
            except BaseException as error:  # noqa: BLE001 - goes on into the coroutine
                send = functools.partial(steps.throw, error)
            else:
                send = functools.partial(steps.send, None)

    def _act(self) -> None:
        task = asyncio.current_task()
        if self._instead is not None:
            self._instead()
        elif task is not None:
            self._cancel(task, self._times)

    def _cancel(self, task: "asyncio.Task[Any]", times: int) -> None:
        loop = asyncio.get_running_loop()

        def once(left: int) -> None:
            task.cancel()
            if left > 1:
                loop.call_soon(once, left - 1)

        loop.call_soon(once, times)
