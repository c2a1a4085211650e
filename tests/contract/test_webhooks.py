"""Webhook deliveries, from the service to a callback, wherever the endpoint stands."""

import inspect
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import attrs
import httpx
import pytest
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount, Route

from cyberun_async import ConfigurationError, InvalidInputError
from cyberun_async._model import WebhookEvent
from cyberun_async.testing import Simulator, StreamingASGITransport
from cyberun_async.webhooks import verify
from cyberun_async.webhooks._endpoint import WebhookEndpoint
from cyberun_async.webhooks._verify import sign

from ..whole.kit import SLOW, VIRTUAL, virtual_backend, virtual_client


SECRET: Final = "whsec_0123456789abcdef"
OTHER: Final = "whsec_fedcba9876543210"
SITE: Final = "https://site.test"


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


# --- end to end -----------------------------------------------------------------------


@attrs.define
class Receiver:
    """An application that the service's deliveries reach in process."""

    app: Any = None
    hook: str = ""
    secret: str = SECRET
    taken: list[WebhookEvent] = attrs.field(factory=list[WebhookEvent])
    answers: list[tuple[float, int]] = attrs.field(factory=list[tuple[float, int]])

    async def take(self, event: WebhookEvent) -> None:
        self.taken.append(event)

    async def send(self, url: str, headers: Any, body: bytes) -> int:
        """Post as the service does: once, and without following anything."""
        async with httpx.AsyncClient(transport=StreamingASGITransport(self.app)) as http:
            answer = await http.post(url, headers=dict(headers), content=body, timeout=None)
        self.answers.append((anyio.current_time(), answer.status_code))
        return answer.status_code


@asynccontextmanager
async def delivering(receiver: Receiver, path: str) -> AsyncIterator[Simulator]:
    """Run a service that delivers to *path* of the receiver's application."""
    sim = Simulator(seed=7, webhook_sender=receiver.send)
    async with virtual_client(sim, sim.issue_key("dk")) as client:
        created = await client.webhooks.create("mine", SITE + path)
        receiver.hook, receiver.secret = created.id, created.secret or ""
        async with anyio.create_task_group() as group:
            group.start_soon(sim.run_webhooks)
            yield sim
            group.cancel_scope.cancel()


def alone(endpoint: WebhookEndpoint) -> Any:
    return endpoint


def routed(endpoint: WebhookEndpoint) -> Any:
    return Starlette(routes=[Route("/hooks/cyberun", endpoint, methods=["POST"])])


def mounted(endpoint: WebhookEndpoint) -> Any:
    app = FastAPI()
    app.mount("/hooks", endpoint)
    return app


def mounted_with_slash(endpoint: WebhookEndpoint) -> Any:
    return Starlette(routes=[Mount("/hooks/cyberun", endpoint)])


def added(endpoint: WebhookEndpoint) -> Any:
    app = FastAPI()
    app.add_api_route("/hooks/cyberun", endpoint, methods=["POST"])
    return app


def decorated(endpoint: WebhookEndpoint) -> Any:
    app = FastAPI()
    app.post("/hooks/cyberun", include_in_schema=False)(endpoint)
    return app


def called(endpoint: WebhookEndpoint) -> Any:
    app = FastAPI()

    @app.post("/hooks/cyberun")
    async def receive(request: Request) -> Any:
        return await endpoint(request)

    return app


def read_before(endpoint: WebhookEndpoint) -> Any:
    """As with a dependency that has looked at the body, to log it for instance."""

    async def look(request: Request) -> None:
        await request.body()

    app = FastAPI(dependencies=[Depends(look)])
    app.add_api_route("/hooks/cyberun", endpoint, methods=["POST"])
    return app


PLACES: Final[list[Callable[[WebhookEndpoint], Any]]] = [
    alone, routed, mounted, added, decorated, called, read_before,
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "path"),
    [*((make, "/hooks/cyberun") for make in PLACES), (mounted_with_slash, "/hooks/cyberun/")],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_deliveries_arrive_wherever_the_endpoint_stands(make: Any, path: str) -> None:
    """Each end is delivered by the first attempt, answered 200, and handed on once."""
    receiver = Receiver()
    async with delivering(receiver, path) as sim:
        receiver.app = make(WebhookEndpoint(receiver.secret, receiver.take, tolerance=None))
        tasks = [sim.create_task(SLOW) for _ in range(3)]
        await anyio.sleep(20)

    assert [status for _, status in receiver.answers] == [200] * 3
    assert {event.task_id for event in receiver.taken} == {task.id for task in tasks}
    assert len(receiver.taken) == 3


async def test_a_mount_at_the_very_address_is_redirected_before_the_endpoint_is_called() -> None:
    """That is the framework's own doing, so the page mounts one level above, or with a slash."""
    taken: list[WebhookEvent] = []
    async with site(mounted_with_slash(endpoint_of(taken.append))) as http:
        content = delivery()
        headers = {"x-webhook-signature-256": sign(content, SECRET)}
        bare = await http.post("/hooks/cyberun", content=content, headers=headers)
        slash = await http.post("/hooks/cyberun/", content=content, headers=headers)

    assert (bare.status_code, bare.headers["location"]) == (307, f"{SITE}/hooks/cyberun/")
    assert (slash.status_code, len(taken)) == (200, 1)


async def test_a_framework_passes_the_endpoint_s_refusals_on() -> None:
    """As an endpoint of FastAPI it answers what it answers as an application."""
    app = added(WebhookEndpoint(SECRET, Receiver().take, max_body_bytes=1000))
    async with site(app) as http:
        forged = await http.post("/hooks/cyberun", content=b"{}")
        large = await http.post("/hooks/cyberun", content=b"x" * 1001)
        got = await http.get("/hooks/cyberun")

    assert [forged.status_code, large.status_code, got.status_code] == [400, 413, 405]
    assert forged.content == b""
    assert large.headers["connection"] == "close"
    assert "requestBody" not in str(app.openapi())


def test_the_class_shows_its_constructor() -> None:
    """What FastAPI sees in an endpoint hides nothing from who looks at the class."""
    assert "callback" in inspect.signature(WebhookEndpoint).parameters


def site(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=StreamingASGITransport(app), base_url=SITE, timeout=None)


async def test_a_callback_that_fails_at_first_is_called_by_the_next_attempt() -> None:
    """The service comes again after five seconds; a plain function is a callback, too."""
    receiver = Receiver()

    def take(event: WebhookEvent) -> None:
        receiver.taken.append(event)
        if len(receiver.taken) == 1:
            raise LookupError("no room")

    async with delivering(receiver, "/hooks") as sim:
        receiver.app = WebhookEndpoint(receiver.secret, take, tolerance=None)
        sim.create_task(SLOW)
        await anyio.sleep(60)

    assert [status for _, status in receiver.answers] == [500, 200]
    assert len(receiver.taken) == 2


@pytest.mark.parametrize("kind", ["plain", "asynchronous", "several"])
async def test_a_rotation_of_the_secret_loses_no_delivery(kind: str) -> None:
    """What returns the secret is called for each delivery, so the new one is known at once."""
    receiver = Receiver()
    kept: list[str] = []

    async def fetched() -> list[str]:
        await anyio.sleep(0.1)
        return kept[-1:]

    sources: dict[str, Callable[[], Any]] = {
        "plain": lambda: kept[-1],
        "asynchronous": fetched,
        "several": lambda: kept[-2:],
    }
    async with delivering(receiver, "/hooks") as sim:
        kept.append(receiver.secret)
        receiver.app = WebhookEndpoint(sources[kind], receiver.take, tolerance=None)
        async with virtual_client(sim, sim.issue_key("dk")) as client:
            for _ in range(3):
                sim.create_task(SLOW)
                await anyio.sleep(20)
                kept.append(await client.webhooks.rotate_secret(receiver.hook))

    assert [status for _, status in receiver.answers] == [200] * 3
    assert len(receiver.taken) == 3


# --- one delivery at a time -----------------------------------------------------------


def delivery(task: str = "0197a1b2-0000-7000-8000-00000000abcd") -> bytes:
    return json.dumps({"event_type": "task.completed", "task_id": task}).encode()


async def post(
    endpoint: WebhookEndpoint, body: bytes | None = None, secret: str = SECRET
) -> tuple[int, float]:
    """Deliver once; return the answer and the seconds it took."""
    content = delivery() if body is None else body
    start = anyio.current_time()
    async with site(endpoint) as http:
        answer = await http.post(
            "/", content=content, headers={"x-webhook-signature-256": sign(content, secret)}
        )
    return answer.status_code, anyio.current_time() - start


def endpoint_of(
    callback: Callable[[WebhookEvent], Any], secret: Any = SECRET, **settings: Any
) -> WebhookEndpoint:
    return WebhookEndpoint(secret, callback, tolerance=None, **settings)


@pytest.mark.parametrize("shape", ["function", "lambda", "object", "partly"])
async def test_any_callable_is_a_callback(shape: str) -> None:
    """Plain or asynchronous, in whatever shape, it is called once and answered 200."""
    taken: list[WebhookEvent] = []

    async def later(event: WebhookEvent) -> None:
        await anyio.sleep(1)
        taken.append(event)

    class Taker:
        async def __call__(self, event: WebhookEvent) -> None:
            await later(event)

    shapes: dict[str, Callable[[WebhookEvent], Any]] = {
        "function": taken.append,
        "lambda": lambda event: taken.append(event),
        "object": Taker(),
        "partly": lambda event: later(event),
    }
    endpoint = endpoint_of(shapes[shape])

    assert (await post(endpoint))[0] == 200
    assert (await post(endpoint))[0] == 200
    assert len(taken) == 1


class Store:
    """A store that may be plain or asynchronous under either name, and may fail to add."""

    def __init__(self, *, fails: int = 0) -> None:
        self.keys: set[object] = set()
        self._fails = fails

    def note(self, key: object) -> None:
        if self._fails:
            self._fails -= 1
            raise OSError("store is away")
        self.keys.add(key)


class Plain(Store):
    def __contains__(self, key: object) -> bool:
        return key in self.keys

    def add(self, key: object) -> None:
        self.note(key)


class Asynchronous(Store):
    async def contains(self, key: object) -> bool:
        await anyio.sleep(0)
        return key in self.keys

    async def add(self, key: object) -> None:
        await anyio.sleep(0)
        self.note(key)


class Named(Store):
    """One whose author made ``in`` asynchronous, which is always true."""

    async def __contains__(self, key: object) -> bool:
        return key in self.keys

    async def add(self, key: object) -> None:
        self.note(key)


class Mixed(Store):
    def contains(self, key: object) -> bool:
        return key in self.keys

    async def add(self, key: object) -> None:
        self.note(key)


STORES: Final = [Plain, Asynchronous, Named, Mixed]


@pytest.mark.parametrize("kind", STORES)
async def test_a_store_of_any_kind_swallows_nothing(kind: type[Store]) -> None:
    """New events are handed on, repeated ones are not, whether its methods wait or not."""
    taken: list[WebhookEvent] = []
    endpoint = endpoint_of(taken.append, seen=kind())

    for _ in range(2):
        for task in ("a", "b"):
            assert (await post(endpoint, delivery(task)))[0] == 200

    assert [event.task_id for event in taken] == ["a", "b"]


@pytest.mark.parametrize("kind", STORES)
async def test_what_a_store_failed_to_add_is_added_by_the_next_attempt(kind: type[Store]) -> None:
    """The service is asked to come again, and the callback is not called again."""
    taken: list[WebhookEvent] = []
    store = kind(fails=2)
    endpoint = endpoint_of(taken.append, seen=store)

    statuses = [(await post(endpoint))[0] for _ in range(4)]

    assert (statuses, len(taken), len(store.keys)) == ([500, 500, 200, 200], 1, 1)


@pytest.mark.parametrize(
    "store", [Named(), Asynchronous(), 5, object()], ids=lambda one: type(one).__name__
)
def test_verify_takes_no_store_that_it_cannot_wait_for(store: Any) -> None:
    """A coroutine is true, so every delivery would count as seen."""
    with pytest.raises(InvalidInputError):
        verify(delivery(), sign(delivery(), SECRET), SECRET, tolerance=None, seen=store)


async def test_a_secret_that_cannot_be_had_asks_for_another_attempt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What gives the secret may fail or give junk: no delivery is refused for good by it."""
    answers: list[Any] = [LookupError("vault is sealed"), "", None, [SECRET, "a b"], SECRET]
    taken: list[WebhookEvent] = []

    def secret() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    endpoint = endpoint_of(taken.append, secret)

    assert [(await post(endpoint))[0] for _ in range(5)] == [500] * 4 + [200]
    assert len(taken) == 1
    assert SECRET not in caplog.text


async def test_nobody_is_asked_for_a_secret_by_what_is_unsigned() -> None:
    """A stranger's junk costs no look into a vault."""
    asked: list[None] = []
    endpoint = endpoint_of(lambda event: None, lambda: asked.append(None))

    async with site(endpoint) as http:
        for headers in ({}, {"x-webhook-signature-256": "sha256=0"}):
            assert (await http.post("/", content=b"{}", headers=headers)).status_code == 400

    assert asked == []


async def test_a_wrong_secret_from_a_callable_is_refused() -> None:
    """Who returns it is believed, not the delivery."""
    endpoint = endpoint_of(lambda event: None, lambda: OTHER)

    assert (await post(endpoint))[0] == 400
    assert (await post(endpoint, secret=OTHER))[0] == 200


async def test_a_callback_that_hangs_holds_only_its_own_attempt() -> None:
    """The next attempt waits for it five seconds, then calls the callback itself."""
    calls: list[WebhookEvent] = []

    async def take(event: WebhookEvent) -> None:
        calls.append(event)
        if len(calls) == 1:
            await anyio.sleep_forever()

    endpoint = endpoint_of(take)
    async with anyio.create_task_group() as group:
        group.start_soon(post, endpoint)
        await anyio.sleep(1)
        other = await post(endpoint, delivery("another"))
        status, took = await post(endpoint)
        again, immediately = await post(endpoint)
        group.cancel_scope.cancel()

    assert other == (200, 0)
    assert (status, again) == (200, 200)
    assert 5 <= took < 6
    assert immediately < 1
    assert [event.task_id for event in calls].count("another") == 1
    assert len(calls) == 3


async def test_attempts_that_wait_for_a_callback_that_hangs_share_the_next_call() -> None:
    """Of many that come at once, one calls again and the others wait for it."""
    calls: list[WebhookEvent] = []
    statuses: list[int] = []

    async def take(event: WebhookEvent) -> None:
        calls.append(event)
        await (anyio.sleep_forever() if len(calls) == 1 else anyio.sleep(2))

    async def attempt() -> None:
        statuses.append((await post(endpoint))[0])

    endpoint = endpoint_of(take, join_timeout=3.0)
    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(attempt)
        await anyio.sleep(20)
        group.cancel_scope.cancel()

    assert statuses == [200] * 9
    assert len(calls) == 2


@pytest.mark.parametrize("as_route", [False, True], ids=["application", "route"])
async def test_a_body_that_comes_slowly_is_given_up(as_route: bool) -> None:
    """A byte now and then does not hold the endpoint for longer than its limit."""
    endpoint = endpoint_of(lambda event: None, body_timeout=10.0)
    app = added(endpoint) if as_route else endpoint

    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await anyio.sleep(1)

    start = anyio.current_time()
    statuses = [await status_of(app, drip), await status_of(app, None)]

    assert statuses == [408, 408]
    assert 20 <= anyio.current_time() - start < 21


async def status_of(app: Any, parts: Callable[[], AsyncIterator[bytes]] | None) -> int:
    """Return the answer to a post whose body comes in *parts*, or never."""
    body = None if parts is None else parts()
    sent: list[Any] = []

    async def receive() -> Any:
        if body is None:
            await anyio.sleep_forever()
            return None
        return {"type": "http.request", "body": await anext(body), "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/hooks/cyberun", "raw_path": b"/hooks/cyberun",
        "query_string": b"", "headers": [], "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    assert (b"connection", b"close") in sent[0]["headers"]
    status: int = sent[0]["status"]
    return status


@pytest.mark.parametrize(
    "settings", [{"body_timeout": 0}, {"body_timeout": "5"}, {"join_timeout": -1}], ids=repr
)
def test_a_limit_of_time_is_a_number_of_seconds(settings: dict[str, Any]) -> None:
    """What is not a callback or secret is refused when the endpoint is made."""
    with pytest.raises(InvalidInputError, match="timeout"):
        endpoint_of(lambda event: None, **settings)


@pytest.mark.parametrize("seen", [5, object(), "add"], ids=lambda one: type(one).__name__)
def test_what_is_no_store_is_refused(seen: Any) -> None:
    """Something that cannot remember is reported at once."""
    with pytest.raises(ConfigurationError, match="seen"):
        endpoint_of(lambda event: None, seen=seen)
