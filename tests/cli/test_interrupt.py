"""Signals: the first ends in order, the second at once."""

import os
import signal

import anyio
import pytest

from cyberun_async.cli._exit_codes import ExitCode
from cyberun_async.cli._interrupt import InterruptedRunError, alone, stoppable


async def nothing() -> None:
    await anyio.sleep_forever()


def test_the_first_signal_cancels_the_work() -> None:
    """Work is cancelled where it stands, and its cleaning up is waited for."""
    reported: list[str] = []

    async def work() -> ExitCode:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            reported.append("cleaned")
        return ExitCode.DONE

    async def run() -> None:
        await stoppable(work, beside=nothing, on_first=lambda: reported.append("asked"))

    with pytest.raises(InterruptedRunError) as caught:
        anyio.run(run)

    assert caught.value.code is ExitCode.INTERRUPTED
    assert reported == ["asked", "cleaned"]


def test_the_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that does not end is left to the operating system."""
    left: list[int] = []

    def leave(code: int) -> None:
        left.append(code)

    monkeypatch.setattr(os, "_exit", leave)

    async def work() -> ExitCode:
        with anyio.CancelScope(shield=True):
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            while not left:
                await anyio.sleep(0.01)
        return ExitCode.DONE

    async def run() -> ExitCode:
        return await stoppable(work, beside=nothing, on_first=lambda: None)

    assert anyio.run(run) is ExitCode.DONE
    assert left == [ExitCode.TERMINATED]


def test_an_error_comes_out_of_its_groups() -> None:
    """Task groups wrap errors; a command gets the error itself."""
    error = ValueError("x")

    assert alone(ExceptionGroup("", [ExceptionGroup("", [error]), TypeError()])) is error
    assert alone(error) is error
