"""Every kind of key works, is renewed when it has to be, and is seen by nobody."""

import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import attrs
import httpx
import pytest

from cyberun_async import (
    AuthenticationError,
    CompletedEvent,
    ConfigurationError,
    CyberunClient,
    CyberunError,
    PermissionDeniedError,
    ServiceUnavailableError,
    TaskResult,
    WatchLostError,
    WatchPolicy,
)
from cyberun_async.testing import Simulator, faults

from .kit import OUTPUT, SHORT, ended_watch, until


PLAN = attrs.evolve(SHORT, output=OUTPUT)
FAST = WatchPolicy(poll_interval=0.1)


def key_of(sim: Simulator, kind: str) -> dict[str, Any]:
    match kind:
        case "sk":
            return {"api_key": sim.key}
        case "dk":
            return {"api_key": sim.device_key}
        case _:
            return {"api_key": sim.jwt, "team_id": sim.team_id}


@pytest.mark.parametrize("kind", ["sk", "dk", "jwt"])
async def test_every_kind_of_key_works(sim: Simulator, kind: str) -> None:
    """Submitting, streaming, polling and results take each kind of key; a team goes with JWTs."""
    async with CyberunClient(**key_of(sim, kind), base_url=sim.url, watch_policy=FAST) as client:
        task = await client.submit("text-to-image", {"prompt": "a fox"})
        watched = await ended_watch(client, task)
        result = await client.result(task)
        await result[0].read()

    assert isinstance(watched.end, CompletedEvent)
    for request in sim.requests:
        to_the_api = request.endpoint != "download"
        assert ("authorization" in request.headers) == to_the_api
        assert ("x-team-id" in request.headers) == (to_the_api and kind == "jwt")


async def test_a_team_is_sent_with_user_tokens_only(sim: Simulator) -> None:
    """An integration key is bound to its team, so a team id given with it is not sent."""
    async with CyberunClient(sim.key, team_id=sim.team_id, base_url=sim.url) as client:
        await client.submit("text-to-image", {"prompt": "a fox"})

    assert "x-team-id" not in sim.requests[-1].headers


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("ak-0123456789", "agent key"),
        ("eyJhbGciOi.x.y", "team_id"),
        ("", "empty"),
        ("sk-with blank", "blanks"),
        ("sk-line\r\nX-Evil: 1", "control"),
        ("pk-0123456789", "unknown kind"),
        ("sk-ключ", "non-ASCII"),
    ],
)
def test_a_wrong_key_is_refused_locally(key: str, words: str) -> None:
    """A key that cannot work is refused before anything is sent, and not repeated."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        CyberunClient(key, base_url="http://127.0.0.1:9")

    assert not key or key not in str(caught.value)


async def test_a_key_of_the_wrong_kind_from_a_callable_is_refused(sim: Simulator) -> None:
    """The same holds for what a callable returns."""
    async with CyberunClient(lambda: "ak-0123456789", base_url=sim.url) as client:
        with pytest.raises(ConfigurationError, match="agent key"):
            await client.submit("text-to-image", {"prompt": "a fox"})

    assert sim.requests == []


def test_without_a_key_it_says_where_one_may_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an argument nor the environment: the error names both."""
    monkeypatch.delenv("CYBERUN_API_KEY", raising=False)
    monkeypatch.delenv("CYBERUN_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="CYBERUN_API_KEY"):
        CyberunClient()


class Provider:
    """Returns the present key, and counts how often it was asked while a key was refused."""

    def __init__(self, sim: Simulator) -> None:
        self.sim = sim
        self.key = sim.issue_key("sk")
        self.calls = 0
        self.renewals = 0
        self.is_revoked = False

    def revoke(self) -> None:
        self.is_revoked = True
        self.sim.revoke(self.key)

    def now(self) -> str:
        self.calls += 1
        if self.is_revoked:
            self.is_revoked = False
            self.renewals += 1
            self.key = self.sim.issue_key("sk")
        return self.key

    async def later(self) -> str:
        await anyio.sleep(0.05)
        return self.now()


@pytest.mark.parametrize("form", [Provider.now, Provider.later], ids=["sync", "async"])
async def test_a_callable_key_is_asked_anew(
    sim: Simulator, form: Callable[[Provider], Any]
) -> None:
    """A callable is asked before each request, so a new key needs no new client."""
    provider = Provider(sim)
    async with CyberunClient(lambda: form(provider), base_url=sim.url) as client:
        task = await client.submit("text-to-image", {"prompt": "a fox"})
        first = provider.key
        provider.revoke()
        await client.tasks.get(task)

    keys = [request.headers["authorization"] for request in sim.requests]
    assert keys[0] == f"Bearer {first}"
    assert keys[-1] == f"Bearer {provider.key}" != keys[0]


class Stale:
    """Returns a key that has long been refused, until asked after a refusal."""

    def __init__(self, sim: Simulator, good: str) -> None:
        self.sim = sim
        self.good = good
        self.old = sim.issue_key("sk")
        sim.revoke(self.old)
        self.answers: list[str] = []

    async def __call__(self) -> str:
        refused = any(
            request.headers.get("authorization") == f"Bearer {self.old}"
            for request in self.sim.requests
        )
        await anyio.sleep(0.05)
        key = self.good if refused else self.old
        self.answers.append(key)
        return key


async def test_a_refused_key_is_replaced_while_many_watch(sim: Simulator) -> None:
    """Twenty watches refused with one key ask for the next one once, and all end well."""
    tasks = [sim.create_task(manual=True) for _ in range(20)]
    provider = Stale(sim, sim.key)
    ends: list[object] = []
    async with CyberunClient(provider, base_url=sim.url, watch_policy=FAST) as client:

        async def read(task_id: str) -> None:
            ends.append((await ended_watch(client, task_id)).end)

        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(read, task.id)
            await until(lambda: sim.open_streams == 20)
            renewals = provider.answers.count(sim.key)
            asks = len(sim.requests_to("task"))
            for task in tasks:
                task.complete()

    old = [r for r in sim.requests if r.headers.get("authorization") == f"Bearer {provider.old}"]
    assert [type(end) for end in ends] == [CompletedEvent] * 20
    assert len(old) >= 20
    assert renewals <= asks + 3


@pytest.mark.parametrize("callable_key", [True, False], ids=["callable", "fixed"])
@pytest.mark.parametrize("way", ["watch", "wait", "submit"])
async def test_a_key_refused_for_good_is_an_error(
    sim: Simulator, callable_key: bool, way: str
) -> None:
    """The second 401 raises; a fixed key is not tried twice."""
    live = sim.create_task(manual=True)
    bad = sim.issue_key("sk")
    sim.revoke(bad)
    async with CyberunClient((lambda: bad) if callable_key else bad, base_url=sim.url) as client:
        error: CyberunError | None = None
        if way == "watch":
            error = (await ended_watch(client, live.id, within=10)).error
        else:
            with pytest.raises(AuthenticationError) as caught, anyio.fail_after(10):
                if way == "wait":
                    await client.wait(live.id)
                else:
                    await client.submit("text-to-image", {"prompt": "x"})
            error = caught.value

    assert isinstance(error, AuthenticationError)
    assert error.status == 401
    endpoint = "run" if way == "submit" else "task"
    assert len(sim.requests_to(endpoint)) == (2 if callable_key else 1)


async def test_a_stream_opened_with_a_stale_key_is_opened_with_the_next(sim: Simulator) -> None:
    """A stream refused with 401 is opened again with a new key, without polling."""
    sim.faults.add("events", faults.refuse(401))
    live = sim.create_task(PLAN)
    async with CyberunClient(lambda: sim.key, base_url=sim.url) as client:
        watched = await ended_watch(client, live.id)

    assert len(watched.progress) == 4
    assert len(sim.requests_to("events")) == 2


def sealed() -> str:
    raise LookupError("the vault is sealed")


async def test_the_error_of_a_provider_is_raised(sim: Simulator) -> None:
    """The caller's own exception is the cause, and the run was certainly not sent."""
    async with CyberunClient(sealed, base_url=sim.url) as client:
        with pytest.raises(ServiceUnavailableError, match="LookupError") as caught:
            await client.submit("text-to-image", {"prompt": "a fox"})

    assert isinstance(caught.value.__cause__, LookupError)
    assert not caught.value.maybe_sent
    assert sim.requests == []


@pytest.mark.parametrize("way", ["watch", "wait"])
async def test_a_provider_that_keeps_failing_ends_a_watch(sim: Simulator, way: str) -> None:
    """A watch bears with a failing callable as with an outage, and says so in the end."""
    live = sim.create_task(PLAN)
    policy = WatchPolicy(connect_within=0.5)
    async with CyberunClient(sealed, base_url=sim.url, watch_policy=policy) as client:
        with pytest.raises(WatchLostError, match="LookupError"), anyio.fail_after(10):
            if way == "wait":
                await client.wait(live.id)
            async with client.watch(live.id) as events:
                async for _ in events:
                    pass


# Nobody sees the key.


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Everything that any logger says."""
    kept: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record)

    handler, root = Keep(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield kept
    root.removeHandler(handler)
    root.setLevel(before)


def printed(error: BaseException) -> str:
    """Return all tracebacks with the locals of the library's and httpx' frames, as reporters do."""
    exception: traceback.TracebackException | None
    exception = traceback.TracebackException.from_exception(error, capture_locals=True)
    shown: list[str] = []
    while exception is not None:
        shown += exception.format_exception_only()
        shown += [repr(f.locals) for f in exception.stack if f.filename != __file__]
        exception = exception.__cause__ or exception.__context__
    return "\n".join(shown)


async def test_no_key_is_seen_anywhere(sim: Simulator, records: list[logging.LogRecord]) -> None:
    """Neither `repr`, errors, pickles, tracebacks with locals nor log records hold the key."""
    key = sim.issue_key("sk")
    secret = key[3:]
    shown: list[str] = []
    client = CyberunClient(key, base_url=sim.url, watch_policy=FAST)
    del key
    async with client:
        live = sim.create_task(PLAN)
        events = client.watch(live.id, notices=True)
        shown += [repr(client), str(client), repr(events), repr(vars(client))]
        async with events:
            shown += [repr(event) async for event in events]
        result = await client.result(live.id)
        shown += [repr(result), repr(result[0]), repr(client.statistics())]
        sim.faults.add("task", faults.refuse(403, "no"), times=None)
        with pytest.raises(PermissionDeniedError) as caught:
            await client.tasks.get(live.id)
        shown += [repr(caught.value), str(caught.value), printed(caught.value)]
        shown += [repr(caught.value.__dict__), pickle.dumps(caught.value).decode("latin-1")]
        sim.faults.clear()
        sim.faults.add("*", faults.hang_up(), times=None)
        with pytest.raises(CyberunError) as lost:
            await client.submit("text-to-image", {"prompt": "a fox"})
        shown += [repr(lost.value), printed(lost.value)]
    shown += [record.getMessage() + repr(record.args) + repr(vars(record)) for record in records]

    assert records
    for text in shown:
        assert secret not in text


async def test_no_presigned_link_is_seen(
    sim: Simulator, client: CyberunClient, records: list[logging.LogRecord]
) -> None:
    """A link that grants access is in no `repr`, no error and no log record of the library."""
    sim.faults.add("download", faults.refuse(404), times=None)
    live = sim.create_task(PLAN)
    result = await client.result(live.id)
    shown = [repr(result), repr(result[0]), repr(result.record), str(result.record)]
    with pytest.raises(CyberunError) as caught:
        await result[0].read()
    shown += [repr(caught.value), str(caught.value), repr(caught.value.__dict__)]
    shown += [r.getMessage() for r in records if r.name.startswith("cyberun_async")]

    for text in shown:
        assert "X-Amz-Signature" not in text


async def test_links_and_redirects_elsewhere_get_no_key(sim: Simulator) -> None:
    """A file's link, and a redirect to another origin, are followed without any credential."""
    seen: list[httpx.Request] = []

    class Elsewhere(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(request)
            answers: dict[str, httpx.Response] = {
                "/api/v1/r/tasks/0197aaaa-0000-7000-8000-000000000000/result": httpx.Response(
                    200,
                    json={
                        "id": "0197aaaa-0000-7000-8000-000000000000",
                        "task_status": "completed",
                        "task_output": {},
                        "download_url": "https://store.example/a.png?sig=1",
                    },
                ),
                "/a.png": httpx.Response(
                    302, headers={"Location": "https://mirror.example/b.png?sig=2"}
                ),
                "/b.png": httpx.Response(200, content=b"picture"),
            }
            return answers.get(request.url.path, httpx.Response(404))

    async with CyberunClient(
        sim.key,
        base_url="https://core.example/api/v1",
        headers={"X-Own": "1"},
        transport_factory=Elsewhere,
    ) as client:
        record = await client.raw_result("0197aaaa-0000-7000-8000-000000000000")
        assert record.links
        data = await TaskResult(client._session, record)[0].read()

    assert data == b"picture"
    assert [request.url.host for request in seen] == [
        "core.example",
        "store.example",
        "mirror.example",
    ]
    assert seen[0].headers["authorization"] == f"Bearer {sim.key}"
    for request in seen[1:]:
        assert not {"authorization", "x-team-id", "cookie", "x-own"} & set(request.headers)


async def test_a_redirect_of_the_api_to_another_origin_takes_no_key_along(sim: Simulator) -> None:
    """An API that redirects elsewhere does not make the client hand its key over."""
    seen: list[httpx.Request] = []

    class Redirecting(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return httpx.Response(307, headers={"Location": "https://evil.example/api/v1/x"})

    async with CyberunClient(
        sim.key, base_url="https://core.example/api/v1", transport_factory=Redirecting
    ) as client:
        with pytest.raises(CyberunError):
            await client.tasks.get("0197aaaa-0000-7000-8000-000000000000")
        with pytest.raises(CyberunError):
            await client.submit("text-to-image", {"prompt": "a fox"})

    for request in seen:
        assert request.url.host == "core.example" or "authorization" not in request.headers
