"""Work that its caller stops waiting for when time is up, whatever it takes to end the work."""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio

from .._model import ClientClosedError


T = TypeVar("T")


class Errand(Generic[T]):
    """
    A piece of work done in a task of the client's own.

    A caller with a time limit returns on time, while requests that are given up and
    connections that are closed take the time they take.

    Args:
        work: What is to be done.
        on_late: Called with what came of it, if nobody waits for that any more.
        goes_on: Whether it goes on when its caller is cancelled.
    """

    def __init__(
        self,
        work: Callable[[], Awaitable[T]],
        on_late: Callable[[T], Awaitable[None]] | None = None,
        goes_on: Callable[[], bool] | None = None,
    ) -> None:
        self._work = work
        self._on_late = on_late
        self._goes_on = goes_on or (lambda: False)
        self._scope = anyio.CancelScope()
        self._is_over = anyio.Event()
        self._outcome: tuple[T] | Exception | None = None
        self._is_left = False

    async def run(self) -> None:
        """Do the work; the client starts this as a task."""
        try:
            with self._scope:
                try:
                    self._outcome = (await self._work(),)
                except Exception as error:  # noqa: BLE001 - theirs who wait for it
                    self._outcome = error
        finally:
            self._is_over.set()
        if self._is_left and self._on_late is not None and isinstance(self._outcome, tuple):
            await self._on_late(self._outcome[0])

    async def outcome(self, seconds: float) -> tuple[T] | None:
        """
        Return what came of the work, in a tuple of one; None when *seconds* are over.

        Cancelled, it has ended the work, unless that goes on.

        Raises:
            Exception: What the work raised.
            ClientClosedError: The client was closed meanwhile.
        """
        try:
            with anyio.move_on_after(max(0.0, seconds)):
                await self._is_over.wait()
        except BaseException:
            if self._goes_on():
                await self._leave()
                raise
            self.stop()
            with anyio.CancelScope(shield=True):
                await self._is_over.wait()
            raise
        if isinstance(self._outcome, Exception):
            raise self._outcome
        if self._outcome is None and self._is_over.is_set():
            raise ClientClosedError("the client was closed; a request cannot be finished")
        self._is_left = self._outcome is None
        return self._outcome

    async def _leave(self) -> None:
        """Leave the work to itself; what has come of it in this moment is late, too."""
        self._is_left = True
        if isinstance(self._outcome, tuple) and self._on_late is not None:
            with anyio.CancelScope(shield=True):
                await self._on_late(self._outcome[0])

    def stop(self) -> None:
        """End the work, without waiting for that."""
        self._scope.cancel()
