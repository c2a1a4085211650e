"""Siblings of several tenants: one network, shared fairly, and a key and accounts for each."""

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import anyio
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from cyberun_async import (
    ConfigurationError,
    CyberunClient,
    Limits,
    ProgressEvent,
    RateLimitedError,
    RetryPolicy,
    ServiceUnavailableError,
    Timeouts,
    WatchPolicy,
)
from cyberun_async.testing import Simulator, StreamingASGITransport, TaskPlan, faults

from ..whole.kit import SLOW, VIRTUAL, follow, virtual_backend, virtual_client


LONG = TaskPlan(pending=0.1, waiting=0.1, queued=0.1, steps=600, step_seconds=1)
POLLED = WatchPolicy(poll_interval=3.0)

who: ContextVar[str] = ContextVar("who")


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


@pytest.fixture
def sim() -> Simulator:
    return Simulator(seed=7, default_plan=SLOW)


class Gate:
    """An application before the service's own, where the requests of one key may fare badly."""

    def __init__(self, sim: Simulator, key: str, handle: Callable[[Send], Any]) -> None:
        self._app: ASGIApp = sim.app
        self._authorization = f"Bearer {key}".encode()
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        if headers.get(b"authorization") == self._authorization:
            await self._handle(send)
        else:
            await self._app(scope, receive, send)


def gated_client(sim: Simulator, gate: Gate, **settings: Any) -> CyberunClient:
    return CyberunClient(
        sim.key,
        base_url=sim.url,
        transport_factory=lambda: StreamingASGITransport(gate),
        **settings,
    )


async def too_many(send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"300")]
    await send({"type": "http.response.start", "status": 429, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"error_message": "slow down"}'})


async def silence(_: Send) -> None:
    await anyio.sleep_forever()


def senders(sim: Simulator, endpoint: str) -> list[str]:
    return [request.headers["authorization"] for request in sim.requests_to(endpoint)]


async def test_a_sibling_acts_with_its_own_key_and_team(sim: Simulator) -> None:
    """Each request has the key of whose sibling made it; a team goes with user tokens only."""
    other = sim.issue_key("sk")
    async with virtual_client(sim) as client:
        live = sim.create_task(SLOW)
        await client.tasks.get(live.id)
        tenant = client.with_options(api_key=other, team_id="team-of-nobody")
        await tenant.tasks.get(live.id)
        await tenant.with_options(user_agent="app/1").tasks.get(live.id)
        await client.with_options(api_key=sim.jwt, team_id=sim.team_id).tasks.get(live.id)

    assert senders(sim, "task") == [f"Bearer {key}" for key in (sim.key, other, other, sim.jwt)]
    teams = [request.headers.get("x-team-id") for request in sim.requests_to("task")]
    assert teams == [None, None, None, sim.team_id]


def test_a_sibling_with_a_key_that_cannot_be_one_is_refused(sim: Simulator) -> None:
    """As the client itself is, at once."""
    client = virtual_client(sim)
    wrong: tuple[Any, ...] = ("ak-1234", 5, sim.jwt)
    for key in wrong:
        with pytest.raises(ConfigurationError):
            client.with_options(api_key=key)


async def test_tenants_follow_a_task_on_their_own(sim: Simulator) -> None:
    """Siblings of one key share a stream; another key never reads from it."""
    other = sim.issue_key("sk")
    live = sim.create_task(LONG)
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        for key in (sim.key, sim.key, other, other, other):
            group.start_soon(follow, client.with_options(api_key=key).watch(live.id))
        await anyio.sleep(3)

        assert sim.open_streams == 2
        assert sorted(set(senders(sim, "events"))) == sorted(
            f"Bearer {key}" for key in (sim.key, other)
        )
        group.cancel_scope.cancel()


async def test_the_team_tells_tenants_apart_where_it_is_sent(sim: Simulator) -> None:
    """One callable for two teams is two tenants; a team that is never sent makes none."""
    live = sim.create_task(SLOW)

    def key() -> str:
        return sim.jwt

    async with virtual_client(sim, key, team_id=sim.team_id) as client:
        await client.tasks.get(live.id)
        same = client.with_options(api_key=key, team_id=sim.team_id)
        team = client.with_options(team_id="another")
        one, two = (client.with_options(api_key=sim.key, team_id=name) for name in ("this", "that"))
        await one.tasks.get(live.id)

        assert (same.statistics().requests, team.statistics().requests) == (1, 0)
        assert two.statistics().requests == 1


async def test_statistics_are_of_one_tenant(sim: Simulator) -> None:
    """What another key does is not counted with the client's, and is shared by its siblings."""
    other = sim.issue_key("sk")
    live = sim.create_task(LONG)
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        tenant = client.with_options(api_key=other)
        group.start_soon(follow, tenant.watch(live.id))
        await anyio.sleep(5)
        twin = client.with_options(api_key=other)
        own, theirs = client.statistics(), tenant.statistics()

        assert (own.requests, own.open_streams, own.followed_tasks, own.events) == (0, 0, 0, 0)
        assert (theirs.open_streams, theirs.followed_tasks) == (1, 1)
        assert theirs.requests >= 1
        assert theirs.events > 1
        assert twin.statistics() == theirs
        group.cancel_scope.cancel()


async def test_the_quota_of_retries_is_of_one_tenant(sim: Simulator) -> None:
    """One tenant's outage uses up the tries of its own siblings, and of no other's."""
    sim.faults.add("task", faults.refuse(503), times=None)
    live = sim.create_task(SLOW)
    policy = RetryPolicy(quota=28, retry_cost=14, backoff_base=0.001, backoff_cap=0.002)
    async with virtual_client(sim, retries=policy) as client:
        tenants = [client, client.with_options(api_key=sim.issue_key("sk"))]
        for tenant in tenants:
            for _ in range(4):
                with pytest.raises(ServiceUnavailableError):
                    await tenant.with_options(headers={"X-A": "1"}).tasks.get(live.id)

    assert list(Counter(senders(sim, "task")).values()) == [4 + 2] * 2


async def test_a_tenant_with_many_streams_leaves_others_theirs(sim: Simulator) -> None:
    """All slots taken by one tenant, the running tasks of a second get half of them, live."""
    async with (
        virtual_client(sim, limits=Limits(max_streams=6)) as client,
        anyio.create_task_group() as group,
    ):
        greedy = client.with_options(api_key=sim.issue_key("sk"))
        for _ in range(20):
            group.start_soon(follow, greedy.watch(sim.create_task(LONG).id))
        await anyio.sleep(20)
        assert greedy.statistics().open_streams == 6
        modest = client.with_options(api_key=sim.issue_key("sk"))
        came: Counter[int] = Counter()

        async def read(number: int) -> None:
            async with modest.watch(sim.create_task(LONG).id) as events:
                async for event in events:
                    came[number] += isinstance(event, ProgressEvent)

        for number in range(5):
            group.start_soon(read, number)
        await anyio.sleep(20)
        shares = greedy.statistics().open_streams, modest.statistics().open_streams

        assert shares == (3, 3)
        assert sum(count > 3 for count in came.values()) == 3
        assert sim.peak_streams <= 6
        group.cancel_scope.cancel()


async def test_a_tenant_with_many_waits_does_not_hold_up_others(sim: Simulator) -> None:
    """Hundreds of polled tasks of one tenant, at ten requests a second, delay no other's end."""
    short = TaskPlan(pending=1, waiting=1, queued=1, steps=5, step_seconds=1)
    ends: list[float] = []
    async with (
        virtual_client(sim, limits=Limits(poll_rate=10.0), watch_policy=POLLED) as client,
        anyio.create_task_group() as group,
    ):
        # Several ways of one tenant are still one tenant; each polls too few for lists.
        ways = [
            client.with_options(api_key=sim.key, headers={"X-Way": str(number)})
            for number in range(40)
        ]
        for number in range(360):
            group.start_soon(ways[number % 40].wait, sim.create_task(LONG).id)
        await anyio.sleep(30)
        modest = client.with_options(api_key=sim.issue_key("sk"))

        async def wait() -> None:
            began = anyio.current_time()
            await modest.wait(sim.create_task(short).id)
            ends.append(anyio.current_time() - began)

        async with anyio.create_task_group() as waits:
            for _ in range(3):
                waits.start_soon(wait)
        group.cancel_scope.cancel()

    moments = [request.at for request in sim.requests if request.endpoint in ("task", "tasks")]
    busiest = max(sum(at <= other < at + 1 for other in moments) for at in moments[::5])
    assert max(ends) < 8 + 2 * 3.0
    assert busiest <= 11
    assert len(moments) > 300


async def test_what_slows_one_tenant_slows_no_other(sim: Simulator) -> None:
    """A key that is reported to wait for five minutes leaves the others their pace."""
    bad = sim.issue_key("sk")
    live = sim.create_task(SLOW)
    async with gated_client(sim, Gate(sim, bad, too_many), watch_policy=POLLED) as client:
        with pytest.raises(RateLimitedError):
            await client.with_options(api_key=bad, retries=RetryPolicy(max_attempts=1)).tasks.get(
                live.id
            )
        async with anyio.create_task_group() as group:
            group.start_soon(client.with_options(api_key=bad).wait, live.id)
            await anyio.sleep(2)
            with anyio.fail_after(15):
                assert (await client.wait(live.id)).status == "completed"
            group.cancel_scope.cancel()


async def test_a_tenant_whose_requests_hang_leaves_others_connections(sim: Simulator) -> None:
    """However many requests of one tenant are never answered, another's are served at once."""
    bad = sim.issue_key("sk")
    live = sim.create_task(SLOW)
    limits, patient = Limits(max_connections=6), Timeouts(read=600.0)
    async with (
        gated_client(sim, Gate(sim, bad, silence), limits=limits, timeouts=patient) as client,
        anyio.create_task_group() as group,
    ):
        for _ in range(30):
            group.start_soon(client.with_options(api_key=bad).tasks.get, live.id)
        await anyio.sleep(1)
        with anyio.fail_after(5):
            for _ in range(10):
                await client.tasks.get(live.id)
        group.cancel_scope.cancel()


async def test_thousands_of_siblings_leave_nothing(sim: Simulator) -> None:
    """A tenant per request: its state goes with its last user, also where it followed a task."""
    keys = [sim.issue_key("sk") for _ in range(30)]
    live = sim.create_task(manual=True)
    ended = sim.create_task(TaskPlan(pending=0.01, waiting=0.01, queued=0.01, steps=0))
    async with virtual_client(sim) as client:
        sibling = client
        for number in range(3000):
            sibling = client.with_options(api_key=keys[number % 30])
            if number % 10 == 0:
                await sibling.tasks.get(live.id)
            if number % 100 == 0:
                await sibling.wait(ended.id)
        last = weakref.ref(sibling)
        del sibling
        await anyio.sleep(1)
        gc.collect()

        assert last() is None
        assert client.with_options(api_key=keys[0]).statistics().requests == 0
        assert len(client._session.opened._tenants) <= 2
        assert len(client._session.opened.followers) <= 2


async def test_a_handle_keeps_its_tenant(sim: Simulator) -> None:
    """The sibling that submitted a task need not be kept."""
    other = sim.issue_key("sk")
    async with virtual_client(sim) as client:
        task = await client.with_options(api_key=other).submit("text-to-image", {"prompt": "fox"})
        gc.collect()
        await task

    assert {f"Bearer {other}"} == {
        request.headers["authorization"]
        for request in sim.requests
        if "authorization" in request.headers
    }


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_a_key_callable_runs_where_the_client_was_opened(
    sim: Simulator, is_async: bool
) -> None:
    """What it reads from context variables never comes from whoever happens to call."""
    keys = {name: sim.issue_key("sk") for name in ("opener", "alice", "bob")}
    seen: list[str] = []

    def key() -> str:
        seen.append(who.get())
        who.set("the callable itself")
        return keys[seen[-1]]

    async def key_later() -> str:
        await anyio.sleep(0.01)
        return key()

    live = sim.create_task(SLOW)
    who.set("opener")
    async with virtual_client(sim, key_later if is_async else key) as client:

        async def ask(name: str) -> None:
            who.set(name)
            await client.tasks.get(live.id)
            await follow(client.watch(live.id))
            assert who.get() == name

        async with anyio.create_task_group() as group:
            group.start_soon(ask, "alice")
            group.start_soon(ask, "bob")

    assert set(seen) == {"opener"}
    assert len(seen) >= 3
    assert set(senders(sim, "task") + senders(sim, "events")) == {f"Bearer {keys['opener']}"}


async def test_cancelling_a_call_cancels_the_callable_it_waits_for(sim: Simulator) -> None:
    """A key that is being fetched is waited for within the call, and no longer."""
    left: list[str] = []

    async def key() -> str:
        try:
            await anyio.sleep(3600)
        finally:
            left.append("left")
        return sim.key

    async with virtual_client(sim, key) as client:
        with anyio.move_on_after(5) as scope:
            await client.tasks.get(sim.create_task(SLOW).id)

    assert scope.cancelled_caught
    assert left == ["left"]
