"""
The whole public surface against bad input: a typed error or a tolerant value, nothing else.

The methods are found by introspection, so that a new one cannot be forgotten: each has a
call here that is in order, and every argument of it is replaced by everything that is not.
"""

import contextlib
import inspect
import json
import math
import re
from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import anyio
import attrs
import httpx
import pytest

from cyberun_async import (
    Artifact,
    ClientOptions,
    ConfigurationError,
    CyberunClient,
    CyberunError,
    EventStream,
    Limits,
    MergedEvents,
    Pager,
    ProgressView,
    RetryPolicy,
    RunOptions,
    TaskHandle,
    TaskResult,
    Timeouts,
    WatchPolicy,
    Workflow,
    validate,
    webhooks,
)
from cyberun_async._client import Agents, Tasks, Webhooks, Workflows
from cyberun_async._transfer import Files
from cyberun_async.batch import BatchPolicy

from ..fake_service import TASK, FakeService
from ..whole.kit import virtual_backend


T = TypeVar("T")

HOOK: Final = "0197b000-0000-7000-8000-000000000001"
FLOW: Final = "0197c000-0000-7000-8000-000000000001"
LINK: Final = "https://store.test/file.png"
PRESIGNED: Final = "https://store.test/put"
SECRET: Final = "whsec_0123456789abcdef"

# In asking nothing may be waited for longer than this, by a clock that jumps.
DAY: Final = 86_400.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return virtual_backend("virtual-asyncio")


def answers() -> FakeService:
    """Return a service that answers every documented request in good order."""
    service = FakeService()
    task = {"id": TASK, "task_status": "completed", "workflow_id": FLOW, "retry_count": 0}
    flow = {"id": FLOW, "workflow_slug": "text-to-image", "parameters": [{"key": "prompt"}]}
    meta = {"page_meta": {"current_page": 1, "per_page": 100, "total_count": 1}}
    for way in ("slug/text-to-image", FLOW):
        service.on("POST", f"/r/workflows/{way}/run", {"task_id": TASK}, 202)
        service.on("GET", f"/r/workflows/{way}", flow)
    service.on("GET", "/r/workflows", {"workflow_list": [flow], **meta})
    service.on("GET", "/r/tasks", {"task_list": [task], **meta})
    service.on("GET", f"/r/tasks/{TASK}", task)
    result = {**task, "task_output": {"a": 1}, "download_url": LINK}
    service.on("GET", f"/r/tasks/{TASK}/result", result)
    service.on("GET", f"/r/tasks/{TASK}/events", event_stream)
    service.on("POST", f"/r/tasks/{TASK}/cancel", {"is_success": True})
    service.on("GET", "/r/agents", {"agent_list": [{"agent_id": "gpu-1"}], **meta})
    presigned = {"file_key": "inputs/a", "upload_url": PRESIGNED, "upload_headers": {}}
    service.on("POST", "/r/files/presign", presigned)
    service.on("POST", "/webhooks", {"id": HOOK, "webhook_secret": SECRET})
    service.on("GET", f"/webhooks/{HOOK}", {"id": HOOK, "webhook_secret": SECRET})
    service.on("PUT", f"/webhooks/{HOOK}", {"id": HOOK})
    service.on("POST", f"/webhooks/{HOOK}/rotate-secret", {"webhook_secret": SECRET})
    service.on_url("PUT", PRESIGNED, b"")
    service.on_url("GET", LINK, b"abc")
    return service


def event_stream(_: httpx.Request) -> httpx.Response:
    events = (
        f'event: progress\ndata: {{"task_id":"{TASK}","progress":0.5}}\n\n'
        f'event: completed\ndata: {{"task_id":"{TASK}","status":"completed","output":{{}}}}\n\n'
    )
    return httpx.Response(200, text=events, headers={"Content-Type": "text/event-stream"})


async def run_through(value: Any) -> Any:
    """Wait for what can be awaited, read what can be read."""
    if inspect.iscoroutine(value):
        value = await value
    if isinstance(value, AsyncIterable):
        async with contextlib.AsyncExitStack() as stack:
            if isinstance(value, contextlib.AbstractAsyncContextManager):
                await stack.enter_async_context(cast("contextlib.AsyncExitStack", value))
            return [item async for item in value]
    return value


def client_itself(client: CyberunClient) -> Any:
    return client


async def result_of(client: CyberunClient) -> TaskResult:
    return await client.result(TASK)


async def artifact_of(client: CyberunClient) -> Artifact:
    return (await client.result(TASK))[0]


@attrs.frozen
class Subject:
    """A class of the public surface, and where one gets an object of it."""

    cls: type
    get: Callable[[CyberunClient], Any]


SUBJECTS: Final = {
    "client": Subject(CyberunClient, client_itself),
    "workflows": Subject(Workflows, lambda client: client.workflows),
    "tasks": Subject(Tasks, lambda client: client.tasks),
    "agents": Subject(Agents, lambda client: client.agents),
    "files": Subject(Files, lambda client: client.files),
    "webhooks": Subject(Webhooks, lambda client: client.webhooks),
    "handle": Subject(TaskHandle, lambda client: client.handle(TASK)),
    "result": Subject(TaskResult, result_of),
    "artifact": Subject(Artifact, artifact_of),
    "events": Subject(EventStream, lambda client: client.watch(TASK)),
    "view": Subject(ProgressView, lambda client: client.progress(TASK)),
    "merged": Subject(MergedEvents, lambda client: client.watch_many([TASK])),
    "listing": Subject(Pager, lambda client: client.tasks.list()),
}

GOOD: Final[dict[str, dict[str, Any]]] = {
    "client.submit": {"workflow": "text-to-image", "parameters": {"prompt": "a fox"}},
    "client.run": {"workflow": "text-to-image", "parameters": {"prompt": "a fox"}},
    "client.handle": {"task": TASK},
    "client.watch": {"task": TASK},
    "client.progress": {"task": TASK},
    "client.wait": {"task": TASK},
    "client.result": {"task": TASK},
    "client.watch_many": {"tasks": [TASK]},
    "client.as_completed": {"tasks": [TASK]},
    "client.wait_many": {"tasks": [TASK]},
    "client.result_many": {"tasks": [TASK]},
    "client.submit_many": {"workflow": "text-to-image", "parameter_sets": [{"prompt": "a"}]},
    "client.run_many": {"workflow": "text-to-image", "parameter_sets": [{"prompt": "a"}]},
    "client.raw_result": {"task": TASK},
    "client.cancel": {"task": TASK},
    "client.cancel_and_wait": {"task": TASK},
    "client.request": {"method": "GET", "path": "/r/workflows"},
    "client.with_options": {},
    "client.statistics": {},
    "client.aclose": {},
    "workflows.list": {},
    "workflows.get": {"workflow": "text-to-image"},
    "tasks.list": {},
    "tasks.get": {"task": TASK},
    "agents.list": {},
    "files.upload": {"source": b"abc", "name": "a.png"},
    "webhooks.create": {"display_name": "a", "url": "https://hooks.test/a"},
    "webhooks.get": {"webhook_id": HOOK},
    "webhooks.update": {"webhook_id": HOOK, "display_name": "b"},
    "webhooks.rotate_secret": {"webhook_id": HOOK},
    "handle.watch": {},
    "handle.progress": {},
    "handle.wait": {},
    "handle.result": {},
    "handle.refresh": {},
    "handle.cancel": {},
    "handle.cancel_and_wait": {},
    "result.download_to": {"directory": "out"},
    "artifact.aiter_bytes": {},
    "artifact.read": {},
    "artifact.download_to": {"directory": "out"},
    "events.token": {},
    "events.aclose": {},
    "view.token": {},
    "view.aclose": {},
    "merged.add": {"task": TASK},
    "merged.aclose": {},
}

# Not for a user's arguments: (method) -> reason.
LEFT_OUT: Final = {
    "result.index": "of the sequence protocol",
    "result.count": "of the sequence protocol",
}


# Settings that may be the caller's own functions.
OF_THE_CALLER: Final = {"api_key", "transport_factory", "on_notice"}
# Arguments that are the caller's own functions: what those raise is the caller's own, too.
CALLBACKS: Final = {"on_progress", "on_notice"}


class Odd:
    """An object that nothing expects."""

    def __repr__(self) -> str:
        return "an odd object"


def deep(levels: int = 10_000) -> Any:
    nested: Any = None
    for _ in range(levels):
        nested = [nested]
    return nested


BAD: Final[dict[str, Any]] = {
    "none": None,
    "true": True,
    "zero": 0,
    "negative": -1,
    "fraction": 1.5,
    "huge-integer": 10**5000,
    "nan": math.nan,
    "infinity": math.inf,
    "empty": "",
    "blank": " ",
    "huge": "x" * 100_000,
    "unicode": "ключ-狐",
    "surrogate": "\ud800",
    "nul": "a\x00b",
    "line-end": "a\r\nX-Evil: 1",
    "traversal": "../../etc/passwd",
    "quoted-traversal": "%2e%2e%2fadmin",
    "url": "https://evil.test/?a=b#c",
    "key": "sk-0123456789abcdefghij",
    "bytes": b"\xff\xfe",
    "list": [],
    "mixed-list": [None, 5, "a"],
    "mapping": {},
    "odd-mapping": {5: Odd()},
    "set": {1, 2},
    "deep": deep(),
    "object": Odd(),
    "class": Odd,
    "function": len,
}


def methods() -> Iterator[str]:
    """Yield the name of every public method."""
    for name, subject in SUBJECTS.items():
        for attribute, value in inspect.getmembers(subject.cls):
            if inspect.isfunction(value) and not attribute.startswith("_"):
                yield f"{name}.{attribute}"


def function_of(method: str) -> Callable[..., Any]:
    subject, name = method.split(".")
    found: Callable[..., Any] = getattr(SUBJECTS[subject].cls, name)
    return found


def arguments() -> Iterator[Any]:
    """Yield every argument of every public method."""
    for method in GOOD:
        for name, parameter in inspect.signature(function_of(method)).parameters.items():
            if name == "self" or method in LEFT_OUT:
                continue
            is_many = parameter.kind is parameter.VAR_KEYWORD
            kind = ClientOptions if method == "client.with_options" else RunOptions
            names = tuple(kind.__annotations__) if is_many else (name,)
            for one in names:
                yield pytest.param(method, one, id=f"{method}-{one}")


def test_every_public_method_is_in_the_table() -> None:
    """A method that is added gets a call that is in order, or a reason why not."""
    assert set(methods()) == set(GOOD) | set(LEFT_OUT)


async def call(
    client: CyberunClient,
    method: str,
    given: Mapping[str, Any],
    *,
    ready: Callable[[], None] = lambda: None,
) -> Any:
    subject, name = method.split(".")
    target = SUBJECTS[subject].get(client)
    if inspect.iscoroutine(target):
        target = await target
    ready()
    answer = await run_through(getattr(target, name)(**given))
    # What was given to an iterator matters when it is read.
    is_to_be_read = answer is None and name != "aclose"
    return await run_through(target) if is_to_be_read else answer


async def refused(work: Callable[[], Awaitable[Any]], what: str) -> bool:
    """Return whether *work* raised an error of the library; any other is raised."""
    try:
        with anyio.fail_after(DAY):
            await work()
    except CyberunError as error:
        if "0123456789abcdefghij" in str(error):
            pytest.fail(f"a key is shown: {what}")
        return True
    except ExceptionGroup as group:
        if group.split(CyberunError)[1] is not None:
            raise
        return True
    except BaseException as error:
        error.add_note(what)
        raise
    return False


def policies() -> dict[str, Any]:
    policy = WatchPolicy(max_outage=60.0, connect_within=60.0, not_found_grace=0.0)
    return {"watch_policy": policy, "retries": RetryPolicy(max_attempts=1)}


@pytest.mark.parametrize("method", [name for name in GOOD if name not in LEFT_OUT])
async def test_the_calls_of_the_table_are_in_order(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing wrong, nothing is refused."""
    monkeypatch.chdir(tmp_path)
    async with answers().client(**policies()) as client:
        with anyio.fail_after(DAY):
            await call(client, method, GOOD[method])


@pytest.mark.parametrize(("method", "argument"), list(arguments()))
async def test_a_bad_argument_is_a_typed_error_or_tolerated(
    method: str, argument: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever one argument is, the call returns or raises an error of the library, in time."""
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    for name, bad in BAD.items():
        if callable(bad) and argument in CALLBACKS:
            continue  # what the caller's own function raises is the caller's own
        async with answers().client(**policies()) as client:
            given = {**GOOD[method], argument: bad}
            await refused(partial(call, client, method, given), f"{argument} {name}")
    assert list(tmp_path.iterdir()) == [inside]


# --- answers that are refusals -----------------------------------------------------------

# Asks nothing of the service: (method) -> reason.
ASKING_NOTHING: Final = {
    "client.aclose": "it only closes",
    "events.aclose": "it only closes",
    "view.aclose": "it only closes",
    "merged.aclose": "it only closes",
}
# Every refusal stands in what is yielded, as one of many.
YIELDING_ERRORS: Final = {"client.as_completed", "client.submit_many"}
# What has no method of its own to be called by: its object is read.
READ_ITSELF: Final = {"merged.add"}
BODIES: Final = {
    "json": (b'{"error_message": "no"}', "application/json"),
    "html": (b"<html><body>Bad gateway</body></html>", "text/html"),
    "empty": (b"", None),
    "truncated": (b'{"error_mess', "application/json"),
}


def asks(method: str) -> bool:
    """Return whether a method makes a request, or returns what makes some when it is read."""
    function = function_of(method)
    returned = str(inspect.signature(function).return_annotation)
    return inspect.iscoroutinefunction(function) or any(name in returned for name in READ)


READ: Final = (
    "EventStream",
    "ProgressView",
    "MergedEvents",
    "Outcomes",
    "Submissions",
    "Pager",
    "ArtifactStream",
)
CHECKING: Final = [
    method
    for method in GOOD
    if method not in {*LEFT_OUT, *ASKING_NOTHING} and (asks(method) or method in READ_ITSELF)
]


@attrs.define
class Moody:
    """A service that is in order until it has to answer everything in one way."""

    service: FakeService = attrs.field(factory=answers)

    def client(self) -> CyberunClient:
        # To give up soon is to ask seldom.
        policy = WatchPolicy(max_outage=1.0, connect_within=1.0, not_found_grace=0.0)
        return self.service.client(watch_policy=policy, retries=RetryPolicy(max_attempts=1))

    async def call(
        self, client: CyberunClient, method: str, status: int, body: bytes, kind: str | None
    ) -> Any:
        """Call *method* of what was got while all was in order."""
        headers = {} if kind is None else {"Content-Type": kind}

        def answer(_: httpx.Request) -> httpx.Response:
            return httpx.Response(status, content=body, headers=headers)

        def turn() -> None:
            self.service.instead = answer

        self.service.instead = None
        return await call(client, method, GOOD[method], ready=turn)


def bodies_of(method: str) -> Iterator[Any]:
    """Yield which body goes with which status; to follow a task, or to fetch a file, takes long."""
    turns = [tuple(BODIES)[turn:] + tuple(BODIES)[:turn] for turn in range(len(BODIES))]
    if method in LONG_ONES:
        # Each of these meets all statuses, and together they meet all with each body.
        turn = LONG_ONES.index(method) % len(BODIES)
        yield pytest.param(method, turns[turn], id=f"{method}-{turn}")
        return
    for turn, bodies in enumerate(turns):
        yield pytest.param(method, bodies, id=f"{method}-{turn}")


LONG_ONES: Final = tuple(
    method
    for method in CHECKING
    if method.partition(".")[2] in {"run", "wait", "result", "cancel_and_wait"}
    or any(word in method for word in ("watch", "progress", "events", "_many", "merged"))
    or method.startswith(("artifact.", "result.", "client.as_completed"))
)


@pytest.mark.parametrize(
    ("method", "bodies"), [row for method in CHECKING for row in bodies_of(method)]
)
async def test_every_refusal_is_a_typed_error(
    method: str, bodies: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any status from 400 to 599, with any body, raises an error of the library, in time."""
    monkeypatch.chdir(tmp_path)
    moody, errors = Moody(), list[object]()
    async with moody.client() as client:

        async def work(status: int) -> None:
            body, kind = BODIES[bodies[status % len(bodies)]]
            answer = await moody.call(client, method, status, body, kind)
            if method in YIELDING_ERRORS:
                errors.extend(one.error for one in answer)

        for status in range(400, 600):
            is_refused = await refused(partial(work, status), f"answered with {status}")
            assert is_refused != (method in YIELDING_ERRORS), status
    assert all(isinstance(error, CyberunError) for error in errors)
    assert len(errors) == (200 if method in YIELDING_ERRORS else 0)
    assert list(tmp_path.rglob("*.*")) == []


def test_every_status_with_every_body_is_met_by_what_takes_long() -> None:
    """Watches and downloads share the bodies among them, so there have to be enough of each."""
    files = [method for method in LONG_ONES if method.startswith(("artifact.", "result."))]
    assert {"client.wait", "client.watch", "merged.add"} <= set(LONG_ONES)
    assert min(len(files), len(LONG_ONES) - len(files)) >= len(BODIES)


# What may come of a spoilt answer without an error: (method) -> reason.
TOLERANT: Final = {
    "client.cancel": "nothing at all says that an action was taken",
    "handle.cancel": "nothing at all says that an action was taken",
    "client.request": "any answer is handed over as it is",
    "client.as_completed": "the error stands in what is yielded",
    "client.submit_many": "the error stands in what is yielded",
    "result.download_to": "any bytes are a file",
    "artifact.download_to": "any bytes are a file",
    "artifact.read": "any bytes are a file",
    "artifact.aiter_bytes": "any bytes are a file",
}
SPOILT: Final = {
    "html": b"<html>200 but a page</html>",
    "empty": b"",
    "truncated": b'{"id": "a", "task_sta',
    "deep": b"[" * 50_000,
    "list": b"[1, null, []]",
    "null": b"null",
    "scalar": b"5",
    "nothing": b"{}",
    "wrong-types": b'{"id": 5, "task_id": [], "task_status": {}, "webhook_secret": 1}',
    "rows": b'{"task_list": [5], "workflow_list": [null], "agent_list": [[]]}',
    "latin": b'{"id": "\xe9"}',
}


@pytest.mark.parametrize("method", CHECKING)
async def test_an_answer_of_another_shape_is_a_typed_error(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 200 that is not the protocol raises an error of the library, or is a tolerant value."""
    monkeypatch.chdir(tmp_path)
    moody = Moody()
    async with moody.client() as client:
        for name, content in SPOILT.items():
            work = partial(moody.call, client, method, 200, content, "application/json")
            is_refused = await refused(work, name)
            assert is_refused or method in TOLERANT, name


# --- what asks nobody --------------------------------------------------------------------


DELIVERED: Final = datetime(2026, 3, 1, tzinfo=UTC)
DELIVERY: Final = json.dumps(
    {"event_type": "task.completed", "task_id": TASK, "timestamp": DELIVERED.isoformat()}
).encode()


@pytest.mark.parametrize("name", BAD)
async def test_settings_that_are_wrong_are_typed_errors(name: str) -> None:
    """Whatever one setting of the client is, to use it works or says what is wrong."""
    named = set(inspect.signature(CyberunClient).parameters) - {"options"}
    for setting in sorted(named | set(ClientOptions.__annotations__)):
        is_function = callable(BAD[name]) and setting in OF_THE_CALLER
        if is_function or setting == "observer" or (setting, name) == ("transport_factory", "none"):
            continue  # what the caller's own object does is the caller's own; None is the network
        given = {"retries": RetryPolicy(max_attempts=1), setting: BAD[name]}

        async def work(given: dict[str, Any] = given) -> None:
            async with answers().client(**given) as client:
                await client.tasks.get(TASK)

        await refused(work, f"{setting} is {name}")


def made(make: Callable[..., T], what: str, **given: Any) -> T | None:
    """Return what was made, or None where it was refused by an error of the library."""
    try:
        return make(**given)
    except CyberunError:
        return None
    except BaseException as error:
        error.add_note(what)
        raise


@pytest.mark.parametrize("cls", [WatchPolicy, RetryPolicy, Timeouts, Limits])
def test_a_setting_of_a_wrong_kind_is_a_typed_error(cls: type) -> None:
    """A value that is no number, out of range, or too long to be printed is reported as such."""
    for field in attrs.fields(cls):
        for name, bad in BAD.items():
            made(cls, f"{field.name} is {name}", **{field.name: bad})
        with pytest.raises(ConfigurationError, match=field.name):
            cls(**{field.name: "5"})
        for huge in (-(10**5000), 10**5000):
            with pytest.raises(ConfigurationError, match=field.name):
                cls(**{field.name: huge})
        for endless in (math.inf, -math.inf, math.nan):
            with pytest.raises(ConfigurationError, match=field.name):
                cls(**{field.name: endless})


@pytest.mark.parametrize("name", ["max_outage", "connect_within"])
def test_what_may_be_without_limit_says_how(name: str) -> None:
    """Infinity is no number of seconds; None is what is meant."""
    endless: dict[str, Any] = {name: math.inf}
    with pytest.raises(ConfigurationError, match="None is without limit"):
        WatchPolicy(**endless)


@pytest.mark.parametrize("name", BAD)
def test_a_policy_for_batches_is_right_or_a_typed_error(name: str) -> None:
    """Whatever one setting of a batch is, it is taken or reported."""
    for field in attrs.fields(BatchPolicy):
        made(BatchPolicy, f"{field.name} is {name}", **{field.name: BAD[name]})


@pytest.mark.parametrize("name", BAD)
def test_a_memory_of_deliveries_takes_anything(name: str) -> None:
    """How many deliveries are remembered may be anything at all."""
    made(webhooks.RecentDeliveries, name, limit=BAD[name])
    with pytest.raises(ConfigurationError, match="so large"):
        webhooks.RecentDeliveries(-(10**5000))


async def delivered(endpoint: webhooks.WebhookEndpoint) -> list[int]:
    """Return the statuses that *endpoint* answers to a delivery."""
    header = (b"x-webhook-signature-256", webhooks.sign(DELIVERY, SECRET).encode())
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": DELIVERY, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    await endpoint({"type": "http", "method": "POST", "headers": [header]}, receive, send)
    return statuses


@pytest.mark.parametrize("argument", list(inspect.signature(webhooks.WebhookEndpoint).parameters))
async def test_an_endpoint_takes_anything(argument: str) -> None:
    """Whatever one argument is, the endpoint answers, or making it says what is wrong."""
    taken: list[webhooks.WebhookEvent] = []

    async def callback(event: webhooks.WebhookEvent) -> None:
        taken.append(event)

    good: dict[str, Any] = {"secret": SECRET, "callback": callback, "now": lambda: DELIVERED}
    for name, bad in BAD.items():
        if callable(bad) and argument in {"callback", "now", "secret"}:
            continue  # what the caller's own function raises is the caller's own
        what = f"{argument} is {name}"
        endpoint = made(webhooks.WebhookEndpoint, what, **{**good, argument: bad})
        if endpoint is not None:
            assert await delivered(endpoint) in ([200], [400], [413]), what
    assert await delivered(webhooks.WebhookEndpoint(**good)) == [200]
    with pytest.raises(ConfigurationError, match="so large"):
        webhooks.WebhookEndpoint(**good, max_body_bytes=-(10**5000))


@pytest.mark.parametrize("name", BAD)
def test_verifying_takes_anything(name: str) -> None:
    """A delivery's body, header and secret may be anything at all, and so may the rest."""
    good: dict[str, Any] = {
        "raw_body": DELIVERY,
        "header": webhooks.sign(DELIVERY, SECRET),
        "secret": SECRET,
        "now": DELIVERED,
    }
    for argument in inspect.signature(webhooks.verify).parameters:
        event = made(webhooks.verify, f"{argument} is {name}", **{**good, argument: BAD[name]})
        assert event is None or argument in {"now", "tolerance", "seen"}
    assert webhooks.verify(**good).task_id == TASK


@pytest.mark.parametrize("name", BAD)
def test_validating_takes_anything(name: str) -> None:
    """Parameters may be anything at all."""
    workflow = Workflow(id=FLOW, slug="text-to-image", parameters=())
    with contextlib.suppress(CyberunError):
        validate(workflow, BAD[name])
    with contextlib.suppress(CyberunError):
        validate(workflow, {"prompt": BAD[name]})


def documented_methods() -> Iterator[str]:
    yield from (name for name in methods() if name not in {"result.index", "result.count"})


# What a docstring may leave to the class that is returned.
DOCUMENTED_BY: Final = {":class:`Pager`": Pager}


@pytest.mark.parametrize("method", sorted(documented_methods()))
def test_every_public_method_states_its_contract(method: str) -> None:
    """A docstring says what is done and describes every argument, or refers to where it is."""
    function = function_of(method)
    text = inspect.getdoc(function) or ""
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    missing = [name for name in names if not re.search(rf"\b{name}\b", text)]

    assert len(text) > 20
    assert missing == []


@pytest.mark.parametrize("method", sorted(filter(asks, documented_methods())))
def test_what_makes_requests_says_how_it_fails_and_is_cancelled(method: str) -> None:
    """A docstring names the errors, and what is left when the caller is cancelled."""
    text = inspect.getdoc(function_of(method)) or ""
    contract = re.split(r"^(?:Args|Returns|Yields|Raises):$", text, flags=re.MULTILINE)[0]
    contract += "".join(
        inspect.getdoc(cls) or "" for ref, cls in DOCUMENTED_BY.items() if ref in text
    )

    assert "Raises:\n" in text or method.endswith(".aclose")
    assert re.search(r"[Cc]ancelled", contract), contract
