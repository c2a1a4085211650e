"""What a batch and a batch over a cluster have in common: a block, and runs one at a time."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
import anyio.abc
import attrs

from .. import ClientStateError, InvalidInputError, WrongEventLoopError
from ._outcomes import JobOutcome


Emit = Callable[[JobOutcome], Awaitable[None]]
Drive = Callable[[Emit], Coroutine[Any, Any, None]]
Opened = TypeVar("Opened")


@attrs.define(eq=False)
class _Offer:
    outcome: JobOutcome
    taken: anyio.Event = attrs.field(factory=anyio.Event)


class BatchRun:
    """
    The outcomes of a batch, to be read once with ``async for``, as they come.

    A slow reader holds the work up. If it is closed or left early, the remote tasks keep
    running, and the next run takes them up. A read that is cancelled inside ``async with``
    loses nothing, and the next read continues; outside of it the run is closed. A read
    after that raises :class:`ClientStateError`: only the end of all jobs is its end.
    """

    def __init__(
        self, spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], None], drive: Drive
    ) -> None:
        self._spawn = spawn
        self._drive = drive
        # No stream of anyio: a read that is cancelled as it is handed a value may lose it.
        self._offers: deque[_Offer] = deque()
        self._changed: anyio.Event | None = None
        self._scope = anyio.CancelScope()
        self._has_ended = anyio.Event()
        self._is_entered = False
        self._is_closed = False
        self._is_over = False
        self._failure: Exception | None = None
        self._loop: anyio.lowlevel.EventLoopToken | None = None

    async def __aenter__(self) -> Self:
        self._is_entered = True
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
        self._check_loop()
        if self._is_over:
            raise StopAsyncIteration
        if self._is_closed:
            raise _closed()
        if self._loop is None:
            self._spawn(self._run)
            self._loop = anyio.lowlevel.current_token()
        try:
            outcome = await self._next()
        except Exception:
            # Without a wait: a cancellation meanwhile would take the error's place.
            self._is_closed = True
            raise
        except BaseException:
            if not self._is_entered:
                await self.aclose()
            raise
        if outcome is None:
            self._is_closed = self._is_over = True
            raise StopAsyncIteration
        return outcome

    @property
    def is_closed(self) -> bool:
        """Whether it was read to its end or closed."""
        return self._is_closed

    async def aclose(self) -> None:
        """
        Stop the work and wait until it has stopped; what is in flight is in the ledger.

        A read in another task raises :class:`ClientStateError`.

        Raises:
            WrongEventLoopError: On another event loop than it was begun on.
        """
        if self._is_closed:
            return
        self._check_loop()
        self._is_closed = True
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            if self._loop is not None:
                await self._has_ended.wait()
        self._wake()

    def _check_loop(self) -> None:
        if self._loop is not None and self._loop != anyio.lowlevel.current_token():
            raise WrongEventLoopError(
                "this run of the batch belongs to another event loop; read and close it only there"
            )

    async def _next(self) -> JobOutcome | None:
        while not self._offers:
            if self._is_closed:
                raise _closed()
            if self._has_ended.is_set():
                if self._failure is not None:
                    raise self._failure
                return None
            changed = self._changed = self._changed or anyio.Event()
            await changed.wait()
        offer = self._offers.popleft()
        offer.taken.set()
        return offer.outcome

    async def _emit(self, outcome: JobOutcome) -> None:
        offer = _Offer(outcome)
        self._offers.append(offer)
        self._wake()
        try:
            await offer.taken.wait()
        finally:
            if not offer.taken.is_set():
                # The ledger has it, and the next run yields it.
                self._offers.remove(offer)

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def _run(self) -> None:
        is_done = False
        try:
            with self._scope:
                await self._drive(self._emit)
                is_done = True
        except Exception as error:  # noqa: BLE001 - the reader's, who raises it
            self._failure = error
        finally:
            if not is_done and self._failure is None:
                self._failure = _closed()  # cancelled from outside, which is no end
            self._has_ended.set()
            self._wake()


def _closed() -> ClientStateError:
    return ClientStateError("this run of the batch is closed; call batch.run(...) again")


class BatchBlock(ABC, Generic[Opened]):
    """An async context manager whose task group does the work of its runs, one at a time."""

    def __init__(self) -> None:
        self._opened: Opened | None = None
        self._group: anyio.abc.TaskGroup | None = None
        self._run: BatchRun | None = None

    @abstractmethod
    async def _open(self) -> Opened:
        """Open what the runs need; on failure leave nothing open."""

    @abstractmethod
    async def _close(self, opened: Opened) -> None:
        """Close what was opened."""

    async def __aenter__(self) -> Self:
        if self._opened is not None:
            raise ClientStateError("this batch is open already")
        self._opened = await self._open()
        self._group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        group, self._group = self._group, None
        opened, self._opened = self._opened, None
        try:
            if self._run is not None:
                await self._run.aclose()
        finally:
            try:
                if group is not None:
                    group.cancel_scope.cancel()
                    await group.__aexit__(None, None, None)
            finally:
                if opened is not None:
                    await self._close(opened)

    def _begin(self, drive: Drive) -> BatchRun:
        self._run = BatchRun(self._spawn, drive)
        return self._run

    def _spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._check_open()
        if self._group is not None:
            self._group.start_soon(function)

    def _check_open(self) -> Opened:
        if self._opened is None:
            kind = type(self).__name__
            raise ClientStateError(f"the batch is not open; use `async with {kind}(...) as batch:`")
        return self._opened

    def _check_between_runs(self) -> Opened:
        opened = self._check_open()
        # The submissions of a run look as if their answers were never read.
        if self._run is not None and not self._run.is_closed:
            raise ClientStateError("the last run of this batch is not over; read or close it")
        return opened


def check_choice(choice: str, task: str | None) -> None:
    """
    Check what a caller decided about a job.

    Raises:
        InvalidInputError: There is no such choice, or a task with the wrong one.
    """
    if choice not in {"resubmit", "skip", "adopt"}:
        raise InvalidInputError(f"choice must be 'resubmit', 'skip' or 'adopt', not {choice!r}")
    if (choice == "adopt") != (task is not None):
        raise InvalidInputError("task is given with 'adopt', and only with it")
