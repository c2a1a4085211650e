"""
A whole Airflow of the tests' own: a home, a database, and the examples' folders as they are.

Called `pipelines` since a folder `airflow` would be found in the place of Airflow itself.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyberun_async.testing import Simulator

from .kit import named


EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "airflow"


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Airflow reads the environment when it is first imported, so this comes before."""
    home = tmp_path_factory.mktemp("airflow")
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(EXAMPLES / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # Whoever calls the API in these tests may do everything.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        # No usage reports.
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        named("airflow.utils.db").initdb()
        yield home


@pytest.fixture
def service(airflow_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """A service, and the connection by which Airflow finds it."""
    with Simulator() as simulator:
        connection = {"conn_type": "generic", "password": simulator.key, "host": simulator.url}
        monkeypatch.setenv("AIRFLOW_CONN_CYBERUN", json.dumps(connection))
        yield simulator


@pytest.fixture
def plugin(airflow_home: Path) -> Any:
    """The example's module, as Airflow imports it."""
    return named("cyberun_airflow")
