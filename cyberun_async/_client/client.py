"""The client: one method per thing a user wants done."""

import copy
import inspect
import os
import ssl
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload
from uuid import UUID

import anyio
import attrs

from .._http import HttpClient, KeyProvider, TransportFactory, TransportSettings, transport_kind
from .._model import (
    ClientStateError,
    ClientStatistics,
    CyberunError,
    Event,
    Limits,
    Notice,
    Observer,
    ProgressEvent,
    RawResult,
    TaskCancelledError,
    TaskFailedError,
    TaskSnapshot,
    WaitTimeoutError,
    WatchPolicy,
    Workflow,
    observer_of,
)
from .._protocol import Response, without_locals
from .._transfer import Files, TaskResult
from .._validation import callable_of, json_of, method_of, positive_seconds, query_of, raw_path_of
from .handle import TaskHandle, TaskRef, starting_point
from .lifetime import Core
from .many import MergedEvents, Outcomes, Submissions, concurrency_of, in_order
from .progress_view import ProgressView
from .resources import Agents, Tasks, Workflows
from .session import Session
from .settings import ClientOptions, changed, service_of
from .streams import EventStream
from .submit import Run, RunOptions
from .waiting import (
    Deadline,
    cancel_and_wait,
    result_is_late,
    seconds_or_none,
    timed_out,
    wait_for_end,
    wait_for_result,
)
from .webhooks import Webhooks


OnProgress = Callable[[ProgressEvent], Awaitable[None] | None]
TaskRefs = Iterable[TaskRef] | AsyncIterable[TaskRef]
ParameterSets = Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]


class CyberunClient:
    """
    The way to Cyberun Cloud: submit runs, follow them, fetch what they made.

    Use it as an async context manager, one for the process and event loop; it serves
    any number of tasks. Leaving the block ends every watch with
    :class:`ClientClosedError` and closes every connection. The remote tasks keep running.

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
        proxy: A proxy foreverything; None reads the environment.
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

    def __init__(
        self,
        api_key: str | KeyProvider | None = None,
        *,
        base_url: str | None = None,
        limits: Limits | None = None,
        proxy: str | None = None,
        verify: bool | str | os.PathLike[str] | ssl.SSLContext = True,
        transport: Literal["httpx", "aiohttp"] = "httpx",
        transport_factory: TransportFactory | None = None,
        http_client: HttpClient | None = None,
        observer: Observer | None = None,
        **options: Unpack[ClientOptions],
    ) -> None:
        with without_locals():
            try:
                policy = options.get("watch_policy")
                options["watch_policy"] = WatchPolicy() if policy is None else policy
                settings = changed(None, api_key, options)
                network = TransportSettings(
                    base_url=service_of(base_url),
                    limits=limits or Limits(),
                    proxy=proxy,
                    verify=verify,
                    kind=transport_kind(transport),
                    transport_factory=transport_factory,
                    http_client=http_client,
                )
                self._session = Session(Core(network, observer_of(observer)), settings)
            except Exception:
                # The variables of this frame, too, are shown by error reporters.
                api_key = base_url = proxy = None
                options = {}
                raise

    def __repr__(self) -> str:
        session: Session | None = getattr(self, "_session", None)
        if session is None:
            return "<CyberunClient not made>"
        return f"<CyberunClient {session.core.settings.base_url} {session.core.state}>"

    # Lifetime

    async def __aenter__(self) -> Self:
        self._check_owner("opened")
        with without_locals():
            await self._session.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self, *, drain: float | None = None) -> None:
        """
        End every watch, then close every connection. Closing again does nothing.

        Cancelled while it drains, the client stays open and is to be closed again;
        cancelled after that, everything is closed all the same.

        Args:
            drain:
                Seconds to let the tasks being followed end by themselves first, and
                what waits for them take its answer.

        Raises:
            ClientStateError: On trio, from another task than the one that opened it; or
                of a sibling, which is closed with the client it came from.
        """
        self._check_owner("closed")
        await self._session.core.aclose(None if drain is None else positive_seconds("drain", drain))

    def _check_owner(self, what: str) -> None:
        if self._session.is_sibling:
            raise ClientStateError(
                f"a client made by with_options() is {what} with the one it came from; "
                "use it as it is, inside that one's `async with`"
            )

    def with_options(
        self, *, api_key: str | KeyProvider | None = None, **options: Unpack[ClientOptions]
    ) -> Self:
        """
        Return a sibling: this client with other settings, on the same connections.

        Connections, ``max_streams``, ``max_connections``, ``poll_rate`` and the observer
        are those of the client it came from. It is usable while that one is open, and is
        neither opened nor closed itself. It costs little, so one per call is fine.

        With another key or team it acts for another tenant, which has a retry quota and
        statistics of its own and shares the limits fairly: no tenant starves another.
        Siblings with the same key and team are one tenant, for as long as any of them,
        or a handle or watch of theirs, is in use. The key is the same if the text is, or
        if the callable is.

        Siblings of one tenant whose other settings are equal, too, share the streams of
        their watches; with others, a task that both watch has a stream for each.

        Args:
            api_key: In place of the client's: a text or a callable, as the client takes it.

            options:
                In place of the client's, of the same names; None keeps one. *team_id* is sent
                with user tokens only, *headers* are added to the client's, and *on_notice*
                is called for the sibling's watches alone. See :class:`ClientOptions`.

        Raises:
            ConfigurationError: A setting is of another kind, or the key cannot be one.
            InvalidInputError: A header cannot be sent.
        """
        with without_locals():
            try:
                settings = changed(self._session.settings, api_key, options)
            except Exception:
                api_key = None
                options = {}
                raise
        sibling = copy.copy(self)
        vars(sibling)["_session"] = self._session.sibling(settings)
        return sibling

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
    ) -> Response:
        """
        Make a request of the API that is not wrapped yet, with the same keys, retries and errors.

        Cancelled while the answer is awaited, what was asked for may have been done.

        Args:
            method: GET and HEAD are repeated on failure, others are not.
            path: Relative to the base URL, such as ``/r/containers``, already quoted.
            params: The query.
            json: The body.

        Raises:
            RequestRejectedError: The service refused it.
            ServiceUnavailableError: It could not be reached or kept failing.
            InvalidInputError: An argument is malformed, or the path leads elsewhere.
        """
        verb = method_of(method)
        return await self._session.caller.call(
            verb,
            raw_path_of(path),
            params=None if params is None else query_of(params),
            json_body=json_of(json),
            repeatable=verb in ("GET", "HEAD"),
        )

    def statistics(self) -> ClientStatistics:
        """
        Return what is being done now and was done so far with this key and team.

        Siblings with the same key and team are included; those of other tenants are not.

        Raises:
            ClientStateError: The client is not open, or belongs to another event loop.
        """
        return self._session.statistics()

    # What the service holds

    @property
    def workflows(self) -> Workflows:
        """The team's workflows."""
        return Workflows(self._session)

    @property
    def tasks(self) -> Tasks:
        """The team's tasks, those of other programs included."""
        return Tasks(self._session)

    @property
    def agents(self) -> Agents:
        """The GPU agents that are connected."""
        return Agents(self._session)

    @property
    def files(self) -> Files:
        """Files for the inputs of runs."""
        return self._session.files

    @property
    def webhooks(self) -> Webhooks:
        """The team's webhooks."""
        return Webhooks(self._session)

    # Runs

    async def submit(
        self,
        workflow: str | UUID | Workflow,
        parameters: Mapping[str, Any] | None = None,
        *,
        retry: bool = True,
        **options: Unpack[RunOptions],
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

            retry:
                False sends it once, so that a caller with a rate of its own learns of each
                refusal for now: ``RateLimitedError``, ``ServiceUnavailableError``.

            options: Further options, see :class:`RunOptions`.

        Raises:
            SubmissionUncertainError: No answer was read; look before submitting again.
            RequestRejectedError: The service declined it, for instance the parameters.
            ServiceUnavailableError: It could not be sent.
            TransferError: A file could not be uploaded; nothing was submitted.
            ParameterError: The parameters do not fit the definition.
            InvalidInputError: An argument is malformed.
        """
        return await Run(self._session, workflow, parameters, retry=retry, **options).submit()

    async def run(
        self,
        workflow: str | UUID | Workflow,
        parameters: Mapping[str, Any] | None = None,
        *,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
        cancel_on_timeout: bool = False,
        cancel_on_exit: bool = False,
        **options: Unpack[RunOptions],
    ) -> TaskResult:
        """
        Submit a run, wait for its end, and return what it made.

        Cancelled locally, the remote task keeps running and will be billed, unless
        *cancel_on_exit* is set.

        Args:
            workflow, parameters: As for :meth:`submit`.
            on_progress: Called with each :class:`ProgressEvent`; may be a coroutine function.
            timeout:
                Seconds for the whole, uploads, submission and result included; None waits
                forever.

            cancel_on_timeout:
                Ask the service to cancel the task when time is up, for up to
                ``Timeouts.cancel`` seconds more.

            cancel_on_exit:
                Ask it likewise when this call is cancelled or fails. Cancelled while its
                submission is being answered, the answer is awaited on the side, while the
                client is open.

            options: Further options, see :class:`RunOptions`.

        Raises:
            TaskFailedError: The task failed.
            TaskCancelledError: It was cancelled.
            WaitTimeoutError: Time was up; it carries a resume token where there is a task.

            SubmissionTimeoutError:
                Time was up before the submission was answered, so that it may have been
                accepted: a ``WaitTimeoutError`` and a ``SubmissionUncertainError``.

            SubmissionUncertainError: As for :meth:`submit`, and so are its other errors.
            WatchLostError: Out of reach for longer than the policy allows.
        """
        # Nothing may be paid for that is then refused here.
        callable_of("on_progress", on_progress)
        seconds_or_none("timeout", timeout)
        run = Run(self._session, workflow, parameters, **options)
        deadline = Deadline(self._session, timeout)
        if deadline.seconds is None and not cancel_on_exit:
            task = await run.submit()
        else:
            task = await run.submit_in_time(
                deadline.left, cancel_on_timeout=cancel_on_timeout, cancel_on_exit=cancel_on_exit
            )
        token = starting_point(task)
        try:
            with self._session.opened.calls:
                if on_progress is not None:
                    await self._show_progress(task, on_progress, deadline, cancel_on_timeout)
                return await wait_for_result(
                    self._session, token, cancel_on_timeout=cancel_on_timeout, deadline=deadline
                )
        except (TaskFailedError, TaskCancelledError, WaitTimeoutError):
            raise
        except BaseException as error:
            if isinstance(error, CyberunError):
                error.at_least_with(token)
            if cancel_on_exit:
                await self._session.request_cancel(task.id)
            raise

    async def _show_progress(
        self,
        task: TaskHandle,
        on_progress: OnProgress,
        deadline: Deadline,
        cancel_on_timeout: bool,
    ) -> None:
        limit = deadline.seconds or 0.0
        stream = self.watch(task)
        with anyio.move_on_after(deadline.left):
            async with stream as events:
                async for event in events:
                    if isinstance(event, ProgressEvent):
                        answer = on_progress(event)
                        if inspect.isawaitable(answer):
                            await answer
            return
        if stream.ended_as is not None:
            known = stream.snapshot or TaskSnapshot(id=task.id, status=stream.ended_as)
            raise result_is_late(attrs.evolve(known, status=stream.ended_as), limit)
        raise await timed_out(
            self._session, stream.token(), limit, stream.snapshot, cancel_on_timeout
        )

    # One task

    def handle(self, task: TaskRef) -> TaskHandle:
        """
        Return a handle bound to this client, without asking the service.

        Args:
            task: A handle, an id or a resume token.

        Raises:
            InvalidInputError: *task* is no task id.
        """
        token = starting_point(task)
        return TaskHandle(token.task_id, token.submitted_at, session=self._session)

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
        work the same iterator continues by polling. Several watches of one task share
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
            WatchLostError: While reading: out of reach for longer than the policy allows.
            ClientStateError: While reading: the client is not open.
        """
        return EventStream(
            self._session,
            starting_point(task),
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
        while waiting, the remote task keeps running.

        The service documents no bound for the time before a task starts: one that no agent
        can take waits forever. So give *timeout* or *start_timeout*.

        Args:
            task: A handle, an id or a resume token.
            timeout: Seconds for the whole; None waits forever.
            start_timeout: Seconds within which the task must have left the queue.

            cancel_on_timeout:
                Ask the service to cancel the task when time is up, for up to
                ``Timeouts.cancel`` seconds more.

        Raises:
            WaitTimeoutError: Time was up; it carries a resume token.
            TaskNotFoundError: No such task, or not yours.
            AuthenticationError: The key is not accepted.
            WatchLostError: Out of reach for longer than the policy allows.
        """
        return await wait_for_end(
            self._session,
            starting_point(task),
            timeout=timeout,
            start_timeout=start_timeout,
            cancel_on_timeout=cancel_on_timeout,
        )

    async def result(
        self,
        task: TaskRef,
        *,
        timeout: float | None = None,
        start_timeout: float | None = None,
        cancel_on_timeout: bool = False,
    ) -> TaskResult:
        """
        Wait until the task has ended and return what it made.

        Cancelled while waiting, the remote task keeps running.

        Args:
            task: A handle, an id or a resume token.
            timeout: Seconds for the whole; None waits forever.
            start_timeout: Seconds within which the task must have left the queue.

            cancel_on_timeout:
                Ask the service to cancel the task when time is up, for up to
                ``Timeouts.cancel`` seconds more.

        Raises:
            TaskFailedError: It failed.
            TaskCancelledError: It was cancelled.
            WaitTimeoutError: Time was up.
            TaskNotFoundError: No such task, or not yours.
            ResultExpiredError: It completed, but the service no longer keeps its result.
            WatchLostError: Out of reach for longer than the policy allows.
            CyberunError: Any other; each carries a resume token.
        """
        return await wait_for_result(
            self._session,
            starting_point(task),
            timeout=timeout,
            start_timeout=start_timeout,
            cancel_on_timeout=cancel_on_timeout,
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
        and a running one takes a while. The service documents that to cancel an ended
        task changes nothing and succeeds, so the request is made again where it fails.
        Cancelled here while the answer is awaited, the service may have taken it.

        :meth:`cancel_and_wait` returns how the task really ended.

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
            timeout: Seconds for the whole, the request to cancel included; None waits forever.

        Raises:
            TaskNotFoundError: No such task, or not yours.

            WaitTimeoutError:
                Time was up; it carries a resume token. Its ``cancel_requested`` and
                ``cancel_failed`` say what became of the request.

            RequestRejectedError: The service refused to cancel.
            ServiceUnavailableError: It could not be asked.
            WatchLostError: Out of reach for longer than the policy allows.
            InvalidInputError: *task* is no task, or *timeout* no number of seconds.
        """
        return await cancel_and_wait(self._session, starting_point(task), timeout=timeout)

    # Many tasks

    @overload
    def watch_many(
        self, tasks: TaskRefs, *, notices: Literal[False] = False
    ) -> MergedEvents[Event]: ...

    @overload
    def watch_many(self, tasks: TaskRefs, *, notices: bool) -> MergedEvents[Event | Notice]: ...

    def watch_many(self, tasks: TaskRefs, *, notices: bool = False) -> MergedEvents[Any]:
        """
        Follow many tasks in one iterator; it ends when all have ended.

        More may be added while it runs, with its ``add``. A watch that fails does not
        disturb the others: its error, or an ``ExceptionGroup`` of several, is raised at
        the end. Use it with ``async with``, or close it: inside the block a read that is
        cancelled loses nothing, and the next one continues; outside of it the iterator closes.
        The remote tasks keep running either way.

        Args:
            tasks: Handles, ids or resume tokens; of a mapping, its keys.
            notices: Deliver :data:`Notice` values in between, too.

        Raises:
            InvalidInputError: *tasks* is no iterable.
        """
        return MergedEvents(self._session, tasks, notices=notices)

    def as_completed(self, tasks: TaskRefs) -> Outcomes:
        """
        Return an async iterator over the :class:`Outcome` of each task, as they end.

        It raises for no single task: its outcome has the error. Use it with ``async
        with``, or close it: inside the block a read that is cancelled loses nothing, and the
        next one continues; outside of it the iterator closes. The remote tasks keep running, and
        what had ended is reported again by a new iterator.

        Args:
            tasks: Handles, ids or resume tokens; taken as they come, all followed at once.
                Of a mapping, its keys: ``labels[outcome.handle]`` works where they are handles.

        Raises:
            InvalidInputError: *tasks* is no iterable; or, while reading, one is no task.
            ClientStateError: The client is not open.
        """
        return Outcomes(self._session, tasks)

    @overload
    async def wait_many(
        self, tasks: TaskRefs, *, return_exceptions: Literal[False] = False
    ) -> list[TaskSnapshot]: ...

    @overload
    async def wait_many(
        self, tasks: TaskRefs, *, return_exceptions: bool
    ) -> list[TaskSnapshot | CyberunError]: ...

    async def wait_many(self, tasks: TaskRefs, *, return_exceptions: bool = False) -> list[Any]:
        """
        Wait for all tasks and return their final states, in the order of *tasks*.

        A failed task does not raise; a watch that fails does, after all others have
        ended. Cancelled while waiting, the remote tasks keep running.

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

    @overload
    async def result_many(
        self, tasks: TaskRefs, *, return_exceptions: Literal[False] = False
    ) -> list[TaskResult]: ...

    @overload
    async def result_many(
        self, tasks: TaskRefs, *, return_exceptions: bool
    ) -> list[TaskResult | CyberunError]: ...

    async def result_many(self, tasks: TaskRefs, *, return_exceptions: bool = False) -> list[Any]:
        """
        Wait for all tasks and return what they made, in the order of *tasks*.

        Failed and cancelled tasks raise as in :meth:`result`, after all have ended.
        Cancelled while waiting, the remote tasks keep running.

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
        workflow: str | UUID | Workflow,
        parameter_sets: ParameterSets,
        *,
        concurrency: int = 8,
        **options: Unpack[RunOptions],
    ) -> Submissions:
        """
        Submit one run per parameter set, a few at a time; yield each :class:`Submission`.

        The sets are taken as room frees, so they may come from a generator without
        end. A submission that fails is yielded with its error and stops none of the
        others.

        Closed or left early, it submits no more. A read that is cancelled inside ``async
        with`` loses nothing, and the next one continues; outside of it the iterator closes. The
        few runs whose answers were awaited when it was closed may or may not have been
        accepted, since the service documents no key by which a run could be sent twice and
        made once. Where none may be lost, use ``cyberun_async.batch``.

        Args:
            workflow: As for :meth:`submit`.
            parameter_sets: The parameters of one run each.
            concurrency: Most submissions that are in flight at once.
            options: Further options, see :class:`RunOptions`.

        Raises:
            InvalidInputError: *parameter_sets* is no iterable, or *concurrency* no number.
            ClientStateError: The client is not open.
        """
        return Submissions(self._session, workflow, parameter_sets, concurrency, options)

    @overload
    async def run_many(
        self,
        workflow: str | UUID | Workflow,
        parameter_sets: ParameterSets,
        *,
        concurrency: int = 8,
        return_exceptions: Literal[False] = False,
        **options: Unpack[RunOptions],
    ) -> list[TaskResult]: ...

    @overload
    async def run_many(
        self,
        workflow: str | UUID | Workflow,
        parameter_sets: ParameterSets,
        *,
        concurrency: int = 8,
        return_exceptions: bool,
        **options: Unpack[RunOptions],
    ) -> list[TaskResult | CyberunError]: ...

    async def run_many(
        self,
        workflow: str | UUID | Workflow,
        parameter_sets: ParameterSets,
        *,
        concurrency: int = 8,
        return_exceptions: bool = False,
        **options: Unpack[RunOptions],
    ) -> list[Any]:
        """
        Submit one run per parameter set, wait for all, and return their results in order.

        A run that fails does not stop the others. Cancelled locally, the remote tasks keep
        running and will be billed. Where none may be lost, use ``cyberun_async.batch``.

        Args:
            workflow: As for :meth:`submit`.
            parameter_sets: The parameters of one run each.
            concurrency: Most submissions that are in flight at once.
            return_exceptions: Errors stand in the list instead of being raised.
            options: Further options, see :class:`RunOptions`.

        Raises:
            CyberunError: One gave no result, as for :meth:`run`.
            ExceptionGroup: Several gave none; it holds the error of each.
            InvalidInputError: *parameter_sets* is no iterable, or *concurrency* no number.
        """
        semaphore = anyio.Semaphore(concurrency_of(concurrency))

        async def run(parameters: Mapping[str, Any]) -> TaskResult:
            async with semaphore:
                task = await self.submit(workflow, parameters, **options)
            return await task.result()

        return await in_order(
            parameter_sets,
            run,
            return_exceptions=return_exceptions,
            what="runs gave no result",
            name="parameter_sets",
        )
