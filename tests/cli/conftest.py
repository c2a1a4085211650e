import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cyberun_async import WatchPolicy
from cyberun_async.batch import BatchPolicy
from cyberun_async.testing import Simulator, TaskPlan


ROOT = Path(__file__).parents[2]
QUICK = TaskPlan(pending=0.0, waiting=0.0, queued=0.02, steps=4, step_seconds=0.02)


@pytest.fixture
def cyberun_simulator_options() -> Mapping[str, Any]:
    return {"seed": 11, "default_plan": QUICK}


@pytest.fixture
def sim(cyberun_simulator: Simulator) -> Simulator:
    """The service on loopback; its tasks live a tenth of a second."""
    return cyberun_simulator


@pytest.fixture
def env(cyberun_environment: Simulator, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """The environment of a user of this service, for this process and for others."""
    ours = ("CYBERUN_KEY", "CYBERUN_API_KEY_FILE", "CYBERUN_TEAM_ID")
    # Some test runners name a size, which would be believed instead of the terminal's own.
    for name in (*ours, "NO_COLOR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    return dict(os.environ)


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process ask as often as befits tasks that live so short a time."""
    monkeypatch.setattr(
        "cyberun_async._client.client.WatchPolicy", partial(WatchPolicy, poll_interval=0.2)
    )
    monkeypatch.setattr(
        "cyberun_async.cli._batch.BatchPolicy", partial(BatchPolicy, settle_time=0.0)
    )
