"""
Every fault of the simulator, over TLS and in real time, while handshakes are cut.

``tests/whole/test_faults.py`` has the same tables one by one, in virtual time and in process;
here all of them strike at once, as they do in production.
"""

import asyncio
import itertools
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import attrs
import pytest

from cyberun_async import CompletedEvent, CyberunClient, Limits, Timeouts, WatchPolicy
from cyberun_async.testing import Simulator, faults

from ..whole.kit import OUTPUT, SHORT, assert_in_order, assert_nothing_left, follow
from ..whole.test_faults import REFUSALS, REPLY, STREAM
from .tls import HANDSHAKE_CUTS, Authority, cutting


POLICY: Final = WatchPolicy(
    backoff_base=0.05,
    backoff_cap=0.5,
    hint_cap=1.0,
    check_after=1.0,
    settle_after=0.3,
    idle_timeout=2.0,
    open_timeout=1.0,
    poll_interval=0.3,
    poll_interval_waiting=0.5,
)
WITHIN: Final = 40.0


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Many tasks of one loop; the handshakes themselves are tested on all."""
    chosen: str = request.param
    return chosen


@pytest.mark.parametrize("table", [STREAM, {**REPLY, **REFUSALS}], ids=["streams", "answers"])
async def test_every_fault_at_once_is_survived_over_tls(
    table: Mapping[str, tuple[faults.Action, ...]],
) -> None:
    """Each watch ends rightly, once and last, whatever its stream and its connections meet."""
    authority = Authority()
    with (
        Simulator(seed=7, tls=authority.server_context()) as sim,
        cutting(urlsplit(sim.url).port or 0) as cutter,
    ):
        # Every other connection fails in its handshake, in every way in turn.
        cuts = itertools.cycle(HANDSHAKE_CUTS.values())
        cutter.cut_next(*(next(cuts) if n % 2 == 0 else None for n in range(1000)))
        plan = attrs.evolve(SHORT, steps=4, step_seconds=0.1, output=OUTPUT)
        async with CyberunClient(
            sim.key,
            base_url=cutter.url + urlsplit(sim.url).path,
            verify=authority.client_context(),
            watch_policy=POLICY,
            limits=Limits(max_streams=len(table)),
            timeouts=Timeouts(connect=2.0, read=1.0),
        ) as client:
            tasks = {
                name: sim.create_task(attrs.evolve(plan, faults=(faults.on("events", *actions),)))
                for name, actions in table.items()
            }
            async with asyncio.timeout(WITHIN):
                ended = await asyncio.gather(*(follow(client.watch(t.id)) for t in tasks.values()))
        await assert_nothing_left(sim)
    for watched in ended:
        assert isinstance(watched.end, CompletedEvent)
        assert watched.end.output == OUTPUT
        assert_in_order(watched)
    assert len(set(cutter.struck)) == len(HANDSHAKE_CUTS)
