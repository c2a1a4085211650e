"""
Which event loops the tests run on, and what is left out on which.

By default every asynchronous test runs on asyncio. The environment variable
``CYBERUN_TEST_BACKENDS`` names others (``trio,uvloop``); then only tests that can run
on them are kept: a test of plain functions, or one that brings a loop of its own, would
only repeat itself. Tests in virtual time run on trio where trio is named.
"""

import functools
import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings

from cyberun_async._http import backend_for, transport as _transport, transport_kind
from cyberun_async.testing import Simulator

from .contract.tls import Authority
from .whole.kit import VIRTUAL_TRIO
from .wire import server as wire_server


# How long an example takes says more of the machine than of the code.
hypothesis_settings.register_profile("cyberun_async", deadline=None)
hypothesis_settings.load_profile("cyberun_async")

ASYNCIO = "asyncio"
BACKENDS: dict[str, tuple[str, dict[str, object]]] = {
    ASYNCIO: (ASYNCIO, {}),
    "trio": ("trio", {}),
    "uvloop": (ASYNCIO, {"use_uvloop": True}),
}

# ``CYBERUN_TEST_TRANSPORT=aiohttp`` runs everything over that transport, as if every client
# and every transport had been made with it. In-process services have one of their own.
TRANSPORT = os.environ.get("CYBERUN_TEST_TRANSPORT", "httpx")

# ``CYBERUN_TEST_TLS=1`` runs everything over TLS that is served on loopback: simulators and
# scripted servers have a certificate, which all clients trust.
OVER_TLS = bool(os.environ.get("CYBERUN_TEST_TLS"))

# A worker has read its own environment by now; the programs that tests start inherit this.
if "PYTEST_XDIST_WORKER" in os.environ:
    # Measuring their lines would cost more time than it shows.
    os.environ.pop("COVERAGE_PROCESS_CONFIG", None)
    # In development mode asyncio reports each slow step, on the output that tests compare.
    if sys.flags.dev_mode:
        del os.environ["PYTHONDEVMODE"]
        os.environ["PYTHONWARNINGS"] = "default::ResourceWarning"

LEFT_OUT = pytest.StashKey[Counter[str]]()


def wanted_backends() -> list[str]:
    names = [name.strip() for name in os.environ.get("CYBERUN_TEST_BACKENDS", "").split(",")]
    names = [name for name in names if name] or [ASYNCIO]
    if unknown := set(names) - set(BACKENDS):
        message = f"CYBERUN_TEST_BACKENDS names {sorted(unknown)}; known are {sorted(BACKENDS)}"
        raise pytest.UsageError(message)
    return names


@pytest.fixture(
    scope="module", params=[pytest.param(BACKENDS[name], id=name) for name in wanted_backends()]
)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    chosen: tuple[str, dict[str, object]] = request.param
    return chosen


@pytest.fixture(autouse=TRANSPORT != "httpx")
def chosen_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "trio" in (_backend_of(request.node), _chosen_loop(request.node)):
        return  # aiohttp knows asyncio only
    backend = backend_for(transport_kind(TRANSPORT))
    monkeypatch.setattr(_transport, "backend_for", lambda _: backend)


@pytest.fixture(scope="session", autouse=OVER_TLS)
def served_over_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    authority = Authority()
    context = authority.server_context()
    bundle = authority.write_bundle(tmp_path_factory.mktemp("tls") / "authority.pem")
    original = Simulator.__init__

    @functools.wraps(original)
    def with_tls(self: Simulator, **options: Any) -> None:
        options.setdefault("tls", context)
        original(self, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(bundle))
        patch.setattr(Simulator, "__init__", with_tls)
        patch.setattr(wire_server, "usual_tls", context)
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out: Counter[str] = Counter()
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        if reason := _why_left_out(item):
            left_out[reason] += 1
            dropped.append(item)
        else:
            kept.append(item)
    items[:] = kept
    config.stash[LEFT_OUT] = left_out
    config.hook.pytest_deselected(items=dropped)


def _why_left_out(item: pytest.Item) -> str | None:
    marker = item.get_closest_marker("httpx_only")
    if marker is not None and TRANSPORT != "httpx":
        return f"httpx only: {_reason_of(marker)}"
    marker = item.get_closest_marker("plain_only")
    if marker is not None and OVER_TLS:
        return f"plain HTTP only: {_reason_of(marker)}"
    if _chosen_loop(item) == VIRTUAL_TRIO and "trio" not in wanted_backends():
        return "virtual time on trio: runs where CYBERUN_TEST_BACKENDS names trio"
    return None if ASYNCIO in wanted_backends() else _why_not_on_others(item)


def _why_not_on_others(item: pytest.Item) -> str | None:
    backend = _backend_of(item)
    if backend is None:
        return "does not depend on the event loop"
    marker = item.get_closest_marker("asyncio_only")
    if marker is not None and backend == "trio":
        return f"asyncio only: {_reason_of(marker)}"
    return None


def _backend_of(item: pytest.Item) -> str | None:
    """Return the back end that the environment chose for a test, not the test for itself."""
    chosen = _chosen_loop(item)
    if chosen == VIRTUAL_TRIO:
        return "trio"
    return next((each[0] for each in BACKENDS.values() if each == chosen), None)


def _chosen_loop(item: pytest.Item) -> object:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("anyio_backend")


def _reason_of(marker: pytest.Mark) -> str:
    reason = marker.kwargs.get("reason") or (marker.args[0] if marker.args else None)
    if not isinstance(reason, str):
        message = f"{marker.name} needs a reason"
        raise pytest.UsageError(message)
    return reason


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in _left_out_lines(config):
        terminalreporter.write_line(line)


def _left_out_lines(config: pytest.Config) -> Iterator[str]:
    nothing: Counter[str] = Counter()
    for reason, count in sorted(config.stash.get(LEFT_OUT, nothing).items()):
        yield f"left out on {', '.join(wanted_backends())}: {count} ({reason})"
