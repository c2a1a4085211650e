"""The virtual clock and what goes on outside the loop: threads and subprocesses."""

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread
import pytest

from cyberun_async.testing import DeadlockError, VirtualClockLoop, virtual_backend


HOUR = 3600.0


@pytest.fixture
def anyio_backend() -> Any:
    return virtual_backend()


def program(seconds: float) -> list[str]:
    return ["/bin/sh", "-c", f"sleep {seconds}; echo done"]


async def by_anyio(seconds: float) -> str:
    done = await anyio.run_process(program(seconds))
    return done.stdout.decode().strip()


async def by_asyncio(seconds: float) -> str:
    process = await asyncio.create_subprocess_exec(
        *program(seconds), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return output.decode().strip()


async def by_the_shell(seconds: float) -> str:
    process = await asyncio.create_subprocess_shell(
        f"sleep {seconds}; echo done", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    return output.decode().strip()


async def by_a_thread(seconds: float) -> str:
    await anyio.to_thread.run_sync(time.sleep, seconds)
    return "done"


async def by_an_executor(seconds: float) -> str:
    await asyncio.to_thread(time.sleep, seconds)
    return "done"


Work = Callable[[float], Awaitable[str]]
OUTSIDE = pytest.mark.parametrize(
    "work", [by_anyio, by_asyncio, by_the_shell, by_a_thread, by_an_executor]
)


@OUTSIDE
async def test_the_clock_stands_still_for_work_outside(work: Work) -> None:
    """A timeout around a program or a thread does not fire because the loop is idle."""
    start = anyio.current_time()
    with anyio.fail_after(0.01):
        assert await work(0.3) == "done"
    assert anyio.current_time() == start

    await anyio.sleep(HOUR)
    assert anyio.current_time() == start + HOUR


@OUTSIDE
def test_work_without_a_timer_is_no_deadlock(work: Work) -> None:
    """A program or a thread that runs for longer than a second is waited for."""

    async def main() -> tuple[str, float]:
        return await work(1.4), anyio.current_time()

    assert VirtualClockLoop.run(main()) == ("done", 0.0)


async def test_a_program_may_wait_for_the_loop() -> None:
    """The clock moves on, after a second, for a program that waits for a sleep of the loop."""
    start = anyio.current_time()
    async with await anyio.open_process(["cat"]) as process:
        assert process.stdin is not None
        await anyio.sleep(HOUR)
        await process.stdin.aclose()
        assert await process.wait() == 0

    assert anyio.current_time() == start + HOUR


async def test_a_program_that_has_ended_holds_no_clock() -> None:
    """Once it has ended, a thousand jumps take no real time."""
    await anyio.run_process(program(0))
    began = time.monotonic()
    for _ in range(1000):
        await anyio.sleep(60)
    assert time.monotonic() - began < 5


def test_a_deadlock_beside_ended_work_is_found_at_once() -> None:
    """Work that is over does not hide that every task waits forever."""

    async def main() -> None:
        await anyio.run_process(program(0))
        await anyio.Event().wait()

    began = time.monotonic()
    with pytest.raises(DeadlockError, match="every task waits forever"):
        VirtualClockLoop.run(main())
    assert time.monotonic() - began < 5


def test_closing_the_loop_waits_for_its_executor() -> None:
    """Closed while a thread still works, the loop waits for it in real time, without a warning."""
    ended = threading.Event()

    def work() -> None:
        time.sleep(1.3)
        ended.set()

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, work)
        await asyncio.sleep(0)

    VirtualClockLoop.run(main())

    assert ended.is_set()


def test_a_killed_program_has_ended() -> None:
    """To kill a program and wait for it takes no longer than that."""
    found: list[asyncio.subprocess.Process] = []

    async def main() -> None:
        process = await asyncio.create_subprocess_exec("sleep", "30")
        found.append(process)
        process.kill()
        await process.wait()

    began = time.monotonic()
    VirtualClockLoop.run(main())

    assert found[0].returncode == -9
    assert time.monotonic() - began < 5


def test_the_interpreter_runs_a_program_of_python() -> None:
    """A whole interpreter starts and ends under a timeout of virtual time."""

    async def main() -> bytes:
        with anyio.fail_after(1):
            done = await anyio.run_process([sys.executable, "-S", "-c", "print(6 * 7)"])
        return done.stdout

    assert VirtualClockLoop.run(main()).split() == [b"42"]
