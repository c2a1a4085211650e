"""One job's submission: the intent first, then the request, then what came of it."""

import json
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import attrs

from .. import (
    AuthenticationError,
    ConfigurationError,
    CyberunClient,
    CyberunError,
    InvalidInputError,
    RateLimitedError,
    RequestRejectedError,
    ServiceUnavailableError,
    SubmissionUncertainError,
    TaskHandle,
    TransferError,
    UnexpectedResponseError,
)
from ._environment import ALONE, Environment
from ._errors import LedgerBusyError, LedgerError
from ._ledger import queries
from ._ledger.ledger import Ledger
from ._ledger.queries import JobRow
from ._patience import Patience
from ._policy import BatchPolicy
from ._throttle import Throttle


# Seconds between two looks whether the service answers again.
_LOOK_PAUSE = 1.0
_TRIES = 3


@attrs.frozen
class Refused:
    """The service rejected the submission; there is no task."""

    reason: str


@attrs.define(eq=False)
class Submitter:
    """Submits the jobs of one run."""

    _client: CyberunClient
    _ledger: Ledger
    _policy: BatchPolicy
    _throttle: Throttle
    _environment: Environment = ALONE
    _in_flight: set[anyio.CancelScope] = attrs.field(init=False, factory=set[anyio.CancelScope])
    _is_stopping: bool = attrs.field(init=False, default=False)
    _is_in_doubt: bool = attrs.field(init=False, default=False)
    _no_look_before: float = attrs.field(init=False, default=float("-inf"))
    _look: anyio.Lock = attrs.field(init=False, factory=anyio.Lock)

    async def submit(self, row: JobRow) -> TaskHandle | Refused | None:
        """
        Submit the job until there is a final answer: a task, a refusal, or None.

        None means that no answer was read, so that there may be a task. After a
        cancellation, the request in flight still gets a grace period for its answer.

        Raises:
            CyberunError: The batch cannot go on. The ledger says that nothing was submitted.
        """
        patience = Patience(self._policy.patience)
        while True:
            sent_at = anyio.current_time()
            is_declined = False
            try:
                return await self._try(row)
            except RateLimitedError as error:
                self._throttle.declined(sent_at, anyio.current_time())
                pause, is_declined = patience.pause_after(error), True
            except ServiceUnavailableError as error:
                pause = patience.pause_after(error)
            # The service has no part in how long a job waits for room.
            patience.extend(await self._throttle.stand_aside(pause, is_declined=is_declined))

    async def guard(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Wait until cancelled; then give the requests in flight a grace period."""
        # A run works in turns; that the last one is over says nothing about this one.
        self._is_stopping = False
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            self._is_stopping = True
            for scope in self._in_flight:
                self._limit(scope)

    def _limit(self, scope: anyio.CancelScope) -> None:
        scope.deadline = anyio.current_time() + self._policy.stop_grace

    async def _until_the_service_answers(self) -> None:
        """
        Once something else has answered a submission, send no more until the service answers.

        Otherwise a proxy's pages would leave all submissions unconfirmed within seconds.

        Raises:
            ServiceUnavailableError: Something else still answers, or nothing.
        """
        if not self._is_in_doubt:
            return
        async with self._look:
            if not self._is_in_doubt:
                return
            if anyio.current_time() < self._no_look_before:
                raise ServiceUnavailableError("the service has just failed to answer")
            self._no_look_before = anyio.current_time() + _LOOK_PAUSE
            try:
                await anext(aiter(self._client.tasks.list(per_page=1)), None)
            except RequestRejectedError as error:
                if not error.from_service:
                    raise ServiceUnavailableError(str(error), status=error.status) from error
            except UnexpectedResponseError as error:
                raise ServiceUnavailableError(str(error), status=error.status) from error
            self._is_in_doubt = False
            self._no_look_before = float("-inf")

    async def _try(self, row: JobRow) -> TaskHandle | Refused | None:
        await self._until_the_service_answers()
        try:
            parameters = {**json.loads(row.parameters), **await self._uploaded(row)}
        except (TransferError, InvalidInputError) as error:
            return await self._refused(row, None, error)
        submission = await self._ledger.write(queries.intend, row.number)
        await self._check_not_stopped(row, submission)
        try:
            return await self._send(row, submission, parameters)
        except SubmissionUncertainError as error:
            # Not where a connection was lost: the next one shows by itself what is there.
            self._is_in_doubt |= getattr(error.__cause__, "status", None) is not None
            await self._ledger.write(queries.lost_answer, submission, error.reason)
            return None
        except (AuthenticationError, RateLimitedError, ServiceUnavailableError) as error:
            await self._withdraw(row, submission, "declined", str(error))
            raise
        except ConfigurationError as error:
            # Without a key that can be sent, nothing is.
            await self._withdraw(row, submission, "withdrawn", str(error))
            raise
        except (RequestRejectedError, InvalidInputError) as error:
            return await self._refused(row, submission, error)

    async def _withdraw(self, row: JobRow, submission: int, answer: str, why: str) -> None:
        await self._ledger.write(queries.withdraw, row.number, submission, answer, why)

    async def _check_not_stopped(self, row: JobRow, submission: int) -> None:
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
            await self._environment.permit()
            # A permit that is requested in a thread does not notice a stop in the meantime.
            await anyio.lowlevel.checkpoint_if_cancelled()
            # A client closed during a request may have sent it; closed now, it has not.
            self._client.statistics()  # raises unless it is open, here
        except BaseException:
            await self._withdraw(row, submission, "withdrawn", "never sent")
            raise

    async def _refused(self, row: JobRow, submission: int | None, error: CyberunError) -> Refused:
        await self._ledger.write(queries.reject, row.number, submission, str(error))
        return Refused(str(error))

    async def _send(self, row: JobRow, submission: int, parameters: dict[str, Any]) -> TaskHandle:
        options: dict[str, str] = json.loads(row.options)
        with anyio.CancelScope(shield=True) as scope:
            self._in_flight.add(scope)
            if self._is_stopping:
                self._limit(scope)
            try:
                handle = await self._client.submit(
                    row.workflow,
                    parameters,
                    dispatch_target=options.get("dispatch_target"),
                    target_pool=options.get("target_pool"),
                    submitter_region=options.get("submitter_region"),
                    tool_type=options.get("tool_type"),
                    # What is declined slows the whole batch down, not this job alone.
                    retry=False,
                )
                await self._note(row, submission, handle.id)
                self._throttle.accepted()
                return handle
            finally:
                self._in_flight.discard(scope)
        # The grace period was too short: the batch is being cancelled, and this is unconfirmed.
        await anyio.sleep_forever()
        raise AssertionError

    async def _note(self, row: JobRow, submission: int, task_id: str) -> None:
        # What is not noted may be billed twice, so a lock is waited for longer than elsewhere.
        for tries_left in reversed(range(_TRIES)):
            try:
                return await self._ledger.write(queries.accept, row.number, submission, task_id)
            except LedgerError as error:
                if not (tries_left and isinstance(error, LedgerBusyError)):
                    error.unrecorded.append((row.key, task_id))
                    raise
        raise AssertionError

    async def _uploaded(self, row: JobRow) -> dict[str, str]:
        # Before the intent is noted, so that an upload cut short leaves no question open.
        files: dict[str, str] = json.loads(row.files)
        return {
            key: (await self._client.files.upload(Path(path))).key for key, path in files.items()
        }
