"""A submitted task as its caller holds it: plain data, bound to a client or not."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from ._errors import DetachedHandleError
from ._models import TaskSnapshot


if TYPE_CHECKING:
    from collections.abc import Generator

    from ._client import CyberunClient
    from ._progress_view import ProgressView
    from ._results import TaskResult
    from ._stream import EventStream


class TaskHandle:
    """
    One task, to be followed, awaited or cancelled.

    Awaiting a handle is awaiting its :meth:`result`, so ``asyncio.gather(*handles)``
    works. A handle pickles; it comes back detached, and ``client.task(handle)`` binds it.

    Attributes:
        id: The task's id.
        submitted_at: When it was submitted by this program, or None.
    """

    __slots__ = ("_client", "id", "submitted_at")

    def __init__(
        self,
        id: str,  # noqa: A002 - the service's own name
        *,
        client: "CyberunClient | None" = None,
        submitted_at: datetime | None = None,
    ) -> None:
        self.id: str = id
        self.submitted_at: datetime | None = submitted_at
        self._client = client

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id}{'' if self._client else ' detached'}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return _detached, (self.id, self.submitted_at)

    def __await__(self) -> "Generator[Any, None, TaskResult]":
        return self.result().__await__()

    def bound_to(self, client: "CyberunClient") -> Self:
        """Return the same task bound to *client*."""
        return type(self)(self.id, client=client, submitted_at=self.submitted_at)

    def _bound(self) -> "CyberunClient":
        if self._client is None:
            raise DetachedHandleError(
                f"the handle of task {self.id} is detached (it was unpickled or made by hand); "
                "bind it with client.task(handle)"
            )
        return self._client

    def events(self, *, notices: bool = False) -> "EventStream":
        """Follow the task; see :meth:`CyberunClient.watch`."""
        return self._bound().watch(self, notices=notices)

    def progress(self, *, min_interval: float = 1.0) -> "ProgressView":
        """Follow the task for one message about it; see :meth:`CyberunClient.progress`."""
        return self._bound().progress(self, min_interval=min_interval)

    async def wait(
        self,
        *,
        timeout: float | None = None,
        start_timeout: float | None = None,
        cancel_on_timeout: bool = False,
    ) -> TaskSnapshot:
        """Wait for the end and return the final state; see :meth:`CyberunClient.wait`."""
        return await self._bound().wait(
            self,
            timeout=timeout,
            start_timeout=start_timeout,
            cancel_on_timeout=cancel_on_timeout,
        )

    async def result(self, *, timeout: float | None = None) -> "TaskResult":
        """Wait and return what the task made; see :meth:`CyberunClient.result`."""
        return await self._bound().result(self, timeout=timeout)

    async def refresh(self) -> TaskSnapshot:
        """Ask for the present state, with one request."""
        return await self._bound().get_task(self)

    async def cancel(self) -> None:
        """Ask the service to cancel the task; see :meth:`CyberunClient.cancel`."""
        await self._bound().cancel(self)


def _detached(task_id: str, submitted_at: datetime | None) -> TaskHandle:
    return TaskHandle(task_id, submitted_at=submitted_at)
