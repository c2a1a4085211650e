"""The outcomes of one run over a batch, as its caller reads them."""

from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Protocol, Self

import anyio
import attrs

from .. import ClientStateError, WrongEventLoopError
from ._driver import Emit, Jobs
from ._outcomes import JobOutcome


class Drives(Protocol):
    """What does the work whose outcomes are read."""

    async def drive(self, jobs: Jobs | None, emit: Emit) -> None:
        """Lead all jobs to their outcomes."""


@attrs.define(eq=False)
class _Offer:
    outcome: JobOutcome
    taken: anyio.Event = attrs.field(factory=anyio.Event)


class BatchRun:
    """
    The outcomes of a batch, to be read once with ``async for``, as they come.

    A slow reader holds the work up. Closed or left early, the remote tasks go on, and
    the next run takes them up. A read that is cancelled inside ``async with`` loses
    nothing, and the next one goes on; outside of it the run is closed. Read on after it
    was closed, it raises :class:`ClientStateError`: only the end of all jobs is its end.
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
        # No stream of anyio: a read that is cancelled as it is handed a value may lose it.
        self._offers: deque[_Offer] = deque()
        self._changed: anyio.Event | None = None
        self._scope = anyio.CancelScope()
        self._has_ended = anyio.Event()
        self._is_entered = False
        self._is_begun = False
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
        if not self._is_begun:
            self._spawn(self._run)
            self._loop = anyio.lowlevel.current_token()
            self._is_begun = True
        try:
            outcome = await self._next()
        except Exception:
            # Nothing is waited for: a cancellation meanwhile would take the error's place.
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
        Stop working and wait until that has stopped; what is under way is in the ledger.

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
            if self._is_begun:
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
                await self._driver.drive(self._jobs, self._emit)
                is_done = True
        except Exception as error:  # noqa: BLE001 - the reader's, who raises it
            self._failure = error
        finally:
            if not is_done and self._failure is None:
                self._failure = _closed()  # cancelled from outside, which is no end
            self._is_begun = True
            self._has_ended.set()
            self._wake()


def _closed() -> ClientStateError:
    return ClientStateError("this run of the batch is closed; call batch.run(...) again")
