"""
Traces and metrics of watches through OpenTelemetry (extra ``otel``).

.. code-block:: python

    from cyberun_async.otel import OpenTelemetryObserver

    async with CyberunClient(observer=OpenTelemetryObserver()) as client:
        ...

One span ``cyberun.watch`` covers the following of one task, from its first reader or waiter
to its end, in whatever way it is followed: a ``run()`` that reads progress and then fetches the
result, waits with a limit of time one after the other, or a ``result()`` of a task that was
watched before are one span and one count. It is the root of a trace of its own, linked to the
span in which it was begun: a watch may last for hours, and the request that began it does not.
With ``nested=True`` it is a child of that span instead. HTTP spans are left to the
instrumentation of the HTTP library; requests made for a watch carry its context, all others
that of their caller.

A watch that was left before the end stays open for a minute, in case somebody comes back. Then,
at the next event of any watch or when the client is closed, its span ends with the time at which
it was left.

========================= ======================================================
attribute of the span     meaning
========================= ======================================================
``cyberun.task.id``       the task
``cyberun.task.status``   its last known state; the final one where it ended
``cyberun.task.attempt``  the attempt the last event belonged to
``cyberun.watch.outcome`` ``ended``, ``failed`` (an error in its place) or ``left``
``error.type``            the class of the error that ended the watch
========================= ======================================================

A span ``cyberun.submit`` covers each submission, the upload of its files included. It is a child
of its caller's span, and the requests made for it carry its context. It has
``cyberun.workflow``, ``cyberun.task.id`` where there is one, and ``error.type`` with the status
*error* where there is not.

Events of the span ``cyberun.watch`` are the notices of the watch: ``cyberun.stream.connected``,
``cyberun.stream.lost``, ``cyberun.stream.gap``, ``cyberun.polling.started`` and
``cyberun.stream.resumed``, with ``cyberun.cause`` and ``cyberun.delay`` (seconds) where
known. It has the status *error* only if the watch itself failed, not if
the task did.

========================== =============== =============================================
metric                     kind, unit      meaning
========================== =============== =============================================
``cyberun.streams.open``   up-down counter event streams open now
``cyberun.reconnects``     counter         streams opened again after a loss
``cyberun.polling.starts`` counter         watches that changed to polling
``cyberun.event.lag``      histogram, s    from the service's time stamp to delivery
``cyberun.watches.ended``  counter         by ``cyberun.watch.outcome`` and state
========================== =============== =============================================

``cyberun.event.lag`` advises buckets from 5 ms to 5 minutes. The instrumentation scope is
``cyberun_async`` with the version of the package.
"""

from collections import OrderedDict
from collections.abc import Mapping
from contextvars import Token
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import attrs


try:
    from opentelemetry import context as otel_context, metrics, trace
    from opentelemetry.propagate import inject
except ModuleNotFoundError as _error:
    raise ModuleNotFoundError(
        f"{__name__} needs opentelemetry, which the extra `otel` brings: "
        "pip install 'cyberun_async[otel]'",
        name=_error.name,
    ) from _error

from . import (
    CancelledEvent,
    CompletedEvent,
    Connected,
    CyberunError,
    Event,
    FailedEvent,
    Gap,
    Notice,
    Observer,
    PollingStarted,
    StatusEvent,
    StreamingResumed,
    StreamLost,
    __version__,
)


if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue


__all__ = ["OpenTelemetryObserver"]

TASK_ID = "cyberun.task.id"
TASK_STATUS = "cyberun.task.status"
TASK_ATTEMPT = "cyberun.task.attempt"
OUTCOME = "cyberun.watch.outcome"
WORKFLOW = "cyberun.workflow"

# The SDK's own buckets are meant for milliseconds.
_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0),
)
# A reader who comes back within this time continues the span.
_TIME_TO_COME_BACK = timedelta(seconds=60)
_MOST_LEFT = 1000
_MOST_ENDED = 10_000


@attrs.define(eq=False)
class _Tracked:
    """The span of one task that is followed, and what its metrics need."""

    span: trace.Span
    # How many watches there are, as sibling clients may have one each, and how one ended.
    watches: int = 1
    outcome: CompletedEvent | FailedEvent | CancelledEvent | CyberunError | None = None
    left_at: datetime | None = None
    status: str | None = None
    attempt: int = 1
    is_open: bool = False
    was_open: bool = False
    polls: bool = False


@attrs.frozen(eq=False)
class _Submitting:
    """The span of one submission, and the token that restores its caller's."""

    span: trace.Span
    token: Token[otel_context.Context]


class OpenTelemetryObserver(Observer):
    """
    Makes a span of each task that is followed and of each submission, and metrics of all.

    One observer may serve several clients. A task that two of them follow is one span, too.

    Args:
        tracer_provider: None takes the global one.
        meter_provider: Likewise.
        nested: Make a watch's span a child of the span it was begun in, rather than
            the root of a linked trace.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        nested: bool = False,
    ) -> None:
        self._tracer = trace.get_tracer(
            "cyberun_async",
            tracer_provider=tracer_provider,
            instrumenting_library_version=__version__,
        )
        self._nested = nested
        self._watches: dict[str, _Tracked] = {}
        # In the order in which they were left, and in which they ended.
        self._left: OrderedDict[str, _Tracked] = OrderedDict()
        self._known_ends: OrderedDict[str, None] = OrderedDict()
        meter = metrics.get_meter(
            "cyberun_async", meter_provider=meter_provider, version=__version__
        )
        self._open = meter.create_up_down_counter(
            "cyberun.streams.open", unit="{stream}", description="Event streams open now."
        )
        self._reconnects = meter.create_counter(
            "cyberun.reconnects", unit="{stream}", description="Streams opened again after a loss."
        )
        self._polling = meter.create_counter(
            "cyberun.polling.starts",
            unit="{watch}",
            description="Watches that changed to polling.",
        )
        self._lag = meter.create_histogram(
            "cyberun.event.lag",
            unit="s",
            description="From the service's time stamp of an event to its delivery.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._ended = meter.create_counter(
            "cyberun.watches.ended", unit="{watch}", description="Watches that came to their end."
        )

    def submit_began(self, workflow: str) -> object:
        """Begin the submission's span, and make it the current one for requests."""
        span = self._tracer.start_span(
            "cyberun.submit", kind=trace.SpanKind.CLIENT, attributes={WORKFLOW: workflow}
        )
        return _Submitting(span, otel_context.attach(trace.set_span_in_context(span)))

    def submit_ended(self, submission: object, outcome: str | CyberunError | None) -> None:
        """End it."""
        if not isinstance(submission, _Submitting):
            return
        otel_context.detach(submission.token)
        if isinstance(outcome, CyberunError):
            _note_error(submission.span, outcome)
        elif outcome is not None:
            submission.span.set_attribute(TASK_ID, outcome)
        submission.span.end()

    def watch_began(self, task_id: str) -> None:
        """Begin the task's span, unless it has one or has ended before."""
        self._end_left()
        if task_id in self._known_ends:
            return
        if (tracked := self._watches.get(task_id)) is not None:
            tracked.watches += 1
            self._left.pop(task_id, None)
            return
        here = trace.get_current_span().get_span_context()
        links = [trace.Link(here)] if here.is_valid and not self._nested else None
        span = self._tracer.start_span(
            "cyberun.watch",
            context=None if self._nested else otel_context.Context(),
            kind=trace.SpanKind.CLIENT,
            attributes={TASK_ID: task_id},
            links=links,
        )
        self._watches[task_id] = _Tracked(span)

    def received(self, event: Event) -> None:
        """Note the state, and measure the lag of the event."""
        tracked = self._watches.get(event.task_id)
        if tracked is None:
            return
        tracked.attempt = event.attempt
        if isinstance(event, StatusEvent | CompletedEvent | FailedEvent | CancelledEvent):
            tracked.status = str(event.status)
        if event.origin == "stream" and (sent_at := event.sent_at) is not None:
            lag = (datetime.now(UTC) - sent_at).total_seconds()
            self._lag.record(max(0.0, lag), {"cyberun.event": type(event).__name__})

    def noticed(self, notice: Notice) -> None:
        """Add the notice to the span, and count it."""
        tracked = self._watches.get(notice.task_id)
        if tracked is None:
            return
        match notice:
            case Connected():
                tracked.span.add_event("cyberun.stream.connected")
                if tracked.was_open:
                    self._reconnects.add(1)
                if not tracked.is_open:
                    self._open.add(1)
                tracked.is_open = tracked.was_open = True
            case StreamLost(cause=cause, delay=delay):
                _add_event(tracked, "cyberun.stream.lost", cause=cause, delay=delay)
                self._stream_closed(tracked)
            case PollingStarted(cause=cause):
                _add_event(tracked, "cyberun.polling.started", cause=cause)
                if not tracked.polls:
                    self._polling.add(1)
                tracked.polls = True
                self._stream_closed(tracked)
            case StreamingResumed():
                tracked.polls = False
                tracked.span.add_event("cyberun.stream.resumed")
            case Gap(seconds=seconds):
                _add_event(tracked, "cyberun.stream.gap", delay=seconds)
            case _:
                pass

    def watch_ended(
        self,
        task_id: str,
        outcome: CompletedEvent | FailedEvent | CancelledEvent | CyberunError | None,
    ) -> None:
        """End the span if the task has ended or the watch failed; else keep it for a while."""
        self._end_left()
        tracked = self._watches.get(task_id)
        if tracked is None:
            return
        tracked.watches -= 1
        if outcome is not None and not isinstance(tracked.outcome, Event):
            tracked.outcome = outcome
        if tracked.watches:
            return
        self._stream_closed(tracked)
        if tracked.outcome is not None:
            self._finish(task_id, tracked)
            return
        tracked.left_at = datetime.now(UTC)
        self._left[task_id] = tracked

    def closed(self) -> None:
        """End the spans of all watches that were left."""
        self._end_left(all_of_them=True)

    def _end_left(self, *, all_of_them: bool = False) -> None:
        """End the spans of watches that nobody came back to in time."""
        limit = datetime.now(UTC) - _TIME_TO_COME_BACK
        while self._left:
            task_id, tracked = next(iter(self._left.items()))
            is_late = tracked.left_at is None or tracked.left_at < limit
            if not (all_of_them or is_late or len(self._left) > _MOST_LEFT):
                return
            del self._left[task_id]
            self._finish(task_id, tracked, at=tracked.left_at)

    def _finish(self, task_id: str, tracked: _Tracked, *, at: datetime | None = None) -> None:
        del self._watches[task_id]
        outcome = tracked.outcome
        result = "left" if outcome is None else "ended"
        if isinstance(outcome, CyberunError):
            result = "failed"
            _note_error(tracked.span, outcome)
        elif outcome is not None:
            self._known_ends[task_id] = None
            if len(self._known_ends) > _MOST_ENDED:
                self._known_ends.popitem(last=False)
        attributes: dict[str, AttributeValue] = {OUTCOME: result}
        if tracked.status is not None:
            attributes[TASK_STATUS] = tracked.status
        self._ended.add(1, attributes)
        tracked.span.set_attributes({**attributes, TASK_ATTEMPT: tracked.attempt})
        tracked.span.end(None if at is None else int(at.timestamp() * 1e9))

    def headers(self, task_id: str | None) -> Mapping[str, str]:
        """Return the headers that carry the context of the watch, or of the caller."""
        carrier: dict[str, str] = {}
        tracked = None if task_id is None else self._watches.get(task_id)
        inject(carrier, None if tracked is None else trace.set_span_in_context(tracked.span))
        return carrier

    def _stream_closed(self, tracked: _Tracked) -> None:
        if tracked.is_open:
            tracked.is_open = False
            self._open.add(-1)


def _note_error(span: trace.Span, error: CyberunError) -> None:
    span.set_status(trace.StatusCode.ERROR, str(error))
    span.set_attribute("error.type", type(error).__name__)


def _add_event(
    tracked: _Tracked, name: str, *, cause: str | None = None, delay: float | None = None
) -> None:
    known = {"cyberun.cause": cause, "cyberun.delay": delay}
    attributes = {key: value for key, value in known.items() if value is not None}
    tracked.span.add_event(name, attributes)
