"""The client: one method per thing a user wants done."""

import inspect
import math
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal, overload
from uuid import UUID

import anyio
import attrs

from .._model import (
    CyberunError,
    Event,
    Notice,
    ProgressEvent,
    TaskCancelledError,
    TaskFailedError,
    TaskSnapshot,
    WaitTimeoutError,
    Workflow,
)
from .._runtime import utc_now
from .._transfer import TaskResult
from .._validation import callable_of, file_parameters_of, reference_of
from . import handle as _handle, many as _group
from ._following import FollowingClient
from .fan_in import Pump
from .handle import TaskHandle, TaskRef, starting_point
from .many import MergedEvents, Outcome, Submission, in_order, outcomes, submissions
from .submit import Sending, check_parameters, run_options, send_run, submit_in_time
from .waiting import result_in_time, result_is_late, seconds_or_none, timed_out


OnProgress = Callable[[ProgressEvent], Awaitable[None] | None]


class CyberunClient(FollowingClient):
    """
    The way to Cyberun Cloud: submit runs, follow them, fetch what they made.

    Use it as an async context manager, one for the process and event loop; it serves
    any number of tasks. Leaving the block ends every watch with
    :class:`ClientClosedError` and closes every connection. The remote tasks go on.

    On asyncio it may also be opened and closed from different tasks; on trio it is
    closed in the task that opened it.

    Args:
        api_key:
            An integration key (``sk-``), a device key (``dk-``), a user token (JWT), or a
            callable that returns one and is asked before each request. None reads
            ``CYBERUN_API_KEY`` or ``CYBERUN_KEY`` from the environment.

        team_id: Needed with a user token, sent with no other credential.
        base_url: None reads ``CYBERUN_BASE_URL``, or is the public service.
        watch_policy: How watches behave when the service does not.
        retries: How plain requests are repeated.
        timeouts: Limits of one request, by phase.
        limits: What may grow, and how far.
        proxy: A proxy for everything; None asks the environment.
        verify: False turns certificates off, a path or context replaces the default.
        transport:
            ``"aiohttp"`` is up to three times as fast with many events, and needs the extra
            ``fast`` and asyncio. It is never chosen by itself.

        transport_factory:
            Makes an asynchronous transport of ``httpx`` for each connection, for tests; the
            first when the client is opened.
        http_client: Serves plain requests in place of connections of the library's own.
        user_agent: Put in front of the library's own.
        headers: Sent with every request to the API, never to other origins.
        on_notice: Called with each :data:`Notice` of any watch. It must not block.
        observer: Notified of submissions and of all that watches do, for tracing and metrics.

    Raises:
        ConfigurationError: The key, the base URL or a setting is wrong.
    """

    # Runs

    async def submit(
        self,
        workflow: str | UUID | Workflow,
        parameters: Mapping[str, Any] | None = None,
        *,
        slug: bool | None = None,
        validate: bool | None = None,
        definition: Workflow | None = None,
        dispatch_target: str | None = None,
        target_pool: str | None = None,
        submitter_region: str | None = None,
        tool_type: str | None = None,
        retry: bool = True,
    ) -> TaskHandle:
        """
        Submit a run and return its handle at once.

        Sent again only where it provably did not arrive or the service itself
        declined it for now, since a run costs money. Cancelled while the answer is
        awaited, the run may or may not have been accepted.

        Args:
            workflow: A slug, ``slug@version``, a workflow's id (UUID-shaped), or a workflow.
            parameters: Values by parameter key; anything JSON can hold. A path or an
                :class:`Upload` is uploaded first, several at once; nothing is submitted
                if one fails.
            slug: True takes a UUID-shaped *workflow* for a slug.

            validate:
                True fetches the definition if need be and checks the parameters before
                anything is sent; None checks them where the definition is at hand.

            definition: What to check the parameters against.
            dispatch_target, target_pool, submitter_region, tool_type: Passed through.

            retry:
                False sends it once, so that who keeps a pace of their own hears of each
                refusal for now: ``RateLimitedError``, ``ServiceUnavailableError``.

        Raises:
            SubmissionUncertainError: No answer was read; look before submitting again.
            RequestRejectedError: The service declined it, for instance the parameters.
            ServiceUnavailableError: It could not be sent.
            TransferError: A file could not be uploaded; nothing was submitted.
            ParameterError: The parameters do not fit the definition.
            InvalidInputError: An argument is malformed.
        """
        self._session.check_open()
        extras = run_options(
            dispatch_target=dispatch_target,
            target_pool=target_pool,
            submitter_region=submitter_region,
            tool_type=tool_type,
        )
        sending = Sending(reference_of(workflow, slug=slug), extras)
        return await self._submit(sending, workflow, parameters, validate, definition, retry)

    async def _submit(
        self,
        sending: Sending,
        workflow: str | UUID | Workflow,
        parameters: Mapping[str, Any] | None,
        validate: bool | None,
        definition: Workflow | None,
        retry: bool,
    ) -> TaskHandle:
        followers, ref = self._session.followers, sending.ref
        values = file_parameters_of(parameters)
        await check_parameters(
            values, self.workflows, ref, workflow=workflow, definition=definition, wanted=validate
        )
        with followers.submitting(ref.text) as sent:
            sending.body = {"parameters": await self.files.sent_along(values), **sending.body}
            sending.sent_at = utc_now()
            sent.task_id = task_id = await send_run(followers.caller, sending, retry=retry)
        return TaskHandle(task_id, client=self, submitted_at=sending.sent_at)

    async def run(
        self,
        workflow: str | UUID | Workflow,
        parameters: Mapping[str, Any] | None = None,
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        cancel_on_timeout: bool = False,
        cancel_on_exit: bool = False,
        slug: bool | None = None,
        validate: bool | None = None,
        definition: Workflow | None = None,
        dispatch_target: str | None = None,
        target_pool: str | None = None,
        submitter_region: str | None = None,
        tool_type: str | None = None,
    ) -> TaskResult:
        """
        Submit a run, wait for its end, and return what it made.

        Cancelled locally, the remote task goes on and is paid for, unless
        *cancel_on_exit* is set.

        Args:
            workflow, parameters, slug, validate, definition: As for :meth:`submit`.
            dispatch_target, target_pool, submitter_region, tool_type: Passed through.
            on_progress: Called with each :class:`ProgressEvent`; may be a coroutine function.
            timeout:
                Seconds for the whole, uploads, submission and result included; None waits
                for ever.

            cancel_on_timeout:
                Ask the service to cancel the task when time is up, for up to
                ``Timeouts.cancel`` seconds more.

            cancel_on_exit: Ask it likewise when this call is cancelled or fails.

        Raises:
            TaskFailedError: The task failed.
            TaskCancelledError: It was cancelled.
            WaitTimeoutError: Time was up; it carries a resume token where there is a task.

            SubmissionTimeoutError:
                Time was up before the submission was answered, so that it may have been
                accepted: a ``WaitTimeoutError`` and a ``SubmissionUncertainError``.

            SubmissionUncertainError: As for :meth:`submit`, and so are its other errors.
            WatchLostError: Nothing was heard for longer than the policy allows.
        """
        # Nothing may be paid for that is then refused here.
        callable_of("on_progress", on_progress)
        limit = seconds_or_none("timeout", timeout)
        until = math.inf if limit is None else self._session.followers.now() + limit
        extras = run_options(
            dispatch_target=dispatch_target,
            target_pool=target_pool,
            submitter_region=submitter_region,
            tool_type=tool_type,
        )
        self._session.check_open()
        sending = Sending(reference_of(workflow, slug=slug), extras)
        submit = partial(
            self._submit, sending, workflow, parameters, validate, definition, retry=True
        )
        if limit is None:
            task = await submit()
        else:
            task = await submit_in_time(
                self._session,
                sending,
                submit,
                seconds=limit,
                cancel_on_timeout=cancel_on_timeout,
            )
        try:
            with self._session.opened.calls:
                if on_progress is not None:
                    await self._show_progress(task, on_progress, limit, until, cancel_on_timeout)
                record = await result_in_time(
                    self._session,
                    starting_point(task),
                    timeout=limit,
                    cancel_on_timeout=cancel_on_timeout,
                    until=until,
                )
            return self._result_of(record)
        except (TaskFailedError, TaskCancelledError, WaitTimeoutError):
            raise
        except BaseException as error:
            if isinstance(error, CyberunError):
                error.at_least_with(starting_point(task))
            if cancel_on_exit:
                await self._session.request_cancel(task.id)
            raise

    async def _show_progress(
        self,
        task: TaskHandle,
        on_progress: OnProgress,
        limit: float | None,
        until: float,
        cancel_on_timeout: bool,
    ) -> None:
        stream = self.watch(task)
        with anyio.move_on_after(max(0.0, until - self._session.followers.now())):
            async with stream as events:
                async for event in events:
                    if isinstance(event, ProgressEvent):
                        answer = on_progress(event)
                        if inspect.isawaitable(answer):
                            await answer
            return
        if stream.ended_as is not None:
            known = stream.snapshot or TaskSnapshot(id=task.id, status=stream.ended_as)
            raise result_is_late(attrs.evolve(known, status=stream.ended_as), limit or 0.0)
        raise await timed_out(
            self._session, stream.token(), limit or 0.0, stream.snapshot, cancel_on_timeout
        )

    def handle(self, task: TaskRef) -> TaskHandle:
        """
        Return a handle bound to this client, without asking the service.

        Args:
            task: A handle, an id or a resume token.

        Raises:
            InvalidInputError: *task* is no task id.
        """
        if isinstance(task, TaskHandle):
            return task.bound_to(self)
        token = starting_point(task)
        return TaskHandle(token.task_id, client=self, submitted_at=token.submitted_at)

    # Many tasks

    @overload
    def watch_many(
        self, tasks: Iterable[TaskRef] | AsyncIterable[TaskRef], *, notices: Literal[False] = False
    ) -> MergedEvents[Event]: ...

    @overload
    def watch_many(
        self, tasks: Iterable[TaskRef] | AsyncIterable[TaskRef], *, notices: bool
    ) -> MergedEvents[Event | Notice]: ...

    def watch_many(
        self, tasks: Iterable[TaskRef] | AsyncIterable[TaskRef], *, notices: bool = False
    ) -> MergedEvents[Any]:
        """
        Follow many tasks in one iterator; it ends when all have ended.

        More may be added while it runs, with its ``add``. A watch that fails does not
        disturb the others: its error, or an ``ExceptionGroup`` of several, is raised at
        the end. Use it with ``async with``, or close it: inside the block a read that is
        cancelled loses nothing, and the next goes on; outside of it the iterator closes.
        The remote tasks go on either way.

        Args:
            tasks: Handles, ids or resume tokens; of a mapping, its keys.
            notices: Deliver :data:`Notice` values in between, too.

        Raises:
            InvalidInputError: *tasks* is no iterable.
        """
        return MergedEvents(self, self._session.home(), tasks, notices=notices)

    def as_completed(self, tasks: Iterable[TaskRef] | AsyncIterable[TaskRef]) -> Pump[Outcome]:
        """
        Return an async iterator over the :class:`Outcome` of each task, as they end.

        It raises for no single task: its outcome has the error. Use it with ``async
        with``, or close it: inside the block a read that is cancelled loses nothing, and the
        next goes on; outside of it the iterator closes. The remote tasks go on either way,
        and what had ended is reported again to whoever asks again.

        Args:
            tasks: Handles, ids or resume tokens; taken as they come, all followed at once.
                Of a mapping, its keys: ``labels[outcome.handle]`` works where they are handles.

        Raises:
            InvalidInputError: *tasks* is no iterable; or, while reading, one is no task.
            ClientStateError: The client is not open.
        """
        return outcomes(self, self._session.home(), tasks)

    async def wait_many(
        self,
        tasks: Iterable[TaskRef] | AsyncIterable[TaskRef],
        *,
        return_exceptions: bool = False,
    ) -> list[TaskSnapshot | CyberunError]:
        """
        Wait for all tasks and return their final states, in the order of *tasks*.

        A failed task does not raise; a watch that fails does, after all others have
        ended. Cancelled while waiting, the remote tasks go on.

        Args:
            tasks: Handles, ids or resume tokens.
            return_exceptions: Errors stand in the list instead of being raised.

        Raises:
            CyberunError: One could not be followed to its end, as for :meth:`wait`.
            ExceptionGroup: Several could not; it holds the error of each.
            InvalidInputError: *tasks* is no iterable.
        """
        return await in_order(
            tasks, self.wait, return_exceptions=return_exceptions, what="tasks were not followed"
        )

    async def result_many(
        self,
        tasks: Iterable[TaskRef] | AsyncIterable[TaskRef],
        *,
        return_exceptions: bool = False,
    ) -> list[TaskResult | CyberunError]:
        """
        Wait for all tasks and return what they made, in the order of *tasks*.

        Failed and cancelled tasks raise as in :meth:`result`, after all have ended.
        Cancelled while waiting, the remote tasks go on.

        Args:
            tasks: Handles, ids or resume tokens.
            return_exceptions: Errors stand in the list instead of being raised.

        Raises:
            CyberunError: One gave no result, as for :meth:`result`.
            ExceptionGroup: Several gave none; it holds the error of each.
            InvalidInputError: *tasks* is no iterable.
        """
        return await in_order(
            tasks, self.result, return_exceptions=return_exceptions, what="tasks gave no result"
        )

    def submit_many(
        self,
        workflow: str,
        parameter_sets: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]],
        *,
        concurrency: int = 8,
        **options: Any,
    ) -> Pump[Submission]:
        """
        Submit one run per parameter set, a few at a time; yield each :class:`Submission`.

        The sets are taken as room frees, so they may come from a generator without
        end. A submission that fails is yielded with its error and stops none of the
        others.

        Closed or left early, it submits no more. A read that is cancelled inside ``async
        with`` loses nothing, and the next goes on; outside of it the iterator closes. The
        few runs whose answers were awaited when it was closed may or may not have been
        accepted, since the service documents no key by which a run could be sent twice and
        made once. Where none may be lost, use ``cyberun_async.batch``.

        Args:
            workflow: As for :meth:`submit`.
            parameter_sets: The parameters of one run each.
            concurrency: Most submissions that are under way at once.
            options: Go to :meth:`submit`.

        Raises:
            InvalidInputError: *parameter_sets* is no iterable, or *concurrency* no number.
            ClientStateError: The client is not open.
        """
        return submissions(
            self, self._session.home(), workflow, parameter_sets, concurrency, options
        )


# Handles and groups speak of their client, which is made of them: whoever evaluates their
# annotations (`typing.get_type_hints`) finds it there.
for _module in (_handle, _group):
    vars(_module)[CyberunClient.__name__] = CyberunClient
