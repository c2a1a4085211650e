"""The relay in process: what browsers get, from one upstream stream, in virtual time."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import anyio
import attrs
import httpx
import pytest
import trio.testing
from httpx_sse import EventSource, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount, Route

from cyberun_async import ClientStateError, ConfigurationError, CyberunClient
from cyberun_async.relay import TaskRelay
from cyberun_async.testing import (
    Behaviour,
    LiveTask,
    Simulator,
    StreamingASGITransport,
    TaskPlan,
    VirtualClockLoop,
    faults,
)


# On trio, httpx's own generators warn when a reader leaves a body early; they hold nothing.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

SLOW: Final = TaskPlan(pending=1, waiting=1, queued=1, steps=4, step_seconds=1)
COURSE: Final = ["pending", "waiting", "queued", "running"]
OWNER: Final = {"cookie": "who=owner"}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    if request.param == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": VirtualClockLoop}


@pytest.fixture
def sim() -> Simulator:
    return Simulator(seed=7)


def is_owner(request: Request, task_id: str) -> bool:
    return request.cookies.get("who") == "owner"


@attrs.define
class Seen:
    """What one connection of a browser got: its status, its events and its comments."""

    status: int = 0
    headers: httpx.Headers = attrs.field(factory=httpx.Headers)
    events: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list[tuple[str, dict[str, Any]]])
    ids: list[str] = attrs.field(factory=list[str])
    text: str = ""
    is_complete: bool = False

    def named(self, name: str) -> list[dict[str, Any]]:
        return [data for each, data in self.events if each == name]

    @property
    def statuses(self) -> list[str]:
        return [data["status"] for data in self.named("status")]


async def events_of(answer: httpx.Response) -> AsyncGenerator[ServerSentEvent]:
    """Yield what a browser dispatches: nothing for a block without data."""
    async with aclosing(EventSource(answer).aiter_sse()) as events:
        async for event in events:
            if event.data:
                yield event


class Site:
    """A service with the relay in it, and browsers that call it in process."""

    def __init__(self, relay: TaskRelay) -> None:
        self.relay = relay
        routes = [
            Route("/tasks/{task_id}/events", relay),
            Route("/typed/{task_id:uuid}/events", relay),
            Mount("/mounted", relay),
        ]
        self.transport = StreamingASGITransport(Starlette(routes=routes))
        self.http = httpx.AsyncClient(
            transport=self.transport, base_url="http://site.test", timeout=None, headers=OWNER
        )

    async def browse(
        self,
        task_id: str,
        seen: Seen | None = None,
        *,
        last_id: str | None = None,
        until: str | None = None,
        path: str = "/tasks/{}/events",
        headers: dict[str, str] | None = None,
    ) -> Seen:
        """Connect as a browser does, and read to the end or to an event called *until*."""
        seen = Seen() if seen is None else seen
        sent = {**(headers or {}), **({"last-event-id": last_id} if last_id else {})}
        async with self.http.stream("GET", path.format(task_id), headers=sent) as answer:
            seen.status, seen.headers = answer.status_code, answer.headers
            if answer.status_code != 200:
                return seen
            async with aclosing(events_of(answer)) as events:
                async for event in events:
                    seen.events.append((event.event, event.json()))
                    seen.ids.append(event.id)
                    if event.event == until:
                        return seen
            seen.is_complete = True
        return seen


def client_of(sim: Simulator) -> CyberunClient:
    return CyberunClient(
        sim.key, base_url=sim.url, transport_factory=lambda: StreamingASGITransport(sim.app)
    )


@asynccontextmanager
async def site_of(sim: Simulator, **settings: Any) -> AsyncIterator[Site]:
    """Serve a relay in front of the simulator, as one worker process."""
    client = client_of(sim)
    chosen: dict[str, Any] = {"authorize": is_owner, "close_on_signals": False, **settings}
    async with client, TaskRelay(client, **chosen) as relay:
        site = Site(relay)
        async with site.http:
            yield site


class Stuck:
    """A server's side of a browser that has stopped reading: its bytes are never taken."""

    def __init__(self, task_id: str) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": f"/{task_id}",
            "headers": [(b"cookie", b"who=owner")],
        }
        self.is_held = anyio.Event()
        self.has_ended = anyio.Event()

    async def receive(self) -> Any:
        await anyio.sleep_forever()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.is_held.set()
            await anyio.sleep_forever()

    async def browse(self, relay: TaskRelay) -> None:
        await relay(self.scope, self.receive, self.send)
        self.has_ended.set()


class Slow(Stuck):
    """One that takes its bytes after five seconds each."""

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.parts: list[bytes] = []

    async def send(self, message: Any) -> None:
        if body := message.get("body"):
            self.parts.append(body)
            await anyio.sleep(5)


async def test_a_browser_sees_the_whole_life(sim: Simulator) -> None:
    """States in order, progress, that they are live, and the end with its output, once and last."""
    task = sim.create_task(SLOW)
    async with site_of(sim) as site:
        seen = await site.browse(task.id)

    assert (seen.status, seen.is_complete) == (200, True)
    assert seen.headers["content-type"].startswith("text/event-stream")
    assert seen.headers["cache-control"] == "no-store, no-transform"
    assert seen.headers["x-accel-buffering"] == "no"
    assert seen.statuses == COURSE
    assert [data["progress"] for data in seen.named("progress")] == [0.25, 0.5, 0.75, 1.0]
    assert seen.named("liveness") == [{"progress_is_live": True}]
    name, end = seen.events[-1]
    assert (name, end["status"], end["task_id"]) == ("completed", "completed", task.id)
    assert end["output"]
    assert len(set(seen.ids)) == len(seen.ids)


async def test_many_browsers_share_one_upstream_stream(sim: Simulator) -> None:
    """However many look, early or late, the service is asked for one stream."""
    task = sim.create_task(SLOW)
    browsers = [Seen() for _ in range(20)]
    async with site_of(sim) as site, anyio.create_task_group() as group:
        for seen in browsers:
            group.start_soon(site.browse, task.id, seen)
            await anyio.sleep(0.3)

    assert len(sim.requests_to("events")) == 1
    assert sim.peak_streams == 1
    assert [seen.events[-1][0] for seen in browsers] == ["completed"] * 20
    assert browsers[0].ids[-1] == browsers[-1].ids[-1]


async def test_a_late_browser_begins_with_the_present_state(sim: Simulator) -> None:
    """It gets the newest state and progress event, not the story so far."""
    task = sim.create_task(manual=True)
    async with site_of(sim) as site, anyio.create_task_group() as group:
        group.start_soon(site.browse, task.id)
        await anyio.sleep(1)
        drive(task)
        await anyio.sleep(1)
        late = await site.browse(task.id, until="progress")
        task.complete()

    assert late.statuses == ["running"]
    assert [data["progress"] for data in late.named("progress")] == [0.3]


def drive(task: LiveTask) -> None:
    for status in COURSE[1:]:
        task.status(status)
    for progress in (0.1, 0.2, 0.3):
        task.progress(progress)


async def test_a_browser_that_comes_back_misses_nothing(sim: Simulator) -> None:
    """With the id of the last event it saw, it gets what came since, and nothing twice."""
    task = sim.create_task(SLOW)
    async with site_of(sim) as site:
        first = await site.browse(task.id, until="progress")
        await anyio.sleep(2.5)
        second = await site.browse(task.id, last_id=first.ids[-1])

    assert first.statuses + second.statuses == COURSE
    progress = [*first.named("progress"), *second.named("progress")]
    assert [data["progress"] for data in progress] == [0.25, 0.5, 0.75, 1.0]
    assert second.events[-1][0] == "completed"
    assert len(sim.requests_to("events")) == 1


async def test_another_worker_gives_a_fresh_snapshot(sim: Simulator) -> None:
    """An id of another process, or of before a restart, is answered with the present state."""
    task = sim.create_task(manual=True)
    async with site_of(sim) as one, anyio.create_task_group() as group:
        group.start_soon(one.browse, task.id)
        await anyio.sleep(1)
        drive(task)
        first = await one.browse(task.id, until="progress")
        async with site_of(sim) as other:
            task.progress(0.6)
            second = await other.browse(task.id, last_id=first.ids[-1], until="status")
        task.complete()

    assert second.statuses == ["running"]
    assert second.ids[0].partition("-")[0] != first.ids[0].partition("-")[0]


async def test_after_the_end_a_browser_is_asked_to_stop(sim: Simulator) -> None:
    """The id of the end is answered 204, by this process and by any other."""
    task = sim.create_task(SLOW)
    async with site_of(sim) as site, site_of(sim) as other:
        end = (await site.browse(task.id)).ids[-1]
        again = await site.browse(task.id, last_id=end)
        elsewhere = await other.browse(task.id, last_id=end)

    assert (again.status, elsewhere.status) == (204, 204)
    assert len(sim.requests_to("events")) == 1


async def test_an_ended_task_is_reported_once(sim: Simulator) -> None:
    """A page that is opened after the end gets the end, and then 204."""
    task = sim.create_task(SLOW)
    async with site_of(sim) as site:
        await anyio.sleep(60)
        seen = await site.browse(task.id)
        again = await site.browse(task.id, last_id=seen.ids[-1])

    assert [name for name, _ in seen.events if name != "liveness"][-1] == "completed"
    assert (seen.is_complete, again.status) == (True, 204)


async def test_the_service_s_error_event_is_renamed(sim: Simulator) -> None:
    """`EventSource` dispatches `error` for a broken connection, so no event is called so."""
    task = sim.create_task(manual=True)
    seen = Seen()
    async with site_of(sim) as site, anyio.create_task_group() as group:
        group.start_soon(site.browse, task.id, seen)
        await anyio.sleep(1)
        task.error("no connection to the scheduler")
        task.emit("preview", {"of": "a fox"})
        await anyio.sleep(1)
        task.complete()

    names = [name for name, _ in seen.events]
    assert "error" not in names
    assert [d["message"] for d in seen.named("server-error")] == ["no connection to the scheduler"]
    assert [data["name"] for data in seen.named("unknown")] == ["preview"]


async def test_polling_is_reported_to_the_browser(sim: Simulator) -> None:
    """Without a stream from the service the page can say that its bar does not move live."""
    refused = faults.on("events", faults.refuse(403), times=None)
    task = sim.create_task(attrs.evolve(SLOW, queued=10, faults=(refused,)))
    async with site_of(sim) as site:
        seen = await site.browse(task.id)

    assert seen.named("progress") == []
    assert seen.named("liveness") == [{"progress_is_live": False}]
    assert seen.events[-1][0] == "completed"


async def test_a_reconnection_upstream_is_reported_and_passes(sim: Simulator) -> None:
    """While the stream from the service is being replaced, progress is not called live."""
    dropped = faults.drop_after(events=5)
    task = sim.create_task(attrs.evolve(SLOW, step_seconds=10, faults=(dropped,)))
    async with site_of(sim) as site:
        seen = await site.browse(task.id)

    reported = [data["progress_is_live"] for data in seen.named("liveness")]
    assert reported == [True, False, True]


async def test_silence_is_filled_with_heartbeats(sim: Simulator) -> None:
    """A comment every fifteen seconds shows proxies that the connection lives."""
    task = sim.create_task(manual=True)
    parts: list[bytes] = []
    async with site_of(sim) as site:
        with anyio.move_on_after(100):
            async with site.http.stream("GET", f"/tasks/{task.id}/events") as answer:
                async for part in answer.aiter_raw():
                    parts.append(part)  # noqa: PERF401 - kept also when time is up

    text = b"".join(parts).decode()
    assert 5 <= text.partition("event: status")[2].split("\n").count(":") <= 6


async def test_a_slow_browser_is_coalesced_for(sim: Simulator) -> None:
    """Who reads too slowly misses progress, no status and not the end, and others miss nothing."""
    task = sim.create_task(manual=True)
    slow, quick = Seen(), Seen()
    async with site_of(sim) as site, anyio.create_task_group() as group:
        group.start_soon(site.browse, task.id, quick)
        await anyio.sleep(1)
        group.start_soon(read_slowly, site, task.id, slow)
        await anyio.sleep(1)
        await live_fast(task)

    assert len(quick.named("progress")) == 200
    assert quick.statuses[-3:] == ["queued", "running", "completing"]
    assert len(slow.named("progress")) < 100
    assert slow.named("progress")[-1]["progress"] == 1.0
    assert slow.statuses[-3:] == ["queued", "running", "completing"]
    assert slow.events[-1][0] == "completed"


async def test_a_slow_browser_is_handed_one_event_at_a_time(sim: Simulator) -> None:
    """However much has come meanwhile, no more than one event waits for it to read on."""
    task = sim.create_task(manual=True)
    async with site_of(sim) as site, anyio.create_task_group() as group:
        slow = Slow(task.id)
        group.start_soon(slow.browse, site.relay)
        await anyio.sleep(1)
        for number in range(20):
            task.emit("preview", {"of": number, "data": "x" * 10_000})
        await anyio.sleep(1)
        task.complete()

    parts = [part.count(b"event: ") for part in slow.parts]
    assert sum(parts) > 20
    assert max(parts[1:]) == 1
    text = b"".join(slow.parts)
    assert text.count(b"event: unknown") == 20
    assert text.partition(b"event: completed")[2].count(b"event: ") == 0


async def live_fast(task: LiveTask) -> None:
    for status in ("queued", "running"):
        task.status(status)
    for step in range(1, 201):
        task.progress(step / 200)
        await anyio.sleep(0.1)
    task.status("completing")
    await anyio.sleep(1)
    task.complete()


async def read_slowly(site: Site, task_id: str, seen: Seen) -> None:
    async with site.http.stream("GET", f"/tasks/{task_id}/events") as answer:
        async for event in events_of(answer):
            seen.events.append((event.event, event.json()))
            await anyio.sleep(7)


async def test_nobody_is_let_in_by_default(sim: Simulator, caplog: Any) -> None:
    """Without a hook every browser is refused, and the log says why."""
    task = sim.create_task(SLOW)
    async with site_of(sim, authorize=None) as site:
        seen = await site.browse(task.id)

    assert (seen.status, sim.requests) == (403, [])
    assert "`authorize`" in caplog.text


async def none_by_mistake(request: Request, task_id: str) -> Any:
    return None


async def from_the_database(request: Request, task_id: str) -> bool:
    await anyio.sleep(0.1)
    return is_owner(request, task_id)


@pytest.mark.parametrize(
    ("authorize", "cookie", "expected"),
    [
        (is_owner, "who=owner", 200),
        (is_owner, "who=stranger", 403),
        (from_the_database, "who=owner", 200),
        (from_the_database, "who=stranger", 403),
        (none_by_mistake, "who=owner", 403),
        (lambda request, task_id: "yes", "who=owner", 403),
        (lambda request, task_id: from_the_database, "who=owner", 403),
    ],
    ids=["owner", "stranger", "async-owner", "async-stranger", "none", "truthy", "uncalled"],
)
async def test_the_hook_decides_who_may_see(
    sim: Simulator, authorize: Any, cookie: str, expected: int
) -> None:
    """Plain or asynchronous, only True lets a browser in; also one that comes with an id."""
    task = sim.create_task(SLOW)
    async with site_of(sim, authorize=authorize) as site:
        seen = await site.browse(task.id, headers={"cookie": cookie})
        back = await site.browse(task.id, headers={"cookie": cookie}, last_id="x-1-end")

    assert seen.status == expected
    assert back.status == (204 if expected == 200 else 403)
    assert (len(sim.requests_to("events")) == 1) is (expected == 200)


async def test_the_hook_is_asked_about_the_canonical_id(sim: Simulator) -> None:
    """An id that is written in another way is the same task to the hook."""
    task = sim.create_task(SLOW)
    asked: list[str] = []

    def note(request: Request, task_id: str) -> bool:
        asked.append(task_id)
        return False

    async with site_of(sim, authorize=note) as site:
        await site.browse(task.id.upper())
        token = await site.browse(f"%7B%22task_id%22:%22{task.id}%22%7D")
        malformed = await site.browse("sk-1234567890abcdef")

    assert asked == [task.id]
    assert [token.status, malformed.status] == [404, 404]


async def test_the_key_does_not_leave(sim: Simulator) -> None:
    """Neither headers nor events have the key, whatever the service says of it."""
    task = sim.create_task(manual=True)
    text = ""
    async with site_of(sim) as site, anyio.create_task_group() as group:
        async with site.http.stream("GET", f"/tasks/{task.id}/events") as answer:
            group.start_soon(leak, sim, task)
            async for part in answer.aiter_text():
                text += part
        headers = str(answer.headers)

    assert "event: failed" in text
    assert sim.key not in text + headers


async def leak(sim: Simulator, task: LiveTask) -> None:
    await anyio.sleep(1)
    task.emit("status", {"status": "running", "authorization": f"Bearer {sim.key}"})
    task.fail("out of memory")


async def test_no_cors_header_is_added(sim: Simulator) -> None:
    """Which origins may read is for the application to say."""
    task = sim.create_task(SLOW)
    async with site_of(sim) as site:
        seen = await site.browse(task.id, headers={"origin": "http://elsewhere.test"})

    assert [name for name in seen.headers if name.startswith("access-control")] == []


async def test_a_task_that_does_not_exist_ends_the_stream_for_good(sim: Simulator) -> None:
    """After a grace the page is reported, and its browser does not come back."""
    async with site_of(sim) as site:
        start = anyio.current_time()
        seen = await site.browse("0197a000-0000-7000-8000-000000000000")
        took = anyio.current_time() - start
        again = await site.browse("0197a000-0000-7000-8000-000000000000", last_id=seen.ids[-1])

    name, data = seen.events[-1]
    assert (name, data["error"], data["is_final"]) == ("relay-error", "TaskNotFoundError", True)
    assert {name for name, _ in seen.events[:-1]} <= {"liveness"}
    assert 10 <= took < 12
    assert again.status == 204


async def test_a_task_that_was_just_submitted_is_waited_for(sim: Simulator) -> None:
    """A replica that does not know the task yet is no reason to declare it gone."""
    sim.behaviour = Behaviour(replica_lag=2.5)
    async with site_of(sim) as site, client_of(sim) as elsewhere:
        task = await elsewhere.submit("text-to-image", {"prompt": "a fox"})
        seen = await site.browse(task.id)

    assert seen.named("relay-error") == []
    assert (seen.status, seen.events[-1][0]) == (200, "completed")


async def test_a_passing_failure_lets_the_browser_come_back(sim: Simulator) -> None:
    """Where the key is refused, the page gets no detail; with a key that works it continues."""
    task = sim.create_task(SLOW)
    client = CyberunClient(
        lambda: keys[0],
        base_url=sim.url,
        transport_factory=lambda: StreamingASGITransport(sim.app),
    )
    keys = ["sk-revoked-0123456789"]
    relay = TaskRelay(client, authorize=is_owner, close_on_signals=False)
    async with client, relay:
        site = Site(relay)
        async with site.http:
            refused = await site.browse(task.id)
            keys[0] = sim.key
            seen = await site.browse(task.id)

    assert [(name, data["error"], data["is_final"]) for name, data in refused.events] == [
        ("relay-error", "AuthenticationError", False)
    ]
    assert (refused.ids, refused.is_complete) == ([""], True)
    assert seen.events[-1][0] == "completed"


async def test_a_task_is_left_some_time_after_its_last_browser(sim: Simulator) -> None:
    """A browser that is back soon finds its history; later on, nothing is held any more."""
    task = sim.create_task(manual=True)
    async with site_of(sim, keep=30.0) as site:
        first = await site.browse(task.id, until="status")
        await anyio.sleep(29)
        kept = sim.open_streams
        second = await site.browse(task.id, until="status")
        await anyio.sleep(40)
        left = sim.open_streams
        third = await site.browse(task.id, until="status")

    assert (kept, left) == (1, 0)
    assert first.ids[-1] == second.ids[-1]
    assert third.ids[-1].partition("-")[0] != first.ids[-1].partition("-")[0]


async def test_closing_ends_open_streams_and_browsers_may_come_back(sim: Simulator) -> None:
    """Upon close the streams end in good order, and who comes then is asked to come again."""
    task = sim.create_task(manual=True)
    seen, meanwhile = Seen(), Seen()
    async with site_of(sim) as site:
        async with anyio.create_task_group() as group:
            group.start_soon(site.browse, task.id, seen)
            await anyio.sleep(1)
            site.relay.close()
        await site.browse("0197a000-0000-7000-8000-000000000000", meanwhile)

    assert (seen.statuses, seen.is_complete) == (["pending"], True)
    assert (meanwhile.status, meanwhile.events, meanwhile.is_complete) == (200, [], True)
    assert sim.open_streams == 0
    assert task.state == "pending"


@pytest.mark.parametrize("error", [ValueError("no database"), SystemExit(3)], ids=repr)
async def test_an_error_of_the_application_leaves_as_it_is(
    sim: Simulator, error: BaseException
) -> None:
    """What fails beside the relay is not one of its tasks, and is wrapped in no group."""
    task = sim.create_task(manual=True)
    with pytest.raises(type(error)) as caught:
        async with site_of(sim) as site:
            await site.browse(task.id, until="status")
            raise error

    assert caught.value is error
    assert sim.open_streams == 0


async def test_a_cancelled_application_ends(sim: Simulator) -> None:
    """A cancellation goes through the relay, once what it runs has ended."""
    task = sim.create_task(manual=True)
    with anyio.move_on_after(5) as patience:
        async with site_of(sim) as site:
            await site.browse(task.id, until="status")
            await anyio.sleep_forever()

    assert patience.cancelled_caught
    assert sim.open_streams == 0


async def test_leaving_the_relay_ends_open_streams(sim: Simulator) -> None:
    """The end of the lifespan does not wait for browsers."""
    task = sim.create_task(manual=True)
    seen = Seen()
    async with anyio.create_task_group() as group:
        async with site_of(sim) as site:
            group.start_soon(site.browse, task.id, seen)
            await anyio.sleep(1)
            await site.relay.__aexit__(None, None, None)
            await anyio.sleep(1)
            done = seen.is_complete

    assert done


@pytest.mark.parametrize("way", ["close", "leave"])
async def test_a_browser_that_has_stopped_reading_holds_nothing_up(
    sim: Simulator, way: str
) -> None:
    """Its stream is given up two seconds after the end; those of others end at once."""
    task = sim.create_task(manual=True)
    stuck, seen = Stuck(task.id), Seen()
    async with anyio.create_task_group() as group:
        async with site_of(sim) as site:
            group.start_soon(stuck.browse, site.relay)
            group.start_soon(site.browse, task.id, seen)
            await stuck.is_held.wait()
            await anyio.sleep(1)
            start = anyio.current_time()
            if way == "close":
                site.relay.close()
                await anyio.sleep(1)
                assert (seen.is_complete, stuck.has_ended.is_set()) == (True, False)
                await stuck.has_ended.wait()
            else:
                await site.relay.__aexit__(None, None, None)
                await stuck.has_ended.wait()
            took = anyio.current_time() - start

    assert took == 2.0
    assert seen.is_complete


async def test_a_closed_client_ends_streams_without_a_word(sim: Simulator) -> None:
    """Browsers come back, perhaps to a process that lives."""
    task = sim.create_task(manual=True)
    client = client_of(sim)
    relay = TaskRelay(client, authorize=is_owner, close_on_signals=False)
    site, seen = Site(relay), Seen()
    async with site.http, relay, anyio.create_task_group() as group:
        async with client:
            group.start_soon(site.browse, task.id, seen)
            await anyio.sleep(1)

    assert seen.is_complete
    assert {name for name, _ in seen.events} == {"status", "liveness"}


async def test_it_can_be_mounted(sim: Simulator) -> None:
    """Under a mount the rest of the path is the task's id."""
    task = sim.create_task(SLOW)
    async with site_of(sim) as site:
        seen = await site.browse(task.id, path="/mounted/{}")
        nothing = await site.browse("", path="/mounted/")

    assert seen.events[-1][0] == "completed"
    assert nothing.status == 404


async def test_a_route_may_convert_the_id(sim: Simulator) -> None:
    """Starlette makes a UUID of what its route calls one."""
    task = sim.create_task(SLOW)
    async with site_of(sim) as site:
        seen = await site.browse(task.id, path="/typed/{}/events")

    assert seen.events[-1][0] == "completed"


async def test_only_get_is_answered(sim: Simulator) -> None:
    """A HEAD request would otherwise stay open without a body."""
    task = sim.create_task(SLOW)
    async with site_of(sim) as site:
        answers = [
            await site.http.request(method, f"/tasks/{task.id}/events")
            for method in ("HEAD", "POST", "OPTIONS")
        ]

    assert [(a.status_code, a.headers["allow"]) for a in answers] == [(405, "GET")] * 3


async def test_a_relay_has_to_be_entered(sim: Simulator) -> None:
    """Otherwise nobody would own what follows the tasks; the error says what to write."""
    task = sim.create_task(SLOW)
    async with CyberunClient(sim.key, base_url=sim.url) as client:
        transport = StreamingASGITransport(TaskRelay(client, authorize=is_owner))
        async with httpx.AsyncClient(transport=transport, base_url="http://site.test") as http:
            with pytest.raises(ClientStateError, match="async with client, relay"):
                await http.get(f"/{task.id}")


async def test_a_relay_is_entered_once(sim: Simulator) -> None:
    """One that was used has forgotten nothing, and would follow from two owners."""
    async with site_of(sim) as site:
        with pytest.raises(ClientStateError, match="entered once"):
            await site.relay.__aenter__()


@pytest.mark.parametrize(
    "setting",
    [
        {"heartbeat": 0},
        {"heartbeat": float("nan")},
        {"keep": -1},
        {"retry": "2"},
        {"retry": True},
        {"history": 0},
        {"history": 2.0},
    ],
    ids=str,
)
def test_settings_are_checked(setting: Any) -> None:
    """What is no number in range is refused by name."""
    with pytest.raises(ConfigurationError, match=next(iter(setting))):
        TaskRelay(CyberunClient("sk-0123456789abcdef"), **setting)
