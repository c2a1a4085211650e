"""
Fixtures of the contract suite: everything that can be said through public names.

These tests import no private module, so that the package can be rearranged beneath them.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from cyberun_async import CyberunClient, WatchPolicy
from cyberun_async.testing import Simulator

from ..whole.kit import SHORT, assert_nothing_left


@pytest.fixture
def cyberun_simulator_options() -> Mapping[str, Any]:
    return {"seed": 7, "default_plan": SHORT}


@pytest.fixture
def cyberun_client_options() -> Mapping[str, Any]:
    return {"watch_policy": WatchPolicy(poll_interval=0.1)}


@pytest.fixture
def sim(cyberun_simulator: Simulator) -> Simulator:
    """The service on loopback; its tasks live half a second."""
    return cyberun_simulator


@pytest.fixture
async def client(sim: Simulator, cyberun_client: CyberunClient) -> AsyncIterator[CyberunClient]:
    """An open client; after the test nothing of it is left."""
    yield cyberun_client
    await cyberun_client.aclose()
    await assert_nothing_left(sim)
