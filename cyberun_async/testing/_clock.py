"""Virtual time under asyncio: an event loop that never sleeps, but moves its clock on."""

import asyncio
import math
import selectors
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any, Final, Literal, TypeVar, TypeVarTuple, Unpack

import anyio.to_thread


T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# How long the loop waits, in real seconds, for a thread or a socket that might wake it.
PATIENCE: Final = 1.0
# How long where no timer is due and a thread or a subprocess is known to be at work.
LONG_PATIENCE: Final = 30.0

_RESOLUTION: Final = time.get_clock_info("monotonic").resolution


class DeadlockError(RuntimeError):
    """
    Every task waits, no timer is due, and nothing else can wake the loop.

    The message lists the tasks and the line at which each of them waits.
    """


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """
    Run asyncio in virtual time: whenever nothing is ready, jump to the next timer.

    The clock starts at 0.0 and moves by jumps only, so an hour of sleeping takes
    microseconds, timeouts fire in their exact order, and what a program computes takes
    no time at all. :func:`asyncio.sleep`, :func:`asyncio.timeout`, anyio's sleeps, scopes
    and :func:`anyio.current_time` follow it; :func:`time.monotonic` and
    :class:`datetime.datetime` do not.

    A program in which every task waits forever ends with :class:`DeadlockError` at once,
    after a second if other threads or sockets might still have woken it, or after half a
    minute if it has work going on in a thread or a subprocess.

    While work given to :func:`anyio.to_thread.run_sync` (with the default limiter) or to an
    executor is going on, or a subprocess that the loop has started is running, the clock
    stands still for up to a second of real time; then it moves on to the next timer, because
    the thread or the program may be waiting for the loop. So a timeout around something that
    runs for longer than a second fires, and a program that runs in the background makes
    every jump take a second. ``call_soon_threadsafe`` wakes the loop from any thread. Sockets
    work too, but the clock does not wait for them if a timer is pending: a timeout around a
    real network read fires early. Programs that are started past the loop, with
    ``subprocess`` or ``multiprocessing``, are not seen. Closing the loop waits for the
    threads of its executor in real time.

    Trio's ``MockClock`` waits for neither threads nor subprocesses.

    With pytest and anyio's plugin, override the fixture (trio has such a clock of its own)::

        @pytest.fixture(
            params=[
                ("asyncio", {"loop_factory": VirtualClockLoop}),
                ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}),
            ]
        )
        def anyio_backend(request):
            return request.param

    Elsewhere, use :meth:`run`.
    """

    def __init__(self) -> None:
        self._outside = _WorkOutside(self)
        self._jumping = _JumpingSelector(self._outside, self._describe_tasks)
        super().__init__(self._jumping)

    @classmethod
    def run(cls, coroutine: Coroutine[Any, Any, T]) -> T:
        """
        Run *coroutine* to its end in virtual time, as :func:`asyncio.run` would.

        Returns:
            What the coroutine returns; its exceptions pass through.

        Raises:
            DeadlockError: The coroutine waits for something that cannot happen.

        """
        with asyncio.Runner(loop_factory=cls) as runner:
            return runner.run(coroutine)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._jumping.now

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[Unpack[Ts]], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """Run *func* in a thread, during which the clock stands still."""
        future = super().run_in_executor(executor, func, *args)
        self._outside.add_future(future)
        return future

    async def subprocess_exec(self, *args: Any, **options: Any) -> Any:
        """Start a program, during which the clock stands still for a second at a time."""
        transport, protocol = await super().subprocess_exec(*args, **options)
        self._outside.add_process(transport)
        return transport, protocol

    async def subprocess_shell(self, *args: Any, **options: Any) -> Any:
        """Start a command, during which the clock stands still for a second at a time."""
        transport, protocol = await super().subprocess_shell(*args, **options)
        self._outside.add_process(transport)
        return transport, protocol

    async def shutdown_default_executor(
        self,
        timeout: float | None = None,  # noqa: ARG002 - asyncio's own, from Python 3.12 on
    ) -> None:
        """
        Wait until the threads of the executor have ended, in real time.

        Args:
            timeout: Not used: in virtual time it would be over before a thread can end.
        """
        with self._outside.closing():
            await super().shutdown_default_executor()

    def _describe_tasks(self) -> str:
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        return "".join(f"\n  {task.get_name()} at {_place(task)}" for task in tasks)


class _WorkOutside:
    """Knows whether work that the loop has given to threads or programs is not finished."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._futures: set[asyncio.Future[Any]] = set()
        self._processes: list[asyncio.SubprocessTransport] = []
        self._is_closing = False
        self._limiter: anyio.CapacityLimiter | None = None
        self._probe: asyncio.Task[None] | None = None

    def add_future(self, future: asyncio.Future[Any]) -> None:
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)

    def add_process(self, transport: asyncio.SubprocessTransport) -> None:
        self._processes.append(transport)

    @contextmanager
    def closing(self) -> Generator[None]:
        """Count the threads that are about to end as work."""
        self._is_closing = True
        try:
            yield
        finally:
            self._is_closing = False

    def any(self) -> bool:
        self._processes = [each for each in self._processes if each.get_returncode() is None]
        borrowed = self._limiter is not None and self._limiter.borrowed_tokens > 0
        return borrowed or self._is_closing or bool(self._futures or self._processes)

    def must_look(self) -> bool:
        """
        Say whether the loop has to go round once more before this can be known.

        anyio has its limiter only inside a task, so a task is started to get it, once and
        not before there is another thread.
        """
        if self._probe is not None or threading.active_count() == 1:
            return False
        self._probe = self._loop.create_task(self._learn_limiter(), name="virtual clock's limiter")
        return True

    async def _learn_limiter(self) -> None:
        self._limiter = anyio.to_thread.current_default_thread_limiter()


class _JumpingSelector(selectors.DefaultSelector):
    """Instead of sleeping until a timer is due, moves the clock there."""

    def __init__(self, outside: _WorkOutside, describe_tasks: Callable[[], str]) -> None:
        super().__init__()
        self.now = 0.0
        self._outside = outside
        self._describe_tasks = describe_tasks

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0) or self._outside.must_look():
            return ready
        if timeout is None:
            return self._wait_for_the_outside()
        if self._outside.any():
            ready = super().select(PATIENCE)
        if not ready:
            self._jump(timeout)
        return ready

    def _jump(self, seconds: float) -> None:
        self.now += seconds
        if self.now + _RESOLUTION == self.now:
            # After some months a float is coarser than the loop's idea of "due", and a
            # timer due exactly now would never be.
            self.now = math.nextafter(self.now, math.inf)

    def _wait_for_the_outside(self) -> list[tuple[selectors.SelectorKey, int]]:
        # A thread may have posted something and ended between the two looks.
        ready = super().select(self._patience())
        if not ready:
            message = f"every task waits forever, no timer is due:{self._describe_tasks()}"
            raise DeadlockError(message)
        return ready

    def _patience(self) -> float:
        if self._outside.any():
            return LONG_PATIENCE
        # One file is the pipe by which threads wake the loop.
        may_be_woken = threading.active_count() > 1 or len(self.get_map()) > 1
        return PATIENCE if may_be_woken else 0


def _place(task: asyncio.Task[Any]) -> str:
    """Name the innermost frame in which *task* is suspended."""
    innermost: Any = task.get_coro()
    awaited = innermost
    while hasattr(awaited, "cr_frame") or hasattr(awaited, "gi_frame"):
        innermost = awaited
        inner = getattr(awaited, "cr_await", None)
        awaited = getattr(awaited, "gi_yieldfrom", None) if inner is None else inner
    frame = getattr(innermost, "cr_frame", None) or getattr(innermost, "gi_frame", None)
    if frame is None:
        return repr(innermost)
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"


def virtual_backend(
    name: Literal["asyncio", "trio"] = "asyncio",
) -> tuple[str, dict[str, Any]]:
    """
    Return a back end for the fixture ``anyio_backend`` on which an hour takes milliseconds.

    .. code-block:: python

        @pytest.fixture(params=["asyncio", "trio"])
        def anyio_backend(request):
            return virtual_backend(request.param)

    Nothing that goes through real sockets, threads or subprocesses fits on it: the clock of
    asyncio waits for threads and subprocesses for a second at a time, that of trio for none.
    """
    if name == "trio":
        import trio.testing

        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": VirtualClockLoop}


def is_virtual(backend: str | tuple[str, dict[str, Any]]) -> bool:
    """Return whether *backend*, a value of ``anyio_backend``, has a clock that jumps."""
    options = backend[1] if isinstance(backend, tuple) else {}
    return options.get("loop_factory") is VirtualClockLoop or "clock" in options


def runs_virtually() -> bool:
    """Return whether the running loop's clock jumps."""
    try:
        return isinstance(asyncio.get_running_loop(), VirtualClockLoop)
    except RuntimeError:
        import trio.lowlevel
        import trio.testing

        return isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
