"""Tests behind real proxies have a session of their own, which says so in the environment."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyberun_async.testing import Simulator

from ..contract.tls import Authority
from .programs import Place


collect_ignore_glob = [] if os.environ.get("CYBERUN_PROXIES") else ["test_*.py"]

PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names no proxy."""
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Who certifies all servers here."""
    return Authority()


@pytest.fixture
def place() -> Iterator[Place]:
    """Where a proxy keeps its files, and who ends what was started there."""
    with Place() as place:
        yield place


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """The service, over plain HTTP."""
    with Simulator(seed=7) as sim:
        yield sim


@pytest.fixture
def secure_sim(authority: Authority) -> Iterator[Simulator]:
    """The service, over TLS."""
    with Simulator(seed=7, tls=authority.server_context()) as sim:
        yield sim


@pytest.fixture
def bundle(authority: Authority, tmp_path: Path) -> Path:
    """The file of the authority's certificate."""
    return authority.write_bundle(tmp_path / "authority.pem")
