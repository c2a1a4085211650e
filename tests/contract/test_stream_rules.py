"""The event stream is read by the rules of the HTML standard: its media type, and its ids."""

import json

import pytest

from cyberun_async import CyberunClient, Event, PollingStarted, StatusEvent, WatchPolicy

from ..wire.server import (
    LAST_CHUNK,
    STREAM_HEAD,
    Answer,
    Fin,
    Script,
    Send,
    WireServer,
    chunk,
    head,
    reply,
    serving,
)


TASK = "0197a000-0000-7000-8000-000000000001"
KEY = "sk-0123456789abcdefghij"
POLICY = WatchPolicy(backoff_base=0.01, settle_after=0.1, poll_interval=0.05, climb_base=0.2)


def frame(name: str, **payload: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'task_id': TASK, **payload})}\n\n".encode()


RUNNING = frame("status", status="running")
DONE = frame("completed", status="completed", output={"a": 1})


def stream(data: bytes) -> Script:
    """A stream that brings *data* and is cut."""
    return [Send(STREAM_HEAD + chunk(data)), Fin()]


LAST = [Send(STREAM_HEAD + chunk(DONE) + LAST_CHUNK), Fin()]


def service(*streams: Script) -> Script:
    """Serve *streams*; the task runs whenever its status is asked for."""
    fields = {"task_id": TASK, "task_status": "running", "retry_count": 0}
    body = json.dumps(fields).encode()
    return [Answer(streams, lambda _: reply(body, Content_Type="application/json"))]


def ids_sent(server: WireServer) -> list[str | None]:
    """Return the `Last-Event-ID` of each request for the stream."""
    asked = [one for one in server.requests if "/events " in one.line]
    return [one.headers.get("last-event-id") for one in asked]


async def watched(server: WireServer, **settings: object) -> list[object]:
    items: list[object] = []
    url = f"{server.url}/api/v1"
    async with CyberunClient(KEY, base_url=url, watch_policy=POLICY, **settings) as client:  # type: ignore[arg-type]
        async with client.watch(TASK, notices=True) as events:
            async for item in events:
                items.append(item)  # noqa: PERF401 - kept also when an error ends it
    return items


@pytest.mark.parametrize(
    "first, expected",
    [
        pytest.param(b"id: abc\n" + RUNNING, "abc", id="with-an-event"),
        pytest.param(b"id: abc\n\n", "abc", id="in-a-block-of-its-own"),
        pytest.param(b"id: abc\n" + RUNNING + b"id: def\n\n", "def", id="behind-an-event"),
        pytest.param(b"id: abc\n" + RUNNING + b"id:\n\n", None, id="cleared"),
        pytest.param(b"id: abc\n" + RUNNING + b"id\n\n", None, id="cleared-without-a-colon"),
        pytest.param(b"id: abc\n" + RUNNING + b":\n\n", "abc", id="kept-by-a-comment"),
        pytest.param(b"id: abc\nevent: progress\ndata: {\n\n", "abc", id="unreadable-data"),
        pytest.param(b"id: abc\n" + RUNNING + b"id: d\0f\n\n", "abc", id="with-a-null"),
        pytest.param(RUNNING + b"id: abc\n", None, id="block-cut-short"),
    ],
)
async def test_the_last_event_id_is_that_of_the_last_complete_block(
    first: bytes, expected: str | None
) -> None:
    """Any block sets, keeps or clears it, whether it holds an event or not."""
    with serving(service(stream(first), LAST)) as server:
        await watched(server)

        assert ids_sent(server) == [None, expected]


async def test_the_id_outlives_a_stream_that_sends_none() -> None:
    """What a stream was resumed with holds until it sends another."""
    first, second = stream(b"id: abc\n" + RUNNING), stream(b": hello\n\n")
    with serving(service(first, second, LAST)) as server:
        await watched(server)

        assert ids_sent(server) == [None, "abc", "abc"]


@pytest.mark.parametrize(
    "transport",
    [
        "httpx",
        pytest.param("aiohttp", marks=pytest.mark.asyncio_only("aiohttp knows asyncio only")),
    ],
)
@pytest.mark.parametrize(
    "kind, is_stream",
    [
        ("text/event-stream", True),
        ("Text/Event-Stream ; charset=utf-8", True),
        ("text/event-streamx", False),
        ("application/x-text/event-stream", False),
        ("text/plain; text/event-stream", False),
        ("text/event-stream, text/html", False),
    ],
)
async def test_a_stream_is_one_by_its_whole_media_type(
    kind: str, is_stream: bool, transport: str
) -> None:
    """A type that merely holds the name is something else, and is not read."""
    body = RUNNING + DONE
    headers = head(Content_Type=kind, Transfer_Encoding="chunked")
    strange: Script = [Send(headers + chunk(body) + LAST_CHUNK), Fin()]
    with serving(service(strange, LAST)) as server:
        items = await watched(server, transport=transport)

    origins = {item.origin for item in items if isinstance(item, StatusEvent)}
    assert origins == ({"stream"} if is_stream else {"poll"})
    assert any(isinstance(item, PollingStarted) for item in items) is not is_stream
    assert isinstance(items[-1], Event)
    assert items[-1].is_terminal
