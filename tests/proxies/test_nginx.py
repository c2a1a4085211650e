"""Behind nginx, which speaks TLS and passes requests on."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import attrs
import pytest

from cyberun_async import CyberunClient
from cyberun_async.testing import Simulator

from ..contract.tls import Authority
from .fleet import Fleet, client_of, for_seconds, port_of, restarted, trusting
from .programs import Place, Program, nginx


@attrs.frozen
class Behind:
    """A service behind nginx, with a client of it and a folder."""

    sim: Simulator
    server: Program
    client: CyberunClient
    place: Place

    async def survives(self, *troubles: Callable[[], object], fleet: Fleet | None = None) -> None:
        """All that is under way survives *troubles*."""
        async with self.client:
            await (fleet or Fleet()).survives(self.client, self.sim, self.place.folder, *troubles)


Make: TypeAlias = Callable[..., Behind]


@pytest.fixture
def behind(sim: Simulator, place: Place, authority: Authority, bundle: Path) -> Make:
    """Start nginx with these directives."""

    def make(location: str = "", http: str = "") -> Behind:
        files = authority.write_server_files(place.folder)
        server = nginx(place, port_of(sim.url), files, location=location, http=http)
        client = client_of(sim, server.port, verify=trusting(bundle))
        return Behind(sim, server, client, place)

    return make


@pytest.mark.parametrize("buffering", ["on", "off"])
async def test_buffered_or_not_everything_ends_rightly(behind: Make, buffering: str) -> None:
    """A proxy that keeps events back keeps no end back."""
    directives = f"proxy_buffering {buffering}; proxy_ignore_headers X-Accel-Buffering;"
    await behind(directives).survives()


async def test_a_reload_breaks_nothing(behind: Make) -> None:
    """Old workers end their connections within a second of a reload."""
    made = behind("proxy_buffering off;")
    reload = for_seconds(
        1.5, lambda: made.server.send(signal.SIGHUP), lambda: made.server.send(signal.SIGHUP)
    )
    await made.survives(reload)


async def test_a_restart_breaks_nothing(behind: Make) -> None:
    """For two seconds nobody listens."""
    made = behind("proxy_buffering off;")
    await made.survives(lambda: made.server.restart(2.0, signal.SIGTERM))


async def test_killed_workers_break_nothing(behind: Make) -> None:
    """Connections and requests of a killed worker are lost in the middle."""
    made = behind("proxy_buffering off;")

    def kill() -> None:
        assert made.server.kill_workers() >= 2
        time.sleep(0.7)
        assert made.server.kill_workers() >= 2

    await made.survives(kill)


async def test_an_idle_limit_ends_streams_and_nothing_else(behind: Make) -> None:
    """Streams that are quiet for longer than proxy_read_timeout are opened again."""
    quiet = attrs.evolve(Fleet().life, steps=4, step_seconds=1.5)
    await behind("proxy_buffering off; proxy_read_timeout 1s;").survives(
        fleet=Fleet(watches=6, waits=3, jobs=3, life=quiet)
    )


@pytest.mark.parametrize("status", [429, 503])
async def test_a_rate_limit_with_pages_slows_down_and_ends_nothing(
    behind: Make, status: int
) -> None:
    """The refusals are HTML, of which no word is the service's."""
    made = behind(
        f"proxy_buffering off; limit_req zone=few burst=3 nodelay; limit_req_status {status};",
        "limit_req_zone $server_name zone=few:1m rate=4r/s;",
    )
    await made.survives(fleet=Fleet(watches=10, waits=3, jobs=3))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
async def test_error_pages_for_some_seconds_end_nothing(
    behind: Make, place: Place, status: int
) -> None:
    """Refusals in HTML are the proxy's trouble: neither task, key nor job is judged by them."""
    flag = place.folder / "broken"
    made = behind(f"proxy_buffering off; if (-f {flag}) {{ return {status}; }}")
    await made.survives(for_seconds(4.0, flag.touch, flag.unlink))


async def test_a_service_that_restarts_behind_it_ends_nothing(behind: Make) -> None:
    """The proxy answers 502 with a page meanwhile."""
    made = behind("proxy_buffering off;")
    await made.survives(restarted(made.sim, 3.0))
