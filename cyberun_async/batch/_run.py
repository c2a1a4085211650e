"""The outcomes of one run over a batch, as its caller reads them."""

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import anyio

from ._driver import Emit, Jobs
from ._outcomes import JobOutcome


if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream


class Drives(Protocol):
    """What does the work whose outcomes are read."""

    async def drive(self, jobs: Jobs | None, emit: Emit) -> None:
        """Lead all jobs to their outcomes."""


class BatchRun:
    """
    The outcomes of a batch, to be read once with ``async for``, as they come.

    A slow reader holds the work up. Closed or left early, the remote tasks go on, and
    the next run takes them up.
    """

    def __init__(
        self,
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
        driver: Drives,
        jobs: Jobs | None,
    ) -> None:
        self._spawn = spawn
        self._driver = driver
        self._jobs = jobs
        self._send: MemoryObjectSendStream[JobOutcome]
        self._receive: MemoryObjectReceiveStream[JobOutcome]
        self._send, self._receive = anyio.create_memory_object_stream[JobOutcome](0)
        self._scope = anyio.CancelScope()
        self._has_ended = anyio.Event()
        self._is_begun = False
        self._is_closed = False
        self._failure: Exception | None = None

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

    async def __anext__(self) -> JobOutcome:
        if self._is_closed:
            raise StopAsyncIteration
        if not self._is_begun:
            self._spawn(self._run)
            self._is_begun = True
        try:
            return await self._receive.receive()
        except anyio.EndOfStream:
            await self.aclose()
        except BaseException:
            await self.aclose()
            raise
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    @property
    def is_closed(self) -> bool:
        """Whether it was read to its end or closed."""
        return self._is_closed

    async def aclose(self) -> None:
        """Stop working and wait until that has stopped; what is under way is in the ledger."""
        if self._is_closed:
            return
        self._is_closed = True
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            if self._is_begun:
                await self._has_ended.wait()
        self._receive.close()
        self._send.close()

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._driver.drive(self._jobs, self._send.send)
        except Exception as error:  # noqa: BLE001 - the reader's, who raises it
            self._failure = error
        finally:
            self._is_begun = True
            self._send.close()
            self._has_ended.set()
