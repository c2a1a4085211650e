"""Work on many items side by side, and hand over what comes of it as it comes."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
)
from contextlib import aclosing
from itertools import count
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, cast

import anyio

from ._errors import ClientClosedError, CyberunError


if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream


T = TypeVar("T")
R = TypeVar("R")

Emit = Callable[[R], Awaitable[None]]


class Spawner(Protocol):
    """What starts a task that somebody owns."""

    def __call__(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None: ...


class Pump(Generic[R]):
    """
    An async iterator over what *work* emits for each item of *source*.

    One task of the client runs it all; closing cancels that task and waits for it.
    Nothing is buffered: a slow reader holds the work up. What the work had ready when it
    was ended by something else than closing is still handed over, before the error.
    """

    def __init__(
        self,
        spawn: Spawner,
        source: Iterable[T] | AsyncIterable[T],
        work: Callable[[T, Emit[R]], Awaitable[None]],
        *,
        concurrency: int | None = None,
    ) -> None:
        self._spawn = spawn
        self._run_with = lambda: self._run(source, work, concurrency)
        # The numbers of what is offered: a cancelled sender cannot tell whether it was taken.
        self._send: MemoryObjectSendStream[int]
        self._receive: MemoryObjectReceiveStream[int]
        self._send, self._receive = anyio.create_memory_object_stream[int](0)
        self._offered: dict[int, R] = {}
        self._numbers = count()
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._is_begun = False
        self._is_closed = False
        self._failures: list[CyberunError] = []
        self._crash: Exception | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        if self._is_closed:
            raise StopAsyncIteration
        if not self._is_begun:
            self._spawn(self._run_with)
            self._is_begun = True
        try:
            return self._offered.pop(await self._receive.receive())
        except anyio.EndOfStream:
            if self._offered:
                return self._offered.pop(next(iter(self._offered)))
            await self.aclose()
        except BaseException:
            await self.aclose()
            raise
        self._raise_failures()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """
        Stop all work and wait until it has stopped. The remote tasks go on.

        Cancelled meanwhile, it is closed all the same. Closing again does nothing.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            if self._is_begun:
                await self._ended.wait()
        self._receive.close()
        self._send.close()

    def fail(self, error: CyberunError) -> None:
        """Remember *error*; it is raised, with the others, after all else has been delivered."""
        self._failures.append(error)

    def _raise_failures(self) -> None:
        if self._crash is not None:
            raise self._crash
        if len(self._failures) == 1:
            raise self._failures[0]
        if self._failures:
            raise ExceptionGroup("several tasks could not be followed", self._failures)

    async def _run(
        self,
        source: Iterable[T] | AsyncIterable[T],
        work: Callable[[T, Emit[R]], Awaitable[None]],
        concurrency: int | None,
    ) -> None:
        turns = None if concurrency is None else anyio.Semaphore(concurrency)
        is_over = False
        try:
            with self._scope:
                async with anyio.create_task_group() as group, aclosing(each(source)) as items:
                    async for item in items:
                        if turns is not None:
                            await turns.acquire()
                        group.start_soon(self._work_on, item, work, turns)
            is_over = True
        except Exception as error:  # noqa: BLE001 - told to the reader, whose error it is
            self._crash = _alone(error)
        finally:
            if not is_over and self._crash is None:
                self._crash = self._ended_by_client()
            self._send.close()
            self._ended.set()

    async def _work_on(
        self,
        item: T,
        work: Callable[[T, Emit[R]], Awaitable[None]],
        turns: anyio.Semaphore | None,
    ) -> None:
        try:
            await work(item, self._offer)
        finally:
            if turns is not None:
                turns.release()

    async def _offer(self, value: R) -> None:
        number = next(self._numbers)
        self._offered[number] = value
        await self._send.send(number)

    def _ended_by_client(self) -> ClientClosedError:
        error = ClientClosedError("the client was closed before all of this had ended")
        if self._failures:
            error.__cause__ = ExceptionGroup("several tasks could not be followed", self._failures)
        return error


def _alone(error: Exception) -> Exception:
    """Return what went wrong without the group that a task group puts around it."""
    if not isinstance(error, ExceptionGroup):
        return error
    group = cast("ExceptionGroup[Exception]", error)
    return _alone(group.exceptions[0]) if len(group.exceptions) == 1 else group


async def each(source: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[T, None]:
    """Yield the items of either kind of iterable, letting other tasks run in between."""
    if isinstance(source, AsyncGenerator):
        generator = cast("AsyncGenerator[T, None]", source)
        async with aclosing(generator):
            async for item in generator:
                yield item
    elif isinstance(source, AsyncIterable):
        async for item in source:
            yield item
    else:
        try:
            for item in source:
                yield item
                await anyio.lowlevel.checkpoint()
        finally:
            if isinstance(source, Generator):
                source.close()
