"""Through squid and tinyproxy: tunnels, absolute form, passwords, denials, and their absence."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from cyberun_async import CyberunClient, CyberunError, RetryPolicy, Timeouts, WatchPolicy
from cyberun_async.testing import Simulator, TaskPlan

from .fleet import Fleet, client_of, restarted, trusting
from .programs import Place, Program, free_port, squid, tinyproxy


Make: TypeAlias = Callable[..., Program]

PROXIES: dict[str, Make] = {"squid": squid, "tinyproxy": tinyproxy}
TRANSPORTS = ["httpx", "aiohttp"]
# What squid and tinyproxy are reported to deny everybody everything.
DENY = {"squid": "http_access deny all", "tinyproxy": "Deny 127.0.0.1\nAllow 192.0.2.1"}
# As the tests that end with an error are about the error and not about patience.
BRIEF = WatchPolicy(max_outage=4.0, connect_within=4.0, backoff_base=0.2, backoff_cap=1.0)


@pytest.fixture(params=PROXIES)
def name(request: pytest.FixtureRequest) -> str:
    """A forward proxy."""
    chosen: str = request.param
    return chosen


@pytest.fixture
def trusted(bundle: Path) -> ssl.SSLContext:
    """What a client of these tests trusts."""
    return trusting(bundle)


@pytest.fixture(params=["http", "https"])
def service(request: pytest.FixtureRequest) -> Simulator:
    """The service: requests go to it in absolute form, or through a tunnel."""
    chosen: Simulator = request.getfixturevalue("sim" if request.param == "http" else "secure_sim")
    return chosen


def url_of(proxy: Program | int, login: str = "") -> str:
    port = proxy if isinstance(proxy, int) else proxy.port
    return f"http://{login}127.0.0.1:{port}"


def through(
    service: Simulator, proxy: str, trusted: ssl.SSLContext, transport: Any = "httpx"
) -> CyberunClient:
    return client_of(service, proxy=proxy, verify=trusted, transport=transport)


async def failure_of(work: Any) -> CyberunError:
    with pytest.raises(CyberunError) as caught:
        await work
    return caught.value


async def test_everything_goes_through_it(
    name: str, service: Simulator, place: Place, trusted: ssl.SSLContext
) -> None:
    """In absolute form and in tunnels, with a password that is right."""
    proxy = PROXIES[name](place, password="pa55word")
    async with through(service, url_of(proxy, "user:pa55word@"), trusted) as client:
        await Fleet(watches=4, waits=2, jobs=3).survives(client, service, place.folder)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_restart_of_it_ends_nothing(
    name: str, secure_sim: Simulator, place: Place, trusted: ssl.SSLContext, transport: Any
) -> None:
    """Its tunnels are lost, and for two seconds nobody makes new ones."""
    proxy = PROXIES[name](place)
    async with through(secure_sim, url_of(proxy), trusted, transport) as client:
        await Fleet().survives(client, secure_sim, place.folder, lambda: proxy.restart(2.0))


async def test_a_restart_of_it_ends_nothing_in_absolute_form(
    name: str, sim: Simulator, place: Place
) -> None:
    """The same without tunnels."""
    proxy = PROXIES[name](place)
    async with client_of(sim, proxy=url_of(proxy)) as client:
        await Fleet().survives(client, sim, place.folder, lambda: proxy.restart(2.0))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_service_that_restarts_behind_it_ends_nothing(
    name: str, secure_sim: Simulator, place: Place, trusted: ssl.SSLContext, transport: Any
) -> None:
    """CONNECT is answered 500 or 503 for three seconds."""
    proxy = PROXIES[name](place)
    fleet = Fleet(watches=20, waits=8)
    async with through(secure_sim, url_of(proxy), trusted, transport) as client:
        await fleet.survives(client, secure_sim, place.folder, restarted(secure_sim, 3.0))


# To a wrong password tinyproxy answers 401, as a service would; in a tunnel's answer that is
# the proxy's, in absolute form nobody can tell.
LOGINS = [
    *(
        ("squid", scheme, login)
        for scheme in ("sim", "secure_sim")
        for login in ("", "user:wrong@")
    ),
    *(("tinyproxy", "sim", ""), ("tinyproxy", "secure_sim", "")),
    ("tinyproxy", "secure_sim", "user:wrong@"),
]


@pytest.mark.parametrize(("name", "scheme", "login"), LOGINS)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_password_that_is_wrong_or_missing_is_final_and_named(
    request: pytest.FixtureRequest,
    name: str,
    scheme: str,
    place: Place,
    trusted: ssl.SSLContext,
    transport: Any,
    login: str,
) -> None:
    """The message speaks of the proxy's password and not of the key; nothing is tried for long."""
    service: Simulator = request.getfixturevalue(scheme)
    proxy = PROXIES[name](place, password="pa55word")
    live = service.create_task(TaskPlan(forever_waiting=True))
    async with through(service, url_of(proxy, login), trusted, transport) as client:
        for work in (client.tasks.get, client.wait):
            error = await failure_of(work(live.id))
            words = f"{error} {' '.join(getattr(error, '__notes__', []))}"
            assert "407" in words or "password" in words
            assert "proxy" in words
            assert "API key" not in words
            assert "wrong" not in words
    assert service.requests == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_denial_of_a_tunnel_is_final_and_the_proxys(
    name: str, secure_sim: Simulator, place: Place, trusted: ssl.SSLContext, transport: Any
) -> None:
    """403 to CONNECT ends a wait, and is not blamed on the key."""
    proxy = PROXIES[name](place, rules=DENY[name])
    live = secure_sim.create_task(TaskPlan(forever_waiting=True))
    async with through(secure_sim, url_of(proxy), trusted, transport) as client:
        for work in (client.tasks.get, client.wait):
            error = await failure_of(work(live.id))
            assert "403" in str(error)
            assert "proxy" in str(error)
            assert "key" not in str(error)
    assert secure_sim.requests == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_proxy_that_is_down_is_named(
    secure_sim: Simulator,
    trusted: ssl.SSLContext,
    transport: Any,
    environment: pytest.MonkeyPatch,
) -> None:
    """With the variable it came from, after as many tries as for any lost connection."""
    port = free_port()
    environment.setenv("HTTPS_PROXY", url_of(port))
    live = secure_sim.create_task(TaskPlan(forever_waiting=True))
    settings: dict[str, Any] = {
        "verify": trusted,
        "transport": transport,
        "watch_policy": BRIEF,
        "retries": RetryPolicy(max_attempts=2, backoff_base=0.05),
        "timeouts": Timeouts(connect=2.0),
    }
    async with client_of(secure_sim, **settings) as client:
        for work in (client.tasks.get, client.wait):
            error = await failure_of(work(live.id))
            assert f"127.0.0.1:{port}" in str(error)
            assert "HTTPS_PROXY" in str(error)
    assert secure_sim.requests == []


async def test_a_proxy_that_comes_up_late_is_waited_for(
    name: str, secure_sim: Simulator, place: Place, trusted: ssl.SSLContext
) -> None:
    """What begins while it is down goes on once it is there."""
    proxy = PROXIES[name](place)
    proxy.stop()
    async with client_of(secure_sim, proxy=url_of(proxy), verify=trusted) as client:
        fleet = Fleet(watches=4, waits=2, jobs=0)
        await fleet.survives(client, secure_sim, place.folder, proxy.start, after=2.0)
