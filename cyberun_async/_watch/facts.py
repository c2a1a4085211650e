"""What stream and asks bring, told to the decision core as facts."""

from collections.abc import Callable, Sequence
from typing import Any

from .._model import (
    CyberunError,
    ProgressEvent,
    RateLimitedError,
    RequestRejectedError,
    ServiceUnavailableError,
    TaskSnapshot,
    UnexpectedResponseError,
)
from .._protocol import Message, PayloadError, decode_event, resumable_id
from .machine import Watch
from .steps import Phase


def report_answer(
    watch: Watch, answer: TaskSnapshot | CyberunError, sent_at: float, now: float
) -> None:
    """Report what an ask sent at *sent_at* came to."""
    if isinstance(answer, TaskSnapshot):
        watch.polled(answer, sent_at, now)
    elif isinstance(answer, RateLimitedError):
        watch.check_failed(str(answer), now, retry_after=answer.retry_after)
    elif isinstance(answer, RequestRejectedError):
        watch.check_refused(answer, now)
    elif isinstance(answer, ServiceUnavailableError):
        if answer.is_final:
            watch.failed(answer)
        reached = answer.status is not None
        watch.check_failed(str(answer), now, retry_after=answer.retry_after, was_reached=reached)
    elif isinstance(answer, UnexpectedResponseError):
        watch.check_failed(str(answer), now)
    else:
        watch.failed(answer)


def report_messages(
    watch: Watch,
    batch: Sequence[Message],
    last_event_id: str,
    moment: float,
    loads: Callable[[str], Any],
) -> None:
    """Report what the stream has brought, in order; *last_event_id* is the framing's behind it."""
    # Ticks in a row are judged in one go: most of what comes are ticks.
    ticks: list[ProgressEvent] = []
    for message in batch:
        data = message.data
        if not data:
            continue
        try:
            event = decode_event(message.event, data, watch.task_id, watch.attempt, loads)
        except PayloadError as error:
            watch.ticked(ticks, moment)
            ticks = []
            was_reading = watch.phase is Phase.READING
            watch.garbled(error.name, moment)
            if was_reading and watch.phase is not Phase.READING:
                # It was taken in, as far as it can be: it need not come again.
                watch.last_event_id = resumable_id(message.id)
            continue
        if type(event) is ProgressEvent:
            ticks.append(event)
            continue
        watch.ticked(ticks, moment)
        ticks = []
        watch.received(event, moment)
    watch.ticked(ticks, moment)
    report_id(watch, last_event_id)


def report_id(watch: Watch, last_event_id: str) -> None:
    """Report the id as of the last complete block, whatever that block held."""
    # What came after the stream was given up is not taken in, and has to come again.
    if watch.phase is Phase.READING:
        watch.last_event_id = resumable_id(last_event_id)
