"""Waiting for the end of one task: how long, what is known then, and which error it is."""

import contextlib
import math
from functools import partial

import attrs

from .._following import Follower, copied
from .._model import (
    CyberunError,
    FailedEvent,
    RawResult,
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
    """Return where to go on behind *snapshot*."""
    return ResumeToken(
        task_id=snapshot.id,
        status=snapshot.status,
        attempt=snapshot.attempt,
        retry_count=snapshot.retry_count,
    )


async def wait_for_end(
    session: Session,
    token: ResumeToken,
    *,
    timeout: float | None,
    start_timeout: float | None,
    cancel_on_timeout: bool,
    until: float | None = None,
) -> TaskSnapshot:
    """
    Return the task's final state, in time, or by *until* where the time has begun before.

    Raises:
        WaitTimeoutError: It has not ended, or not started, in time.
        CyberunError: It could not be followed to its end.
    """
    followers = session.followers
    limit = seconds_or_none("timeout", timeout)
    start_limit = seconds_or_none("start_timeout", start_timeout)
    if until is None:
        until = math.inf if limit is None else followers.now() + limit
    if start_limit is not None and (limit is None or start_limit < limit):
        look = min(_LAST_LOOK_SECONDS, until - followers.now() - start_limit)
        follower = await followers.wait_end(token, start_limit, last_look=look)
        if follower.end_is_known:
            return await _final(session, follower, until)
        token = follower.watch.token()
        if not follower.is_running:
            snapshot = follower.watch.snapshot
            raise await timed_out(session, token, start_limit, snapshot, cancel_on_timeout, "start")
    follower = await followers.wait_end(
        token, None if limit is None else max(0.0, until - followers.now())
    )
    if not follower.end_is_known:
        token, snapshot = follower.watch.token(), follower.watch.snapshot
        raise await timed_out(session, token, timeout or 0.0, snapshot, cancel_on_timeout)
    return await _final(session, follower, until)


async def result_in_time(
    session: Session,
    token: ResumeToken,
    *,
    timeout: float | None,
    cancel_on_timeout: bool,
    until: float | None = None,
) -> RawResult:
    """
    Return the result of a task that completes in time, as :func:`wait_for_end` has it.

    Raises:
        TaskEndedError: It failed or was cancelled.
        WaitTimeoutError: It has not ended, or its result was not read, in time.
        CyberunError: It could not be followed to its end, or its result not be read.
    """
    limit = seconds_or_none("timeout", timeout)
    if until is None:
        until = math.inf if limit is None else session.followers.now() + limit
    snapshot = await wait_for_end(
        session,
        token,
        timeout=timeout,
        start_timeout=None,
        cancel_on_timeout=cancel_on_timeout,
        until=until,
    )
    if (error := ended_badly(snapshot)) is not None:
        raise error
    if limit is None:
        return await _result_of(session, snapshot)
    seconds = until - session.followers.now()
    found = await session.within(seconds, partial(_result_of, session, snapshot))
    if found is None:
        raise result_is_late(snapshot, limit)
    return found[0]


async def _result_of(session: Session, snapshot: TaskSnapshot) -> RawResult:
    try:
        return await session.raw_result(snapshot.id, is_completed=True)
    except CyberunError as error:
        error.at_least_with(token_at(snapshot))
        raise


async def cancel_and_wait(
    session: Session, token: ResumeToken, timeout: float | None
) -> TaskSnapshot:
    """
    Return the state in which a task ends that the service is asked to cancel, in time.

    Raises:
        WaitTimeoutError: The request was not answered, or the task has not ended, in time.
        CyberunError: The request was refused, or the task could not be followed to its end.
    """
    followers = session.followers
    limit = seconds_or_none("timeout", timeout)
    until = math.inf if limit is None else followers.now() + limit
    cancel = partial(followers.requests.cancel, token.task_id)
    try:
        if limit is None:
            await cancel()
        elif await session.within(limit, cancel) is None:
            raise WaitTimeoutError(task_id=token.task_id, timeout=limit, cancel_failed=True)
    except CyberunError as error:
        error.at_least_with(token)
        raise
    try:
        return await wait_for_end(
            session,
            token,
            timeout=limit,
            start_timeout=None,
            cancel_on_timeout=False,
            until=until,
        )
    except WaitTimeoutError as error:
        raise WaitTimeoutError(
            task_id=token.task_id,
            timeout=error.timeout,
            snapshot=error.snapshot,
            cancel_requested=True,
        ).with_token(error.resume_token) from None


def result_is_late(snapshot: TaskSnapshot, seconds: float) -> WaitTimeoutError:
    """Return the error of a wait whose time is up when the end is known, and no more."""
    error = WaitTimeoutError(
        task_id=snapshot.id, timeout=seconds, what="deliver its result", snapshot=snapshot
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


async def _final(session: Session, follower: Follower, until: float) -> TaskSnapshot:
    """Return the final state of a task that has ended, by *until* at the latest."""
    watch, outcome = follower.watch, follower.outcome
    if isinstance(outcome, CyberunError):
        raise copied(outcome, watch)
    known = watch.snapshot
    if known is not None and known.is_terminal:
        return known
    # The end is known, so an outage is no reason to fail, nor to wait until it is over.
    seconds = min(_DETAILS_SECONDS, until - session.followers.now())
    with contextlib.suppress(*_NO_ANSWER):
        found = await session.within(
            seconds, partial(session.followers.check_task, follower.task_id)
        )
        known = known if found is None else found[0]
    if outcome is None or (known is not None and known.is_terminal):
        return known or TaskSnapshot(id=follower.task_id, status=watch.status or "")
    return _ended(known or TaskSnapshot(id=follower.task_id, status=outcome.status), outcome)


def _ended(snapshot: TaskSnapshot, end: TerminalEvent) -> TaskSnapshot:
    """Return what was known last, or a replica that lags has told, with the stream's *end*."""
    error = end.error if isinstance(end, FailedEvent) else None
    return attrs.evolve(snapshot, status=parse_status(end.status), error=error or snapshot.error)
