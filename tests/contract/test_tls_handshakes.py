"""
A handshake that fails is a lost connection; only a certificate that cannot be verified is final.

Each fault meets plain requests and streams, over both transports; ``nox -s backends`` runs
them on trio and uvloop.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import anyio
import pytest

from cyberun_async import (
    CompletedEvent,
    CyberunClient,
    RetryPolicy,
    ServiceUnavailableError,
    Timeouts,
    WatchPolicy,
)
from cyberun_async.testing import Simulator

from ..whole.kit import follow
from .tls import HANDSHAKE_CUTS, HANDSHAKE_STALLS, Authority, Cut, Cutter, over_tls


pytestmark = pytest.mark.plain_only("TLS stands before a plain service here")

CUTS: Final = {**HANDSHAKE_CUTS, **HANDSHAKE_STALLS}
Kind = Literal["httpx", "aiohttp"]

each_transport: Final = pytest.mark.parametrize(
    "transport",
    [
        "httpx",
        pytest.param("aiohttp", marks=pytest.mark.asyncio_only("aiohttp knows asyncio only")),
    ],
)
each_cut: Final = pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)


@pytest.fixture(scope="module", name="authority")
def _authority() -> Authority:
    return Authority()


@pytest.fixture(name="cutter")
def _cutter(sim: Simulator, authority: Authority) -> Iterator[Cutter]:
    with over_tls(port_of(sim), authority) as cutter:
        yield cutter


def port_of(sim: Simulator) -> int:
    port = urlsplit(sim.url).port
    assert port is not None
    return port


async def listed(client: CyberunClient) -> list[str]:
    return [agent.id async for agent in client.agents.list()]


def client_of(
    sim: Simulator, cutter: Cutter, authority: Authority | None, transport: Kind, **more: Any
) -> CyberunClient:
    """Return a client that reaches the service through *cutter*, and tries again soon."""
    settings: dict[str, Any] = {
        "retries": RetryPolicy(backoff_base=0.01, backoff_cap=0.02),
        "watch_policy": WatchPolicy(backoff_base=0.01, poll_interval=0.1, climb_base=0.1),
        "timeouts": Timeouts(connect=1.0 if more.pop("is_patient", True) else 0.3),
        **more,
    }
    if authority is not None:
        settings["verify"] = authority.client_context()
    return CyberunClient(sim.key, base_url=f"{cutter.url}/api/v1", transport=transport, **settings)


@each_transport
@each_cut
async def test_a_plain_request_is_tried_again_after_a_handshake_that_failed(
    sim: Simulator, cutter: Cutter, authority: Authority, transport: Kind, cut: Cut
) -> None:
    """Two handshakes fail, and the request succeeds with the third."""
    cutter.cut_next(cut, cut)
    is_patient = cut.how != "stall"
    async with client_of(sim, cutter, authority, transport, is_patient=is_patient) as client:
        handle = await client.submit("text-to-image", {"prompt": "a fox"})
    assert cutter.cuts_made == 2
    assert [one.task_id for one in sim.submissions] == [handle.id]


@each_transport
@each_cut
async def test_a_watch_outlives_handshakes_that_fail(
    sim: Simulator, cutter: Cutter, authority: Authority, transport: Kind, cut: Cut
) -> None:
    """Streams and status checks are all cut for a while, and the end is delivered."""
    is_patient = cut.how != "stall"
    async with client_of(sim, cutter, authority, transport, is_patient=is_patient) as client:
        handle = await client.submit("text-to-image", {"prompt": "a fox"})
        cutter.cut_next(*[cut] * 4)
        cutter.drop_all()
        watched = await follow(client.watch(handle))
    assert isinstance(watched.end, CompletedEvent)
    assert cutter.cuts_made >= 1


@each_transport
async def test_a_deploy_behind_tls_ends_no_watch(
    sim: Simulator, cutter: Cutter, authority: Authority, transport: Kind
) -> None:
    """A front that accepts and hangs up while the server restarts, as haproxy in TCP mode does."""
    async with client_of(sim, cutter, authority, transport) as client:
        handles = [await client.submit("text-to-image", {"prompt": "a fox"}) for _ in range(5)]
        ends: list[str] = []

        async def watch(handle: Any) -> None:
            ends.append(type((await follow(client.watch(handle))).end).__name__)

        async def wait(handle: Any) -> None:
            ends.append((await client.wait(handle)).status)

        async with anyio.create_task_group() as group:
            for handle in handles:
                group.start_soon(watch, handle)
                group.start_soon(wait, handle)
            await anyio.sleep(0.1)
            cutter.cut_all(Cut("accept", "fin"))
            cutter.drop_all()
            await anyio.sleep(1.0)
            cutter.cut_all(Cut("hello", "close"))
            await anyio.sleep(0.5)
            cutter.cut_all(None)
    assert sorted(ends) == ["CompletedEvent"] * 5 + ["completed"] * 5
    assert cutter.cuts_made > 0


@each_transport
@pytest.mark.parametrize("fault", ["unknown authority", "another name"])
async def test_a_certificate_that_is_not_verified_is_final(
    sim: Simulator, authority: Authority, transport: Kind, fault: str
) -> None:
    """One connection, one error that names the host and the reason; a watch ends with it, too."""
    if transport == "aiohttp":
        # uvloop may report the error to its handler, too, for a protocol nobody waits for.
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    is_unknown = fault == "unknown authority"
    name = "127.0.0.1" if is_unknown else "other.example"
    with over_tls(port_of(sim), authority, name) as cutter:
        trusted = None if is_unknown else authority
        async with client_of(sim, cutter, trusted, transport) as client:
            with pytest.raises(ServiceUnavailableError) as caught:
                await listed(client)
            assert cutter.connections == 1
            watched = await follow(client.watch("6a2c1e0e-6f4b-4c57-9a53-0a4ff4f20b53"))
    for error in (caught.value, watched.error):
        assert isinstance(error, ServiceUnavailableError)
        assert error.is_final
        assert "certificate" in str(error)
        assert cutter.url in str(error)
    assert not sim.requests


@each_transport
async def test_a_certificate_that_failed_before_taints_no_later_loss(
    sim: Simulator, cutter: Cutter, authority: Authority, transport: Kind
) -> None:
    """Whoever handles one error and tries elsewhere gets a verdict on what happens there."""
    async with client_of(sim, cutter, authority, transport) as good:
        async with client_of(sim, cutter, None, transport) as bad:
            with pytest.raises(ServiceUnavailableError):
                await listed(bad)
            try:
                await listed(bad)
            except ServiceUnavailableError:
                cutter.cut_next(Cut("accept", "fin"), Cut("hello", "fin"))
                await good.submit("text-to-image", {"prompt": "a fox"})
    assert len(sim.submissions) == 1
