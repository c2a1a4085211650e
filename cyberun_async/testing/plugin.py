"""
The pytest plugin: a local service and a client of it, as fixtures.

Installed with the package; nothing is loaded before a fixture is requested. They need the
extra ``testing``. Asynchronous tests are run by anyio's plugin, on asyncio or trio, which
takes all of them with ``anyio_mode = "auto"`` in pytest's settings, and else those that are
marked with ``@pytest.mark.anyio``::

    async def test_my_bot(cyberun_simulator, cyberun_client):
        cyberun_simulator.tell(story().runs(steps=5).fails("out of memory"))
        ...

============================= ======================================================
fixture                       what it is
============================= ======================================================
``cyberun_simulator``         a fresh :class:`~cyberun_async.testing.Simulator`, serving on
                              loopback; on a virtual clock it is called in process instead
``cyberun_client``            an open :class:`~cyberun_async.CyberunClient` of it
``cyberun_environment``       ``CYBERUN_API_KEY`` and ``CYBERUN_BASE_URL`` name it, for programs
                              that make their own client
``cyberun_simulator_options`` override it to return arguments for the simulator
``cyberun_client_options``    override it to return further arguments for the client
============================= ======================================================

``@pytest.mark.cyberun_trouble("no-streams", ...)`` switches troubles on by name.
"""

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest


if TYPE_CHECKING:
    from .. import CyberunClient
    from . import Simulator


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "cyberun_trouble(*names): switch on these troubles of cyberun_simulator."
    )


@pytest.fixture
def cyberun_simulator_options() -> Mapping[str, Any]:
    """Arguments for the service of `cyberun_simulator`; override it to give some."""
    return {}


@pytest.fixture
def cyberun_simulator(
    request: pytest.FixtureRequest, cyberun_simulator_options: Mapping[str, Any]
) -> "Iterator[Simulator]":
    """A local Cyberun service of the test's own, with nothing in it yet."""
    from . import Simulator
    from ._clock import is_virtual

    simulator = Simulator(**cyberun_simulator_options)
    for mark in request.node.iter_markers("cyberun_trouble"):
        simulator.trouble(*mark.args)
    if "anyio_backend" in request.fixturenames and is_virtual(
        request.getfixturevalue("anyio_backend")
    ):
        yield simulator
        return
    with simulator:
        yield simulator


@pytest.fixture
def cyberun_client_options() -> Mapping[str, Any]:
    """Further arguments for the client of `cyberun_client`; override it to give some."""
    return {}


@pytest.fixture
async def cyberun_client(
    cyberun_simulator: "Simulator", cyberun_client_options: Mapping[str, Any]
) -> "AsyncIterator[CyberunClient]":
    """An open client of `cyberun_simulator`."""
    from .. import CyberunClient
    from ._asgi.transport import StreamingASGITransport
    from ._clock import runs_virtually

    options = dict(cyberun_client_options)
    if runs_virtually():
        options.setdefault(
            "transport_factory", lambda: StreamingASGITransport(cyberun_simulator.app)
        )
    options.setdefault("base_url", cyberun_simulator.url)
    async with CyberunClient(options.pop("api_key", cyberun_simulator.key), **options) as client:
        yield client


@pytest.fixture
def cyberun_environment(
    cyberun_simulator: "Simulator", monkeypatch: pytest.MonkeyPatch
) -> "Simulator":
    """The environment names `cyberun_simulator` and its key."""
    monkeypatch.setenv("CYBERUN_API_KEY", cyberun_simulator.key)
    monkeypatch.setenv("CYBERUN_BASE_URL", cyberun_simulator.url)
    return cyberun_simulator
