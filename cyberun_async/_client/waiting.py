"""Waiting for the end of one task: how long, what is known then, and which error it is."""

import contextlib
import math
from functools import partial

import attrs

from .._following import Follower, copied
from .._model import (
    CyberunError,
    FailedEvent,
    RequestRejectedError,
    ResumeToken,
    ServiceUnavailableError,
    TaskCancelledError,
    TaskEndedError,
    TaskFailedError,
    TaskSnapshot,
    TaskStatus,
    TerminalEvent,
    UnexpectedResponseError,
    WaitTimeoutError,
    parse_status,
)
from .._transfer import TaskResult
from .._validation import positive_seconds
from .session import Session


# For the one look whether a task has just started, when its time to do so is up.
_LAST_LOOK_SECONDS = 5.0
# For the whole state of a task of which only the end is known.
_DETAILS_SECONDS = 10.0
_NO_ANSWER = (ServiceUnavailableError, RequestRejectedError, UnexpectedResponseError)


def seconds_or_none(name: str, value: float | None) -> float | None:
    """
    Return a limit as it was given, where it is one.

    Raises:
        InvalidInputError: It is no number of seconds.
    """
    return None if value is None else positive_seconds(name, value)


def ended_badly(snapshot: TaskSnapshot) -> TaskEndedError | None:
    """Return the error of a task that failed or was cancelled."""
    kind: type[TaskEndedError]
    match snapshot.status:
        case TaskStatus.FAILED:
            kind = TaskFailedError
        case TaskStatus.CANCELLED:
            kind = TaskCancelledError
        case _:
            return None
    error = kind(task_id=snapshot.id, error=snapshot.error, snapshot=snapshot)
    return error.with_token(token_at(snapshot))


def token_at(snapshot: TaskSnapshot) -> ResumeToken:
    """Return where to continue behind *snapshot*."""
    return ResumeToken(
        task_id=snapshot.id,
        status=snapshot.status,
        attempt=snapshot.attempt,
        retry_count=snapshot.retry_count,
    )


class Deadline:
    """When the time of one call is up: its limit in seconds, and what is left of it."""

    __slots__ = ("_at", "_now", "seconds")

    def __init__(self, session: Session, timeout: float | None) -> None:
        self.seconds: float | None = seconds_or_none("timeout", timeout)
        self._now = session.followers.now
        self._at = math.inf if self.seconds is None else self._now() + self.seconds

    @property
    def left(self) -> float:
        """Seconds that are left; infinitely many without a limit."""
        return max(0.0, self._at - self._now())

    @property
    def left_or_none(self) -> float | None:
        """Seconds that are left; None without a limit."""
        return None if self.seconds is None else self.left


async def wait_for_end(
    session: Session,
    token: ResumeToken,
    *,
    timeout: float | None = None,
    start_timeout: float | None = None,
    cancel_on_timeout: bool = False,
    deadline: Deadline | None = None,
) -> TaskSnapshot:
    """
    Return the task's final state, in time, or by *deadline* where the time has begun before.

    Raises:
        WaitTimeoutError: It has not ended, or not started, in time.
        CyberunError: It could not be followed to its end.
    """
    deadline = deadline or Deadline(session, timeout)
    followers, limit, first = session.followers, deadline.seconds, token
    start_limit = seconds_or_none("start_timeout", start_timeout)
    with session.opened.calls:
        try:
            follower = None
            if start_limit is not None and (limit is None or start_limit < limit):
                look = min(_LAST_LOOK_SECONDS, deadline.left - start_limit)
                follower = await followers.wait_end(token, start_limit, last_look=look)
                token, snapshot = follower.watch.token(), follower.watch.snapshot
                if not follower.end_is_known and not follower.is_running:
                    raise await timed_out(
                        session, token, start_limit, snapshot, cancel_on_timeout, "start"
                    )
            if follower is None or not follower.end_is_known:
                follower = await followers.wait_end(token, deadline.left_or_none)
            if not follower.end_is_known:
                token, snapshot = follower.watch.token(), follower.watch.snapshot
                raise await timed_out(session, token, limit or 0.0, snapshot, cancel_on_timeout)
            return await _final(session, follower, deadline)
        except CyberunError as error:
            error.at_least_with(first)
            raise


async def wait_for_result(
    session: Session,
    token: ResumeToken,
    *,
    timeout: float | None = None,
    start_timeout: float | None = None,
    cancel_on_timeout: bool = False,
    deadline: Deadline | None = None,
) -> TaskResult:
    """
    Return the result of a task that completes in time, as :func:`wait_for_end` has it.

    Raises:
        TaskEndedError: It failed or was cancelled.
        WaitTimeoutError: It has not ended, or its result was not read, in time.
        CyberunError: It could not be followed to its end, or its result not be read.
    """
    deadline = deadline or Deadline(session, timeout)
    with session.opened.calls:
        snapshot = await wait_for_end(
            session,
            token,
            start_timeout=start_timeout,
            cancel_on_timeout=cancel_on_timeout,
            deadline=deadline,
        )
        if (bad_end := ended_badly(snapshot)) is not None:
            raise bad_end
        try:
            reading = session.reading_of(snapshot.id)
            found = await session.within(deadline.left_or_none, reading.read)
        except CyberunError as error:
            error.at_least_with(token_at(snapshot))
            raise
    if found is None:
        late = result_is_late(snapshot, deadline.seconds or 0.0, reading.failure)
        raise late from reading.failure
    return TaskResult(
        session,
        found[0],
        parallel=session.limits.parallel_transfers,
        retries=session.settings.retries,
    )


async def cancel_and_wait(
    session: Session, token: ResumeToken, *, timeout: float | None
) -> TaskSnapshot:
    """
    Ask the service to cancel a task and return the state in which it ends, in time.

    Raises:
        WaitTimeoutError: The request was not answered, or the task has not ended, in time.
        CyberunError: The request was refused, or the task could not be followed to its end.
    """
    deadline = Deadline(session, timeout)
    cancel = partial(session.cancel_task, token.task_id)
    with session.opened.calls:
        try:
            if await session.within(deadline.seconds, cancel) is None:
                raise WaitTimeoutError(
                    task_id=token.task_id, timeout=deadline.seconds or 0.0, cancel_failed=True
                )
        except CyberunError as failure:
            failure.at_least_with(token)
            raise
        try:
            return await wait_for_end(session, token, deadline=deadline)
        except WaitTimeoutError as error:
            raise WaitTimeoutError(
                task_id=token.task_id,
                timeout=error.timeout,
                snapshot=error.snapshot,
                cancel_requested=True,
            ).with_token(error.resume_token) from None


def result_is_late(
    snapshot: TaskSnapshot, seconds: float, last: CyberunError | None = None
) -> WaitTimeoutError:
    """Return the error of a wait whose time is up when the end is known, and no more."""
    error = WaitTimeoutError(
        task_id=snapshot.id,
        timeout=seconds,
        what="deliver its result" + (f" (last answer: {last})" if last is not None else ""),
        snapshot=snapshot,
    )
    return error.with_token(ResumeToken(task_id=snapshot.id, status=snapshot.status))


async def timed_out(
    session: Session,
    token: ResumeToken,
    seconds: float,
    snapshot: TaskSnapshot | None,
    cancel: bool,
    what: str = "end",
) -> WaitTimeoutError:
    """Return the error of a wait whose time is up, after asking for the cancellation wanted."""
    was_taken = cancel and await session.request_cancel(token.task_id)
    error = WaitTimeoutError(
        task_id=token.task_id,
        timeout=seconds,
        what=what,
        snapshot=snapshot,
        cancel_requested=was_taken,
        cancel_failed=cancel and not was_taken,
    )
    return error.with_token(token)


async def _final(session: Session, follower: Follower, deadline: Deadline) -> TaskSnapshot:
    """Return the final state of a task that has ended, by *deadline* at the latest."""
    watch, outcome = follower.watch, follower.outcome
    if isinstance(outcome, CyberunError):
        raise copied(outcome, watch)
    known = watch.snapshot
    if known is not None and known.is_terminal:
        return known
    # The end is known, so an outage is no reason to fail, nor to wait until it is over.
    seconds = min(_DETAILS_SECONDS, deadline.left)
    check = partial(session.followers.check_task, follower.task_id)
    with contextlib.suppress(*_NO_ANSWER):
        found = await session.within(seconds, check)
        known = known if found is None else found[0]
    if outcome is None or (known is not None and known.is_terminal):
        return known or TaskSnapshot(id=follower.task_id, status=watch.status or "")
    return _ended(known or TaskSnapshot(id=follower.task_id, status=outcome.status), outcome)


def _ended(snapshot: TaskSnapshot, end: TerminalEvent) -> TaskSnapshot:
    """Return what was known last, or came from a replica that lags, with the stream's *end*."""
    error = end.error if isinstance(end, FailedEvent) else None
    return attrs.evolve(snapshot, status=parse_status(end.status), error=error or snapshot.error)
