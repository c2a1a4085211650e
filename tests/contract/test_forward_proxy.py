"""
Trouble with a forward proxy is an outage, unless it is the operator's own refusal.

The same rules hold on both transports, and what is said of it is true: it names the proxy
and where it was set, and blames neither the key nor the service.
"""

import socket
from collections.abc import Iterator
from typing import Any, Final

import anyio
import pytest

from cyberun_async import (
    CompletedEvent,
    ConfigurationError,
    CyberunClient,
    RetryPolicy,
    ServiceUnavailableError,
    Timeouts,
    WatchPolicy,
)
from cyberun_async.testing import Simulator, TaskPlan, faults

from ..whole.kit import follow
from ..wire.proxy import Proxy, proxying
from ..wire.server import reply
from .test_tls_handshakes import Kind, each_transport, listed, port_of
from .tls import Authority, Cut, Cutter, cutting, over_tls


TASK: Final = "6a2c1e0e-6f4b-4c57-9a53-0a4ff4f20b53"
VARIABLES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
PAGE: Final = b"<html><h1>the proxy's page</h1></html>"
# What a proxy says while the service behind it restarts, or while it does so itself.
PASSING: Final = {
    **{
        status[:3]: reply(PAGE, status, Content_Type="text/html")
        for status in (
            "404 Not Found",
            "429 Too Many Requests",
            "500 Internal Server Error",
            "502 Bad Gateway",
            "503 Service Unavailable",
            "504 Gateway Timeout",
        )
    },
    "hang-up": b"",
    "half-a-head": b"HTTP/1.1 200 Conn",
    "no-http": b"SSH-2.0-OpenSSH_9.2\r\n",
}
REFUSALS: Final = {
    "407": ("407 Proxy Authentication Required", "wants a user name and password"),
    "401": ("401 Unauthorized", "wants a user name and password"),
    "403": ("403 Forbidden", "does not allow connections to https://127.0.0.1"),
}


@pytest.fixture(scope="module", name="authority")
def _authority() -> Authority:
    return Authority()


@pytest.fixture(name="environment", autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.fixture(name="service")
def _service(sim: Simulator, authority: Authority) -> Iterator[Cutter]:
    with over_tls(port_of(sim), authority) as service:
        yield service


@pytest.fixture(name="proxy")
def _proxy() -> Iterator[Proxy]:
    with proxying() as proxy:
        yield proxy


def client_of(
    sim: Simulator, service: Cutter, authority: Authority, transport: Kind, **more: Any
) -> CyberunClient:
    settings: dict[str, Any] = {
        "base_url": f"{service.url}/api/v1",
        "transport": transport,
        "verify": authority.client_context(),
        "retries": RetryPolicy(backoff_base=0.01, backoff_cap=0.02),
        "watch_policy": WatchPolicy(backoff_base=0.01, poll_interval=0.1, climb_base=0.1),
        "timeouts": Timeouts(connect=2.0),
        **more,
    }
    return CyberunClient(sim.key, **settings)


@each_transport
@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
async def test_a_tunnel_that_is_not_made_is_tried_again(
    sim: Simulator,
    service: Cutter,
    authority: Authority,
    proxy: Proxy,
    transport: Kind,
    answer: bytes,
) -> None:
    """A submission provably did not leave; a watch goes on to the end."""
    async with client_of(sim, service, authority, transport, proxy=proxy.url) as client:
        proxy.refusals += [answer, answer]
        handle = await client.submit("text-to-image", {"prompt": "a fox"})
        assert not proxy.refusals
        proxy.refusals += [answer] * 4
        service.drop_all()
        watched = await follow(client.watch(handle))
    assert isinstance(watched.end, CompletedEvent)
    assert not proxy.refusals
    assert len(sim.submissions) == 1


@each_transport
@pytest.mark.parametrize(("status", "words"), REFUSALS.values(), ids=REFUSALS)
async def test_what_the_operator_of_a_proxy_refuses_is_final(
    sim: Simulator,
    service: Cutter,
    authority: Authority,
    transport: Kind,
    status: str,
    words: str,
    environment: pytest.MonkeyPatch,
) -> None:
    """One try; the proxy and its variable are named, and neither key nor rights are blamed."""
    with proxying(reply(PAGE, status)) as proxy:
        environment.setenv("HTTPS_PROXY", proxy.url)
        async with client_of(sim, service, authority, transport) as client:
            with pytest.raises(ServiceUnavailableError) as caught:
                await listed(client)
            assert len(proxy.requests) == 1
            watched = await follow(client.watch(TASK))
    named = f"the proxy 127.0.0.1:{proxy.port} (from HTTPS_PROXY) {words}"
    for error in (caught.value, watched.error):
        assert isinstance(error, ServiceUnavailableError)
        assert error.is_final
        assert not error.maybe_sent
        assert named in str(error)
        assert status[:3] in str(error)
        assert "key" not in str(error)
    assert not sim.requests


@each_transport
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_wrong_password_of_a_proxy_is_said_to_be_one(
    sim: Simulator, service: Cutter, authority: Authority, transport: Kind, scheme: str
) -> None:
    """It stands in no message; in the absolute form it is the same as with a tunnel."""
    base = f"{service.url}/api/v1" if scheme == "https" else sim.url
    with proxying(reply(PAGE, "407 Proxy Authentication Required")) as proxy:
        url = proxy.url.replace("//", "//user:pa55@")
        more = {"proxy": url, "base_url": base}
        async with client_of(sim, service, authority, transport, **more) as client:
            with pytest.raises(ServiceUnavailableError) as caught:
                await listed(client)
    assert caught.value.is_final
    assert "does not accept the user name and password of its URL" in str(caught.value)
    assert f"the proxy 127.0.0.1:{proxy.port} (from proxy=)" in str(caught.value)
    assert "pa55" not in repr(caught.value) + str(caught.value)
    assert "API key" not in str(caught.value)


@each_transport
async def test_a_407_inside_a_tunnel_is_not_the_proxys(
    sim: Simulator, service: Cutter, authority: Authority, proxy: Proxy, transport: Kind
) -> None:
    """Something behind it has answered so, and later it does not."""
    live = sim.create_task(TaskPlan(steps=2, step_seconds=0.05, output={"a": 1}))
    rule = sim.faults.add("task", faults.refuse(407, body=PAGE.decode()))
    sim.faults.add("events", faults.refuse(407, body=PAGE.decode()))
    async with client_of(sim, service, authority, transport, proxy=proxy.url) as client:
        watched = await follow(client.watch(live.id))
    assert isinstance(watched.end, CompletedEvent)
    assert rule.fired == 1


@each_transport
@pytest.mark.parametrize(
    ("variable", "scheme"),
    [("HTTPS_PROXY", "https"), ("all_proxy", "https"), ("HTTP_PROXY", "http")],
)
async def test_a_dead_proxy_is_named_with_its_variable(
    sim: Simulator,
    service: Cutter,
    authority: Authority,
    transport: Kind,
    variable: str,
    scheme: str,
    environment: pytest.MonkeyPatch,
) -> None:
    """It has as many tries as a dead service, and its password is not shown."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    environment.setenv(variable, f"http://user:pa55@127.0.0.1:{port}")
    base = f"{service.url}/api/v1" if scheme == "https" else sim.url
    async with client_of(sim, service, authority, transport, base_url=base) as client:
        with pytest.raises(ServiceUnavailableError) as caught:
            await listed(client)
    error = caught.value
    assert f"the proxy 127.0.0.1:{port} (from {variable}) refused the connection" in str(error)
    assert (error.attempts, error.is_final, error.maybe_sent) == (4, False, False)
    assert "pa55" not in repr(error) + str(error)


@each_transport
async def test_a_proxy_that_restarts_ends_no_watch(
    sim: Simulator, service: Cutter, authority: Authority, proxy: Proxy, transport: Kind
) -> None:
    """It is down for a second, then it does not reach the service for half a second more."""
    ends: list[str] = []
    with cutting(proxy.port) as door:
        url = f"http://127.0.0.1:{door.port}"
        async with client_of(sim, service, authority, transport, proxy=url) as client:
            handles = [await client.submit("text-to-image", {"prompt": "x"}) for _ in range(4)]

            async def watch(handle: Any) -> None:
                ends.append(type((await follow(client.watch(handle))).end).__name__)

            async def wait(handle: Any) -> None:
                ends.append((await client.wait(handle)).status)

            async with anyio.create_task_group() as group:
                for handle in handles:
                    group.start_soon(watch, handle)
                    group.start_soon(wait, handle)
                await anyio.sleep(0.1)
                door.go_down()
                await anyio.sleep(1.0)
                proxy.refusal = PASSING["503"]
                door.come_up()
                await anyio.sleep(0.5)
                proxy.refusal = None
    assert sorted(ends) == ["CompletedEvent"] * 4 + ["completed"] * 4


@each_transport
async def test_a_handshake_that_fails_behind_a_proxy_is_the_services(
    sim: Simulator, service: Cutter, authority: Authority, proxy: Proxy, transport: Kind
) -> None:
    """It is tried again; the reason names the service, and the way to it."""
    async with client_of(sim, service, authority, transport, proxy=proxy.url) as client:
        service.cut_next(Cut("hello", "fin"), Cut("accept", "reset"))
        await listed(client)
        service.cut_all(Cut("hello", "fin", b"\x15\x03\x03\x00\x02\x02\x28"))
        service.drop_all()
        with pytest.raises(ServiceUnavailableError) as caught:
            await listed(client)
    assert not caught.value.is_final
    assert f"could not connect to {service.url} through the proxy" in str(caught.value)


@each_transport
async def test_a_certificate_behind_a_proxy_is_final(
    sim: Simulator, authority: Authority, proxy: Proxy, transport: Kind
) -> None:
    """The service's certificate is verified through the tunnel as without one."""
    with over_tls(port_of(sim), authority, "other.example") as service:
        async with client_of(sim, service, authority, transport, proxy=proxy.url) as client:
            with pytest.raises(ServiceUnavailableError) as caught:
                await listed(client)
    assert caught.value.is_final
    assert "certificate" in str(caught.value)
    assert service.url in str(caught.value)


@each_transport
@pytest.mark.parametrize("url", ["socks://127.0.0.1:1080", "socks4://user:pa55@127.0.0.1:1080"])
async def test_a_scheme_that_no_proxy_can_have_is_refused_with_those_that_work(
    sim: Simulator, transport: Kind, url: str, environment: pytest.MonkeyPatch
) -> None:
    """Desktops write socks:// into ALL_PROXY; the error says which variable and what works."""
    environment.setenv("ALL_PROXY", url)
    with pytest.raises(ConfigurationError) as caught:
        async with CyberunClient(sim.key, base_url=sim.url, transport=transport):
            pass
    scheme = url.partition(":")[0]
    assert f"the proxy from ALL_PROXY has a scheme {scheme}://" in str(caught.value)
    assert "these work: http://, https://" in str(caught.value)
    assert ("socks5://" in str(caught.value)) is (transport == "httpx")
    assert "pa55" not in str(caught.value)
