"""What a client does with one task that there is: follow it, wait, ask, cancel."""

from typing import Any, Literal, overload

import anyio

from .._model import CyberunError, Event, Notice, RawResult, TaskSnapshot
from .._transfer import TaskResult
from .._validation import positive_seconds
from ._base import BaseClient
from .handle import TaskRef, starting_point
from .progress_view import ProgressView
from .resources import Tasks
from .streams import EventStream
from .waiting import cancel_and_wait, result_in_time, wait_for_end


class FollowingClient(BaseClient):
    """A client that follows tasks, each by a handle, an id or a resume token."""

    @property
    def tasks(self) -> Tasks:
        """The team's tasks, those of other programs included."""
        return Tasks(self._session.ask, self._session)

    @overload
    def watch(
        self, task: TaskRef, *, notices: Literal[False] = False, cancel_on_exit: bool = False
    ) -> EventStream[Event]: ...

    @overload
    def watch(
        self, task: TaskRef, *, notices: bool, cancel_on_exit: bool = False
    ) -> EventStream[Event | Notice]: ...

    def watch(
        self, task: TaskRef, *, notices: bool = False, cancel_on_exit: bool = False
    ) -> EventStream[Any]:
        """
        Follow a task to its end.

        Events come in order, the end exactly once and last; or, instead of it, one
        typed error. Connections that break are replaced, and where streaming does not
        work the same iterator goes on by polling. Several watches of one task share
        one connection. To stop watching, or to be cancelled, does not cancel the remote
        task. That a task ends once, as completed, failed or cancelled, is what the service
        documents; that its status may fall back before is inferred from its retries.

        Args:
            task: A handle, an id, or the resume token of an earlier watch.
            notices: Deliver :data:`Notice` values in between, too.
            cancel_on_exit:
                Ask the service to cancel the task if the watch is left early, for up to
                ``Timeouts.cancel`` seconds.

        Raises:
            InvalidInputError: *task* is no task id.
            TaskNotFoundError: While reading: no such task, or not yours.
            WatchLostError: While reading: nothing was heard for longer than the policy allows.
            ClientStateError: While reading: the client is not open.
        """
        return EventStream(
            self._session,
            starting_point(task),
            capacity=self._limits.reader_capacity,
            notices=notices,
            cancel_on_exit=cancel_on_exit,
        )

    def progress(
        self, task: TaskRef, *, min_interval: float = 1.0, cancel_on_exit: bool = False
    ) -> ProgressView:
        """
        Follow a task for one message about it: its newest state, now and then.

        A convenience on top of what :meth:`watch` promises: updates are coalesced and
        throttled, progress never falls within an attempt, and the last update carries
        the end. A watch that fails raises its error here, too. To stop reading, or to be
        cancelled, does not cancel the remote task.

        Args:
            task: A handle, an id, or the resume token of an earlier watch.
            min_interval: Seconds between two updates, the last one included.
            cancel_on_exit: Ask the service to cancel the task if the view is left early.

        Raises:
            InvalidInputError: *task* is no task id, or *min_interval* no number of seconds.
        """
        return ProgressView(
            self._session,
            starting_point(task),
            now=anyio.current_time,
            min_interval=positive_seconds("min_interval", min_interval),
            cancel_on_exit=cancel_on_exit,
        )

    async def wait(
        self,
        task: TaskRef,
        *,
        timeout: float | None = None,
        start_timeout: float | None = None,
        cancel_on_timeout: bool = False,
    ) -> TaskSnapshot:
        """
        Wait until the task has ended and return its final state; a failed task does not raise.

        It needs no stream: thousands may wait at once on a few requests. Cancelled
        while waiting, the remote task goes on.

        The service documents no bound for the time before a task starts: one that no agent
        can take waits for ever. So give *timeout* or *start_timeout*.

        Args:
            task: A handle, an id or a resume token.
            timeout: Seconds for the whole; None waits for ever.
            start_timeout: Seconds within which the task must have left the queue.

            cancel_on_timeout:
                Ask the service to cancel the task when time is up, for up to
                ``Timeouts.cancel`` seconds more.

        Raises:
            WaitTimeoutError: Time was up; it carries a resume token.
            TaskNotFoundError: No such task, or not yours.
            AuthenticationError: The key is not accepted.
            WatchLostError: Nothing was heard for longer than the policy allows.
        """
        token = starting_point(task)
        with self._session.opened.calls:
            try:
                return await wait_for_end(
                    self._session,
                    token,
                    timeout=timeout,
                    start_timeout=start_timeout,
                    cancel_on_timeout=cancel_on_timeout,
                )
            except CyberunError as error:
                error.at_least_with(token)
                raise

    async def result(
        self, task: TaskRef, *, timeout: float | None = None, cancel_on_timeout: bool = False
    ) -> TaskResult:
        """
        Wait until the task has ended and return what it made.

        Cancelled while waiting, the remote task goes on.

        Args:
            task: A handle, an id or a resume token.
            timeout: Seconds for the whole; None waits for ever.

            cancel_on_timeout:
                Ask the service to cancel the task when time is up, for up to
                ``Timeouts.cancel`` seconds more.

        Raises:
            TaskFailedError: It failed.
            TaskCancelledError: It was cancelled.
            WaitTimeoutError: Time was up.
            TaskNotFoundError: No such task, or not yours.
            ResultExpiredError: It completed, but the service no longer keeps its result.
            WatchLostError: Nothing was heard for longer than the policy allows.
            CyberunError: Another one; each carries a resume token.
        """
        with self._session.opened.calls:
            token = starting_point(task)
            try:
                record = await result_in_time(
                    self._session, token, timeout=timeout, cancel_on_timeout=cancel_on_timeout
                )
            except CyberunError as error:
                error.at_least_with(token)
                raise
            return self._result_of(record)

    def _result_of(self, record: RawResult) -> TaskResult:
        return TaskResult(
            self._session,
            record,
            parallel=self._limits.parallel_transfers,
            retries=self._session.choices.retries,
        )

    async def raw_result(self, task: TaskRef) -> RawResult:
        """
        Ask for a task's result as the service reports it, without waiting.

        The service documents the result of every ended task, with links that live for
        about an hour and are made anew for each request; what it answers before the end
        it does not settle: a record without output, or a refusal. Cancelled, nothing has
        changed. To wait and download, use :meth:`result`.

        Args:
            task: A handle, an id or a resume token.

        Raises:
            TaskNotFoundError: No such task, or not yours.
            ResultExpiredError: It completed, but the service no longer keeps its result.
            RequestRejectedError: The service refused, for instance before the end.
            ServiceUnavailableError: It could not be reached or kept failing.
            UnexpectedResponseError: Its answer was not the protocol.
            InvalidInputError: *task* is no task.
        """
        return await self._session.raw_result(starting_point(task).task_id)

    async def cancel(self, task: TaskRef) -> None:
        """
        Ask the service to cancel a task.

        Success means that the request was taken: the task may have completed first,
        and a running one takes a moment. The service documents that to cancel an ended
        task changes nothing and succeeds, so the request is made again where it fails.
        Cancelled here while the answer is awaited, the service may have taken it.

        :meth:`cancel_and_wait` tells how the task really ended.

        Args:
            task: A handle, an id or a resume token.

        Raises:
            TaskNotFoundError: No such task, or not yours.
            RequestRejectedError: The service refused.
            ServiceUnavailableError: It could not be reached or kept failing.
            InvalidInputError: *task* is no task.
        """
        await self._session.cancel_task(starting_point(task).task_id)

    async def cancel_and_wait(self, task: TaskRef, *, timeout: float | None = None) -> TaskSnapshot:
        """
        Ask the service to cancel a task and return the state in which it really ended.

        It may have completed first: the service documents no other sign of which came
        first than the state. Cancelled while waiting, the request stands.

        Args:
            task: A handle, an id or a resume token.
            timeout: Seconds for the whole, the request to cancel included; None waits for ever.

        Raises:
            TaskNotFoundError: No such task, or not yours.

            WaitTimeoutError:
                Time was up; it carries a resume token. Its ``cancel_requested`` and
                ``cancel_failed`` say what became of the request.

            RequestRejectedError: The service refused to cancel.
            ServiceUnavailableError: It could not be asked.
            WatchLostError: Nothing was heard for longer than the policy allows.
            InvalidInputError: *task* is no task, or *timeout* no number of seconds.
        """
        with self._session.opened.calls:
            return await cancel_and_wait(self._session, starting_point(task), timeout)
