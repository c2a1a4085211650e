"""The example service over a real server, and its end while browsers are looking."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cyberun_async import CyberunClient
from cyberun_async.testing import Simulator, StreamingASGITransport, TaskPlan


EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "service"
PATIENCE = 30.0


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(seed=7) as simulator:
        yield simulator


def example() -> Any:
    """Import the example's module, unmodified."""
    spec = importlib.util.spec_from_file_location("example_service", EXAMPLE / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def browsing(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=StreamingASGITransport(app), base_url="http://site.test")


@contextmanager
def serving(sim: Simulator, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the example as a user would, and yield its process and its address."""
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLE), "--port", "0"]
    server = subprocess.Popen(
        [*command, *options, "--factory", "app:create_app"],
        env={**os.environ, "CYBERUN_BASE_URL": sim.url, "CYBERUN_API_KEY": sim.key},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield server, _address(server)
    finally:
        server.kill()
        server.wait()
        assert server.stderr is not None
        server.stderr.close()


def _address(server: "subprocess.Popen[str]") -> str:
    assert server.stderr is not None
    for line in server.stderr:
        if "running on " in line:
            return line.partition("running on ")[2].split()[0]
    pytest.fail("the example did not start")


class Watching(threading.Thread):
    """A browser that reads a task's events until the stream ends."""

    def __init__(self, http: httpx.Client, page: str) -> None:
        super().__init__()
        self._http = http
        self._page = page
        self.begun = threading.Event()
        self.text = ""
        self.error: httpx.TransportError | None = None

    def run(self) -> None:
        try:
            with self._http.stream("GET", f"{self._page}/events") as answer:
                for part in answer.iter_text():
                    self.text += part
                    if "event: status" in self.text:
                        self.begun.set()
        except httpx.TransportError as error:
            self.error = error


def submitted(http: httpx.Client) -> str:
    page: str = http.post("/tasks", json={"prompt": "a fox", "steps": 3}).json()["page"]
    return page


async def test_the_example_makes_a_picture(sim: Simulator) -> None:
    """Submitted, followed to its end, and shown, to its owner alone."""
    client = CyberunClient(sim.key, base_url=sim.url)
    app = example().create_app(client)
    async with app.router.lifespan_context(app), browsing(app) as http:
        front = await http.get("/")
        page = (await http.post("/tasks", json={"prompt": "a fox", "steps": 3})).json()["page"]
        progress = await http.get(page)
        events = (await http.get(f"{page}/events")).text
        picture = await http.get(f"{page}/picture")
        async with browsing(app) as stranger:
            answers = [await stranger.get(page + end) for end in ("", "/events", "/picture")]

    assert "What shall it show?" in front.text
    assert "EventSource" in progress.text
    assert [answer.status_code for answer in answers] == [404, 403, 404]
    assert "event: completed" in events
    assert (picture.headers["content-type"], picture.content[:4]) == ("image/png", b"\x89PNG")
    assert sim.key not in events


def test_the_service_ends_with_open_browsers(sim: Simulator) -> None:
    """Reported to stop, it ends each stream in good order and then itself; the task goes on."""
    sim.default_plan = TaskPlan(forever_waiting=True)
    with serving(sim) as (server, address), httpx.Client(base_url=address, timeout=None) as http:
        browsers = [Watching(http, submitted(http)) for _ in range(2)]
        browsers.append(Watching(http, browsers[0]._page))
        for browser in browsers:
            browser.start()
        assert all(browser.begun.wait(PATIENCE) for browser in browsers)

        server.send_signal(signal.SIGTERM)
        for browser in browsers:
            browser.join(PATIENCE)
        code = server.wait(PATIENCE)
        assert server.stderr is not None
        log = server.stderr.read()

    assert [browser.error for browser in browsers] == [None] * 3
    assert code in {0, -signal.SIGTERM}
    assert "Application shutdown complete" in log
    assert "Traceback" not in log
    assert [task.state for task in sim.tasks] == ["waiting"] * 2


def stopped_reading(http: httpx.Client, page: str) -> socket.socket:
    """Return a connection that asked for events, got the first and takes no more."""
    address = http.base_url
    cookies = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
    browser = socket.socket()
    browser.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    browser.connect((address.host, address.port))
    head = f"GET {page}/events HTTP/1.1\r\nHost: {address.host}\r\nCookie: {cookies}\r\n\r\n"
    browser.sendall(head.encode())
    assert browser.recv(15) == b"HTTP/1.1 200 OK"
    return browser


def test_a_browser_that_has_stopped_reading_is_not_waited_for(sim: Simulator) -> None:
    """The relay gives its stream up; the server has to be notified, as it owns the connection."""
    sim.default_plan = TaskPlan(forever_waiting=True)
    options = ("--timeout-graceful-shutdown", "3")
    with (
        serving(sim, *options) as (server, address),
        httpx.Client(base_url=address, timeout=None) as http,
        stopped_reading(http, submitted(http)),
    ):
        # More than the buffers of both sides hold.
        for _ in range(160):
            sim.tasks[0].emit("noise", {"text": "x" * 60_000})
            time.sleep(0.005)
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE)
        assert server.stderr is not None
        log = server.stderr.read()

    assert "ASGI callable returned without completing response" in log
    assert "Application shutdown complete" in log
    assert "Traceback" not in log
