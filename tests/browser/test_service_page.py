"""The example service in a real browser: what a person sees, live, cut off, and at the end."""

import base64
import importlib.util
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from cyberun_async import CyberunClient, WatchPolicy
from cyberun_async.testing import LiveTask, Simulator, TaskPlan, faults

from .network import Network


DOCS = Path(__file__).parents[2] / "docs"
MOST_PICTURE_BYTES = 100 * 1024
PATIENCE = 30.0

# Chromium would otherwise look for updates and accounts, which are not there.
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


class Recorder:
    """Notes the requests for events that reach the service, and what they resume from."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.resumed_from: list[str | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/events"):
            last = dict(scope["headers"]).get(b"last-event-id")
            self.resumed_from.append(None if last is None else last.decode())
        await self.app(scope, receive, send)


class Site:
    """The example, served as in earnest, and the network that a browser reaches it by."""

    def __init__(self, sim: Simulator) -> None:
        policy = WatchPolicy(poll_interval=0.2)
        client = CyberunClient(sim.key, base_url=sim.url, watch_policy=policy)
        self.app = Recorder(_example().create_app(client))
        config = uvicorn.Config(self.app, port=0, log_level="warning", timeout_graceful_shutdown=5)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)

    def start(self) -> int:
        self.thread.start()
        wait_until(lambda: self.server.started)
        port: int = self.server.servers[0].sockets[0].getsockname()[1]
        return port

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(PATIENCE)


def _example() -> Any:
    path = DOCS / "examples" / "service" / "app.py"
    spec = importlib.util.spec_from_file_location("example_service", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = os.environ["CYBERUN_BROWSER"]
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(seed=11, default_plan=TaskPlan(forever_waiting=True)) as simulator:
        yield simulator


@pytest.fixture
def site(sim: Simulator) -> Iterator[Site]:
    site = Site(sim)
    yield site
    site.stop()


@pytest.fixture
def network(site: Site) -> Iterator[Network]:
    with Network(site.start()) as network:
        yield network


@pytest.fixture
def context(browser: Browser, network: Network) -> Iterator[BrowserContext]:
    size: Any = {"width": 560, "height": 560}
    context = browser.new_context(base_url=network.url, viewport=size)
    context.set_default_timeout(PATIENCE * 1000)
    expect.set_options(timeout=PATIENCE * 1000)
    yield context
    context.close()


def submit(context: BrowserContext, prompt: str = "a fox in the snow") -> Page:
    """Fill in the front page as a person does, and return the page that it leads to."""
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button").click()
    page.wait_for_url("**/tasks/*")
    return page


def paint(task: LiveTask, step: int) -> None:
    task.progress(step / 20, step=step, total=20)


def expect_step(page: Page, step: int) -> None:
    expect(page.locator("#step")).to_have_text(f"{step * 5} % · step {step}/20")
    expect(page.get_by_role("progressbar")).to_have_attribute("aria-valuenow", str(step * 5))


def expect_picture(page: Page) -> None:
    expect(page.locator("#state")).to_have_text("done")
    expect(page.locator("#picture")).to_be_visible()
    page.wait_for_function("document.getElementById('picture').naturalWidth > 0")


def test_two_tabs_follow_one_stream_through_a_cut(
    sim: Simulator, site: Site, network: Network, context: BrowserContext
) -> None:
    """Both move live on one upstream stream, resume after a cut, and show the picture."""
    first = submit(context)
    second = context.new_page()
    second.goto(first.url)
    tabs = (first, second)
    [task] = sim.tasks
    for page in tabs:
        expect(page.locator("#state")).to_have_text("waiting for a machine")

    task.status("running")
    for step in range(1, 10):
        paint(task, step)
    for page in tabs:
        expect(page.locator("#state")).to_have_text("painting")
        expect_step(page, 9)
    half_way = screenshot(first)

    connections = len(site.app.resumed_from)
    network.cut()
    for page in tabs:
        expect(page.locator("#note")).to_have_text("Connection lost; trying again.")
    paint(task, 14)
    network.repair()
    for page in tabs:
        expect_step(page, 14)
        expect(page.locator("#note")).to_have_text("")
    assert len(sim.requests_to("events")) == 1
    assert sim.peak_streams == 1

    task.complete()
    for page in tabs:
        expect_picture(page)
    resumed = site.app.resumed_from[connections:]
    assert len(resumed) >= 2
    assert None not in resumed
    assert len(sim.requests_to("events")) == 1

    show_side_by_side(context, half_way, screenshot(first))


def screenshot(page: Page) -> bytes:
    page.wait_for_timeout(500)  # the bar glides
    return page.screenshot()


def show_side_by_side(context: BrowserContext, *pictures: bytes) -> None:
    """Write the picture for the documentation."""
    page = context.new_page()
    page.set_viewport_size({"width": 1120, "height": 560})
    images = "".join(
        f'<img src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
        for picture in pictures
    )
    page.set_content(f'<body style="margin:0;display:flex">{images}</body>')
    picture = page.screenshot(path=DOCS / "pictures" / "service.png")
    assert len(picture) < MOST_PICTURE_BYTES


def test_the_page_says_when_progress_is_not_live(sim: Simulator, context: BrowserContext) -> None:
    """While the service has to poll, the bar wanders, the note says why, the picture comes."""
    refused = faults.on("events", faults.refuse(403), times=None)
    sim.plan(TaskPlan(forever_waiting=True, faults=(refused,)))
    page = submit(context)
    [task] = sim.tasks
    task.status("running")

    expect(page.locator("#state")).to_have_text("painting")
    expect(page.locator("#note")).to_contain_text("Progress is not live just now")
    expect(page.locator("#bar")).to_have_class("bar unknown")
    task.complete()
    expect_picture(page)
    expect(page.locator("#note")).to_have_text("")


def test_a_failure_is_shown(sim: Simulator, context: BrowserContext) -> None:
    """The service's words stand where the picture would be announced."""
    page = submit(context)
    [task] = sim.tasks
    task.status("running")
    task.fail("node 3: CUDA out of memory")

    expect(page.locator("#state")).to_have_text("failed")
    expect(page.locator("#note")).to_have_text("node 3: CUDA out of memory")


LISTEN = """
    (url) => new Promise((resolve) => {
        const names = [];
        const events = new EventSource(url);
        for (const name of ["status", "completed"]) {
            events.addEventListener(name, () => names.push(name));
        }
        events.onerror = () => {
            if (events.readyState === EventSource.CLOSED) resolve(names);
        };
    })
"""


def test_a_page_that_does_not_close_is_stopped(
    sim: Simulator, site: Site, context: BrowserContext
) -> None:
    """After the end, `EventSource` comes back once with its id, and 204 ends it."""
    page = submit(context)
    [task] = sim.tasks
    threading.Timer(1.0, task.complete).start()
    names: list[str] = page.evaluate(LISTEN, f"{page.url}/events")

    assert names == ["status", "completed"]
    last = site.app.resumed_from[-1]
    assert last is not None
    assert last.endswith("-end")


def test_a_stranger_sees_nothing(sim: Simulator, browser: Browser, context: BrowserContext) -> None:
    """Another visitor gets neither the page nor the events, and `EventSource` gives up."""
    page = submit(context)
    stranger = browser.new_context(base_url=page.url)
    other = stranger.new_page()
    answer = other.goto(page.url)
    names = other.evaluate(LISTEN, f"{page.url}/events")
    stranger.close()

    assert answer is not None
    assert (answer.status, names) == (404, [])
