"""A watch over real sockets that die in every way a socket can."""

import json
import ssl

import attrs
import pytest
import trustme

from cyberun_async import (
    CompletedEvent,
    CyberunClient,
    Event,
    FailedEvent,
    Notice,
    PollingStarted,
    ProgressEvent,
    ServiceUnavailableError,
    StatusEvent,
    StreamLost,
    WatchLostError,
    WatchPolicy,
)

from .server import (
    LAST_CHUNK,
    STREAM_HEAD,
    Answer,
    Drip,
    Expect,
    Fin,
    Reset,
    Script,
    Send,
    Stall,
    WireServer,
    chunk,
    head,
    reply,
    serving,
)


TASK = "0197a000-0000-7000-8000-000000000001"
KEY = "sk-0123456789abcdefghij"
ELSEWHERE = "http://127.0.0.2:9/api/v1/r/tasks/x/events?token=1"
# A life at a hundredth of its length, since sockets know no virtual time.
POLICY = WatchPolicy(
    backoff_base=0.01,
    check_after=0.5,
    settle_after=0.1,
    idle_timeout=0.3,
    open_timeout=0.5,
    poll_interval=0.03,
    climb_base=0.2,
    stale_grace=0.1,
)


def frame(name: str, **payload: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'task_id': TASK, **payload})}\n\n".encode()


RUNNING = frame("status", status="running")
HALF = frame("progress", progress=0.5)
DONE = frame("completed", status="completed", output={"a": 1})
WHOLE = [Send(STREAM_HEAD + chunk(RUNNING + HALF + DONE) + LAST_CHUNK), Fin()]
BEGUN = STREAM_HEAD + chunk(RUNNING + HALF)


def service(*streams: Script, later: str = "running") -> Script:
    """Serve *streams*; the task runs when it is asked about first, and is *later* then."""
    states = iter(["running"])

    def plain(line: str) -> bytes:
        if "/result " in line:
            return said(task_status="completed", task_output={"a": 1})
        return said(task_id=TASK, task_status=next(states, later), retry_count=0, task_error="why")

    return [Answer(streams, plain)]


def said(**fields: object) -> bytes:
    return reply(json.dumps(fields).encode(), Content_Type="application/json")


async def watched(server: WireServer) -> list[Event]:
    """Return the events of a watch."""
    events: list[Event] = []
    url = f"{server.url}/api/v1"
    async with CyberunClient(KEY, base_url=url, watch_policy=POLICY) as client:
        async with client.watch(TASK) as items:
            async for item in items:
                assert isinstance(item, Event)
                events.append(item)
    return events


WAYS_TO_DIE: dict[str, Script] = {
    "fin-before-headers": [Fin()],
    "reset-before-headers": [Reset()],
    "fin-inside-headers": [Send(STREAM_HEAD[:25]), Fin()],
    "headers-never-come": [Stall()],
    "no-http-at-all": [Send(b"\x16\x03\x01\x02\x00\r\n\r\n"), Fin()],
    "reset": [Send(BEGUN), Reset()],
    "cut-inside-a-chunk": [Send(BEGUN + b"40\r\nevent: prog"), Fin()],
    "no-last-chunk": [Send(BEGUN), Fin()],
    "clean-end": [Send(BEGUN + LAST_CHUNK), Fin()],
    "end-without-blank-line": [Send(BEGUN + chunk(DONE[:-1]) + LAST_CHUNK), Fin()],
    "close-delimited": [
        Send(head(Content_Type="text/event-stream", Connection="close") + RUNNING + HALF[:-20]),
        Fin(),
    ],
    "half-open": [Send(BEGUN), Stall()],
    "byte-by-byte": [Drip(BEGUN + b"40\r\n: hb\n\neve"), Fin()],
    "one-byte-and-silence": [Send(STREAM_HEAD + chunk(b":")), Stall()],
    "wrong-type": [Send(reply(b"<html>sign in</html>", Content_Type="text/html")), Fin()],
    "no-content": [Send(head("204 No Content")), Fin()],
    "redirected-elsewhere": [
        Send(head("302 Found", Location=ELSEWHERE, Content_Length="0")),
        Fin(),
    ],
    "redirected-to-nowhere": [Send(head("308 Permanent Redirect", Content_Length="0")), Fin()],
    "bad-gateway": [Send(reply(b"<html>", "502 Bad Gateway", Content_Type="text/html")), Fin()],
    "endless-line": [Send(BEGUN + b"200000\r\n" + b"x" * 0x110000), Stall()],
}


@pytest.mark.parametrize("way", WAYS_TO_DIE)
async def test_a_stream_that_dies_is_followed_by_the_next(way: str) -> None:
    """However the first stream dies, the second tells the rest, each thing once."""
    with serving(service(WAYS_TO_DIE[way], WHOLE)) as server:
        events = await watched(server)

    statuses = [event.status for event in events if isinstance(event, StatusEvent)]
    progress = [event for event in events if isinstance(event, ProgressEvent)]
    assert statuses == ["running"]
    assert len(progress) == 1
    assert events[-1] == CompletedEvent(task_id=TASK, output={"a": 1})
    assert sum(event.is_terminal for event in events) == 1


async def test_a_pause_that_the_stream_asks_for_is_kept() -> None:
    """A `retry:` in a block of its own raises the pause before the next stream."""
    first = [Send(STREAM_HEAD + chunk(b"retry: 200\n\n") + chunk(RUNNING + HALF)), Reset()]
    with serving(service(first, WHOLE)) as server:
        url = f"{server.url}/api/v1"
        async with CyberunClient(KEY, base_url=url, watch_policy=POLICY) as client:
            async with client.watch(TASK, notices=True) as items:
                reported = [item async for item in items]

    (lost_notice,) = [item for item in reported if isinstance(item, StreamLost)]
    assert 0.2 <= lost_notice.delay <= 0.22


@pytest.mark.parametrize("way", WAYS_TO_DIE)
async def test_a_task_that_ends_while_its_stream_dies_is_reported(way: str) -> None:
    """Nobody hears of the end over the stream, however it dies: an answer tells it."""
    with serving(service(WAYS_TO_DIE[way], [Stall()], later="failed")) as server:
        events = await watched(server)

    assert events[-1] == FailedEvent(task_id=TASK, origin="poll", error="why")
    assert sum(event.is_terminal for event in events) == 1


async def test_streams_that_keep_dying_lead_to_polling() -> None:
    """When no stream lives, the end comes by polling."""
    with serving(service([Reset()])) as server:
        url = f"{server.url}/api/v1"
        async with CyberunClient(KEY, base_url=url, watch_policy=POLICY) as client:
            async with client.watch(TASK, notices=True) as items:
                kinds: list[type[object]] = []
                async for item in items:
                    kinds.append(type(item))
                    if isinstance(item, PollingStarted):
                        break

    assert kinds.count(StreamLost) == 2
    assert kinds[-1] is PollingStarted


async def test_a_stream_that_is_redirected_elsewhere_is_done_without() -> None:
    """
    The status can be had, so the watch polls, and says why.

    Streaming is tried again later; the other origin is never spoken to.
    """
    with serving([Stall()]) as elsewhere:
        astray = [Send(head("307 Temporary Redirect", Location=f"{elsewhere.url}/events")), Fin()]
        with serving(service(astray, astray, WHOLE)) as server:
            items: list[Event | Notice] = []
            url = f"{server.url}/api/v1"
            async with CyberunClient(KEY, base_url=url, watch_policy=POLICY) as client:
                async with client.watch(TASK, notices=True) as watch:
                    async for item in watch:
                        items.append(item)  # noqa: PERF401 - kept also when an error ends it

    cause = (
        "the service could not be reached: refused to follow a redirect "
        f"to another origin, {elsewhere.url}; check the base URL"
    )
    assert [item.cause for item in items if isinstance(item, PollingStarted)] == [cause]
    assert items[-1] == CompletedEvent(task_id=TASK, output={"a": 1})
    assert (server.streams, elsewhere.connections) == (3, 0)


async def test_an_api_that_redirects_everything_elsewhere_is_given_up() -> None:
    """Where asks are led astray as well, nothing is known: the watch ends as its policy says."""
    with serving([Stall()]) as elsewhere:
        astray = head("307 Temporary Redirect", Location=f"{elsewhere.url}/x", Content_Length="0")
        with serving([Answer([[Send(astray)]], lambda _: astray)]) as server:
            url = f"{server.url}/api/v1"
            policy = attrs.evolve(POLICY, connect_within=0.2)
            async with CyberunClient(KEY, base_url=url, watch_policy=policy) as client:
                with pytest.raises(WatchLostError, match="redirect") as caught:
                    async for _ in client.watch(TASK):
                        pass

    assert caught.value.resume_token is not None
    assert elsewhere.connections == 0


async def test_a_peer_that_cannot_be_verified_ends_a_watch_at_once() -> None:
    """No repetition fixes a certificate, so the watch does not try."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with serving([Expect(), Stall()], tls=context) as server:
        url = f"https://127.0.0.1:{server.port}/api/v1"
        async with CyberunClient(KEY, base_url=url, watch_policy=POLICY) as client:
            with pytest.raises(ServiceUnavailableError, match="certificate") as caught:
                async for _ in client.watch(TASK):
                    pass

    assert caught.value.is_final
    assert caught.value.resume_token is not None
