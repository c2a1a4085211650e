"""A submitted task as its caller holds it: plain data, bound to a client or not."""

from collections.abc import Generator
from datetime import datetime
from typing import Any, Literal, overload
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
from .session import Session
from .streams import EventStream
from .waiting import cancel_and_wait, wait_for_end, wait_for_result


class TaskHandle:
    """
    One task, to be followed, awaited or cancelled, with the verbs and options of the client.

    Awaiting a handle is awaiting its :meth:`result`, so ``asyncio.gather(*handles)``
    works. A handle pickles; it comes back detached, and ``client.handle(handle)`` binds it.
    Whatever a detached handle is asked to do raises :class:`DetachedHandleError`.

    Attributes:
        id: The task's id.
        submitted_at: When it was submitted by this program, or None.
    """

    __slots__ = ("_session", "id", "submitted_at")

    def __init__(
        self,
        id: str,  # noqa: A002 - the service's own name
        submitted_at: datetime | None = None,
        *,
        session: Session | None = None,
    ) -> None:
        self.id: str = id
        self.submitted_at: datetime | None = submitted_at
        self._session = session

    def __repr__(self) -> str:
        return f"<TaskHandle {self.id}{'' if self._session else ' detached'}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskHandle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[Any, ...]:
        return TaskHandle, (self.id, self.submitted_at)

    def __await__(self) -> Generator[Any, None, TaskResult]:
        return self.result().__await__()

    def _bound(self) -> tuple[Session, ResumeToken]:
        if self._session is None:
            raise DetachedHandleError(
                f"the handle of task {self.id} is detached (it was unpickled or made by hand); "
                "bind it with client.handle(handle)"
            )
        return self._session, starting_point(self)

    @overload
    def watch(
        self, *, notices: Literal[False] = False, cancel_on_exit: bool = False
    ) -> EventStream[Event]: ...

    @overload
    def watch(
        self, *, notices: bool, cancel_on_exit: bool = False
    ) -> EventStream[Event | Notice]: ...

    def watch(self, *, notices: bool = False, cancel_on_exit: bool = False) -> EventStream[Any]:
        """
        Follow the task to its end; see :meth:`CyberunClient.watch`.

        To stop reading, or to be cancelled, does not cancel the remote task.

        Args:
            notices: Deliver :data:`Notice` values in between, too.
            cancel_on_exit: Ask the service to cancel the task if the watch is left early.

        Raises:
            DetachedHandleError: The handle has no client.
        """
        return EventStream(*self._bound(), notices=notices, cancel_on_exit=cancel_on_exit)

    def progress(self, *, min_interval: float = 1.0, cancel_on_exit: bool = False) -> ProgressView:
        """
        Follow the task for one message about it; see :meth:`CyberunClient.progress`.

        To stop reading, or to be cancelled, does not cancel the remote task.

        Args:
            min_interval: Seconds between two updates, the last one included.
            cancel_on_exit: Ask the service to cancel the task if the view is left early.

        Raises:
            DetachedHandleError: The handle has no client.
            InvalidInputError: *min_interval* is no number of seconds.
        """
        return ProgressView(
            *self._bound(), min_interval=min_interval, cancel_on_exit=cancel_on_exit
        )

    async def wait(
        self,
        *,
        timeout: float | None = None,
        start_timeout: float | None = None,
        cancel_on_timeout: bool = False,
    ) -> TaskSnapshot:
        """
        Wait for the end and return the final state; see :meth:`CyberunClient.wait`.

        A failed task does not raise. Cancelled while waiting, the remote task keeps running.

        Args:
            timeout: Seconds for the whole; None waits forever.
            start_timeout: Seconds within which the task must have left the queue.
            cancel_on_timeout: Ask the service to cancel the task when time is up.

        Raises:
            DetachedHandleError: The handle has no client.
            WaitTimeoutError: Time was up; it carries a resume token.
            CyberunError: As the client's.
        """
        return await wait_for_end(
            *self._bound(),
            timeout=timeout,
            start_timeout=start_timeout,
            cancel_on_timeout=cancel_on_timeout,
        )

    async def result(
        self,
        *,
        timeout: float | None = None,
        start_timeout: float | None = None,
        cancel_on_timeout: bool = False,
    ) -> TaskResult:
        """
        Wait for the end and return what the task made; see :meth:`CyberunClient.result`.

        Cancelled while waiting, the remote task keeps running.

        Args:
            timeout: Seconds for the whole; None waits forever.
            start_timeout: Seconds within which the task must have left the queue.
            cancel_on_timeout: Ask the service to cancel the task when time is up.

        Raises:
            DetachedHandleError: The handle has no client.
            TaskFailedError: It failed.
            TaskCancelledError: It was cancelled.
            CyberunError: As the client's.
        """
        return await wait_for_result(
            *self._bound(),
            timeout=timeout,
            start_timeout=start_timeout,
            cancel_on_timeout=cancel_on_timeout,
        )

    async def refresh(self) -> TaskSnapshot:
        """
        Return the present state, with one request; see ``client.tasks.get()``.

        Cancelled, nothing has changed.

        Raises:
            DetachedHandleError: The handle has no client.
            CyberunError: As the client's.
        """
        session, token = self._bound()
        return await session.get_task(token.task_id)

    async def cancel(self) -> None:
        """
        Ask the service to cancel the task; see :meth:`CyberunClient.cancel`.

        Success means that the service took the request: the task may have completed first.
        Cancelled here while the answer is awaited, the service may have taken it, too.

        Raises:
            DetachedHandleError: The handle has no client.
            CyberunError: As the client's.
        """
        session, token = self._bound()
        await session.cancel_task(token.task_id)

    async def cancel_and_wait(self, *, timeout: float | None = None) -> TaskSnapshot:
        """
        Cancel and return the state in which it ended; see :meth:`CyberunClient.cancel_and_wait`.

        Cancelled while waiting, the request stands.

        Args:
            timeout: Seconds for the whole, the request to cancel included; None waits forever.

        Raises:
            DetachedHandleError: The handle has no client.
            WaitTimeoutError: Time was up; it carries a resume token.
            CyberunError: As the client's.
        """
        return await cancel_and_wait(*self._bound(), timeout=timeout)


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
