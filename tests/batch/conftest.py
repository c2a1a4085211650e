from pathlib import Path

import pytest

from cyberun_async.testing import Simulator

from .kit import quick_service


@pytest.fixture
def sim() -> Simulator:
    return quick_service()


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "runs.sqlite"
