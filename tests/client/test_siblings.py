"""Clients made by ``with_options``: other settings, the same connections."""

import gc
from typing import Any

import anyio
import attrs
import pytest

from cyberun_async import (
    ClientClosedError,
    ClientStateError,
    ConfigurationError,
    CyberunClient,
    InvalidInputError,
    Limits,
    Notice,
    RetryPolicy,
    ServiceUnavailableError,
    Timeouts,
    WatchPolicy,
)
from cyberun_async.testing import Simulator, faults

from ..fake_service import TASK, FakeService
from ..following.kit import settle
from ..whole.kit import SLOW, VIRTUAL, follow, library_tasks, until, virtual_backend, virtual_client


PATH = f"/r/tasks/{TASK}"
SNAPSHOT = {"id": TASK, "task_status": "running"}


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


@pytest.fixture
def sim() -> Simulator:
    return Simulator(seed=7, default_plan=SLOW)


@pytest.fixture
def service() -> FakeService:
    service = FakeService()
    service.on("GET", PATH, SNAPSHOT)
    return service


async def test_a_sibling_sends_its_own_headers(service: FakeService) -> None:
    """Headers are added to the client's, whatever their case; the client keeps its own."""
    settings: dict[str, Any] = {"headers": {"X-Tenant": "a", "X-App": "1"}, "user_agent": "bot/1"}
    async with service.client(**settings) as client:
        await client.with_options(headers={"x-tenant": "b"}, user_agent="bot/2").tasks.get(TASK)
        await client.tasks.get(TASK)

    sent = [
        (one.headers["x-tenant"], one.headers["x-app"], one.headers["user-agent"].split()[0])
        for one in service.requests
    ]
    assert sent == [("b", "1", "bot/2"), ("a", "1", "bot/1")]


async def test_a_sibling_may_be_a_sibling_of_a_sibling(service: FakeService) -> None:
    """What is not given is taken over."""
    async with service.client() as client:
        first = client.with_options(headers={"X-A": "1"}, retries=RetryPolicy(max_attempts=1))
        second = first.with_options(headers={"X-B": "2"})
        service.on("GET", PATH, {}, status=503)
        with pytest.raises(ServiceUnavailableError):
            await second.tasks.get(TASK)

    [request] = service.requests
    assert (request.headers["x-a"], request.headers["x-b"]) == ("1", "2")


async def test_a_sibling_has_time_limits_of_its_own(service: FakeService) -> None:
    """The limits of a request are those of whoever made it, also for files."""
    service.on_url("GET", "https://store.test/a", b"abc")
    result = {"id": TASK, "task_status": "completed", "download_url": "https://store.test/a"}
    service.on("GET", PATH, {"id": TASK, "task_status": "completed"})
    service.on("GET", f"{PATH}/result", result)
    async with service.client(timeouts=Timeouts(read=7.0)) as client:
        await client.tasks.get(TASK)
        sibling = client.with_options(timeouts=Timeouts(read=3.0))
        await sibling.tasks.get(TASK)
        await (await sibling.result(TASK))[0].read()

    reads = [one.extensions["timeout"]["read"] for one in service.requests]
    assert reads == [7.0, 3.0, 3.0, 3.0, 3.0]


async def test_siblings_share_connections_key_and_statistics(service: FakeService) -> None:
    """A sibling opens nothing of its own, and what it does is counted with the client."""
    service.on("GET", PATH, SNAPSHOT)
    asked: list[str] = []

    def key() -> str:
        asked.append("key")
        return "sk-0123456789abcdefghij"

    async with service.client(api_key=key) as client:
        sibling = client.with_options(timeouts=Timeouts(read=3.0))
        await client.tasks.get(TASK)
        await sibling.tasks.get(TASK)
        network = client._session.opened.transport

        assert sibling._session.opened.transport is network
        assert network.statistics().idle_connections == 1
        assert client.statistics() == sibling.statistics()
        assert client.statistics().requests == 2
    assert asked == ["key", "key"]


async def test_siblings_share_the_quota_of_retries(service: FakeService) -> None:
    """An outage uses up one bucket, however many siblings meet it."""
    service.on("GET", PATH, {}, status=503)
    quota = RetryPolicy(quota=28, retry_cost=14, backoff_base=0.001, backoff_cap=0.002)
    async with service.client(retries=quota) as client:
        for _ in range(4):
            sibling = client.with_options(headers={"X-A": "1"})
            with pytest.raises(ServiceUnavailableError):
                await sibling.tasks.get(TASK)

    assert len(service.requests) == 4 + 2


async def test_a_sibling_lives_with_the_client_it_came_from(service: FakeService) -> None:
    """It can be made before, is not opened or closed by itself, and ends with the client."""
    client = service.client()
    sibling = client.with_options(headers={"X-A": "1"})
    with pytest.raises(ClientStateError, match="not open"):
        await sibling.tasks.get(TASK)
    async with client:
        with pytest.raises(ClientStateError, match="with the one it came from"):
            await sibling.__aenter__()
        with pytest.raises(ClientStateError, match="with the one it came from"):
            await sibling.aclose()
        assert (await sibling.tasks.get(TASK)).status == "running"
        handle = sibling.handle(TASK)
        await handle.refresh()
    with pytest.raises(ClientClosedError):
        await sibling.tasks.get(TASK)

    assert [one.headers.get("x-a") for one in service.requests] == ["1", "1"]
    assert repr(sibling) == repr(client)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        pytest.param({"watch_policy": Timeouts()}, ConfigurationError, id="policy"),
        pytest.param({"retries": 3}, ConfigurationError, id="retries"),
        pytest.param({"timeouts": 5.0}, ConfigurationError, id="timeouts"),
        pytest.param({"headers": ["X-A"]}, ConfigurationError, id="headers"),
        pytest.param({"headers": {"X-A": "a\r\nX-B: b"}}, InvalidInputError, id="line-end"),
        pytest.param({"headers": {"X A": "a"}}, InvalidInputError, id="name"),
        pytest.param({"headers": {5: "a"}}, InvalidInputError, id="number-for-name"),
        pytest.param({"headers": {"X-A": 5}}, InvalidInputError, id="number-for-value"),
        pytest.param({"headers": {"authorization": "Bearer x"}}, ConfigurationError, id="auth"),
        pytest.param({"headers": {"X-Team-ID": "x"}}, ConfigurationError, id="team"),
        pytest.param({"headers": {"Host": "x"}}, ConfigurationError, id="host"),
        pytest.param({"user_agent": "a\nb"}, InvalidInputError, id="agent"),
        pytest.param({"user_agent": 5}, InvalidInputError, id="number-for-agent"),
        pytest.param({"on_notice": 5}, ConfigurationError, id="notice"),
    ],
)
def test_a_setting_of_another_kind_is_refused(
    service: FakeService, settings: dict[str, Any], error: type[Exception]
) -> None:
    """The client itself refuses it as its siblings do."""
    with pytest.raises(error):
        service.client().with_options(**settings)
    with pytest.raises(error):
        service.client(**({"retries": None} | settings))


class Hearer:
    """A callable that cannot be hashed."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self.heard: list[Notice] = []

    def __call__(self, notice: Notice) -> None:
        self.heard.append(notice)

    def __eq__(self, other: object) -> bool:
        return self is other


async def test_a_sibling_hears_of_its_own_watches(sim: Simulator) -> None:
    """Its callback is called in place of the client's, also where it cannot be hashed."""
    own, other = Hearer(), Hearer()
    async with virtual_client(sim, on_notice=other) as client:
        sibling = client.with_options(on_notice=own)
        task = await client.submit("text-to-image", {"prompt": "a fox"})
        await follow(sibling.watch(task))

    assert own.heard
    assert other.heard == []


async def test_equal_siblings_share_a_stream(sim: Simulator) -> None:
    """Watches of siblings with equal settings share one stream; others have their own."""
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        task = await client.submit("text-to-image", {"prompt": "a fox"})
        patient = WatchPolicy(idle_timeout=600.0)
        for sibling in (
            client,
            client.with_options(watch_policy=WatchPolicy()),
            client.with_options(watch_policy=patient),
            client.with_options(watch_policy=WatchPolicy(idle_timeout=600.0)),
        ):
            group.start_soon(follow, sibling.watch(task))
        await anyio.sleep(3)

        assert sim.open_streams == 2
        assert client.statistics().followed_tasks == 2


async def test_siblings_share_stream_slots(sim: Simulator) -> None:
    """However many siblings watch, no more streams are open than the client may have."""
    async with (
        virtual_client(sim, limits=Limits(max_streams=2)) as client,
        anyio.create_task_group() as group,
    ):
        for number in range(6):
            sibling = client.with_options(headers={"X-Number": str(number)})
            task = await sibling.submit("text-to-image", {"prompt": "a fox"})
            group.start_soon(follow, sibling.watch(task))

    assert sim.peak_streams <= 2


async def test_a_siblings_policy_holds_for_its_watches(sim: Simulator) -> None:
    """One that gives up soon does, while the client continues."""
    live = sim.create_task(manual=True)
    sim.faults.add("events", faults.refuse(503), times=None)
    sim.faults.add("task", faults.refuse(503), times=None)
    policy = WatchPolicy(max_outage=30.0, connect_within=30.0)
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        patient = client.with_options(watch_policy=WatchPolicy(connect_within=None))
        stream = patient.watch(live.id)
        group.start_soon(follow, stream)
        watched = await follow(client.with_options(watch_policy=policy).watch(live.id))
        assert type(watched.error).__name__ == "WatchLostError"
        assert stream.phase != "closed"
        group.cancel_scope.cancel()


async def test_closing_the_client_ends_the_watches_of_its_siblings(sim: Simulator) -> None:
    """No watch outlives the client, whoever made it."""
    live = sim.create_task(manual=True)
    found: list[Any] = []
    async with anyio.create_task_group() as group:
        async with virtual_client(sim) as client:

            async def read() -> None:
                found.append(await follow(client.with_options(headers={"X-A": "1"}).watch(live.id)))

            group.start_soon(read)
            await until(lambda: sim.open_streams == 1)
    assert type(found[0].error) is ClientClosedError


async def test_siblings_that_are_gone_leave_nothing(sim: Simulator) -> None:
    """A sibling per call costs no memory once the call is over."""
    live = sim.create_task(manual=True)
    async with virtual_client(sim) as client:
        for number in range(50):
            await client.with_options(headers={"X-Number": str(number)}).tasks.get(live.id)
        gc.collect()

        assert len(client._session.opened.followers) <= 1
    assert len(sim.requests_to("task")) == 50


async def test_siblings_that_followed_a_task_leave_nothing(sim: Simulator) -> None:
    """Once what it followed has ended, a sibling that is gone costs neither memory nor a task."""
    async with virtual_client(sim) as client:
        for number in range(20):
            live = sim.create_task(SLOW)
            await client.with_options(headers={"X-Number": str(number)}).wait(live.id)
        await settle()
        gc.collect()

        assert len(client._session.opened.followers) <= 1
        assert library_tasks() == []
        assert client.statistics().status_checks >= 20


async def test_what_readers_of_a_sibling_that_is_gone_missed_is_counted_still(
    sim: Simulator,
) -> None:
    """The statistics are those of the client, whoever of its siblings is left."""
    live = sim.create_task(attrs.evolve(SLOW, steps=100, step_seconds=0.01))
    async with virtual_client(sim, limits=Limits(reader_capacity=1)) as client:
        async with client.with_options(headers={"X-Number": "1"}).watch(live.id) as events:
            await anext(events)
            await anyio.sleep(60)
            before = client.statistics().dropped_progress
        del events
        await settle()
        gc.collect()
        after = client.statistics().dropped_progress

        assert len(client._session.opened.followers) <= 1
    assert before == after > 0


def test_a_subclass_makes_siblings_of_its_kind() -> None:
    """What a subclass added is taken over."""

    class Mine(CyberunClient):
        note = "none"

    mine = Mine("sk-0123456789abcdefghij")
    mine.note = "kept"
    sibling = mine.with_options(user_agent="a")

    assert isinstance(sibling, Mine)
    assert sibling.note == "kept"


def test_a_gateways_header_is_in_no_repr(service: FakeService) -> None:
    """A header may be a credential of its own."""
    client = service.client(headers={"X-Gateway-Key": "s3cret"})

    assert "s3cret" not in repr(client) + repr(client._session.settings)
