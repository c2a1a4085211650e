"""Ctrl-C: the first one stops cleanly, the second one at once."""

import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

import anyio
from anyio.abc import TaskStatus

from ._exit_codes import ExitCode


class InterruptedRunError(Exception):
    """A signal stopped the program, and everything open has been closed."""

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

    The second ends the process at once.

    Args:
        work: The work, which cleans up when it is cancelled.
        beside: Runs beside it, as long as there is work.
        on_first: Called at the first signal; must not wait.

    Raises:
        InterruptedRunError: After the cancellation, when *work* is over.
    """
    scope = anyio.CancelScope()
    signals: list[ExitCode] = []
    outcome: list[ExitCode] = []
    failure: Exception | None = None

    def on_signal(code: ExitCode) -> None:
        if signals:
            # The work takes too long to end, or hangs.
            os._exit(code)
        signals.append(code)
        on_first()
        scope.cancel()

    try:
        async with anyio.create_task_group() as group:
            await group.start(_listen, on_signal)
            group.start_soon(beside)
            with scope:
                outcome.append(await work())
            group.cancel_scope.cancel()
    except Exception as error:  # noqa: BLE001 - raised below, without its groups
        failure = error
    if failure is not None:
        raise alone(failure)
    if outcome:
        return outcome[0]
    raise InterruptedRunError(signals[0])


def alone(error: Exception) -> Exception:
    """Return the first error of a group, of whatever depth, or *error* itself."""
    found: Exception = error
    while isinstance(found, ExceptionGroup):
        # Task groups wrap the errors of their tasks.
        found = cast("ExceptionGroup[Exception]", found).exceptions[0]
    return found


async def _listen(
    on_signal: Callable[[ExitCode], None],
    *,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for number in signals:
            on_signal(ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED)
