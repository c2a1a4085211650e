import contextlib
import json
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import httpx
import pytest

from cyberun_async.testing import Simulator


class Reader:
    """Reads the service with plain httpx and the simplest of parsers."""

    def __init__(self, sim: Simulator, http: httpx.Client) -> None:
        self.sim = sim
        self.http = http
        self.lines: list[str] = []
        self.size = 0
        self.pieces: list[int] = []
        self._rest = ""
        self.error: httpx.TransportError | None = None

    def get(self, path: str, **params: str | int) -> Any:
        return self.http.get(path, params=params).raise_for_status().json()

    def run(self, slug: str = "text-to-image", **parameters: object) -> str:
        body = {"parameters": {"prompt": "a fox", **parameters}}
        answer = self.http.post(f"/r/workflows/slug/{slug}/run", json=body)
        assert answer.status_code == 202, answer.text
        task_id: str = answer.json()["task_id"]
        return task_id

    def read(self, task_id: str, **headers: str) -> list[tuple[str, Any]]:
        """Read a stream to its end, however that comes, and return names and payloads."""
        self.lines, self.error, self._rest = [], None, ""
        with (
            self.http.stream("GET", f"/r/tasks/{task_id}/events", headers=headers) as answer,
            self._kept_error(),
        ):
            answer.raise_for_status()
            self.size, self.pieces = 0, []
            for chunk in answer.iter_raw():
                self.size += len(chunk)
                self.pieces.append(len(chunk))
                self._take(chunk.decode())
        return self.events

    def _take(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        self.lines += lines

    @contextlib.contextmanager
    def _kept_error(self) -> Generator[None]:
        try:
            yield
        except httpx.TransportError as error:
            self.error = error

    @property
    def events(self) -> list[tuple[str, Any]]:
        events: list[tuple[str, Any]] = []
        name, data = "", ""
        for line in self.lines:
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                data += value
            elif not line and data:
                with contextlib.suppress(ValueError):
                    events.append((name, json.loads(data)))
                name = data = ""
        return events

    @property
    def names(self) -> list[str]:
        """What was read, in short: the state for a status, else the event's name."""
        return [p["status"] if name == "status" else name for name, p in self.events]


@pytest.fixture
def cyberun_simulator_options() -> Mapping[str, Any]:
    return {"speed": 50, "seed": 7}


@pytest.fixture
def sim(cyberun_simulator: Simulator) -> Simulator:
    return cyberun_simulator


@pytest.fixture
def http(sim: Simulator) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {sim.key}"}
    with httpx.Client(
        base_url=sim.url, headers=headers, timeout=10, trust_env=False, verify=False
    ) as client:
        yield client


@pytest.fixture
def reader(sim: Simulator, http: httpx.Client) -> Reader:
    return Reader(sim, http)
