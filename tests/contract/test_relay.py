"""The relay as foreign parsers, frameworks and careless browsers meet it."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import attrs
import httpx
import pytest
from fastapi import FastAPI
from httpx_sse import EventSource
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount, Route

from cyberun_async import ConfigurationError
from cyberun_async.relay import TaskRelay
from cyberun_async.testing import Simulator, StreamingASGITransport, TaskPlan, faults

from ..whole.kit import SLOW, VIRTUAL, virtual_backend, virtual_client


# On trio, httpx's own generators warn when a reader leaves a body early; they hold nothing.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

UNKNOWN: Final = "0197a000-0000-7000-8000-{:012d}"


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


@pytest.fixture
def sim() -> Simulator:
    return Simulator(seed=7)


def anybody(request: Request, task_id: str) -> bool:
    return True


@asynccontextmanager
async def relay_of(sim: Simulator, **settings: Any) -> AsyncIterator[TaskRelay]:
    chosen: dict[str, Any] = {"authorize": anybody, "close_on_signals": False, **settings}
    client = virtual_client(sim)
    async with client, TaskRelay(client, **chosen) as relay:
        yield relay


def http_of(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=StreamingASGITransport(app), base_url="http://site.test", timeout=None
    )


def site_of(relay: TaskRelay) -> Starlette:
    return Starlette(routes=[Route("/tasks/{task_id}/events", relay)])


async def body_of(http: httpx.AsyncClient, task_id: str, *, seconds: float = 60) -> str:
    """Return what a browser reads of a task within some seconds."""
    text = ""
    with anyio.move_on_after(seconds):
        async with http.stream("GET", f"/tasks/{task_id}/events") as answer:
            async for part in answer.aiter_text():
                text += part
    return text


def blocks_of(text: str) -> list[dict[str, str]]:
    """Parse as the simplest of clients does: each empty line dispatches what came before it."""
    *blocks, rest = text.split("\n\n")
    assert set(rest) <= {":", "\n"}, rest
    return [
        dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        for block in blocks
    ]


PLANS: Final = {
    "life": SLOW,
    "silent": TaskPlan(pending=40, waiting=40, queued=40, steps=2, step_seconds=40),
    "polled": attrs.evolve(SLOW, faults=(faults.on("events", faults.refuse(403), times=None),)),
    "reconnected": attrs.evolve(SLOW, faults=(faults.drop_after(events=5),)),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
async def test_every_block_is_an_event(sim: Simulator, plan: TaskPlan) -> None:
    """No block is without a name and data, heartbeats and the time to come back included."""
    task = sim.create_task(plan)
    async with relay_of(sim) as relay, http_of(site_of(relay)) as http:
        blocks = blocks_of(await body_of(http, task.id, seconds=600))

    assert all({"id", "event", "data"} <= set(block) for block in blocks)
    assert [index for index, block in enumerate(blocks) if "retry" in block] == [0]
    assert 2000 <= int(blocks[0]["retry"]) <= 4000
    assert blocks[-1]["event"] == "completed"


async def test_a_comment_spoils_no_event_that_follows_it(sim: Simulator) -> None:
    """A heartbeat is a comment of one line; what comes after it is read as it was sent."""
    task = sim.create_task(manual=True)
    text = ""
    async with relay_of(sim) as relay, http_of(site_of(relay)) as http:
        async with http.stream("GET", f"/tasks/{task.id}/events") as answer:
            parts = answer.aiter_text()
            while "event: status" not in text:
                text += await anext(parts)
            beats = [await anext(parts) for _ in range(3)]
            task.status("waiting")
            text += "".join(beats) + await anext(parts)
            task.complete()
            async for part in parts:
                text += part

    assert beats == [":\n"] * 3
    statuses = [json.loads(one["data"]) for one in blocks_of(text) if one["event"] == "status"]
    assert [data["status"] for data in statuses] == ["pending", "waiting"]
    foreign = [event async for event in parsed(text)]
    assert [(one.event, one.data, one.id) for one in foreign] == [
        (one["event"], one["data"], one["id"]) for one in blocks_of(text)
    ]


async def parsed(text: str) -> AsyncGenerator[Any]:
    """Yield what httpx-sse makes of *text*."""
    headers = {"content-type": "text/event-stream"}
    async for event in EventSource(httpx.Response(200, headers=headers, text=text)).aiter_sse():
        yield event


async def test_a_failure_that_passes_says_when_to_come_back_within_its_event(
    sim: Simulator,
) -> None:
    """The longer pause after a failure rides in the block of the failure."""
    task = sim.create_task(SLOW)
    client = virtual_client(sim, "sk-revoked-0123456789")
    relay = TaskRelay(client, authorize=anybody, close_on_signals=False)
    async with client, relay, http_of(site_of(relay)) as http:
        *_, last = blocks_of(await body_of(http, task.id))

    assert (last["event"], last["retry"]) == ("relay-error", "15000")
    assert json.loads(last["data"])["is_final"] is False


async def test_refusals_are_not_kept(sim: Simulator) -> None:
    """No cache may answer the next page with what was said to this one."""
    task = sim.create_task(SLOW)
    nobody = TaskRelay(virtual_client(sim), authorize=lambda request, task_id: False)
    async with relay_of(sim) as relay, http_of(site_of(relay)) as http, nobody:
        path = f"/tasks/{task.id}/events"
        answers = [
            await http.get(path, headers={"last-event-id": "x-1-end"}),
            await http.get("/tasks/not an id/events"),
            await http.post(path),
            await http.head(path),
        ]
        async with http_of(site_of(nobody)) as other:
            answers.append(await other.get(path))

    assert [answer.status_code for answer in answers] == [204, 404, 405, 405, 403]
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}


async def test_a_follower_that_received_nothing_goes_with_its_browser(sim: Simulator) -> None:
    """Browsers that name made-up ids and leave at once hold nothing up, nor do their ids."""
    async with relay_of(sim, keep=600.0) as relay, http_of(site_of(relay)) as http:
        for number in range(50):
            with anyio.move_on_after(0.2):
                await http.get(f"/tasks/{UNKNOWN.format(number)}/events")
        await anyio.sleep(1)
        before = len(sim.requests)
        await anyio.sleep(120)

        assert len(sim.requests) == before
        assert sim.open_streams == 0


async def test_a_follower_of_whom_nothing_was_taken_goes_with_its_browser(sim: Simulator) -> None:
    """A browser that left before it was sent anything has no id to come back with."""
    task = sim.create_task(manual=True)

    async def receive() -> Any:
        await anyio.sleep(2)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        await anyio.sleep_forever()

    scope = {"type": "http", "method": "GET", "path": f"/{task.id}", "headers": []}
    async with relay_of(sim, keep=600.0) as relay:
        await relay(scope, receive, send)
        await anyio.sleep(1)

        assert len(sim.requests_to("events")) == 1
        assert sim.open_streams == 0


async def test_followers_are_capped(sim: Simulator) -> None:
    """Above the limit those that nobody looks at make room; else a browser is put off."""
    tasks = [sim.create_task(manual=True) for _ in range(4)]
    async with relay_of(sim, max_tasks=2, keep=600.0) as relay, http_of(site_of(relay)) as http:
        for task in tasks[:3]:
            assert "event: status" in await body_of(http, task.id, seconds=2)
        await anyio.sleep(1)
        assert sim.open_streams == 2

        async with anyio.create_task_group() as group:
            for task in tasks[:2]:
                group.start_soon(body_of, http, task.id)
            await anyio.sleep(1)
            assert "event: status" in await body_of(http, tasks[0].id, seconds=2)
            [refused] = blocks_of(await body_of(http, tasks[3].id))
            group.cancel_scope.cancel()

    assert (refused["event"], refused["retry"]) == ("relay-error", "15000")
    assert json.loads(refused["data"]) == {
        "task_id": tasks[3].id, "error": "ServiceUnavailableError", "is_final": False,
    }  # fmt: skip


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "5"], ids=repr)
def test_the_cap_is_a_whole_number(sim: Simulator, number: Any) -> None:
    """A value that is no limit is refused when the relay is made."""
    with pytest.raises(ConfigurationError, match="max_tasks"):
        TaskRelay(virtual_client(sim), max_tasks=number)


def routed(relay: TaskRelay) -> Any:
    return site_of(relay)


def mounted(relay: TaskRelay) -> Any:
    app = FastAPI()
    app.mount("/live", relay)
    return app


def mounted_within(relay: TaskRelay) -> Any:
    return Starlette(routes=[Mount("/site", routes=[Mount("/live", relay)])])


def mounted_with_id(relay: TaskRelay) -> Any:
    return Starlette(routes=[Mount("/tasks/{task_id}/events", relay)])


def alone(relay: TaskRelay) -> Any:
    return relay


def behind_a_prefix(relay: TaskRelay) -> Any:
    return prefixed(mounted(relay))


def prefixed(app: Any) -> Any:
    """Serve *app* as where its public address begins with a path, taken away or not."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "root_path": "/api"}, receive, send)

    return serve


def added(relay: TaskRelay) -> Any:
    app = FastAPI()
    app.add_api_route("/tasks/{task_id}/events", relay)
    return app


def decorated(relay: TaskRelay) -> Any:
    app = FastAPI()
    app.get("/tasks/{task_id}/events", include_in_schema=False)(relay)
    return prefixed(app)


def called(relay: TaskRelay) -> Any:
    app = FastAPI()

    @app.get("/tasks/{task_id}/events")
    async def events(request: Request, task_id: str) -> Any:
        return await relay(request)

    return app


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (routed, "/tasks/{}/events"),
        (mounted, "/live/{}"),
        (mounted_within, "/site/live/{}"),
        (mounted_with_id, "/tasks/{}/events/"),
        (alone, "/{}"),
        (behind_a_prefix, "/live/{}"),
        (behind_a_prefix, "/api/live/{}"),
        (added, "/tasks/{}/events"),
        (decorated, "/tasks/{}/events"),
        (decorated, "/api/tasks/{}/events"),
        (called, "/tasks/{}/events"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_the_relay_stands_wherever_an_application_puts_it(
    sim: Simulator, make: Any, path: str
) -> None:
    """Routed, mounted, behind a prefix or as an endpoint of FastAPI, it streams to the end."""
    task = sim.create_task(SLOW)
    async with relay_of(sim) as relay, http_of(make(relay)) as http:
        answer = await http.get(path.format(task.id))
        missing = await http.get(path.format("not an id"))

    assert answer.status_code == 200
    assert blocks_of(answer.text)[-1]["event"] == "completed"
    assert answer.headers["cache-control"] == "no-store, no-transform"
    assert missing.status_code == 404


async def test_the_schema_of_an_application_with_the_relay_can_be_made(sim: Simulator) -> None:
    """FastAPI describes the route, and takes no part of ASGI for a parameter."""
    async with relay_of(sim) as relay:
        schema = added(relay).openapi()

    [operation] = schema["paths"]["/tasks/{task_id}/events"].values()
    assert "requestBody" not in operation
    assert all(one["in"] == "path" for one in operation.get("parameters", []))
