"""Facts for the decision core of a watch, as values that tests put into tables."""

from collections.abc import Callable
from typing import Any

from cyberun_async._model import (
    AuthenticationError,
    CancelledEvent,
    CompletedEvent,
    CyberunError,
    Event,
    FailedEvent,
    Notice,
    PermissionDeniedError,
    ProgressEvent,
    RateLimitedError,
    RequestRejectedError,
    ResumeToken,
    ServerErrorEvent,
    ServiceUnavailableError,
    StatusEvent,
    TaskNotFoundError,
    TaskSnapshot,
    UnexpectedResponseError,
    WatchPolicy,
)
from cyberun_async._watch import Watch


TASK = "0197a000-0000-7000-8000-000000000001"
OTHER = "0197a000-0000-7000-8000-000000000002"
OUTPUT = {"storage_key": "out.png"}
POLICY = WatchPolicy()

Fact = Callable[[Watch], object]


def watch(**settings: Any) -> Watch:
    """Return a watch that draws the longest pauses and began at moment 0."""
    known = ("status", "attempt", "retry_count", "last_event_id")
    start = {name: settings.pop(name) for name in known if name in settings}
    chosen: dict[str, Any] = {
        "start": ResumeToken(task_id=TASK, **start),
        "policy": POLICY,
        "draw": lambda: 1.0,
        "started_at": 0.0,
    }
    return Watch(**(chosen | settings))


def play(*facts: Fact, **settings: Any) -> Watch:
    """Return a new watch after *facts*."""
    played = watch(**settings)
    for fact in facts:
        fact(played)
    return played


def delivered(played: Watch) -> list[Event]:
    """Return the events that are to be delivered."""
    return [item for item in played.take() if isinstance(item, Event)]


def noticed(played: Watch) -> list[Notice]:
    """Return the notices that are to be delivered."""
    return [item for item in played.take() if isinstance(item, Notice)]


# Events, as the codec makes them of frames.


def status(name: str, **fields: Any) -> StatusEvent:
    return StatusEvent(task_id=TASK, status=name, raw={"task_id": TASK, "status": name}, **fields)


def progress(fraction: float, **raw: Any) -> ProgressEvent:
    return ProgressEvent(task_id=TASK, progress=fraction, raw={"progress": fraction, **raw})


def completed(output: dict[str, Any] | None = None) -> CompletedEvent:
    return CompletedEvent(task_id=TASK, output=output)


def failed(error: str | None = None) -> FailedEvent:
    return FailedEvent(task_id=TASK, error=error)


def cancelled() -> CancelledEvent:
    return CancelledEvent(task_id=TASK)


def server_error() -> ServerErrorEvent:
    return ServerErrorEvent(task_id=TASK, message="status unavailable")


def snapshot(name: str, retry_count: int | None = 0, **fields: Any) -> TaskSnapshot:
    return TaskSnapshot(id=TASK, status=name, retry_count=retry_count, **fields)


def refusal(code: int) -> CyberunError:
    """Return the error that an answer with this status comes to."""
    if 200 <= code < 300:
        return UnexpectedResponseError("something else", content_type="text/html")
    if code >= 500 or code == 408:
        return ServiceUnavailableError("answered", status=code)
    kind = {
        401: AuthenticationError,
        403: PermissionDeniedError,
        404: TaskNotFoundError,
        410: TaskNotFoundError,
        429: RateLimitedError,
    }.get(code, RequestRejectedError)
    return kind(status=code)


# Facts, each with its moment.


def connected(now: float) -> Fact:
    return lambda played: played.connected(now)


def received(event: Event, now: float) -> Fact:
    return lambda played: played.received(event, now)


def lost(now: float, **how: Any) -> Fact:
    return lambda played: played.lost("cut", now, **how)


def ended(now: float) -> Fact:
    """The stream ended in good order."""
    return lost(now, clean=True)


def refused(code: int, now: float, *, from_service: bool = True, **how: Any) -> Fact:
    def fact(played: Watch) -> None:
        error = refusal(code)
        if isinstance(error, RequestRejectedError):
            error.from_service = from_service
        played.refused(error, now, **how)

    return fact


def stream_revoked(now: float) -> Fact:
    return lambda played: played.stream_revoked(now)


def stream_granted(now: float) -> Fact:
    return lambda played: played.stream_granted(now)


def passed(now: float, last_byte_at: float | None = None) -> Fact:
    """Time has passed; without more words bytes came all the while."""
    return lambda played: played.time_passed(now, now if last_byte_at is None else last_byte_at)


def check_sent(_: float = 0.0) -> Fact:
    return lambda played: played.check_sent()


def polled(name: str, now: float, retry_count: int | None = 0, **how: Any) -> Fact:
    """A check was sent and answered at *now*, or sent before (*sent_at*)."""
    sent_at = how.pop("sent_at", now)

    def fact(played: Watch) -> None:
        played.check_sent()
        played.polled(snapshot(name, retry_count, **how), sent_at, now)

    return fact


def check_failed(now: float, **how: Any) -> Fact:
    def fact(played: Watch) -> None:
        played.check_sent()
        played.check_failed("no answer", now, **how)

    return fact


def check_refused(code: int, now: float, *, from_service: bool = True) -> Fact:
    def fact(played: Watch) -> None:
        error = refusal(code)
        assert isinstance(error, RequestRejectedError)
        error.from_service = from_service
        played.check_sent()
        played.check_refused(error, now)

    return fact


def resulted(output: dict[str, Any] | None = None, problem: str | None = None) -> Fact:
    return lambda played: played.resulted(
        CompletedEvent(task_id=TASK, output=output, output_error=problem)
    )


def garbled(name: str, now: float) -> Fact:
    return lambda played: played.garbled(name, now)


def apply_retry_hint(seconds: float) -> Fact:
    return lambda played: played.apply_retry_hint(seconds)


def broken(error: CyberunError) -> Fact:
    return lambda played: played.failed(error)


def woke(now: float) -> Fact:
    return lambda played: played.woke(now)


# Ways to get to each phase.

LONG_LOST = (lost(1), passed(1.5), lost(2), passed(3), lost(4))
"""Three streams lost in a row: the watch polls from 4, and climbs at 19."""

REACHED: dict[str, tuple[Fact, ...]] = {
    "connecting": (),
    "reading": (connected(1),),
    "resting": (connected(1), lost(2)),
    "checking": (connected(1), ended(2)),
    "polling": LONG_LOST,
    "fetching the result": (connected(1), received(completed(), 2)),
    "done": (connected(1), received(completed(OUTPUT), 2)),
}
