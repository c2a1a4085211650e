"""
Kill a real triggerer while it follows a run, and start another: ``nox -s airflow``.

A whole Airflow of four processes runs the example's DAG, as its schedule says, against the
simulator. It fails unless the run was paid for once and the second triggerer followed it to
its end.
"""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from cyberun_async.testing import Simulator, story


EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "airflow"
PATIENCE = 300.0


class Process:
    """One process of Airflow, with those that it starts."""

    def __init__(self, name: str, home: Path, env: Mapping[str, str]) -> None:
        self._log = (home / f"{name}.out").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "airflow", name],
            env=env,
            cwd=home,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()


def environment(home: Path, service: Simulator) -> dict[str, str]:
    port = free_port()
    connection = {"conn_type": "generic", "password": service.key, "host": service.url}
    return {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CONN_CYBERUN": json.dumps(connection),
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(EXAMPLES / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": "of these processes alone " * 4,
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        # A triggerer that says nothing for so many seconds is replaced.
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "10",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port: int = server.getsockname()[1]
        return port


def until(what: str, condition: Callable[[], bool]) -> None:
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > PATIENCE:
            sys.exit(f"after {PATIENCE:.0f} s still not: {what}")
        time.sleep(0.3)
    print(f"{what} ({time.monotonic() - start:.0f} s)", flush=True)


def is_up(address: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{address}/api/v2/version").is_success
    return False


def rows(home: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{home}/airflow.db?mode=ro", uri=True, timeout=30)) as db:
        return db.execute(query).fetchall()


def main(home: Path) -> None:
    with Simulator() as service, ExitStack() as stack:
        service.tell(story().runs(steps=100, seconds=60))
        env = environment(home, service)
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        subprocess.run(command, env=env, check=True, capture_output=True)
        stack.enter_context(Process("api-server", home, env))
        address = f"http://127.0.0.1:{env['AIRFLOW__API__PORT']}"
        until("Airflow's API is there", lambda: is_up(address))
        for name in ("dag-processor", "scheduler"):
            stack.enter_context(Process(name, home, env))
        with Process("triggerer", home, env):
            until("a triggerer follows the run", lambda: service.open_streams == 1)
            time.sleep(2)
        until("the triggerer was killed", lambda: service.open_streams == 0)
        [live] = service.tasks
        assert live.state == "running"
        with Process("triggerer", home, env):
            until("another follows it", lambda: service.open_streams == 1)
            ended = [("success",)], [("failed",)]
            until("the DAG has run", lambda: rows(home, "SELECT state FROM dag_run") in ended)
    tasks = rows(home, "SELECT task_id, state, try_number FROM task_instance ORDER BY 1")
    submissions, watches = len(service.submissions), len(service.requests_to("events"))
    print(f"{tasks}; {submissions} submission, {watches} streams")
    assert tasks == [("draw", "success", 1), ("save", "success", 1)]
    assert (submissions, watches) == (1, 2)
    assert list((home / "pictures").iterdir())
    files = [path for path in home.rglob("*") if path.is_file()]
    assert [path for path in files if service.key.encode() in path.read_bytes()] == []


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        main(Path(folder))
