"""One job's submission: the intent first, then the request, then what came of it."""

import json
import sqlite3
from collections.abc import Callable
from functools import partial
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
from ._ledger import queries as records
from ._ledger.ledger import Ledger
from ._ledger.queries import JobRow
from ._patience import Patience
from ._policy import BatchPolicy
from ._throttle import Throttle


# Seconds between two looks whether the service answers again.
_LOOK_PAUSE = 1.0
_MORE_TRIES = 2


@attrs.frozen
class Accepted:
    """The submission became this task."""

    task: TaskHandle


@attrs.frozen
class Refused:
    """The service would not have it; there is no task."""

    reason: str


@attrs.frozen
class Unanswered:
    """No answer was read: there may be a task."""


class Submitter:
    """Submits the jobs of one run."""

    def __init__(
        self,
        client: CyberunClient,
        ledger: Ledger,
        policy: BatchPolicy,
        throttle: Throttle,
        environment: Environment = ALONE,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._policy = policy
        self._throttle = throttle
        self._permit = environment.permit
        self._on_the_way: set[anyio.CancelScope] = set()
        self._is_stopping = False
        self._is_in_doubt = False
        self._no_look_before = float("-inf")
        self._look = anyio.Lock()

    async def submit(self, row: JobRow) -> Accepted | Refused | Unanswered:
        """
        Submit the job until there is an answer that is final.

        Cancelled, the request on its way still gets a moment for its answer.

        Raises:
            CyberunError: The batch cannot go on. The ledger says that nothing was submitted.
        """
        patience = Patience(self._policy.patience)
        while True:
            sent_at = anyio.current_time()
            failure: RateLimitedError | ServiceUnavailableError
            try:
                return await self._try(row)
            except RateLimitedError as error:
                self._throttle.declined(sent_at, anyio.current_time())
                failure = error
            except ServiceUnavailableError as error:
                if error.is_final:
                    raise
                failure = error
            is_declined = isinstance(failure, RateLimitedError)
            pause = patience.pause_after(failure)
            # The service has no part in how long a job waits for room.
            patience.extend(await self._throttle.stand_aside(pause, is_declined=is_declined))

    async def guard(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Once cancelled, give the requests on their way a moment for their answers."""
        # A run works in turns; that the last one is over says nothing about this one.
        self._is_stopping = False
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            self._is_stopping = True
            for scope in self._on_the_way:
                self._give_a_moment(scope)

    def _give_a_moment(self, scope: anyio.CancelScope) -> None:
        scope.deadline = anyio.current_time() + self._policy.stop_grace

    async def _until_the_service_answers(self) -> None:
        """
        Once something else has answered a submission, send no more until the service answers.

        Otherwise a proxy's pages would leave the fates of all jobs open within seconds.

        Raises:
            ServiceUnavailableError: Something else still answers, or nothing.
        """
        if not self._is_in_doubt:
            return
        async with self._look:
            if not self._is_in_doubt:
                return
            if anyio.current_time() < self._no_look_before:
                raise ServiceUnavailableError("the service did not answer a moment ago")
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

    async def _try(self, row: JobRow) -> Accepted | Refused | Unanswered:
        await self._until_the_service_answers()
        try:
            parameters = {**json.loads(row.parameters), **await self._uploaded(row)}
        except (TransferError, InvalidInputError) as error:
            return await self._refused(row, None, error)
        submission = await self._ledger.write(partial(records.intend, job=row.number))
        withdraw = partial(records.withdraw, job=row.number, submission=submission)
        await self._unless_stopped(partial(withdraw, answer="withdrawn", why="never sent"))
        try:
            return await self._send(row, submission, parameters)
        except SubmissionUncertainError as error:
            # Not where a connection was lost: the next one shows by itself what is there.
            self._is_in_doubt |= getattr(error.__cause__, "status", None) is not None
            lost = partial(records.lost_answer, submission=submission, why=error.reason)
            await self._ledger.write(lost)
            return Unanswered()
        except (AuthenticationError, RateLimitedError, ServiceUnavailableError) as error:
            await self._ledger.write(partial(withdraw, answer="declined", why=str(error)))
            raise
        except ConfigurationError as error:
            # Without a key that can be sent, nothing is.
            await self._ledger.write(partial(withdraw, answer="withdrawn", why=str(error)))
            raise
        except (RequestRejectedError, InvalidInputError) as error:
            return await self._refused(row, submission, error)

    async def _unless_stopped(self, undo: Callable[[Any], None]) -> None:
        try:
            await anyio.lowlevel.checkpoint_if_cancelled()
            await self._permit()
            # A permit that is asked for in a thread does not notice a stop that comes meanwhile.
            await anyio.lowlevel.checkpoint_if_cancelled()
            # Closed in the midst of a request it may have been sent; closed now it is not.
            self._client.statistics()  # raises unless it is open, here
        except BaseException:
            await self._ledger.write(undo)
            raise

    async def _refused(self, row: JobRow, submission: int | None, error: CyberunError) -> Refused:
        reject = partial(records.reject, job=row.number, submission=submission, why=str(error))
        await self._ledger.write(reject)
        return Refused(str(error))

    async def _send(self, row: JobRow, submission: int, parameters: dict[str, Any]) -> Accepted:
        options: dict[str, str] = json.loads(row.options)
        with anyio.CancelScope(shield=True) as scope:
            self._on_the_way.add(scope)
            if self._is_stopping:
                self._give_a_moment(scope)
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
                return Accepted(handle)
            finally:
                self._on_the_way.discard(scope)
        # The moment was too short, so the batch is being cancelled and the fate unknown.
        await anyio.sleep_forever()
        raise AssertionError

    async def _note(self, row: JobRow, submission: int, task_id: str) -> None:
        accept = partial(records.accept, job=row.number, submission=submission, task_id=task_id)
        try:
            await self._write_at_last(accept)
        except LedgerError as error:
            error.unrecorded.append((row.key, task_id))
            raise

    async def _write_at_last(self, step: Callable[[sqlite3.Connection], None]) -> None:
        # What is not noted may be paid for twice, so a lock is waited for longer than else.
        for _ in range(_MORE_TRIES):
            try:
                return await self._ledger.write(step)
            except LedgerBusyError:
                pass
        return await self._ledger.write(step)

    async def _uploaded(self, row: JobRow) -> dict[str, str]:
        # Before the intent is noted, so that an upload cut short leaves no question open.
        files: dict[str, str] = json.loads(row.files)
        return {
            key: (await self._client.files.upload(Path(path))).key for key, path in files.items()
        }
