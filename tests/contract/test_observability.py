"""What observers, callbacks and OpenTelemetry receive, and what they cannot disturb."""

import functools
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final

import anyio
import attrs
import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import cyberun_async
from cyberun_async import (
    ConfigurationError,
    CyberunClient,
    CyberunError,
    Notice,
    Observer,
    TaskHandle,
    WaitTimeoutError,
    WatchPolicy,
)
from cyberun_async.otel import OpenTelemetryObserver
from cyberun_async.testing import Simulator, StreamingASGITransport, TaskPlan, faults

from ..whole.kit import SLOW, VIRTUAL, follow, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


@pytest.fixture
def sim() -> Simulator:
    return Simulator(seed=7, default_plan=SLOW)


# --- OpenTelemetry --------------------------------------------------------------------


@attrs.frozen
class Collected:
    """The SDK, collecting in memory."""

    exporter: InMemorySpanExporter = attrs.field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = attrs.field(factory=InMemoryMetricReader)
    tracers: TracerProvider = attrs.field(factory=lambda: TracerProvider(shutdown_on_exit=False))
    meters: MeterProvider = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        object.__setattr__(self, "meters", MeterProvider([self.reader], shutdown_on_exit=False))

    def observer(self) -> OpenTelemetryObserver:
        return OpenTelemetryObserver(tracer_provider=self.tracers, meter_provider=self.meters)

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def metrics(self) -> Iterator[tuple[Any, Any]]:
        """Yield each metric with its instrumentation scope."""
        data = self.reader.get_metrics_data()
        assert data is not None
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    yield scope.scope, metric

    def points(self, name: str) -> list[Any]:
        named = [metric for _, metric in self.metrics() if metric.name == name]
        return [point for metric in named for point in metric.data.data_points]


@pytest.fixture
def otel() -> Iterator[Collected]:
    collected = Collected()
    yield collected
    collected.tracers.shutdown()
    collected.meters.shutdown()


async def submitted(client: CyberunClient) -> TaskHandle:
    return await client.submit("text-to-image", {"prompt": "a fox"})


async def run(client: CyberunClient) -> None:
    await client.run("text-to-image", {"prompt": "a fox"})


async def run_with_progress(client: CyberunClient) -> None:
    await client.run("text-to-image", {"prompt": "a fox"}, on_progress=lambda event: None)


async def awaited(client: CyberunClient) -> None:
    await (await submitted(client))


async def watched_then_result(client: CyberunClient) -> None:
    task = await submitted(client)
    await follow(client.watch(task))
    await client.result(task)
    await client.wait(task)


async def watched_beside_a_wait(client: CyberunClient) -> None:
    task = await submitted(client)
    async with anyio.create_task_group() as group:
        group.start_soon(client.wait, task)
        await anyio.sleep(3)
        await follow(client.watch(task))


async def progress_then_result(client: CyberunClient) -> None:
    task = await submitted(client)
    async with task.progress() as updates:
        async for _ in updates:
            pass
    await client.result(task)


async def many(client: CyberunClient) -> None:
    task = await submitted(client)
    async with client.watch_many([task]) as events:
        async for _ in events:
            pass
    async with client.as_completed([task]) as outcomes:
        async for _ in outcomes:
            pass
    await client.result_many([task])
    await client.wait_many([task])


async def left_and_come_back(client: CyberunClient) -> None:
    task = await submitted(client)
    async with client.watch(task) as events:
        await anext(events)
    await follow(client.watch(task))


async def short_waits(client: CyberunClient) -> None:
    task = await submitted(client)
    while True:
        try:
            await client.wait(task, timeout=2, start_timeout=1)
        except WaitTimeoutError:
            continue
        return


async def siblings(client: CyberunClient) -> None:
    task = await submitted(client)
    other = client.with_options(watch_policy=WatchPolicy(poll_interval=1))
    async with anyio.create_task_group() as group:
        group.start_soon(client.wait, task)
        await anyio.sleep(1)
        group.start_soon(follow, other.watch(task))


STYLES: Final = [
    run, run_with_progress, awaited, watched_then_result, watched_beside_a_wait,
    progress_then_result, many, left_and_come_back, short_waits, siblings,
]  # fmt: skip


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
async def test_a_task_is_one_span_and_one_count_in_whatever_style_it_is_followed(
    sim: Simulator, otel: Collected, style: Callable[[CyberunClient], Awaitable[None]]
) -> None:
    """However often and in whatever way a task is followed, it is counted once, as ended."""
    async with virtual_client(sim, observer=otel.observer()) as client:
        await style(client)

    [span] = otel.spans("cyberun.watch")
    [ended] = otel.points("cyberun.watches.ended")
    assert (span.attributes or {})["cyberun.watch.outcome"] == "ended"
    assert ended.value == 1
    assert dict(ended.attributes) == {
        "cyberun.watch.outcome": "ended", "cyberun.task.status": "completed",
    }  # fmt: skip


async def test_a_task_that_is_left_for_good_is_one_span_of_the_time_it_was_followed(
    sim: Simulator, otel: Collected
) -> None:
    """It ends with the client, as of the moment at which it was left."""
    async with virtual_client(sim, observer=otel.observer()) as client:
        task = await submitted(client)
        for _ in range(3):
            with pytest.raises(WaitTimeoutError):
                await client.wait(task, timeout=1)
        assert otel.spans("cyberun.watch") == []

    [span] = otel.spans("cyberun.watch")
    [ended] = otel.points("cyberun.watches.ended")
    assert (ended.value, ended.attributes["cyberun.watch.outcome"]) == (1, "left")
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time <= span.end_time


def test_tasks_that_were_left_are_bounded(otel: Collected) -> None:
    """An observer that outlives its watches keeps no more than a thousand open."""
    observer = otel.observer()
    for number in range(1500):
        observer.watch_began(f"task-{number}")
        observer.watch_ended(f"task-{number}", None)

    assert 499 <= len(otel.spans("cyberun.watch")) <= 501
    observer.closed()
    assert len(otel.spans("cyberun.watch")) == 1500


async def test_a_submission_is_a_span(sim: Simulator, otel: Collected) -> None:
    """A child of its caller's, with the workflow and the task, whose context the request has."""
    tracer = otel.tracers.get_tracer("application")
    async with virtual_client(sim, observer=otel.observer()) as client:
        with tracer.start_as_current_span("handler") as handler:
            task = await submitted(client)
            with tracer.start_as_current_span("after") as after:
                pass

    [span] = otel.spans("cyberun.submit")
    assert span.context is not None
    assert span.parent is not None
    assert span.parent.span_id == handler.get_span_context().span_id
    assert dict(span.attributes or {}) == {
        "cyberun.workflow": "text-to-image", "cyberun.task.id": task.id,
    }  # fmt: skip
    [sent] = sim.requests_to("run")
    assert f"-{span.context.span_id:016x}-" in sent.headers["traceparent"]
    # Afterwards the caller's span is the present one again.
    [later] = otel.spans("after")
    assert later.parent is not None
    assert later.parent.span_id == handler.get_span_context().span_id
    assert after is not None


async def test_a_submission_that_fails_or_is_left_is_a_span_that_says_so(
    sim: Simulator, otel: Collected
) -> None:
    """With the class of the error; one that was cancelled has neither error nor task."""
    async with virtual_client(sim, observer=otel.observer()) as client:
        with pytest.raises(CyberunError):
            await client.submit("no-such-workflow", {})
        sim.faults.add_fault(faults.on("run", faults.hold(before=30)))
        with anyio.move_on_after(1):
            await submitted(client)

    failed, left = otel.spans("cyberun.submit")
    assert failed.status.status_code is StatusCode.ERROR
    assert (failed.attributes or {})["error.type"] in {"NotFoundError", "RequestRejectedError"}
    assert left.status.status_code is StatusCode.UNSET
    assert dict(left.attributes or {}) == {"cyberun.workflow": "text-to-image"}


async def test_many_submissions_at_once_do_not_mix(sim: Simulator, otel: Collected) -> None:
    """Each has its own span, task and context."""
    async with virtual_client(sim, observer=otel.observer()) as client:
        async with client.submit_many("text-to-image", [{"prompt": "a"}] * 20) as sent:
            ids = {one.handle.id async for one in sent if one.handle is not None}

    spans = otel.spans("cyberun.submit")
    assert {str((span.attributes or {}).get("cyberun.task.id")) for span in spans} == ids
    assert len({request.headers["traceparent"] for request in sim.requests_to("run")}) == 20


async def test_the_scope_has_its_version_and_buckets_fit_for_seconds(
    sim: Simulator, otel: Collected
) -> None:
    """A lag of milliseconds does not fall into the one bucket that ends at five seconds."""
    async with virtual_client(sim, observer=otel.observer()) as client:
        await run_with_progress(client)

    spans = [*otel.spans("cyberun.watch"), *otel.spans("cyberun.submit")]
    scopes = [span.instrumentation_scope for span in spans] + [s for s, _ in otel.metrics()]
    assert {(s.name, s.version) for s in scopes if s} == {
        ("cyberun_async", cyberun_async.__version__)
    }
    bounds = otel.points("cyberun.event.lag")[0].explicit_bounds
    assert len([bound for bound in bounds if 0 < bound <= 1]) >= 5
    assert 60 <= max(bounds) <= 600


# --- observers and callbacks ----------------------------------------------------------


METHODS: Final = [name for name in vars(Observer) if not name.startswith("_")]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", ["def", "partial", "object"])
def test_an_asynchronous_observer_is_refused(sim: Simulator, method: str, shape: str) -> None:
    """Nobody would await it; the error names the method."""

    async def later(self: Any, *args: Any) -> None: ...

    class Later:
        async def __call__(self, *args: Any) -> None: ...

    made: dict[str, Any] = {"def": later, "partial": functools.partial(later), "object": Later()}
    observer = type("Mine", (Observer,), {method: made[shape]})()

    with pytest.raises(ConfigurationError, match=f"{method} is asynchronous"):
        virtual_client(sim, observer=observer)


@pytest.mark.parametrize(
    "value",
    [5, "watch", object(), Observer, print],
    ids=["number", "text", "object", "class", "function"],
)
def test_what_is_no_observer_is_refused(sim: Simulator, value: Any) -> None:
    """A class instead of its instance, too."""
    with pytest.raises(ConfigurationError, match="observer"):
        virtual_client(sim, observer=value)


def test_an_asynchronous_callback_for_notices_is_refused(sim: Simulator) -> None:
    """By the client as by its siblings."""

    async def noticed(notice: Notice) -> None: ...

    refusing: list[Callable[..., Any]] = [
        virtual_client(sim).with_options, functools.partial(virtual_client, sim),
    ]  # fmt: skip
    for refuse in refusing:
        with pytest.raises(ConfigurationError, match="on_notice is asynchronous"):
            refuse(on_notice=noticed)


class Marking(Observer):
    """Returns headers that are of another hop, of the library, or no headers at all."""

    def __init__(self, headers: Any) -> None:
        self._headers = headers

    def headers(self, task_id: str | None) -> Mapping[str, str]:
        found: Mapping[str, str] = self._headers
        return found


HOSTILE: Final = {
    "Host": "elsewhere.test", "Content-Length": "5", "transfer-encoding": "chunked",
    "Connection": "close", "Keep-Alive": "timeout=1", "TE": "trailers", "Upgrade": "h2c",
    "Trailer": "x", "Proxy-Authorization": "Basic x", "Proxy-Connection": "close",
    "AUTHORIZATION": "Bearer sk-mine", "X-Team-Id": "another", "Accept": "text/html",
    "Accept-Encoding": "br", "Content-Type": "text/plain", "Last-Event-ID": "7",
    "Expect": "100-continue", "X-Mark\r\nX-Other": "b", "X-Evil": "a\r\nb", "": "x",
}  # fmt: skip


async def test_headers_of_another_hop_disturb_nothing_and_are_logged(
    sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    """They are left out, one by one, and the others are sent."""
    observer = Marking({**HOSTILE, "X-Mark": "here"})
    async with virtual_client(sim, observer=observer) as client:
        await client.run("text-to-image", {"prompt": "a fox"}, on_progress=lambda event: None)

    asked = [one for one in sim.requests if "/api/" in one.path]
    assert len(asked) >= 3
    assert {one.headers.get("x-mark") for one in asked} == {"here"}
    for one in asked:
        present = {name.lower(): value for name, value in one.headers.items()}
        for name, value in HOSTILE.items():
            assert present.get(name.lower()) != value, name
    for name in ("host", "content-length", "transfer-encoding", "authorization"):
        assert f"headers returned {name}, which is left out" in caplog.text
    assert "sk-mine" not in caplog.text


@pytest.mark.parametrize(
    "headers", [None, 5, "x-mark", ["x"], {"X-Mark": 5}, {5: "x"}, [("X-Mark", "a")]], ids=repr
)
async def test_headers_that_are_none_disturb_nothing(sim: Simulator, headers: Any) -> None:
    """Whatever an observer returns for headers, the run ends as it does without one."""
    async with virtual_client(sim, observer=Marking(headers)) as client:
        await run(client)

    assert all("x-mark" not in one.headers for one in sim.requests)


class Broken(Observer):
    """Fails at everything, or returns a coroutine where its author forgot what it is."""

    def __init__(self, fail: Callable[..., Any]) -> None:
        for name in METHODS:
            setattr(self, name, fail)


def raising(*args: Any) -> Any:
    raise LookupError("mine")


def returning_a_coroutine(*args: Any) -> Any:
    async def later() -> None: ...

    return later()


@pytest.mark.parametrize("fail", [raising, returning_a_coroutine])
async def test_an_observer_that_fails_does_not_fill_the_log(
    sim: Simulator, caplog: pytest.LogCaptureFixture, fail: Callable[..., Any]
) -> None:
    """Of each kind of fault the first, tenth, hundredth and so on are logged."""
    plan = TaskPlan(steps=500, step_seconds=0.1)
    async with virtual_client(sim, observer=Broken(fail), on_notice=fail) as client:
        for _ in range(4):
            live = sim.create_task(plan)
            watched = await follow(client.watch(live.id))
            assert len(watched.progress) == 500
        await client.with_options(user_agent="another").run("text-to-image", {"prompt": "a fox"})

    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    received = [one.getMessage() for one in records if "received" in one.getMessage()]
    assert len(received) == 4
    assert received[1].endswith("for the 10th time")
    assert received[3].endswith("for the 1000th time")
    assert len(records) < 30
    if fail is raising:
        assert [bool(one.exc_info) for one in records if "received" in one.getMessage()] == [
            True, False, False, False,
        ]  # fmt: skip


async def test_an_observer_hears_of_submissions_and_of_the_end(sim: Simulator) -> None:
    """What it returned when a submission began comes back with what became of it."""
    heard: list[object] = []

    class Mine(Observer):
        def submit_began(self, workflow: str) -> object:
            return f"sent {workflow}"

        def submit_ended(self, submission: object, outcome: str | CyberunError | None) -> None:
            heard.append((submission, outcome))

        def closed(self) -> None:
            heard.append("closed")

    async with virtual_client(sim, observer=Mine()) as client:
        task = await submitted(client)
        with pytest.raises(CyberunError) as caught:
            await client.submit("no-such-workflow", {})
        assert "closed" not in heard

    assert heard == [
        ("sent text-to-image", task.id), ("sent no-such-workflow", caught.value), "closed",
    ]  # fmt: skip


# --- transports that a user gives -----------------------------------------------------


async def an_asynchronous_factory() -> httpx.AsyncBaseTransport:
    return httpx.AsyncHTTPTransport()


def of_httpx2() -> Any:
    return pytest.importorskip("httpx2").AsyncHTTPTransport()


def a_client() -> Any:
    return httpx.AsyncClient()


class Alike:
    """It has the method, but is not an observer all the same."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200)


FACTORIES: Final[list[Callable[[], Any]]] = [
    type(None), int, httpx.HTTPTransport, an_asynchronous_factory, of_httpx2, a_client,
    Alike, functools.partial(type, "Made", (httpx.AsyncHTTPTransport,), {}),
]  # fmt: skip


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda one: getattr(one, "__name__", "class"))
async def test_a_factory_returns_an_asynchronous_transport_of_this_httpx(
    sim: Simulator, factory: Any
) -> None:
    """Anything else is reported when the client is opened, before a request is made."""
    client = CyberunClient(sim.key, base_url=sim.url, transport_factory=factory)
    with pytest.raises(ConfigurationError, match="transport_factory"):
        async with client:
            pass


async def test_a_factory_that_changes_its_mind_is_refused_as_well(sim: Simulator) -> None:
    """Each transport is looked at, whatever is made with it."""
    made: list[Any] = [StreamingASGITransport(sim.app)]

    def factory() -> Any:
        return made.pop() if made else None

    async with CyberunClient(sim.key, base_url=sim.url, transport_factory=factory) as client:
        task = await submitted(client)
        watched = await follow(client.watch(task))

    assert isinstance(watched.error, ConfigurationError)


async def test_a_transport_that_was_not_needed_is_closed(sim: Simulator) -> None:
    """The one that was made when the client was opened, too."""
    closed: list[object] = []

    class Closing(httpx.AsyncBaseTransport):
        async def aclose(self) -> None:
            closed.append(self)

    async with CyberunClient(sim.key, base_url=sim.url, transport_factory=Closing):
        pass

    assert len(closed) == 1
