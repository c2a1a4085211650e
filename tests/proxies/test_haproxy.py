"""Behind haproxy, which passes on bytes or requests."""

import ssl
from pathlib import Path

import attrs
import pytest

from cyberun_async import CyberunClient
from cyberun_async.testing import Simulator

from ..contract.tls import Authority
from .fleet import LIFE, Fleet, client_of, port_of, restarted, trusting
from .programs import Place, haproxy


BIG = Fleet(watches=20, waits=8, jobs=6)


@pytest.fixture
def trusted(bundle: Path) -> ssl.SSLContext:
    return trusting(bundle)


@pytest.fixture
def pem(authority: Authority, place: Place) -> Path:
    chain, key = authority.write_server_files(place.folder)
    return place.write("both.pem", chain.read_text("utf-8") + key.read_text("utf-8"))


async def test_a_tls_server_that_restarts_behind_it_ends_nothing(
    secure_sim: Simulator, place: Place, trusted: ssl.SSLContext
) -> None:
    """In TCP mode a client connects, and its handshake meets nobody for three seconds."""
    server = haproxy(place, port_of(secure_sim.url), mode="tcp")
    base = f"https://127.0.0.1:{server.port}/api/v1"
    # With the settings that everybody has.
    async with CyberunClient(secure_sim.key, base_url=base, verify=trusted) as client:
        await BIG.survives(client, secure_sim, place.folder, restarted(secure_sim, 3.0))


async def test_a_restart_in_tcp_mode_ends_nothing(
    secure_sim: Simulator, place: Place, trusted: ssl.SSLContext
) -> None:
    """The connections are lost, and for two seconds nobody listens."""
    server = haproxy(place, port_of(secure_sim.url), mode="tcp")
    async with client_of(secure_sim, server.port, verify=trusted) as client:
        await Fleet().survives(client, secure_sim, place.folder, lambda: server.restart(2.0))


async def test_a_restart_in_http_mode_ends_nothing(
    sim: Simulator, place: Place, pem: Path, trusted: ssl.SSLContext
) -> None:
    """The same where TLS ends at the proxy."""
    server = haproxy(place, port_of(sim.url), mode="http", pem=pem)
    async with client_of(sim, server.port, verify=trusted) as client:
        await Fleet().survives(client, sim, place.folder, lambda: server.restart(2.0))


async def test_a_service_that_restarts_behind_it_ends_nothing(
    sim: Simulator, place: Place, pem: Path, trusted: ssl.SSLContext
) -> None:
    """In HTTP mode it answers 503 with a page meanwhile."""
    server = haproxy(place, port_of(sim.url), mode="http", pem=pem)
    async with client_of(sim, server.port, verify=trusted) as client:
        await Fleet().survives(client, sim, place.folder, restarted(sim, 3.0))


@pytest.mark.parametrize("mode", ["tcp", "http"])
async def test_an_idle_limit_ends_streams_and_nothing_else(
    sim: Simulator,
    secure_sim: Simulator,
    place: Place,
    pem: Path,
    trusted: ssl.SSLContext,
    mode: str,
) -> None:
    """Streams that are quiet for a second are opened again."""
    service = secure_sim if mode == "tcp" else sim
    server = haproxy(
        *(place, port_of(service.url)),
        mode=mode,
        pem=None if mode == "tcp" else pem,
        idle="1s",
    )
    quiet = attrs.evolve(LIFE, steps=4, step_seconds=1.5)
    async with client_of(service, server.port, verify=trusted) as client:
        await Fleet(jobs=3, life=quiet).survives(client, service, place.folder)


async def test_a_rate_limit_with_pages_slows_down_and_ends_nothing(
    sim: Simulator, place: Place, pem: Path, trusted: ssl.SSLContext
) -> None:
    """More than a few requests a second are answered 429 with a page."""
    rules = """\
stick-table type ip size 10 expire 10s store http_req_rate(1s)
    http-request track-sc0 src
    http-request deny deny_status 429 if { sc_http_req_rate(0) gt 8 }"""
    server = haproxy(place, port_of(sim.url), mode="http", pem=pem, rules=rules)
    async with client_of(sim, server.port, verify=trusted) as client:
        await Fleet(watches=10, waits=3, jobs=3).survives(client, sim, place.folder)
