from collections.abc import AsyncIterator, Iterator

import pytest

from cyberun_async import CyberunClient, WatchPolicy
from cyberun_async.testing import Simulator

from .kit import SHORT, assert_nothing_left


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """The service on loopback; its tasks live half a second."""
    with Simulator(seed=7, default_plan=SHORT) as simulator:
        yield simulator


@pytest.fixture
async def client(sim: Simulator) -> AsyncIterator[CyberunClient]:
    """An open client; after the test nothing of it is left."""
    policy = WatchPolicy(poll_interval=0.1)
    async with CyberunClient(sim.key, base_url=sim.url, policy=policy) as opened:
        yield opened
    await assert_nothing_left(sim)
