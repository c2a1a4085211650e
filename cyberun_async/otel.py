"""
Traces and metrics of watches through OpenTelemetry (extra ``otel``).

.. code-block:: python

    from cyberun_async.otel import OpenTelemetryObserver

    async with CyberunClient(observer=OpenTelemetryObserver()) as client:
        ...

One span ``cyberun.watch`` covers the watch of one task, from its first reader or waiter to
its end. It is the root of a trace of its own, linked to the span in which it was begun: a
watch may last for hours, and the request that began it does not. With ``nested=True`` it is a
child of that span instead. HTTP spans are left to the instrumentation of the HTTP library;
requests made for a watch carry its context, all others that of their caller.

========================= ======================================================
attribute of the span     meaning
========================= ======================================================
``cyberun.task.id``       the task
``cyberun.task.status``   its last known state; the final one where it ended
``cyberun.task.attempt``  the attempt the last event belonged to
``cyberun.watch.outcome`` ``ended``, ``failed`` (an error in its place) or ``left``
``error.type``            the class of the error that ended the watch
========================= ======================================================

Events of the span are the notices of the watch: ``cyberun.stream.connected``,
``cyberun.stream.lost``, ``cyberun.stream.gap``, ``cyberun.polling.started`` and
``cyberun.stream.resumed``, with ``cyberun.cause`` and ``cyberun.delay`` (seconds) where
known. The span has the status *error* only if the watch failed: a task that failed was
watched well.

========================== =============== =============================================
metric                     kind, unit      meaning
========================== =============== =============================================
``cyberun.streams.open``   up-down counter event streams open now
``cyberun.reconnects``     counter         streams opened again after a loss
``cyberun.polling.starts`` counter         watches that went on by polling
``cyberun.event.lag``      histogram, s    from the service's time stamp to delivery
``cyberun.watches.ended``  counter         by ``cyberun.watch.outcome`` and state
========================== =============== =============================================
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import attrs
from opentelemetry import context as otel_context, metrics, trace
from opentelemetry.propagate import inject

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
)


if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue


__all__ = ["OpenTelemetryObserver"]

TASK_ID = "cyberun.task.id"
TASK_STATUS = "cyberun.task.status"
TASK_ATTEMPT = "cyberun.task.attempt"
OUTCOME = "cyberun.watch.outcome"


@attrs.define(eq=False)
class _Tracked:
    """The span of one watch, and what its metrics need."""

    span: trace.Span
    status: str | None = None
    attempt: int = 1
    is_open: bool = False
    was_open: bool = False
    polls: bool = False


class OpenTelemetryObserver(Observer):
    """
    Makes a span of each watch, and metrics of all.

    One observer may serve several clients, as long as they do not watch the same task.

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
        self._tracer = trace.get_tracer("cyberun_async", tracer_provider=tracer_provider)
        self._nested = nested
        self._watches: dict[str, _Tracked] = {}
        meter = metrics.get_meter("cyberun_async", meter_provider=meter_provider)
        self._open = meter.create_up_down_counter(
            "cyberun.streams.open", unit="{stream}", description="Event streams open now."
        )
        self._reconnects = meter.create_counter(
            "cyberun.reconnects", unit="{stream}", description="Streams opened again after a loss."
        )
        self._polling = meter.create_counter(
            "cyberun.polling.starts",
            unit="{watch}",
            description="Watches that went on by polling.",
        )
        self._lag = meter.create_histogram(
            "cyberun.event.lag",
            unit="s",
            description="From the service's time stamp of an event to its delivery.",
        )
        self._ended = meter.create_counter(
            "cyberun.watches.ended", unit="{watch}", description="Watches that came to their end."
        )

    def watch_began(self, task_id: str) -> None:
        """Begin the watch's span."""
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
        """Note the state, and how long the event was under way."""
        tracked = self._watches.get(event.task_id)
        if tracked is not None:
            tracked.attempt = event.attempt
            if isinstance(event, StatusEvent | CompletedEvent | FailedEvent | CancelledEvent):
                tracked.status = str(event.status)
        if event.origin == "stream" and (sent_at := event.sent_at) is not None:
            lag = (datetime.now(UTC) - sent_at).total_seconds()
            self._lag.record(max(0.0, lag), {"cyberun.event": type(event).__name__})

    def noticed(self, notice: Notice) -> None:
        """Put the notice on the span, and count it."""
        tracked = self._watches.get(notice.task_id)
        if tracked is None:
            return
        match notice:
            case Connected():
                tracked.span.add_event("cyberun.stream.connected")
                self._opened(tracked)
            case StreamLost(cause=cause, delay=delay):
                _add_event(tracked, "cyberun.stream.lost", cause=cause, delay=delay)
                self._closed(tracked)
            case PollingStarted(cause=cause):
                _add_event(tracked, "cyberun.polling.started", cause=cause)
                if not tracked.polls:
                    self._polling.add(1)
                tracked.polls = True
                self._closed(tracked)
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
        """End the span."""
        tracked = self._watches.pop(task_id, None)
        if tracked is None:
            return
        self._closed(tracked)
        word = "left" if outcome is None else "ended"
        if isinstance(outcome, CyberunError):
            word = "failed"
            tracked.span.set_status(trace.StatusCode.ERROR, str(outcome))
            tracked.span.set_attribute("error.type", type(outcome).__name__)
        attributes: dict[str, AttributeValue] = {OUTCOME: word}
        if tracked.status is not None:
            attributes[TASK_STATUS] = tracked.status
        self._ended.add(1, attributes)
        tracked.span.set_attributes({**attributes, TASK_ATTEMPT: tracked.attempt})
        tracked.span.end()

    def headers(self, task_id: str | None) -> Mapping[str, str]:
        """Return the headers that carry the context of the watch, or of the caller."""
        carrier: dict[str, str] = {}
        tracked = None if task_id is None else self._watches.get(task_id)
        inject(carrier, None if tracked is None else trace.set_span_in_context(tracked.span))
        return carrier

    def _opened(self, tracked: _Tracked) -> None:
        if tracked.was_open:
            self._reconnects.add(1)
        if not tracked.is_open:
            self._open.add(1)
        tracked.is_open = tracked.was_open = True

    def _closed(self, tracked: _Tracked) -> None:
        if tracked.is_open:
            tracked.is_open = False
            self._open.add(-1)


def _add_event(
    tracked: _Tracked, name: str, *, cause: str | None = None, delay: float | None = None
) -> None:
    attributes: dict[str, AttributeValue] = {}
    if cause is not None:
        attributes["cyberun.cause"] = cause
    if delay is not None:
        attributes["cyberun.delay"] = delay
    tracked.span.add_event(name, attributes)
