"""Watches as OpenTelemetry sees them."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import attrs
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from cyberun_async import CyberunClient
from cyberun_async.otel import OpenTelemetryObserver
from cyberun_async.testing import Simulator, TaskPlan, faults

from .whole.kit import SLOW, VIRTUAL, ended_watch, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


@pytest.fixture
def sim() -> Simulator:
    return Simulator(seed=7)


@attrs.frozen
class Collected:
    """The SDK, collecting in memory."""

    exporter: InMemorySpanExporter = attrs.field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = attrs.field(factory=InMemoryMetricReader)
    tracers: TracerProvider = attrs.field(init=False)
    meters: MeterProvider = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        object.__setattr__(self, "tracers", tracers)
        meters = MeterProvider([self.reader], shutdown_on_exit=False)
        object.__setattr__(self, "meters", meters)

    def observer(self, *, nested: bool = False) -> OpenTelemetryObserver:
        return OpenTelemetryObserver(
            tracer_provider=self.tracers, meter_provider=self.meters, nested=nested
        )

    @property
    def watches(self) -> list[ReadableSpan]:
        return [s for s in self.exporter.get_finished_spans() if s.name == "cyberun.watch"]

    def metric(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        assert data is not None
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def otel() -> Iterator[Collected]:
    collected = Collected()
    yield collected
    collected.tracers.shutdown()
    collected.meters.shutdown()


def client_of(sim: Simulator, otel: Collected, *, nested: bool = False) -> CyberunClient:
    return virtual_client(sim, observer=otel.observer(nested=nested))


def names_of(span: ReadableSpan) -> list[str]:
    return [event.name for event in span.events]


async def test_a_watch_is_one_span(sim: Simulator, otel: Collected) -> None:
    """However many read, one span covers the watch, with the task and its final state."""
    live = sim.create_task(SLOW)
    async with client_of(sim, otel) as client, anyio.create_task_group() as group:
        group.start_soon(client.wait, live.id)
        await ended_watch(client, live.id)

    [span] = otel.watches
    assert dict(span.attributes or {}) == {
        "cyberun.task.id": live.id,
        "cyberun.task.status": "completed",
        "cyberun.task.attempt": 1,
        "cyberun.watch.outcome": "ended",
    }
    assert span.status.status_code is StatusCode.UNSET
    assert names_of(span)[0] == "cyberun.stream.connected"


async def test_trouble_shows_as_events_of_the_span(sim: Simulator, otel: Collected) -> None:
    """A loss with its cause and delay, and a switch to polling with its cause."""
    refused = faults.on("events", faults.refuse(403), times=None)
    async with client_of(sim, otel) as client:
        for trouble in (faults.drop_after(events=6), refused):
            live = sim.create_task(TaskPlan(step_seconds=1, faults=(trouble,)))
            await ended_watch(client, live.id)

    first, second = otel.watches
    [lost] = [event for event in first.events if event.name == "cyberun.stream.lost"]
    assert set(lost.attributes or {}) == {"cyberun.cause", "cyberun.delay"}
    assert names_of(first).count("cyberun.stream.connected") == 2
    assert "cyberun.polling.started" in names_of(second)
    assert [point.value for point in otel.metric("cyberun.reconnects")] == [1]
    assert [point.value for point in otel.metric("cyberun.polling.starts")] == [1]


async def test_a_stream_that_is_tried_in_vain_does_not_stay_open(
    sim: Simulator, otel: Collected
) -> None:
    """While a watch polls no stream counts as open, and polling has started once."""
    dropped = faults.on("events", faults.drop_after(events=0), times=None)
    live = sim.create_task(TaskPlan(steps=60, step_seconds=60, faults=(dropped,)))
    async with client_of(sim, otel) as client, anyio.create_task_group() as group:
        group.start_soon(ended_watch, client, live.id)
        await anyio.sleep(1800)
        assert client.statistics().reconnects > 3
        assert [point.value for point in otel.metric("cyberun.streams.open")] == [0]
        assert [point.value for point in otel.metric("cyberun.polling.starts")] == [1]
        group.cancel_scope.cancel()


async def test_only_a_failed_watch_is_an_error(sim: Simulator, otel: Collected) -> None:
    """A failed task was watched well; a task that is not there was not."""
    failed = sim.create_task(TaskPlan(outcome="failed"))
    async with client_of(sim, otel) as client:
        await ended_watch(client, failed.id)
        await ended_watch(client, "0197a1b2-0000-7000-8000-00000000abcd")

    well, badly = otel.watches
    assert well.status.status_code is StatusCode.UNSET
    assert (well.attributes or {})["cyberun.task.status"] == "failed"
    assert badly.status.status_code is StatusCode.ERROR
    assert (badly.attributes or {})["error.type"] == "TaskNotFoundError"


async def test_a_watch_that_was_left_ends_its_span(sim: Simulator, otel: Collected) -> None:
    """Left early, the outcome is `left` and no stream counts as open."""
    live = sim.create_task(manual=True)
    async with client_of(sim, otel) as client:
        async with client.watch(live.id) as events:
            await anext(events)
            assert [point.value for point in otel.metric("cyberun.streams.open")] == [1]

    [span] = otel.watches
    assert (span.attributes or {})["cyberun.watch.outcome"] == "left"
    assert [point.value for point in otel.metric("cyberun.streams.open")] == [0]
    [ended] = otel.metric("cyberun.watches.ended")
    assert (ended.value, ended.attributes["cyberun.watch.outcome"]) == (1, "left")


@pytest.mark.parametrize("nested", [False, True])
async def test_a_long_watch_is_linked_to_what_began_it(
    sim: Simulator, otel: Collected, nested: bool
) -> None:
    """A watch is a trace of its own with a link; nested, it is a child."""
    live = sim.create_task(SLOW)
    tracer = otel.tracers.get_tracer("application")
    async with client_of(sim, otel, nested=nested) as client:
        with tracer.start_as_current_span("handler") as handler:
            await ended_watch(client, live.id)

    [span] = otel.watches
    outer = handler.get_span_context()
    assert (span.parent is not None) == nested
    assert [link.context.span_id for link in span.links] == ([] if nested else [outer.span_id])


async def test_requests_carry_the_context(sim: Simulator, otel: Collected) -> None:
    """The stream carries the watch's context, a submission that of its caller."""
    tracer = otel.tracers.get_tracer("application")
    sim.default_plan = SLOW
    async with client_of(sim, otel) as client:
        with tracer.start_as_current_span("handler") as handler:
            task = await client.submit("text-to-image", {"prompt": "a fox"})
        await ended_watch(client, task.id)

    [span] = otel.watches
    carried = {r.path.rpartition("/")[2]: r.headers.get("traceparent", "") for r in sim.requests}
    assert f"{handler.get_span_context().trace_id:032x}" in carried["run"]
    assert span.context is not None
    assert f"{span.context.trace_id:032x}-{span.context.span_id:016x}" in carried["events"]


async def test_reading_the_output_carries_the_context_of_its_watch(
    sim: Simulator, otel: Collected
) -> None:
    """Also where the watch found the end by polling, in a client that somebody else began."""
    refused = faults.on("events", faults.refuse(403), times=None)
    live = sim.create_task(TaskPlan(faults=(refused,)))
    tracer = otel.tracers.get_tracer("site")
    with tracer.start_as_current_span("handler"):
        async with client_of(sim, otel) as client:
            await ended_watch(client, live.id)

    [span] = otel.watches
    [asked] = sim.requests_to("result")
    assert span.context is not None
    carried = f"{span.context.trace_id:032x}-{span.context.span_id:016x}"
    assert carried in asked.headers["traceparent"]


async def test_the_lag_of_events_is_measured(sim: Simulator, otel: Collected) -> None:
    """Every stamped event of a stream counts, by its class; time never runs backwards."""
    live = sim.create_task(SLOW)
    async with client_of(sim, otel) as client:
        watched = await ended_watch(client, live.id)

    stamped = [e for e in watched.events if e.origin == "stream" and e.sent_at is not None]
    points = otel.metric("cyberun.event.lag")
    assert sum(point.count for point in points) == len(stamped)
    assert min(point.min for point in points) >= 0


def test_without_the_module_nothing_of_it_is_imported() -> None:
    """The package itself does not know OpenTelemetry."""
    code = (
        "import sys, cyberun_async, cyberun_async.testing;"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
