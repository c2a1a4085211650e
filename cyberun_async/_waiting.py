"""Waiting for the end of one task: how long, what is known then, and which error it is."""

import anyio
import attrs

from ._errors import (
    CyberunError,
    RequestRejectedError,
    ServiceUnavailableError,
    TaskCancelledError,
    TaskEndedError,
    TaskFailedError,
    UnexpectedResponseError,
    WaitTimeoutError,
)
from ._events import FailedEvent, TerminalEvent
from ._feed import Feed, copied
from ._inputs import positive_seconds
from ._models import WAITING_STATUSES, ResumeToken, TaskSnapshot, TaskStatus, parse_status
from ._session import Session


# For the one look whether a task has just started, when its time to do so is up.
_LAST_LOOK_SECONDS = 5.0


def seconds_or_none(name: str, value: float | None) -> float | None:
    """
    Return a limit as it was given, where it is one.

    Raises:
        InvalidInputError: It is no number of seconds.
    """
    return None if value is None else positive_seconds(name, value)


def ended_badly(snapshot: TaskSnapshot) -> TaskEndedError | None:
    """Return the error of a task that failed or was cancelled."""
    if snapshot.status == TaskStatus.FAILED:
        return TaskFailedError(task_id=snapshot.id, error=snapshot.error, snapshot=snapshot)
    if snapshot.status == TaskStatus.CANCELLED:
        return TaskCancelledError(task_id=snapshot.id, error=snapshot.error, snapshot=snapshot)
    return None


async def wait_for_end(
    session: Session,
    token: ResumeToken,
    *,
    timeout: float | None,
    start_timeout: float | None,
    cancel_on_timeout: bool,
) -> TaskSnapshot:
    """
    Return the task's final state, in time.

    Raises:
        WaitTimeoutError: It has not ended, or not started, in time.
        CyberunError: It could not be followed to its end.
    """
    hub = session.hub
    limit = seconds_or_none("timeout", timeout)
    start_limit = seconds_or_none("start_timeout", start_timeout)
    if start_limit is not None and (limit is None or start_limit < limit):
        feed = await hub.wait_end(token, start_limit)
        if feed.is_done:
            return await _final(session, feed)
        has_started = await _has_started(session, feed)
        token = feed.watch.token()
        if not has_started:
            snapshot = feed.watch.snapshot
            raise await timed_out(session, token, start_limit, snapshot, cancel_on_timeout, "start")
        limit = None if limit is None else limit - start_limit
    feed = await hub.wait_end(token, limit)
    if not feed.is_done:
        token, snapshot = feed.watch.token(), feed.watch.snapshot
        raise await timed_out(session, token, timeout or 0.0, snapshot, cancel_on_timeout)
    return await _final(session, feed)


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


async def _final(session: Session, feed: Feed) -> TaskSnapshot:
    watch = feed.watch
    if watch.error is not None:
        raise copied(watch.error, watch)
    if watch.snapshot is not None and watch.snapshot.is_terminal:
        return watch.snapshot
    end = feed.outcome
    try:
        snapshot = await session.get_task(feed.task_id)
    except (ServiceUnavailableError, RequestRejectedError, UnexpectedResponseError) as error:
        if not isinstance(end, TerminalEvent):
            error.with_token(watch.token())
            raise
        # The end is known, so an outage is no reason to fail, nor to wait until it is over.
        return _ended(watch.snapshot or TaskSnapshot(id=feed.task_id, status=end.status), end)
    if snapshot.is_terminal or not isinstance(end, TerminalEvent):
        return snapshot
    return _ended(snapshot, end)


def _ended(snapshot: TaskSnapshot, end: TerminalEvent) -> TaskSnapshot:
    """Return what was known last, or a replica that lags has told, with the stream's *end*."""
    error = end.error if isinstance(end, FailedEvent) else None
    return attrs.evolve(snapshot, status=parse_status(end.status), error=error or snapshot.error)


async def _has_started(session: Session, feed: Feed) -> bool:
    if feed.is_running:
        return True
    # What is known may be one poll old; but nobody waits long for the difference.
    with anyio.move_on_after(_LAST_LOOK_SECONDS):
        try:
            snapshot = await session.get_task(feed.task_id)
        except CyberunError:
            return False
        return snapshot.status not in WAITING_STATUSES
    return False
