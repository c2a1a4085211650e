"""Ctrl-C: the first one ends things in order, the second one at once."""

import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

import anyio
from anyio.abc import TaskStatus

from ._exit_codes import ExitCode


class InterruptedRunError(Exception):
    """The program was asked to stop, and everything that was open has been closed."""

    def __init__(self, code: ExitCode) -> None:
        self.code = code
        super().__init__(code.name)


async def stoppable(
    work: Callable[[], Awaitable[ExitCode]],
    *,
    beside: Callable[[], Coroutine[Any, Any, None]],
    on_first: Callable[[], None],
) -> ExitCode:
    """
    Return what *work* returns, or cancel it at the first SIGINT or SIGTERM.

    The second ends the process on the spot.

    Args:
        work: What is done; cancelled, it leaves everything sound.
        beside: What is done meanwhile, as long as there is work.
        on_first: Called when the first signal comes; must not wait.

    Raises:
        InterruptedRunError: After the cancellation, when *work* is over.
    """
    scope = anyio.CancelScope()
    asked: list[ExitCode] = []
    outcome: list[ExitCode] = []
    failure: list[Exception] = []

    def ask(code: ExitCode) -> None:
        if asked:
            # The work takes too long to end, or hangs: nothing more can be done about it.
            os._exit(code)
        asked.append(code)
        on_first()
        scope.cancel()

    async with anyio.create_task_group() as group:
        await group.start(_listen, ask)
        group.start_soon(beside)
        with scope:
            try:
                outcome.append(await work())
            except Exception as error:  # noqa: BLE001 - raised below, outside the group
                failure.append(error)
        group.cancel_scope.cancel()
    if failure:
        raise alone(failure[0])
    if outcome:
        return outcome[0]
    raise InterruptedRunError(asked[0])


def alone(error: Exception) -> Exception:
    """Return the first error of a group, of whatever depth, or *error* itself."""
    found: Exception = error
    while isinstance(found, ExceptionGroup):
        # Task groups wrap what their tasks raise; nobody who waits for an answer cares.
        found = cast("ExceptionGroup[Exception]", found).exceptions[0]
    return found


async def _listen(
    ask: Callable[[ExitCode], None], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            ask(ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED)
