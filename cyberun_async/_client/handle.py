"""A submitted task as its caller holds it: plain data, bound to a client or not."""

from collections.abc import Generator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Self, overload
from uuid import UUID

from .._model import (
    DetachedHandleError,
    Event,
    InvalidInputError,
    Notice,
    ResumeToken,
    TaskSnapshot,
)
from .._transfer import TaskResult
from .._validation import looks_like_a_token, task_id_of, token_of
from .progress_view import ProgressView
from .streams import EventStream


if TYPE_CHECKING:
    from .client import CyberunClient


class TaskHandle:
    """
    One task, to be followed, awaited or cancelled.

    Awaiting a handle is awaiting its :meth:`result`, so ``asyncio.gather(*handles)``
    works. A handle pickles; it comes back detached, and ``client.handle(handle)`` binds it.

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

    def __await__(self) -> Generator[Any, None, TaskResult]:
        return self.result().__await__()

    def bound_to(self, client: "CyberunClient") -> Self:
        """Return the same task bound to *client*."""
        return type(self)(self.id, client=client, submitted_at=self.submitted_at)

    def _bound(self) -> "CyberunClient":
        if self._client is None:
            raise DetachedHandleError(
                f"the handle of task {self.id} is detached (it was unpickled or made by hand); "
                "bind it with client.handle(handle)"
            )
        return self._client

    @overload
    def watch(self, *, notices: Literal[False] = False) -> EventStream[Event]: ...

    @overload
    def watch(self, *, notices: bool) -> EventStream[Event | Notice]: ...

    def watch(self, *, notices: bool = False) -> EventStream[Any]:
        """
        Follow the task to its end; see :meth:`CyberunClient.watch`.

        To stop reading, or to be cancelled, does not cancel the remote task.

        Args:
            notices: Deliver :data:`Notice` values in between, too.

        Raises:
            DetachedHandleError: The handle has no client.
        """
        return self._bound().watch(self, notices=notices)

    def progress(self, *, min_interval: float = 1.0) -> ProgressView:
        """
        Follow the task for one message about it; see :meth:`CyberunClient.progress`.

        To stop reading, or to be cancelled, does not cancel the remote task.

        Args:
            min_interval: Seconds between two updates, the last one included.

        Raises:
            DetachedHandleError: The handle has no client.
            InvalidInputError: *min_interval* is no number of seconds.
        """
        return self._bound().progress(self, min_interval=min_interval)

    async def wait(
        self,
        *,
        timeout: float | None = None,
        start_timeout: float | None = None,
        cancel_on_timeout: bool = False,
    ) -> TaskSnapshot:
        """
        Wait for the end and return the final state; see :meth:`CyberunClient.wait`.

        A failed task does not raise. Cancelled while waiting, the remote task goes on.

        Args:
            timeout: Seconds for the whole; None waits for ever.
            start_timeout: Seconds within which the task must have left the queue.
            cancel_on_timeout: Ask the service to cancel the task when time is up.

        Raises:
            WaitTimeoutError: Time was up; it carries a resume token.
            TaskNotFoundError: No such task, or not yours.
            WatchLostError: Nothing was heard for longer than the policy allows.
            DetachedHandleError: The handle has no client.
        """
        return await self._bound().wait(
            self,
            timeout=timeout,
            start_timeout=start_timeout,
            cancel_on_timeout=cancel_on_timeout,
        )

    async def result(self, *, timeout: float | None = None) -> TaskResult:
        """
        Wait for the end and return what the task made; see :meth:`CyberunClient.result`.

        Cancelled while waiting, the remote task goes on.

        Args:
            timeout: Seconds for the whole; None waits for ever.

        Raises:
            TaskFailedError: It failed.
            TaskCancelledError: It was cancelled.
            WaitTimeoutError: Time was up; it carries a resume token.
            WatchLostError: Nothing was heard for longer than the policy allows.
            DetachedHandleError: The handle has no client.
        """
        return await self._bound().result(self, timeout=timeout)

    async def refresh(self) -> TaskSnapshot:
        """
        Ask for the present state, with one request; see ``client.tasks.get()``.

        Cancelled, nothing has changed.

        Raises:
            TaskNotFoundError: No such task, or not yours.
            ServiceUnavailableError: The service could not be reached or kept failing.
            DetachedHandleError: The handle has no client.
        """
        return await self._bound().tasks.get(self)

    async def cancel(self) -> None:
        """
        Ask the service to cancel the task; see :meth:`CyberunClient.cancel`.

        Success means that it was asked: the task may have completed first. Cancelled
        here while the answer is awaited, the service may have taken it.

        Raises:
            TaskNotFoundError: No such task, or not yours.
            ServiceUnavailableError: The service could not be reached or kept failing.
            DetachedHandleError: The handle has no client.
        """
        await self._bound().cancel(self)


def _detached(task_id: str, submitted_at: datetime | None) -> TaskHandle:
    return TaskHandle(task_id, submitted_at=submitted_at)


TaskRef = TaskHandle | ResumeToken | UUID | str


def starting_point(task: object) -> ResumeToken:
    """
    Return where to begin with what names a task.

    Raises:
        InvalidInputError: It names none.
    """
    match task:
        case ResumeToken():
            return task
        case TaskHandle():
            return ResumeToken(task_id=task_id_of(task.id), submitted_at=task.submitted_at)
        case str() if looks_like_a_token(task):
            return token_of(task)
        case str() | UUID():
            return ResumeToken(task_id=task_id_of(task))
        case _:
            raise InvalidInputError(
                f"a task is a TaskHandle, a task id (str or UUID) or a ResumeToken, "
                f"not {type(task).__name__}"
            )
