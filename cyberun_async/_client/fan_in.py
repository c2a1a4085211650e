"""Work on many items side by side, and hand over what comes of it as it comes."""

from collections import deque
from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
)
from contextlib import aclosing
from typing import Generic, TypeVar, cast

import anyio

from .._iteration import HeldIterator, each
from .._model import ClientClosedError, CyberunError
from .._runtime import Runtime


T = TypeVar("T")
R = TypeVar("R")

Emit = Callable[[R], Awaitable[None]]


class Offer(Generic[R]):
    """A value whose maker waits until it has been taken."""

    __slots__ = ("taken", "value")

    def __init__(self, value: R) -> None:
        self.value = value
        self.taken = anyio.Event()


class Work(Generic[R]):
    """
    What runs behind a :class:`FanIn`.

    It holds no reference to it, so that one that is forgotten can be collected, and closed.

    Attributes:
        offers: What was made and has not been taken.
        failures: What is raised, with the others, after all else has been delivered.
        crash: The error that ended all of it.
        is_over: Whether nothing more is made.
    """

    def __init__(self) -> None:
        self.offers: deque[Offer[R]] = deque()
        self.failures: list[CyberunError] = []
        self.crash: Exception | None = None
        self.is_over: bool = False
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._changed: anyio.Event | None = None

    def take(self) -> R | None:
        """Return the next value that is there, or None."""
        if not self.offers:
            return None
        offer = self.offers.popleft()
        offer.taken.set()
        return offer.value

    async def changed(self) -> None:
        """Wait until there may be something to take, or nothing more to wait for."""
        changed = self._changed = self._changed or anyio.Event()
        await changed.wait()

    def wake(self) -> None:
        """Let all readers look."""
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def stop(self) -> None:
        """Cancel the work and wait until it has ended."""
        self._scope.cancel()
        await self._ended.wait()

    async def offer(self, value: R) -> None:
        """Hand *value* over, and wait until it was taken. Cancelled, it is kept."""
        offer = Offer(value)
        self.offers.append(offer)
        self.wake()
        await offer.taken.wait()

    async def run(
        self,
        source: Iterable[T] | AsyncIterable[T],
        work: Callable[[T, Emit[R]], Awaitable[None]],
        concurrency: int | None,
    ) -> None:
        """Do *work* for each item of *source*."""
        semaphore = None if concurrency is None else anyio.Semaphore(concurrency)
        is_over = False
        try:
            with self._scope:
                async with anyio.create_task_group() as group, aclosing(each(source)) as items:
                    async for item in items:
                        if semaphore is not None:
                            await semaphore.acquire()
                        group.start_soon(self._work_on, item, work, semaphore)
            is_over = True
        except Exception as error:  # noqa: BLE001 - raised to the reader, whose error it is
            self.crash = _alone(error)
        finally:
            if not is_over and self.crash is None:
                self.crash = self._ended_by_client()
            self.is_over = True
            self._ended.set()
            self.wake()

    async def _work_on(
        self,
        item: T,
        work: Callable[[T, Emit[R]], Awaitable[None]],
        semaphore: anyio.Semaphore | None,
    ) -> None:
        try:
            await work(item, self.offer)
        finally:
            if semaphore is not None:
                semaphore.release()

    def failure(self) -> Exception | None:
        """Return what stands in the place of the end, or None."""
        if self.crash is not None:
            return self.crash
        if len(self.failures) == 1:
            return self.failures[0]
        if self.failures:
            return ExceptionGroup("several tasks could not be followed", self.failures)
        return None

    def _ended_by_client(self) -> ClientClosedError:
        error = ClientClosedError("the client was closed before all of this had ended")
        if self.failures:
            error.__cause__ = ExceptionGroup("several tasks could not be followed", self.failures)
        return error


class FanIn(HeldIterator[R]):
    """
    An async iterator over what is made of each item of *source*, as it comes.

    One task of the client runs it all; closing cancels that task and waits for it.
    Nothing is buffered: a slow reader holds the work up. What the work had ready when it
    was ended by something else than closing is still handed over, before the error. A
    read that is cancelled inside ``async with`` loses nothing, and the next one continues.
    """

    _may_share = True

    def __init__(
        self,
        runtime: Runtime,
        source: Iterable[T] | AsyncIterable[T],
        work: Callable[[T, Emit[R]], Awaitable[None]],
        *,
        method: str,
        concurrency: int | None = None,
        behind: Work[R] | None = None,
    ) -> None:
        self._home = runtime
        self._what = f"iterator of client.{method}()"
        self._call = f"client.{method}(...)"
        self._work = running = behind or Work[R]()
        self._run = lambda: running.run(source, work, concurrency)

    def __repr__(self) -> str:
        state = "not begun"
        if self._is_begun:
            state = "closed" if self._is_closed else "ended" if self._work.is_over else "running"
        return f"<{type(self).__name__} of {self._call}: {state}>"

    @property
    def _is_holding(self) -> bool:
        return not self._work.is_over

    def _check_unread(self) -> None:
        self._home.check()

    def _begin(self) -> Runtime:
        self._home.check()
        self._home.spawn(self._run)
        return self._home

    def _ready(self) -> R | None:
        return self._work.take()

    async def _next(self) -> R | None:
        work = self._work
        while (item := work.take()) is None:
            if self._is_closed and not self._is_over:
                raise self._refusal()
            if work.is_over:
                if (failure := work.failure()) is not None:
                    raise failure
                return None
            await work.changed()
        return item

    async def aclose(self) -> None:
        """
        Stop all work and wait until it has stopped. The remote tasks keep running.

        A read in another task raises :class:`ClientStateError`, and so does reading on.
        Cancelled meanwhile, it is closed all the same. Closing again does nothing.

        Raises:
            WrongEventLoopError: On another event loop than the client's.
        """
        await super().aclose()

    async def _let_go(self) -> None:
        work = self._work
        self._is_over = self._is_over or (
            work.is_over and not work.offers and work.failure() is None
        )
        await work.stop()
        work.wake()


def _alone(error: Exception) -> Exception:
    """Return what went wrong without the group that a task group puts around it."""
    if not isinstance(error, ExceptionGroup):
        return error
    group = cast("ExceptionGroup[Exception]", error)
    return _alone(group.exceptions[0]) if len(group.exceptions) == 1 else group
