"""The virtual clock jumps instead of sleeping, keeps order, and finds deadlocks."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from cyberun_async.testing._clock import DeadlockError, VirtualClockLoop, _place


HOUR = 3600.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualClockLoop}


@pytest.mark.parametrize("days", [1, 30, 97, 98, 365, 36_500])
async def test_sleeping_takes_no_real_time(days: int) -> None:
    """A century of sleep takes milliseconds, and the clock shows a century."""
    began = time.monotonic()
    start = anyio.current_time()

    await anyio.sleep(days * 24 * HOUR)
    await anyio.sleep(0.001)

    assert anyio.current_time() - start == pytest.approx(days * 24 * HOUR + 0.001, abs=1e-6)
    assert time.monotonic() - began < 5


async def test_all_clocks_of_the_loop_agree() -> None:
    """`loop.time()`, `anyio.current_time()` and deadlines are the same clock."""
    await asyncio.sleep(1.5)

    with anyio.fail_after(2) as scope:
        assert anyio.current_time() == asyncio.get_running_loop().time()
        assert scope.deadline == anyio.current_time() + 2


async def test_timers_fire_in_their_order() -> None:
    """Sleeps, timeouts and callbacks fire by their moments, equal ones as they were made."""
    fired: list[tuple[str, float]] = []
    start = anyio.current_time()

    def note(name: str) -> None:
        fired.append((name, anyio.current_time() - start))

    async def sleeper(name: str, delay: float) -> None:
        await asyncio.sleep(delay)
        note(name)

    asyncio.get_running_loop().call_later(2, note, "callback")
    async with anyio.create_task_group() as group:
        for name, delay in (("c", 3.0), ("a", 1.0), ("a2", 1.0), ("day", 24 * HOUR)):
            group.start_soon(sleeper, name, delay)
        with anyio.move_on_after(1.5):
            await anyio.sleep_forever()
        note("scope")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.25):
                await asyncio.Event().wait()
        note("timeout")

    assert fired == [
        ("a", 1.0),
        ("a2", 1.0),
        ("scope", 1.5),
        ("timeout", 1.75),
        ("callback", 2.0),
        ("c", 3.0),
        ("day", 24 * HOUR),
    ]


async def test_ready_tasks_run_before_the_clock_moves() -> None:
    """As long as something can run, no time passes."""
    start = anyio.current_time()

    with anyio.move_on_after(0.001) as scope:
        for _ in range(10_000):
            await asyncio.sleep(0)

    assert not scope.cancel_called
    assert anyio.current_time() == start


async def test_a_cancelled_timer_does_not_move_the_clock() -> None:
    """A timeout that was not needed leaves no trace in time."""
    start = anyio.current_time()

    with anyio.fail_after(HOUR):
        await anyio.sleep(1)

    assert anyio.current_time() - start == 1


async def test_the_clock_stands_still_while_a_thread_works() -> None:
    """A timeout around work in a thread does not fire because the loop is idle."""

    def work() -> str:
        time.sleep(0.05)
        return "done"

    start = anyio.current_time()
    with anyio.fail_after(0.01):
        by_anyio = await anyio.to_thread.run_sync(work)
    async with asyncio.timeout(0.01):
        by_asyncio = await asyncio.to_thread(work)

    assert [by_anyio, by_asyncio] == ["done", "done"]
    assert anyio.current_time() == start


async def test_a_working_thread_may_wait_for_the_loop() -> None:
    """The clock moves on, after a second, for a thread that waits for a sleep of the loop."""
    start = anyio.current_time()

    await anyio.to_thread.run_sync(anyio.from_thread.run, anyio.sleep, HOUR)

    assert anyio.current_time() - start == HOUR


async def test_another_thread_can_wake_the_loop() -> None:
    """`call_soon_threadsafe` reaches a loop that has nothing else to wait for."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()
    thread = threading.Timer(0.05, loop.call_soon_threadsafe, [event.set])
    thread.start()

    await event.wait()

    thread.join()


async def test_a_socket_can_wake_the_loop() -> None:
    """Without a timer, the loop waits for its sockets."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"hello\n")

        assert await reader.readline() == b"hello\n"

        writer.close()
        await writer.wait_closed()


def test_run_returns_and_raises_what_the_coroutine_does() -> None:
    """`run` is `asyncio.run` in virtual time."""

    async def succeed() -> float:
        await asyncio.sleep(HOUR)
        return asyncio.get_running_loop().time()

    async def fail() -> None:
        await asyncio.sleep(HOUR)
        raise KeyError("x")

    assert VirtualClockLoop.run(succeed()) == HOUR
    with pytest.raises(KeyError):
        VirtualClockLoop.run(fail())


async def wait_forever() -> None:
    await asyncio.Event().wait()


def test_a_deadlock_is_an_error_that_says_who_waits_where() -> None:
    """If nothing can ever happen, the error names each task and its line."""

    async def main() -> None:
        other = asyncio.create_task(wait_forever(), name="the other one")
        await asyncio.wait([other])

    with pytest.raises(DeadlockError, match=r"the other one at .*locks.py:\d+ in Event.wait"):
        VirtualClockLoop.run(main())


class ForeignCoroutine(Coroutine[Any, Any, None]):
    """A coroutine that is no Python function, as compiled code makes them."""

    def send(self, value: object) -> Any:
        return None  # a bare yield: the task is rescheduled

    def throw(self, *error: Any) -> Any:
        raise error[0]

    def close(self) -> None: ...

    def __await__(self) -> Generator[Any, Any, None]:
        raise AssertionError("it is driven by send(), and never awaited")


def test_tasks_without_python_code_can_be_named() -> None:
    """A task whose place cannot be known is described by what it is."""

    async def main() -> str:
        task = asyncio.create_task(ForeignCoroutine(), name="foreign")
        place = _place(task)
        task.cancel()
        await asyncio.wait([task])
        return place

    assert "ForeignCoroutine object" in VirtualClockLoop.run(main())


def test_a_deadlock_cleans_up() -> None:
    """After a deadlock, tasks are cancelled and run their `finally` blocks."""
    ended: list[float] = []

    async def main() -> None:
        try:
            await wait_forever()
        finally:
            await asyncio.sleep(5)
            ended.append(asyncio.get_running_loop().time())

    with pytest.raises(DeadlockError):
        VirtualClockLoop.run(main())

    assert ended == [5.0]


def test_idle_threads_do_not_hide_a_deadlock() -> None:
    """Threads that have nothing to do delay the discovery of a deadlock, but not forever."""

    async def main() -> None:
        await anyio.to_thread.run_sync(lambda: None)
        await wait_forever()

    with pytest.raises(DeadlockError):
        VirtualClockLoop.run(main())


def test_a_deadlocked_test_fails_and_the_next_one_runs(tmp_path: Path) -> None:
    """Under anyio's plugin a deadlock fails its test instead of hanging the session."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\n")
    (tmp_path / "test_it.py").write_text(
        "import anyio, pytest\n"
        "from cyberun_async.testing._clock import VirtualClockLoop\n"
        "@pytest.fixture\n"
        "def anyio_backend():\n"
        "    return 'asyncio', {'loop_factory': VirtualClockLoop}\n"
        "async def test_hangs():\n    await anyio.Event().wait()\n"
        "async def test_passes():\n    await anyio.sleep(3600)\n"
    )

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert "DeadlockError: every task waits forever" in done.stdout
    assert "1 failed, 1 passed" in done.stdout
