"""A key and a signed link, planted in all that a service can say, are seen nowhere."""

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any, Final

import anyio
import httpx
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from cyberun_async import (
    ConfigurationError,
    CyberunClient,
    CyberunError,
    EventStream,
    FailedEvent,
    RetryPolicy,
    ServerErrorEvent,
    TaskFailedError,
    TaskSnapshot,
    UnknownEvent,
    WatchPolicy,
    webhooks,
)

from ..whole.kit import virtual_backend


KEY: Final = "sk-Planted0123456789"
SIGNATURE: Final = "f00dPlantedSignature"
LINK: Final = f"https://store.test/bucket/a.png?X-Amz-Credential=x&X-Amz-Signature={SIGNATURE}"
MARKS: Final = ("Planted",)
TASK: Final = "0197a1b2-0000-7000-8000-00000000abcd"
BASE: Final = "https://core.test/api/v1"

# How libraries write what they were about to send into their errors.
FORMS: Final = (
    f"could not read {LINK}",
    f"('{LINK}', 'Bearer {KEY}')",
    f"Max retries exceeded with url: /bucket/a.png?X-Amz-Signature={SIGNATURE}&b=1 (Caused by",
    f"{{'Authorization': 'Bearer {KEY}'}}",
    f"line one\n{KEY}\n",
    f"<Error><StringToSign>AWS4 {SIGNATURE}</StringToSign></Error>",
    f"https://user:{SIGNATURE}@store.test/a",
    f"key={KEY};{LINK}",
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return virtual_backend("virtual-asyncio")


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """All that the library logs."""
    found: list[logging.LogRecord] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    logger, handler = logging.getLogger("cyberun_async"), Keeping()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(before)


def printed(error: BaseException) -> str:
    """Return the traceback as error reporters print it: variables of all frames but the tests'."""
    shown: list[str] = []
    left: list[traceback.TracebackException | None] = [
        traceback.TracebackException.from_exception(error, capture_locals=True)
    ]
    while left:
        one = left.pop()
        if one is None:
            continue
        shown += one.format_exception_only()
        frames = [frame for frame in one.stack if frame.filename != __file__]
        shown += [f"{frame.filename}:{frame.lineno} {frame.locals}" for frame in frames]
        context = None if one.__suppress_context__ else one.__context__
        left += [one.__cause__, context, *(one.exceptions or ())]
    return "\n".join(shown)


def faces(value: Any) -> list[str]:
    """Return all that shows *value* without meaning to."""
    if isinstance(value, BaseException):
        own = [printed(value), repr(vars(value)), repr(value.args)]
    else:
        own = []
    return [*own, repr(value), str(value), f"{value}", pickle.dumps(value).decode("latin-1")]


def assert_hidden(texts: list[str]) -> None:
    for text in texts:
        for mark in MARKS:
            at = text.find(mark)
            assert at < 0, f"... {text[max(0, at - 300) : at + 60]} ..."


class Service(httpx.AsyncBaseTransport):
    """Says what the test planted, on every route."""

    def __init__(self, says: Mapping[str, httpx.Response | Exception]) -> None:
        self._says = says

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        last = request.url.path.rpartition("/")[2]
        said = self._says.get(last, self._says["*"])
        if isinstance(said, Exception):
            raise said
        return httpx.Response(said.status_code, headers=said.headers, content=said.content)


def client_of(says: Mapping[str, httpx.Response | Exception], **more: Any) -> CyberunClient:
    policy = WatchPolicy(poll_interval=0.1, max_outage=20.0, connect_within=20.0)
    return CyberunClient(
        lambda: KEY,
        base_url=BASE,
        watch_policy=policy,
        retries=RetryPolicy(max_attempts=1),
        transport_factory=lambda: Service(says),
        headers={"X-Gateway": f"{SIGNATURE}"},
        **more,
    )


def sse(*events: tuple[str, Any]) -> httpx.Response:
    lines = [
        f"event: {name}\ndata: {data if isinstance(data, str) else json.dumps(data)}\n\n"
        for name, data in events
    ]
    return httpx.Response(
        200, headers={"content-type": "text/event-stream"}, content="".join(lines).encode()
    )


def everywhere(said: str) -> dict[str, Any]:
    """Return a task's view with *said* in each of its texts."""
    names = ("workflow_id", "agent_id", "gateway_id", "gpu_type", "tool_type", "target_pool")
    return {
        "id": TASK,
        "task_status": "failed",
        "task_error": said,
        "agent_labels": [said],
        "of_tomorrow": {said: [said]},
        **dict.fromkeys(names, said),
    }


async def read(events: EventStream[Any]) -> list[Any]:
    found: list[Any] = []
    async with events:
        try:
            async for event in events:
                found.append(event)  # noqa: PERF401 - kept where an error ends it
        except CyberunError as error:
            found.append(error)
    return found


@pytest.mark.parametrize("said", FORMS)
async def test_the_services_words_are_shown_without_secrets(
    said: str, records: list[logging.LogRecord]
) -> None:
    """No text of a task, an event or an error has them in `str`, `repr`, logs or pickles."""
    stream = sse(
        ("progress", {"task_id": TASK, "message": said, "stage": said, "current_node": said}),
        ("error", {"message": said}),
        ("error", said.replace("\n", " ")),
        ("preview", {"text": said}),
        ("failed", {"task_id": TASK, "status": "failed", "error": said}),
    )
    task = httpx.Response(200, json=everywhere(said))
    shown: list[str] = []
    async with client_of({"*": task, "events": stream}) as client:
        found = await read(client.watch(TASK, notices=True))
        snapshot = await client.wait(TASK)
        with pytest.raises(TaskFailedError) as caught:
            await client.result(TASK)
        reply = await client.request("GET", f"/r/tasks/{TASK}")
        shown += [repr(reply), repr(client)]
    for value in (*found, snapshot, caught.value, snapshot.error):
        shown += faces(value)

    kinds = {type(value) for value in found}
    assert {FailedEvent, ServerErrorEvent, UnknownEvent} <= kinds
    assert_hidden(shown)
    assert_hidden([r.getMessage() + repr(vars(r)) for r in records])
    # On purpose it is had.
    assert snapshot.raw_json()["task_error"] == said
    assert copy.copy(snapshot).raw == snapshot.raw
    end = found[-1]
    assert isinstance(end, FailedEvent)
    assert end.raw["error"] == said


@pytest.mark.parametrize("said", FORMS)
@pytest.mark.parametrize("status", [200, 302, 400, 401, 403, 404, 429, 500, 503])
async def test_an_answer_of_any_kind_shows_no_secret(
    said: str, status: int, records: list[logging.LogRecord]
) -> None:
    """Refusals, pages of proxies and redirects, for each kind of request."""
    headers = {"content-type": "text/plain", "location": LINK, "x-note": KEY}
    bodies = {
        "json": httpx.Response(status, headers={"location": LINK}, json={"error_message": said}),
        "text": httpx.Response(status, headers=headers, content=said.encode()),
        "broken": httpx.Response(status, content=json.dumps({"id": said})[:-1].encode()),
        "odd": httpx.Response(status, json={"id": [said], "task_list": [{"x": said}]}),
    }
    errors: list[BaseException] = []
    for answer in bodies.values():
        async with client_of({"*": answer}) as client:
            calls: list[Awaitable[Any]] = [
                client.tasks.get(TASK),
                client.submit("text-to-image", {"prompt": "a fox"}),
                client.raw_result(TASK),
                client.cancel(TASK),
                client.webhooks.create("a", url="https://app.test/", events=["task.completed"]),
                client.files.upload(b"abc", name="a.png"),
            ]
            for call in calls:
                try:
                    await call
                except CyberunError as error:
                    errors.append(error)
            errors += [e for e in await read(client.watch(TASK)) if isinstance(e, Exception)]

    assert len(errors) >= 8
    for one in errors:
        assert_hidden(faces(one))
    assert_hidden([r.getMessage() + repr(vars(r)) for r in records])


@pytest.mark.parametrize(
    "fault",
    [
        httpx.ReadError("reset by peer"),
        httpx.ConnectError("no route to host"),
        httpx.LocalProtocolError(f"illegal header {KEY!r}"),
        httpx.RemoteProtocolError(f"illegal line 'Location: {LINK}'"),
        httpx.ProxyError("407 wanted"),
        ValueError(f"a bug {LINK} {KEY}"),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_a_failure_of_the_network_shows_no_secret(fault: Exception) -> None:
    """Neither requests nor downloads, in the variables of no frame and no cause."""
    record = {"id": TASK, "task_status": "completed", "task_output": {}, "download_url": LINK}
    done = httpx.Response(200, json=record)
    says: dict[str, httpx.Response | Exception] = {
        "*": done,
        "run": fault,
        "cancel": fault,
        "a.png": fault,
        "events": fault,
    }
    async with client_of(says) as client:
        result = await client.result(TASK)
        for call in (
            client.submit("text-to-image", {"prompt": "a fox"}),
            client.cancel(TASK),
            result[0].read(),
        ):
            with pytest.raises(type(fault) if isinstance(fault, ValueError) else CyberunError) as e:
                await call
            # What a foreign error says itself is not the library's to change.
            if isinstance(fault, ValueError):
                e.value.args = ()
            assert_hidden([printed(e.value), str(e.value)])


async def test_a_cancelled_download_shows_no_link() -> None:
    """A time limit of the caller's own cuts through the frames that hold the address."""

    class Mute(Service):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.host == "store.test":
                await anyio.sleep(600)
            return await super().handle_async_request(request)

    record = {"id": TASK, "task_status": "completed", "task_output": {}, "download_url": LINK}
    says = {"*": httpx.Response(200, json=record)}
    async with CyberunClient(
        lambda: KEY, base_url=BASE, transport_factory=lambda: Mute(says)
    ) as client:
        result = await client.result(TASK)
        with pytest.raises(TimeoutError) as caught, anyio.fail_after(1):
            await result[0].read()

    assert_hidden([printed(caught.value)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_key": "xx-Planted"},
        {"api_key": f"{KEY}\n"},
        {"api_key": f"ak{KEY}"},
        {"api_key": "eyJPlanted.x.y"},
        {"team_id": "Planted\n"},
        {"watch_policy": 5},
        {"base_url": "https://user:Planted@core.test"},
        {"proxy": "http://user:Planted@proxy.test:99999"},
        {"proxy": "gopher://user:Planted@proxy.test"},
        {"proxy": "socks9://user:Planted@proxy.test"},
        {"headers": {"X-Gateway": "Planted\n"}},
        {"headers": {"X Gateway": "Planted"}},
    ],
    ids=str,
)
async def test_a_wrong_setting_shows_no_secret(wrong: dict[str, Any]) -> None:
    """Neither the constructor nor opening, and what there is of the client has a `repr`."""
    wrong = {"api_key": KEY, "headers": {"X-Gateway": "Planted"}} | wrong
    with pytest.raises(CyberunError) as caught:
        async with CyberunClient(**wrong):
            pytest.fail("it was accepted")
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack

    assert_hidden([printed(caught.value), str(caught.value)])
    assert not [frame for frame in frames if "repr() failed" in str(frame.locals)]


def test_a_sibling_with_a_wrong_setting_shows_no_secret() -> None:
    """As the constructor."""
    client = CyberunClient(KEY, base_url=BASE)
    settings: list[dict[str, Any]] = [
        {"api_key": "xx-Planted"},
        {"headers": {"X-A": "Planted\n"}},
        {"watch_policy": 5},
    ]
    for wrong in settings:
        wrong.setdefault("api_key", KEY)
        with pytest.raises(CyberunError) as caught:
            client.with_options(**wrong)
        assert_hidden([printed(caught.value), str(caught.value)])


def test_a_client_that_was_not_made_has_a_repr() -> None:
    """Reporters show `self` of a constructor that failed."""
    client = CyberunClient.__new__(CyberunClient)
    with pytest.raises(ConfigurationError):
        CyberunClient.__init__(client, "ak-1")

    assert repr(client) == "<CyberunClient not made>"


@pytest.mark.parametrize("secret", ["whsec_Planted", ["whsec_Planted", "whsec_more"], "Planted\n"])
@pytest.mark.parametrize("header", [None, "sha256=00", f"sha256={'0' * 64}", f"sha256={KEY}"])
def test_a_delivery_that_is_refused_shows_no_secret(secret: Any, header: str | None) -> None:
    """Neither the secret that signs, nor what the body says."""
    body = json.dumps({"event_type": "task.failed", "task_id": TASK, "task_error": LINK}).encode()
    with pytest.raises(CyberunError) as caught:
        webhooks.verify(body, header, secret)
    del secret, body, header
    text = printed(caught.value).replace("raw_body", "")

    assert "whsec_Planted" not in text
    assert "Planted\\n" not in text


def test_a_delivery_is_shown_without_secrets() -> None:
    """The service's words in it are its own, too."""
    fields = {"event_type": "task.failed", "task_id": TASK, "task_error": f"see {LINK}"}
    body = json.dumps(fields).encode()
    event = webhooks.verify(body, webhooks.sign(body, "whsec_a"), "whsec_a", tolerance=None)

    assert_hidden(faces(event))
    assert event.raw == body


words = st.lists(
    st.sampled_from([KEY, LINK, "a", " ", "\n", '"', "'", "<b>", "\\", "/", "?", "&", "%20", "é"]),
    max_size=12,
).map("".join)
values = st.recursive(
    words, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3)
)


@hypothesis_settings(max_examples=200, deadline=None)
@given(error=words, more=values)
def test_no_text_shows_what_was_planted(error: str, more: Any) -> None:
    """Wherever in a text, and however deep in what was sent, it stands."""
    # A key that is glued to a word is no key any more, and may be any name.
    error = error.replace(f"a{KEY}", KEY).replace(f"é{KEY}", KEY)
    raw = {"error": error, "more": more}
    planted: list[Any] = [
        TaskSnapshot(id=TASK, status="failed", error=error, raw=json.dumps({"e": error}).encode()),
        FailedEvent(task_id=TASK, error=error, raw=raw),
        UnknownEvent(task_id=TASK, name="x", data=error, raw={"e": [error]}),
        TaskFailedError(task_id=TASK, error=error),
    ]
    glued = any(f"{letter}{KEY}" in json.dumps(raw, ensure_ascii=False) for letter in "aé0n")
    for value in planted:
        texts = [repr(value), str(value)]
        if not glued:
            texts.append(pickle.dumps(value).decode("latin-1"))
        for text in texts:
            assert SIGNATURE not in text
            if not glued:
                assert KEY not in text
    for value in planted[:3]:
        assert copy.deepcopy(value) == value
