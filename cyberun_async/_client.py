"""The client: one method per thing a user wants done."""

import copy
import inspect
import os
import ssl
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from uuid import UUID

import anyio

from ._choices import Choices, changed
from ._codec import decode_submission, decode_task
from ._credentials import KeyProvider, Keyring
from ._errors import (
    ClientStateError,
    ConfigurationError,
    CyberunError,
    InvalidInputError,
    ServiceUnavailableError,
    SubmissionUncertainError,
    TaskCancelledError,
    TaskFailedError,
    UnexpectedResponseError,
    WaitTimeoutError,
)
from ._events import Notice, ProgressEvent
from ._exchange import Reply
from ._feed import Feed, copied
from ._files import Files, file_parameters_of
from ._group import MergedEvents, Outcome, Submission, in_order, outcomes, submissions
from ._handle import TaskHandle
from ._inputs import (
    WorkflowRef,
    base_url_of,
    callable_of,
    header_text,
    method_of,
    path_for,
    positive_seconds,
    raw_path_of,
    task_id_of,
    workflow_path,
)
from ._models import WAITING_STATUSES, ResultRecord, ResumeToken, TaskSnapshot, TaskStatus
from ._observer import Observer
from ._options import Limits, RetryPolicy, Timeouts, WatchPolicy
from ._progress_view import ProgressView
from ._pump import Pump
from ._resources import (
    Agents,
    Tasks,
    Workflows,
    json_of,
    query_of,
    reference_of,
    run_options,
)
from ._results import TaskResult
from ._runtime import utc_now
from ._session import Core, Session
from ._statistics import ClientStatistics
from ._stream import EventStream
from ._tokens import looks_like_a_token, token_of
from ._transport import TransportSettings
from ._transport_settings import kind_of
from ._uploads import Store
from ._version import version
from ._webhook_admin import Webhooks
from ._workflow import Workflow


if TYPE_CHECKING:
    import httpx  # noqa: TID251 - named in two types, never imported

DEFAULT_BASE_URL = "https://core.cyberun.cloud/api/v1"

# For the one look whether a task has just started, when its time to do so is up.
_LAST_LOOK_SECONDS = 5.0

TaskRef = TaskHandle | ResumeToken | UUID | str
OnProgress = Callable[[ProgressEvent], Awaitable[None] | None]


class CyberunClient:
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
        policy: How watches behave when the service does not.
        retries: How plain requests are repeated.
        timeouts: Limits of one request, by phase.
        limits: What may grow, and how far.
        proxy: A proxy for everything; None asks the environment.
        verify: False turns certificates off, a path or context replaces the default.
        transport:
            ``"aiohttp"`` is several times faster with many events, and needs the extra
            ``fast`` and asyncio. It is never chosen by itself.

        transport_factory: Makes an ``httpx`` transport for each connection, for tests.
        http_client: Serves plain requests in place of connections of the library's own.
        user_agent: Put in front of the library's own.
        headers: Sent with every request to the API, never to other origins.
        on_notice: Called with each :class:`Notice` of any watch. It must not block.
        observer: Told of everything that watches do, for tracing and metrics.

    Raises:
        ConfigurationError: The key, the base URL or a setting is wrong.
    """

    def __init__(
        self,
        api_key: str | KeyProvider | None = None,
        *,
        team_id: str | None = None,
        base_url: str | None = None,
        # How watches and requests behave
        policy: WatchPolicy | None = None,
        retries: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        limits: Limits | None = None,
        # The network
        proxy: str | None = None,
        verify: bool | str | ssl.SSLContext = True,
        transport: Literal["httpx", "aiohttp"] = "httpx",
        transport_factory: "Callable[[], httpx.AsyncBaseTransport] | None" = None,
        http_client: "httpx.AsyncClient | None" = None,
        user_agent: str | None = None,
        headers: Mapping[str, str] | None = None,
        # Who is told
        on_notice: Callable[[Notice], None] | None = None,
        observer: Observer | None = None,
    ) -> None:
        keyring = Keyring(_key_or_environment(api_key), _team_of(team_id))
        settings = TransportSettings(
            base_url=base_url_of(
                base_url or os.environ.get("CYBERUN_BASE_URL") or DEFAULT_BASE_URL
            ),
            limits=limits or Limits(),
            proxy=proxy,
            verify=verify,
            kind=kind_of(transport),
            transport_factory=transport_factory,
            http_client=http_client,
        )
        choices = changed(
            Choices(policy=WatchPolicy(), user_agent=_own_agent()),
            own_agent=_own_agent(),
            policy=policy,
            retries=retries,
            timeouts=timeouts,
            user_agent=user_agent,
            headers=headers,
            on_notice=on_notice,
        )
        self._session = Session(Core(settings, keyring, observer), choices)

    def __repr__(self) -> str:
        core = self._session.core
        return f"<CyberunClient {core.settings.base_url} {core.state}>"

    # Lifetime

    async def __aenter__(self) -> Self:
        self._check_owner("opened")
        await self._session.core.open(self._session.choices)
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
        self,
        *,
        policy: WatchPolicy | None = None,
        retries: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        user_agent: str | None = None,
        headers: Mapping[str, str] | None = None,
        on_notice: Callable[[Notice], None] | None = None,
    ) -> Self:
        """
        Return a sibling: this client with other settings, on the same connections.

        Connections, key, stream slots, pace, retry quota, observer and statistics are
        those of the client it came from. It is usable while that one is open, and is
        neither opened nor closed itself. It costs little, so one per call is fine.

        Siblings whose settings are equal share the streams of their watches; with
        others, a task that both watch has a stream for each.

        Args:
            policy, retries, timeouts: In place of the client's; None keeps them.
            user_agent: In place of what the client puts in front of the library's own.
            headers: Added to the client's; one of the same name is replaced.
            on_notice: In place of the client's; it hears of the sibling's watches alone.

        Raises:
            ConfigurationError: A setting is of another kind.
            InvalidInputError: A header cannot be sent.
        """
        choices = changed(
            self._session.choices,
            own_agent=_own_agent(),
            policy=policy,
            retries=retries,
            timeouts=timeouts,
            user_agent=user_agent,
            headers=headers,
            on_notice=on_notice,
        )
        sibling = copy.copy(self)
        vars(sibling)["_session"] = self._session.sibling(choices)
        return sibling

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
        repeat: bool = True,
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

            repeat:
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
        hub = self._session.hub
        ref = reference_of(workflow, slug=slug)
        extras = run_options(
            dispatch_target=dispatch_target,
            target_pool=target_pool,
            submitter_region=submitter_region,
            tool_type=tool_type,
        )
        values = file_parameters_of(parameters)
        await self._validate(ref, values, workflow, definition, validate)
        body: dict[str, Any] = {"parameters": await self.files.sent_along(values), **extras}
        sent_at = utc_now()
        try:
            reply = await hub.caller.call(
                "POST",
                workflow_path(ref, "run"),
                json_body=body,
                is_submission=True,
                repeatable=repeat,
            )
            task_id = decode_submission(reply)
        except (ServiceUnavailableError, UnexpectedResponseError) as error:
            if _is_certain(error):
                raise
            raise SubmissionUncertainError(
                workflow=ref.text,
                parameters=body["parameters"],
                sent_at=sent_at,
                reason=str(error),
            ) from error
        return TaskHandle(task_id, client=self, submitted_at=sent_at)

    async def _validate(
        self,
        ref: WorkflowRef,
        parameters: Mapping[str, Any],
        workflow: str | UUID | Workflow,
        definition: Workflow | None,
        validate: bool | None,
    ) -> None:
        if definition is not None and not isinstance(definition, Workflow):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(definition).__name__
            raise InvalidInputError(f"definition must be a Workflow, not {kind}")
        if definition is None and isinstance(workflow, Workflow):
            definition = workflow
        if validate and (definition is None or definition.parameters is None):
            definition = await self.workflows.get(ref)
        if definition is not None and validate is not False:
            definition.validate(parameters)

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
            timeout: Seconds for the whole; None waits for ever.
            cancel_on_timeout: Ask the service to cancel the task when time is up.
            cancel_on_exit: Ask it likewise when this call is cancelled or fails.

        Raises:
            TaskFailedError: The task failed.
            TaskCancelledError: It was cancelled.
            WaitTimeoutError: Time was up; it carries a resume token.
            SubmissionUncertainError: As for :meth:`submit`, and so are its other errors.
            WatchLostError: Nothing was heard for longer than the policy allows.
        """
        # Nothing may be paid for that is then refused here.
        callable_of("on_progress", on_progress)
        _seconds("timeout", timeout)
        task = await self.submit(
            workflow,
            parameters,
            slug=slug,
            validate=validate,
            definition=definition,
            dispatch_target=dispatch_target,
            target_pool=target_pool,
            submitter_region=submitter_region,
            tool_type=tool_type,
        )
        try:
            if on_progress is None:
                return await self.result(task, timeout=timeout, cancel_on_timeout=cancel_on_timeout)
            return await self._run_watched(task, on_progress, timeout, cancel_on_timeout)
        except (TaskFailedError, TaskCancelledError, WaitTimeoutError):
            raise
        except BaseException:
            if cancel_on_exit:
                await self._session.request_cancel(task.id)
            raise

    async def _run_watched(
        self,
        task: TaskHandle,
        on_progress: OnProgress,
        timeout: float | None,
        cancel_on_timeout: bool,
    ) -> TaskResult:
        stream = self.watch(task)
        with anyio.move_on_after(_seconds("timeout", timeout)):
            async with stream as events:
                async for event in events:
                    if isinstance(event, ProgressEvent):
                        answer = on_progress(event)
                        if inspect.isawaitable(answer):
                            await answer
            return await self.result(task)
        raise await self._timed_out(
            stream.token(), timeout or 0.0, stream.snapshot, cancel_on_timeout
        )

    # Following

    def task(self, task: TaskRef) -> TaskHandle:
        """
        Return a handle bound to this client, without asking the service.

        Args:
            task: A handle, an id or a resume token.

        Raises:
            InvalidInputError: *task* is no task id.
        """
        if isinstance(task, TaskHandle):
            return task.bound_to(self)
        token = _token_of(task)
        return TaskHandle(token.task_id, client=self, submitted_at=token.submitted_at)

    def watch(
        self, task: TaskRef, *, notices: bool = False, cancel_on_exit: bool = False
    ) -> EventStream:
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
            notices: Deliver :class:`Notice` values in between, too.
            cancel_on_exit: Ask the service to cancel the task if the watch is left early.

        Raises:
            InvalidInputError: *task* is no task id.
            TaskNotFoundError: While reading: no such task, or not yours.
            WatchLostError: While reading: nothing was heard for longer than the policy allows.
            ClientStateError: While reading: the client is not open.
        """
        return EventStream(
            self._session,
            _token_of(task),
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
            _token_of(task),
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
            cancel_on_timeout: Ask the service to cancel the task when time is up.

        Raises:
            WaitTimeoutError: Time was up; it carries a resume token.
            TaskNotFoundError: No such task, or not yours.
            AuthenticationError: The key is not accepted.
            WatchLostError: Nothing was heard for longer than the policy allows.
        """
        with self._session.opened.calls:
            return await self._wait(
                _token_of(task),
                timeout=timeout,
                start_timeout=start_timeout,
                cancel_on_timeout=cancel_on_timeout,
            )

    async def _wait(
        self,
        token: ResumeToken,
        *,
        timeout: float | None,
        start_timeout: float | None,
        cancel_on_timeout: bool,
    ) -> TaskSnapshot:
        hub = self._session.hub
        limit = _seconds("timeout", timeout)
        start_limit = _seconds("start_timeout", start_timeout)
        if start_limit is not None and (limit is None or start_limit < limit):
            feed = await hub.wait_end(token, start_limit)
            if feed.is_done:
                return await self._final(feed)
            if not await self._has_started(feed):
                raise await self._timed_out(
                    feed.watch.token(), start_limit, feed.watch.snapshot, cancel_on_timeout, "start"
                )
            token = feed.watch.token()
            limit = None if limit is None else limit - start_limit
        feed = await hub.wait_end(token, limit)
        if not feed.is_done:
            raise await self._timed_out(
                feed.watch.token(), timeout or 0.0, feed.watch.snapshot, cancel_on_timeout
            )
        return await self._final(feed)

    async def _final(self, feed: Feed) -> TaskSnapshot:
        watch = feed.watch
        if watch.error is not None:
            raise copied(watch.error, watch)
        if watch.snapshot is not None and watch.snapshot.is_terminal:
            return watch.snapshot
        return await self.get_task(feed.task_id)

    async def _has_started(self, feed: Feed) -> bool:
        if feed.is_running:
            return True
        # What is known may be one poll old; but nobody waits long for the difference.
        with anyio.move_on_after(_LAST_LOOK_SECONDS):
            try:
                snapshot = await self.get_task(feed.task_id)
            except CyberunError:
                return False
            return snapshot.status not in WAITING_STATUSES
        return False

    async def _timed_out(
        self,
        token: ResumeToken,
        seconds: float,
        snapshot: TaskSnapshot | None,
        cancel: bool,
        what: str = "end",
    ) -> WaitTimeoutError:
        if cancel:
            await self._session.request_cancel(token.task_id)
        error = WaitTimeoutError(
            task_id=token.task_id,
            timeout=seconds,
            what=what,
            snapshot=snapshot,
            cancel_requested=cancel,
        )
        return error.with_token(token)

    async def result(
        self, task: TaskRef, *, timeout: float | None = None, cancel_on_timeout: bool = False
    ) -> TaskResult:
        """
        Wait until the task has ended and return what it made.

        Cancelled while waiting, the remote task goes on.

        Args:
            task: A handle, an id or a resume token.
            timeout: Seconds for the whole; None waits for ever.
            cancel_on_timeout: Ask the service to cancel the task when time is up.

        Raises:
            TaskFailedError: It failed.
            TaskCancelledError: It was cancelled.
            WaitTimeoutError: Time was up; it carries a resume token.
            TaskNotFoundError: No such task, or not yours.
            WatchLostError: Nothing was heard for longer than the policy allows.
        """
        with self._session.opened.calls:
            return await self._result(task, timeout, cancel_on_timeout)

    async def _result(
        self, task: TaskRef, timeout: float | None, cancel_on_timeout: bool
    ) -> TaskResult:
        snapshot = await self.wait(task, timeout=timeout, cancel_on_timeout=cancel_on_timeout)
        if snapshot.status == TaskStatus.FAILED:
            raise TaskFailedError(task_id=snapshot.id, error=snapshot.error, snapshot=snapshot)
        if snapshot.status == TaskStatus.CANCELLED:
            raise TaskCancelledError(task_id=snapshot.id, error=snapshot.error, snapshot=snapshot)
        record = await self.result_record(snapshot.id)
        return TaskResult(
            self._session,
            record,
            parallel=self._limits.parallel_transfers,
            retries=self._session.choices.retries,
        )

    @property
    def _limits(self) -> Limits:
        return self._session.core.settings.limits

    # What the service holds

    @property
    def workflows(self) -> Workflows:
        """The team's workflows."""
        return Workflows(self._session.ask)

    @property
    def tasks(self) -> Tasks:
        """The team's tasks, those of other programs included."""
        return Tasks(self._session.ask, self)

    @property
    def agents(self) -> Agents:
        """The GPU agents that are connected."""
        return Agents(self._session.ask)

    @property
    def files(self) -> Files:
        """Files for the inputs of runs."""
        session = self._session
        store = Store(session.ask, session.put)
        return Files(store, limits=self._limits, retries=session.choices.retries)

    @property
    def webhooks(self) -> Webhooks:
        """The team's webhooks."""
        base_url = self._session.core.settings.base_url
        return Webhooks(self._session.ask, allow_http=base_url.startswith("http://"))

    # Many tasks

    def watch_many(
        self, tasks: Iterable[TaskRef] | AsyncIterable[TaskRef], *, notices: bool = False
    ) -> MergedEvents:
        """
        Follow many tasks in one iterator; it ends when all have ended.

        More may be added while it runs, with its ``add``. A watch that fails does not
        disturb the others: its error, or an ``ExceptionGroup`` of several, is raised at
        the end. Use it with ``async with``, or close it. Cancelled while it is read, it
        closes, and the remote tasks go on.

        Args:
            tasks: Handles, ids or resume tokens.
            notices: Deliver :class:`Notice` values in between, too.

        Raises:
            InvalidInputError: *tasks* is no iterable.
        """
        return MergedEvents(self, self._session.opened.runtime.spawn, tasks, notices=notices)

    def as_completed(self, tasks: Iterable[TaskRef] | AsyncIterable[TaskRef]) -> Pump[Outcome]:
        """
        Return an async iterator over the :class:`Outcome` of each task, as they end.

        It raises for no single task: its outcome has the error. Use it with ``async
        with``, or close it. Cancelled while it is read, it closes, and the remote tasks go
        on; what had ended is told again to whoever asks again.

        Args:
            tasks: Handles, ids or resume tokens; taken as they come, all followed at once.

        Raises:
            InvalidInputError: *tasks* is no iterable; or, while reading, one is no task.
            ClientStateError: The client is not open.
        """
        return outcomes(self, self._session.opened.runtime.spawn, tasks)

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

        Closed, left early or cancelled while it is read, it submits no more. The few runs
        whose answers were awaited just then may or may not have been accepted, since the
        service documents no key by which a run could be sent twice and made once. Where
        none may be lost, use ``cyberun_async.batch``.

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
            self, self._session.opened.runtime.spawn, workflow, parameter_sets, concurrency, options
        )

    # Single requests

    async def get_task(self, task: TaskRef) -> TaskSnapshot:
        """
        Ask for a task's present state, with one request, made again where it fails.

        Cancelled, nothing has changed. To wait for the end, :meth:`wait` asks less often.

        Args:
            task: A handle, an id or a resume token.

        Raises:
            TaskNotFoundError: No such task, or not yours.
            RequestRejectedError: The service refused to answer.
            ServiceUnavailableError: It could not be reached or kept failing.
            UnexpectedResponseError: Its answer was not the protocol.
            InvalidInputError: *task* is no task.
        """
        task_id = _token_of(task).task_id
        reply = await self._session.hub.caller.call("GET", path_for("tasks", task_id), task=True)
        return decode_task(reply)

    async def result_record(self, task: TaskRef) -> ResultRecord:
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
            RequestRejectedError: The service refused, for instance before the end.
            ServiceUnavailableError: It could not be reached or kept failing.
            UnexpectedResponseError: Its answer was not the protocol.
            InvalidInputError: *task* is no task.
        """
        return await self._session.result_record(_token_of(task).task_id)

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
        await self._session.hub.cancel_task(_token_of(task).task_id)

    async def cancel_and_wait(self, task: TaskRef, *, timeout: float | None = None) -> TaskSnapshot:
        """
        Ask the service to cancel a task and return the state in which it really ended.

        It may have completed first: the service documents no other sign of which came
        first than the state. Cancelled while waiting, the request stands.

        Args:
            task: A handle, an id or a resume token.
            timeout: Seconds to wait for the end; None waits for ever.

        Raises:
            TaskNotFoundError: No such task, or not yours.
            WaitTimeoutError: Time was up; it carries a resume token.
            RequestRejectedError: The service refused to cancel.
            ServiceUnavailableError: It could not be asked.
            WatchLostError: Nothing was heard for longer than the policy allows.
            InvalidInputError: *task* is no task, or *timeout* no number of seconds.
        """
        await self.cancel(task)
        return await self.wait(task, timeout=timeout)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
    ) -> Reply:
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
        return await self._session.ask(
            verb,
            raw_path_of(path),
            params=None if params is None else query_of(params),
            json_body=json_of(json),
            repeatable=verb in ("GET", "HEAD"),
        )

    def statistics(self) -> ClientStatistics:
        """
        Return what the client is doing now and has done so far, its siblings included.

        Raises:
            ClientStateError: The client is not open, or belongs to another event loop.
        """
        return self._session.statistics()

    def check_open(self) -> None:
        """
        Raise unless the client can be used here and now.

        Raises:
            ClientStateError: It is not open, or belongs to another event loop.
        """
        self._session.check_open()


def _key_or_environment(api_key: str | KeyProvider | None) -> str | KeyProvider:
    if api_key is None:
        api_key = os.environ.get("CYBERUN_API_KEY") or os.environ.get("CYBERUN_KEY")
    if api_key is None:
        raise ConfigurationError(
            "no API key: pass api_key=... or set CYBERUN_API_KEY in the environment"
        )
    if not isinstance(api_key, str) and not callable(api_key):
        kind = type(api_key).__name__
        raise ConfigurationError(f"api_key must be a string or a callable, not {kind}")
    return api_key


def _team_of(team_id: str | None) -> str | None:
    return None if team_id is None else header_text("team_id", team_id)


def _own_agent() -> str:
    return f"cyberun_async/{version()}"


def _seconds(name: str, value: float | None) -> float | None:
    return None if value is None else positive_seconds(name, value)


def _token_of(task: object) -> ResumeToken:
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


def _is_certain(error: CyberunError) -> bool:
    """Return whether the run was certainly not accepted."""
    if isinstance(error, UnexpectedResponseError):
        return False
    if isinstance(error, ServiceUnavailableError):
        if error.status is None:
            return not error.maybe_sent
        return error.status == 503 and error.error_message is not None
    return True
