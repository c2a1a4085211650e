"""How real connections die, and what the transport says of it."""

import contextlib
import socket
import traceback
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from cyberun_async._http import EventConnection, Transport, TransportSettings
from cyberun_async._model import ClientClosedError, Limits, Timeouts
from cyberun_async._protocol import ExchangeFailedError, FailureKind

from .reading import read_batches, read_into
from .server import (
    LAST_CHUNK,
    STREAM_HEAD,
    Drip,
    Expect,
    Fin,
    Reset,
    Send,
    Stall,
    Wait,
    WireServer,
    chunk,
    head,
    reply,
    serving,
)


UNTIL_THE_END = head(Content_Type="text/event-stream", Connection="close")
EVENT = b'event: progress\ndata: {"progress": 0.5}\n\n'
SECRET = "sk-very-secret"
HEADERS = {"Authorization": f"Bearer {SECRET}"}


@contextlib.asynccontextmanager
async def connected(base: WireServer | str, **settings: Any) -> AsyncGenerator[Transport]:
    url = base if isinstance(base, str) else base.url
    transport = Transport(TransportSettings(base_url=f"{url}/api/v1", **settings))
    try:
        yield transport
    finally:
        await transport.aclose()


async def open_events(transport: Transport, open_timeout: float = 5) -> EventConnection:
    return await transport.open_stream("/events", headers=HEADERS, open_timeout=open_timeout)


async def read_all(connection: EventConnection) -> list[str]:
    return [event.data for batch in await read_batches(connection) for event in batch]


async def lost_after(connection: EventConnection) -> tuple[list[str], ExchangeFailedError]:
    found: list[Any] = []
    with pytest.raises(ExchangeFailedError) as caught:
        await read_into(found, connection)
    return [event.data for batch in found for event in batch], caught.value


# Streams


async def test_a_stream_asks_for_events_without_compression_or_caching():
    """The stream's own headers replace what the caller says of the same."""
    with serving([Expect(), Send(STREAM_HEAD + LAST_CHUNK)]) as server:
        async with connected(server) as transport:
            connection = await transport.open_stream(
                "/r/tasks/1/events", headers={**HEADERS, "Accept": "*/*"}, open_timeout=5
            )
            await connection.aclose()

    (request,) = server.requests
    assert request.line == "GET /api/v1/r/tasks/1/events HTTP/1.1"
    assert request.headers["accept"] == "text/event-stream"
    assert request.headers["cache-control"] == "no-cache"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["authorization"] == f"Bearer {SECRET}"


async def test_a_batch_holds_all_events_of_one_piece():
    """Events that come together are handed over together, and in order."""
    body = chunk(EVENT * 3) + LAST_CHUNK
    with serving([Expect(), Send(STREAM_HEAD + body)]) as server:
        async with connected(server) as transport:
            connection = await open_events(transport)
            batches = await read_batches(connection)
            await connection.aclose()

    assert [len(batch) for batch in batches] == [3]
    assert {event.event for event in batches[0]} == {"progress"}


async def test_a_stream_may_come_byte_by_byte():
    """Where the bytes are cut changes nothing."""
    body = chunk(EVENT * 2 + b": beat\n\n") + LAST_CHUNK
    with serving([Expect(), Drip(STREAM_HEAD + body)]) as server:
        async with connected(server) as transport:
            connection = await open_events(transport)
            assert await read_all(connection) == ['{"progress": 0.5}'] * 2
            await connection.aclose()


async def test_heartbeats_move_the_last_byte_but_are_no_events():
    """The watchdog sees comments, the reader does not."""
    now = iter(range(100))
    beats = [Wait(0.02), Send(chunk(b": beat\n\n"))] * 3
    with serving([Expect(), Send(STREAM_HEAD), *beats, Send(LAST_CHUNK)]) as server:
        async with connected(server, clock=lambda: float(next(now))) as transport:
            connection = await open_events(transport)
            opened_at = connection.last_byte_at
            assert await read_all(connection) == []
            assert connection.last_byte_at == opened_at + 3
            await connection.aclose()


@pytest.mark.parametrize(
    "end",
    [
        pytest.param([Reset()], id="reset"),
        pytest.param([Send(b"20\r\nevent: prog"), Fin()], id="cut inside a chunk"),
        pytest.param([Fin()], id="no last chunk"),
    ],
)
async def test_a_stream_that_breaks_is_lost_after_its_events(end: list[Any]):
    """What was complete is delivered before the loss is reported, without a secret."""
    with serving([Expect(), Send(STREAM_HEAD + chunk(EVENT)), Wait(0.05), *end]) as server:
        async with connected(server) as transport:
            connection = await open_events(transport)
            found, failure = await lost_after(connection)
            await connection.aclose()

    assert found == ['{"progress": 0.5}']
    assert failure.kind is FailureKind.LOST
    assert failure.maybe_sent
    assert SECRET not in repr(failure)


async def test_a_body_without_length_ends_cleanly_wherever_it_is_cut():
    """Only a later question can tell such an end from a loss."""
    cut = head(Content_Type="text/event-stream", Connection="close") + EVENT + b"event: comp"
    with serving([Expect(), Send(cut), Fin()]) as server:
        async with connected(server) as transport:
            connection = await open_events(transport)
            assert await read_all(connection) == ['{"progress": 0.5}']
            await connection.aclose()


async def test_a_silent_stream_stays_open_for_its_reader_to_judge():
    """Silence beyond the read timeout ends no stream: the watch knows what is too long."""
    script = [
        Expect(),
        Send(STREAM_HEAD + chunk(EVENT)),
        Wait(0.3),
        Send(chunk(EVENT) + LAST_CHUNK),
    ]
    with serving([*script, Fin()]) as server:
        async with connected(server, timeouts=Timeouts(read=0.1)) as transport:
            connection = await open_events(transport)
            assert len(await read_all(connection)) == 2
            await connection.aclose()


async def test_a_refusal_whose_text_never_ends_is_a_time_out():
    """What stands in a stream's place is read within the read timeout, and no longer."""
    answer = head("503 Service Unavailable", Content_Length="100") + b"busy"
    with serving([Expect(), Send(answer), Stall()]) as server:
        async with connected(server, timeouts=Timeouts(read=0.1)) as transport:
            connection = await open_events(transport)
            with pytest.raises(ExchangeFailedError, match=r"within 0\.1 s") as caught:
                await connection.read_body()
            await connection.aclose()
            server.wait_until_gone()

    assert caught.value.kind is FailureKind.TIMEOUT


async def test_headers_that_never_come_end_the_opening():
    """Opening has a limit of its own, and leaves no connection behind."""
    with serving([Expect(), Stall()]) as server:
        async with connected(server) as transport:
            with pytest.raises(ExchangeFailedError, match=r"within 0\.1 s") as caught:
                await open_events(transport, open_timeout=0.1)
            server.wait_until_gone()
            assert transport.statistics().open_streams == 0

    assert caught.value.kind is FailureKind.TIMEOUT
    assert caught.value.maybe_sent


@pytest.mark.parametrize(
    ("limits", "giant", "words"),
    [
        pytest.param(
            Limits(max_line_bytes=1000),
            b"data: " + b"x" * 5000,
            "a line longer than 1000",
            id="line",
        ),
        pytest.param(
            Limits(max_event_bytes=1000), b"data: x\n" * 500, "event longer than 1000", id="event"
        ),
    ],
)
async def test_a_stream_beyond_its_limits_is_not_the_protocol(
    limits: Limits, giant: bytes, words: str
):
    """A giant line or event ends the stream at once; what came before is delivered."""
    with serving([Expect(), Send(STREAM_HEAD + chunk(EVENT + giant)), Stall()]) as server:
        async with connected(server, limits=limits) as transport:
            connection = await open_events(transport)
            found, failure = await lost_after(connection)
            await connection.aclose()
            server.wait_until_gone()

    assert len(found) == 1
    assert failure.kind is FailureKind.PROTOCOL
    assert words in failure.reason


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Content_Type": "application/json"}, id="json"),
        pytest.param({"Content_Type": "text/html; charset=utf-8"}, id="html"),
        pytest.param({}, id="no type"),
        pytest.param({"Content_Type": "text/event-stream", "Content_Encoding": "gzip"}, id="gzip"),
    ],
)
async def test_what_is_no_event_stream_is_known_before_it_is_read(headers: dict[str, str]):
    """A wrong type or a compressed stream is not usable, but its body can be looked at."""
    with serving([Expect(), Send(reply(b"<html>sign in</html>", **headers))]) as server:
        async with connected(server) as transport:
            connection = await open_events(transport)
            assert not connection.is_event_stream
            assert await connection.read_body(6) == b"<html>"
            await connection.aclose()


async def test_the_type_of_a_stream_may_have_parameters_and_capitals():
    """Only the media type counts."""
    answer = head(Content_Type="Text/Event-Stream; charset=utf-8", Content_Length="0")
    with serving([Expect(), Send(answer)]) as server:
        async with connected(server) as transport:
            connection = await open_events(transport)
            assert connection.is_event_stream
            await connection.aclose()


async def test_a_refusal_keeps_its_status_headers_and_body():
    """A status that is no success is handed over for the caller to judge."""
    answer = reply(b'{"error_message": "no"}', "503 Service Unavailable", Retry_After="7")
    with serving([Expect(), Send(answer)]) as server:
        async with connected(server) as transport:
            connection = await open_events(transport)
            assert (connection.status, connection.headers["retry-after"]) == (503, "7")
            assert await connection.read_body() == b'{"error_message": "no"}'
            await connection.aclose()


async def test_a_stream_can_be_closed_while_another_task_reads_it():
    """The reader is woken with an error that says who closed."""
    failures: list[ExchangeFailedError] = []

    async def read(connection: EventConnection) -> None:
        failures.append((await lost_after(connection))[1])

    with serving([Expect(), Send(STREAM_HEAD + chunk(EVENT)), Stall()]) as server:
        async with connected(server) as transport:
            connection = await open_events(transport)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, connection)
                await anyio.wait_all_tasks_blocked()
                await connection.aclose()
            server.wait_until_gone()

    assert "closed by this side" in failures[0].reason


@pytest.mark.parametrize("framing", ["chunked", "until the end"])
@pytest.mark.parametrize("way", ["read", "read_body"])
async def test_a_stream_closed_between_two_reads_is_no_end(framing: str, way: str):
    """The next read of another task, at any step of the closing, says who closed."""
    begin = STREAM_HEAD if framing == "chunked" else UNTIL_THE_END
    body = b"".join(chunk(EVENT) if framing == "chunked" else EVENT for _ in range(50))
    reads: dict[str, Callable[[EventConnection], Awaitable[object]]] = {
        "read": read_batches,
        "read_body": lambda connection: connection.read_body(10**9),
    }
    failures: list[ExchangeFailedError] = []

    async def read(connection: EventConnection, steps: int) -> None:
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        with pytest.raises(ExchangeFailedError) as caught:
            await reads[way](connection)
        failures.append(caught.value)

    for steps in range(6):
        with serving([Expect(), Send(begin + body), Stall()]) as server:
            async with connected(server) as transport, anyio.create_task_group() as tasks:
                connection = await open_events(transport)
                assert await read_batches(connection, at_most=1)
                tasks.start_soon(connection.aclose)
                await anyio.lowlevel.checkpoint()
                tasks.start_soon(read, connection, steps)

    assert len(failures) == 6
    assert all("closed by this side" in failure.reason for failure in failures)


async def test_closing_between_batches_leaves_no_generator_to_the_collector():
    """A stream left in the middle closes at once, with data unread and twice over."""
    body = b"".join(chunk(EVENT) for _ in range(50))
    with serving([Expect(), Send(STREAM_HEAD + body), Stall()]) as server:
        async with connected(server) as transport:
            connection = await open_events(transport)
            assert await read_batches(connection, at_most=1)
            await connection.aclose()
            await connection.aclose()
            server.wait_until_gone()


async def test_closing_the_transport_closes_its_streams():
    """Nothing outlives the transport."""
    with serving([Expect(), Send(STREAM_HEAD), Stall()]) as server:
        async with connected(server) as transport:
            for _ in range(3):
                await open_events(transport)
            assert transport.statistics().open_streams == 3
            await transport.aclose()
            assert transport.statistics().open_streams == 0
            server.wait_until_gone(3)


@pytest.mark.httpx_only(reason="httpx-aiohttp shows no socket")
async def test_the_kernel_probes_streams_that_are_silent():
    """TCP keep-alive is on, so that a half-open connection is found."""
    with serving([Expect(), Send(STREAM_HEAD), Stall()]) as server:
        async with connected(server) as transport:
            connection = await open_events(transport)
            network: Any = connection._body._network
            raw = network.get_extra_info("socket")
            assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
            await connection.aclose()


# Plain requests


async def get(transport: Transport, path: str = "/x", **more: Any) -> Any:
    return await transport.exchange("GET", path, headers=HEADERS, **more)


async def refused(transport: Transport, path: str = "/x", **more: Any) -> ExchangeFailedError:
    with pytest.raises(ExchangeFailedError) as caught:
        await get(transport, path, **more)
    assert SECRET not in repr(caught.value)
    assert "token=" not in repr(caught.value)
    return caught.value


async def test_a_connection_is_used_again():
    """Requests in sequence share one connection."""
    with serving([Expect(), Send(reply())] * 1 + [Expect(), Send(reply())]) as server:
        async with connected(server) as transport:
            await get(transport, params={"page": 1, "status": ["a", "b"]})
            await get(transport)
            assert transport.statistics().idle_connections == 1

    assert server.connections == 1
    assert server.requests[0].line == "GET /api/v1/x?page=1&status=a&status=b HTTP/1.1"


async def test_a_submission_does_not_ride_on_an_old_connection():
    """With *fresh*, a connection idle for two seconds is not used."""
    now = [0.0]
    with serving([Expect(), Send(reply()), Expect(), Send(reply()), Stall()]) as server:
        async with connected(server, clock=lambda: now[0]) as transport:
            await get(transport)
            now[0] = 1.9
            await get(transport, fresh=True)
            assert server.connections == 1
            now[0] = 4.0
            await get(transport, fresh=True)
            assert server.connections == 2


async def test_connections_idle_for_long_are_closed():
    """The pool does not keep connections that load balancers have forgotten."""
    now = [0.0]
    with serving([Expect(), Send(reply()), Stall()]) as server:
        async with connected(server, clock=lambda: now[0]) as transport:
            await get(transport)
            now[0] = 21.0
            await get(transport)
            server.wait_until_gone()
            assert (server.connections, transport.statistics().idle_connections) == (2, 1)


async def test_a_connection_closed_meanwhile_is_not_used():
    """A keep-alive connection on which a FIN has arrived is replaced unseen."""
    # Not in one piece with the reply, where over TLS httpx does not see it.
    with serving([Expect(), Send(reply()), Wait(0.02), Fin()]) as server:
        async with connected(server) as transport:
            await get(transport)
            await anyio.sleep(0.07)
            assert (await get(transport)).status == 200

    assert server.connections == 2


async def test_a_connection_that_dies_under_a_request_may_have_carried_it():
    """A loss after the request left is reported as such, for the caller to judge."""
    with serving([Expect(), Send(reply()), Expect(), Reset()]) as server:
        async with connected(server) as transport:
            await get(transport)
            failure = await refused(transport)

    assert (failure.kind, failure.maybe_sent) == (FailureKind.LOST, True)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param([Fin()], id="FIN before headers"),
        pytest.param([Reset()], id="RST before headers"),
        pytest.param([Send(b"HTTP/1.1 200 OK\r\nContent-Le"), Fin()], id="cut headers"),
        pytest.param([Send(head(Content_Length="10") + b"{"), Fin()], id="short body"),
        pytest.param([Send(head(Content_Length="10") + b"{"), Reset()], id="RST in the body"),
        pytest.param([Send(b"SSH-2.0-OpenSSH\r\n"), Fin()], id="not HTTP"),
    ],
)
async def test_an_answer_that_is_cut_is_lost(end: list[Any]):
    """No part of an answer is taken for the whole, and the next request works."""
    with serving([Expect(), *end], [Expect(), Send(reply())]) as server:
        async with connected(server) as transport:
            failure = await refused(transport, params={"token": "x"})
            assert (failure.kind, failure.maybe_sent) == (FailureKind.LOST, True)
            assert (await get(transport)).body == b"{}"
            assert transport.statistics().retired_connections == 1


async def test_a_body_that_is_not_taken_times_out():
    """A long body is no exception to the write limit; it arrives where it is read."""
    body = bytes(20 * 1024 * 1024)
    with serving([Wait(30)], [Expect(), Send(reply())]) as server:
        async with connected(server, timeouts=Timeouts(write=0.3)) as transport:
            with pytest.raises(ExchangeFailedError) as caught, anyio.fail_after(10):
                await transport.exchange("POST", "/x", headers=HEADERS, content=body)
        async with connected(server, timeouts=Timeouts(write=10)) as transport:
            await transport.exchange("POST", "/x", headers=HEADERS, content=body)

    assert (caught.value.kind, caught.value.maybe_sent) == (FailureKind.TIMEOUT, True)
    (request,) = server.requests
    assert request.body == body
    assert "transfer-encoding" not in request.headers


async def test_an_answer_that_does_not_come_times_out():
    """The read limit of a plain request is its own."""
    with serving([Expect(), Stall()]) as server:
        async with connected(server, timeouts=Timeouts(read=0.1)) as transport:
            failure = await refused(transport)
            server.wait_until_gone()

    assert (failure.kind, failure.maybe_sent) == (FailureKind.TIMEOUT, True)


async def test_a_refused_connection_was_never_sent():
    """Nothing can have arrived where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        async with connected(url) as transport:
            failure = await refused(transport)

    assert (failure.kind, failure.maybe_sent) == (FailureKind.CONNECT, False)
    assert failure.reason == f"could not connect to {url}: Connection refused"


async def test_a_name_that_cannot_be_resolved_was_never_sent():
    """The reason says what is wrong with the name."""
    for name in ("no-such-host.invalid", f"{'a' * 70}.invalid"):
        async with connected(f"http://{name}") as transport:
            failure = await refused(transport)

        assert (failure.kind, failure.maybe_sent) == (FailureKind.CONNECT, False)
        assert "the name" in failure.reason


@pytest.mark.parametrize("size", [9_000, 90_000])
async def test_a_long_header_is_read(size: int):
    """What something on the way adds to an answer does not make it a lost one."""
    with serving([Expect(), Send(reply(X_Long="x" * size))]) as server:
        async with connected(server) as transport:
            answer = await get(transport)

    assert len(answer.headers["x-long"]) == size


async def test_a_header_is_bounded():
    """A line that never ends is not collected forever."""
    with serving([Expect(), Send(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 300_000)]) as server:
        async with connected(server) as transport:
            failure = await refused(transport)

    assert (failure.kind, failure.maybe_sent) == (FailureKind.LOST, True)


async def test_a_reply_is_bounded():
    """An answer longer than the limit is not read on."""
    endless = Send(head(Transfer_Encoding="chunked") + chunk(b"x" * 2000))
    with serving([Expect(), endless, Stall()]) as server:
        async with connected(server, limits=Limits(max_reply_bytes=1000)) as transport:
            failure = await refused(transport)
            server.wait_until_gone()

    assert failure.kind is FailureKind.PROTOCOL


def gzipped(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


async def test_a_compressed_reply_is_unpacked_and_a_bomb_is_not():
    """The limit holds for what comes out, not for what comes in."""
    small = reply(gzipped(b"{}"), Content_Encoding="gzip")
    bomb = reply(gzipped(b"\0" * 10_000_000), Content_Encoding="gzip")
    cut = reply(gzipped(b"{}" * 100)[:-9], Content_Encoding="gzip")
    false = reply(b"{}", Content_Encoding="gzip")
    unknown = reply(b"{}", Content_Encoding="br")
    empty = reply(b"", "204 No Content", Content_Encoding="gzip")
    answers = (small, bomb, cut, false, unknown, empty)
    scripts = [[Expect(), Send(answer), Wait(0.01)] for answer in answers]
    with serving(*scripts) as server:
        async with connected(server, limits=Limits(max_reply_bytes=1000)) as transport:
            assert (await get(transport, fresh=True)).body == b"{}"
            for _ in range(4):
                await anyio.sleep(0.04)
                assert (await refused(transport)).kind is FailureKind.PROTOCOL
            assert (await get(transport)).body == b""


async def test_requests_wait_for_their_turn_without_a_limit():
    """More requests than connections all succeed, in the order of their coming."""
    slow = [Expect(), Wait(0.01), Send(reply())] * 20
    order: list[int] = []

    async def ask(transport: Transport, number: int) -> None:
        await get(transport, f"/{number}")
        order.append(number)

    with serving(slow) as server:
        settings = {"limits": Limits(max_connections=1), "timeouts": Timeouts(pool=0.01)}
        async with connected(server, **settings) as transport:
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(ask, transport, number)
                    for _ in range(3):
                        await anyio.lowlevel.checkpoint()

    assert order == sorted(order)
    assert server.connections == 1


async def test_closing_ends_requests_in_other_tasks():
    """A request under way, or waiting for its turn, says that the client was closed."""
    errors: list[BaseException] = []

    async def ask(transport: Transport) -> None:
        try:
            await get(transport)
        except ClientClosedError as error:
            errors.append(error)

    with serving([Expect(), Stall()]) as server:
        async with connected(server, limits=Limits(max_connections=1)) as transport:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask, transport)
                tasks.start_soon(ask, transport)
                while not server.requests:
                    await anyio.sleep(0.01)
                await transport.aclose()
            server.wait_until_gone()
            with pytest.raises(ClientClosedError):
                await get(transport)

    assert len(errors) == 2


# Many streams


class Opener(httpx.AsyncBaseTransport):
    """Counts the streams that are being opened; those that it is reported to stall never are."""

    def __init__(self, stalls: int = 0) -> None:
        self.stalls = stalls
        self.in_flight = self.most = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            self.stalls -= 1
            if self.stalls >= 0:
                await anyio.sleep_forever()
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            return httpx.Response(200, content=b"")
        finally:
            self.in_flight -= 1


async def open_many(opener: Opener, count: int, open_timeout: float = 5) -> int:
    """Open *count* streams at once; return how many were open in the end."""

    async def open_one() -> None:
        with contextlib.suppress(ExchangeFailedError):
            await open_events(transport, open_timeout)

    async with connected("http://127.0.0.1:9", transport_factory=lambda: opener) as transport:
        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                tasks.start_soon(open_one)
        return transport.statistics().open_streams


async def test_a_crowd_of_streams_is_opened_some_at_a_time():
    """Beyond some dozens, openings wait for those before them; open streams do not count."""
    opener = Opener()

    assert await open_many(opener, 200) == 200
    assert opener.most == 64


async def test_a_stream_has_its_time_from_its_turn_on():
    """What waited for openings that came to nothing is opened all the same."""
    opener = Opener(stalls=64)

    assert await open_many(opener, 70, open_timeout=0.5) == 6
    assert opener.in_flight == 0


# Redirects


def redirect(status: int, location: str | None) -> bytes:
    headers = {} if location is None else {"Location": location}
    return reply(b"", f"{status} Elsewhere", **headers)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_within_the_origin_is_followed_with_credentials(status: int):
    """A GET goes on, with the same headers."""
    script = [Expect(), Send(redirect(status, "/api/v1/y?a=1")), Expect(), Send(reply(b"there"))]
    with serving(script) as server:
        async with connected(server) as transport:
            assert (await get(transport)).body == b"there"

    assert server.requests[1].line == "GET /api/v1/y?a=1 HTTP/1.1"
    assert server.requests[1].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("status", [307, 308])
async def test_a_post_that_was_not_taken_goes_on_with_its_body(status: int):
    """These two statuses say: ask there, with the same method."""
    with serving([Expect(), Send(redirect(status, "/y")), Expect(), Send(reply())]) as server:
        async with connected(server) as transport:
            await transport.exchange("POST", "/x", headers=HEADERS, content=b"{1}")

    assert [(r.line, r.body) for r in server.requests] == [
        ("POST /api/v1/x HTTP/1.1", b"{1}"),
        ("POST /y HTTP/1.1", b"{1}"),
    ]


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_post_is_never_sent_again_where_it_may_have_been_taken(status: int):
    """A redirect that may mean "done, look there" is not followed for a POST."""
    with serving([Expect(), Send(redirect(status, "/y")), Stall()]) as server:
        async with connected(server) as transport:
            with pytest.raises(ExchangeFailedError) as caught:
                await transport.exchange("POST", "/x", headers=HEADERS, content=b"{}")

    assert (caught.value.kind, caught.value.maybe_sent) == (FailureKind.REDIRECT, True)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "location",
    [
        pytest.param("http://127.0.0.2:1/api/v1/x?token=1", id="another host"),
        pytest.param("//localhost/x", id="another name"),
        pytest.param("https://127.0.0.1/x", id="another scheme"),
        pytest.param("ftp://127.0.0.1/x", id="not HTTP"),
        pytest.param("http://user:pass@127.0.0.1:{port}/x", id="with a password"),
        pytest.param("http://[::1/x", id="no address"),
        pytest.param("/api/v1/x", id="itself"),
        pytest.param("", id="empty"),
        pytest.param(None, id="none"),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "stream"])
async def test_a_redirect_that_may_not_be_followed_is_an_error(kind: str, location: str | None):
    """Neither credentials nor the request leave the origin, and nothing spins."""
    script = [Expect(), Send(reply())]
    with serving(script) as server:
        place = location.replace("{port}", str(server.port)) if location else location
        server._scripts = [[Expect(), Send(redirect(307, place)), Stall()]]
        async with connected(server) as transport:
            if kind == "plain":
                failure = await refused(transport)
            else:
                with pytest.raises(ExchangeFailedError) as caught:
                    await transport.open_stream("/x", headers=HEADERS, open_timeout=5)
                failure = caught.value
            assert failure.kind is FailureKind.REDIRECT
            assert "token" not in failure.reason
            assert len(server.requests) == 1


async def test_redirects_are_counted():
    """After five, the sixth is an error, for requests and streams alike."""
    hops = [step for n in range(7) for step in (Expect(), Send(redirect(302, f"/{n}")))]
    with serving(hops) as server:
        async with connected(server) as transport:
            assert (await refused(transport)).kind is FailureKind.REDIRECT
            assert len(server.requests) == 6


async def test_a_stream_follows_redirects_within_its_origin():
    """A stream may have moved, too."""
    moved = [Expect(), Send(redirect(307, "/elsewhere")), Stall()]
    with serving(moved, [Expect(), Send(STREAM_HEAD + chunk(EVENT) + LAST_CHUNK)]) as server:
        async with connected(server) as transport:
            connection = await open_events(transport)
            assert len(await read_all(connection)) == 1
            await connection.aclose()
            server.wait_until_gone()


# Foreign addresses


async def parts(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_an_upload_with_a_length_is_not_chunked_and_carries_nothing_else():
    """The signature of a presigned link covers exactly what is sent."""
    with serving([Expect(), Send(reply(b"", ETag='"1"'))]) as server:
        async with connected("http://api.invalid") as transport:
            signed = {"Content-Length": "6", "If-None-Match": "*"}
            answer = await transport.fetch(
                "PUT", f"{server.url}/b?sig=1", headers=signed, content=parts(b"abc", b"def")
            )
            assert (answer.status, answer.headers["etag"]) == (200, '"1"')
            await answer.aclose()

    (request,) = server.requests
    assert request.line == "PUT /b?sig=1 HTTP/1.1"
    assert request.body == b"abcdef"
    assert set(request.headers) == {"host", "content-length", "if-none-match"}


@pytest.mark.parametrize("pieces", [(b"abc",), (b"abcdefghi",)], ids=["less", "more"])
async def test_an_upload_of_another_length_than_it_says_fails(pieces: tuple[bytes, ...]):
    """It is reported as a fault of the exchange, not as an error of the library below."""
    with serving([Expect(), Stall()]) as server:
        async with connected(server) as transport:
            with pytest.raises(ExchangeFailedError) as caught:
                await transport.fetch(
                    "PUT", server.url, headers={"Content-Length": "6"}, content=parts(*pieces)
                )

    assert caught.value.kind is FailureKind.PROTOCOL


async def test_the_error_of_a_source_is_raised():
    """An error of the uploaded file is the caller's own, not a loss."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"abc"
        raise OSError(5, "disk")

    with serving([Expect(), Stall()]) as server:
        async with connected(server) as transport:
            with pytest.raises(OSError, match="disk"):
                await transport.fetch("PUT", server.url, headers={}, content=broken())


async def test_a_download_is_as_sent():
    """Bytes are counted and stored as they are, so nothing is unpacked."""
    packed = gzipped(b"x" * 1000)
    with serving([Expect(), Send(reply(packed, Content_Encoding="gzip")), Stall()]) as server:
        async with connected(server) as transport:
            async with await transport.fetch("GET", server.url, headers={}) as answer:
                found = b"".join([piece async for piece in answer])
            server.wait_until_gone()

    assert found == packed


async def test_a_cut_download_is_lost():
    """Short of its length is not the whole file."""
    with serving([Expect(), Send(head(Content_Length="10") + b"abc"), Fin()]) as server:
        async with connected(server) as transport:
            async with await transport.fetch("GET", server.url, headers={}) as answer:
                with pytest.raises(ExchangeFailedError) as caught:
                    [piece async for piece in answer]

    assert caught.value.kind is FailureKind.LOST


async def test_the_start_of_a_foreign_answer_can_be_read():
    """Of an error page of any length, a part is enough."""
    endless = Send(head("403 Forbidden", Transfer_Encoding="chunked") + chunk(b"x" * 100))
    with serving([Expect(), endless, Stall()]) as server:
        async with connected(server) as transport:
            async with await transport.fetch("GET", server.url, headers={}) as answer:
                assert await answer.aread(10) == b"x" * 10
            server.wait_until_gone()


async def test_a_foreign_redirect_is_the_callers_decision():
    """Without permission it is an error; with it the target is asked for first."""
    with serving([Expect(), Send(reply(b"file"))]) as target:
        moved = [Expect(), Send(redirect(307, f"{target.url}/f?sig=2"))]
        with serving(moved) as server:
            asked: list[str] = []

            def permit(url: str) -> bool:
                asked.append(url)
                return True

            async with connected("http://api.invalid") as transport:
                with pytest.raises(ExchangeFailedError) as caught:
                    await transport.fetch("GET", server.url, headers={})
                answer = await transport.fetch("GET", server.url, headers={}, may_follow=permit)
                assert await answer.aread(10) == b"file"
                await answer.aclose()

    assert caught.value.kind is FailureKind.REDIRECT
    assert "sig" not in caught.value.reason
    assert asked == [f"{target.url}/f?sig=2"]


async def test_a_body_that_is_gone_is_not_sent_to_a_redirect():
    """What was read once cannot be sent twice; bytes can."""
    with serving([Expect(), Send(redirect(307, "/b")), Expect(), Send(reply())]) as server:
        async with connected(server) as transport:
            with pytest.raises(ExchangeFailedError) as caught:
                await transport.fetch("PUT", server.url, headers={}, content=parts(b"a"))
            assert caught.value.kind is FailureKind.REDIRECT


async def endless(pause: float = 0) -> AsyncIterator[bytes]:
    while True:
        yield bytes(1024 * 1024)
        await anyio.sleep(pause)


async def test_an_upload_that_is_not_taken_times_out():
    """The write limit holds from piece to piece, and no socket is kept that no one reads."""
    with serving([Wait(30)]) as server:
        async with connected("http://api.invalid", timeouts=Timeouts(write=0.3)) as transport:
            before = open_sockets()
            with pytest.raises(ExchangeFailedError) as caught, anyio.fail_after(10):
                await transport.fetch("PUT", server.url, headers={}, content=endless())
            await anyio.sleep(0.1)
            # The server's end of it is in this process.
            assert open_sockets() <= before + 1

    assert (caught.value.kind, caught.value.maybe_sent) == (FailureKind.TIMEOUT, True)
    assert isinstance(caught.value.__cause__, httpx.WriteTimeout)


async def test_a_slow_source_is_not_the_stores_delay():
    """What an upload waits for by itself is not limited, nor the whole by one limit."""

    async def slow() -> AsyncIterator[bytes]:
        for _ in range(4):
            await anyio.sleep(0.3)
            yield b"abc"

    with serving([Expect(), Wait(0.3), Send(reply(b""))]) as server:
        async with connected("http://api.invalid", timeouts=Timeouts(write=0.2)) as transport:
            answer = await transport.fetch("PUT", server.url, headers={}, content=slow())
            await answer.aclose()

    assert server.requests[0].body == b"abc" * 4


def open_sockets() -> int:
    """How many this process has."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found += str(descriptor.readlink()).startswith("socket:")
    return found


LINK = "/a.png?X-Amz-Signature=very-secret"


BAD_STORES: dict[str, list[Any]] = {
    "a bad status line": [Send(b"\0\1 garbage\r\n\r\n"), Fin()],
    "lost": [Reset()],
    "silent": [Stall()],
    "cut in the body": [Send(head(Content_Length="10") + b"abc"), Fin()],
}


@contextlib.contextmanager
def store_that_fails(way: str) -> Iterator[str]:
    """A store's origin, which no file can be had from."""
    if way in BAD_STORES:
        with serving([Expect(), *BAD_STORES[way]]) as server:
            yield server.url
        return
    with contextlib.ExitStack() as opened:
        store = opened.enter_context(socket.socket())
        store.bind(("127.0.0.1", 0))
        if way == "not accepting":
            store.listen(0)
            # The queue of those that are not accepted is full: nobody else gets an answer.
            for _ in range(4):
                waiting = opened.enter_context(socket.socket())
                waiting.settimeout(0)
                waiting.connect_ex(store.getsockname())
        yield f"http://127.0.0.1:{store.getsockname()[1]}"


async def fetch_whole(transport: Transport, url: str) -> None:
    async with await transport.fetch("GET", url, headers={}) as answer:
        async for _ in answer:
            pass


@pytest.mark.parametrize(
    ("way", "kind"),
    [
        ("not accepting", FailureKind.CONNECT),
        ("refused", FailureKind.CONNECT),
        ("a bad status line", FailureKind.LOST),
        ("lost", FailureKind.LOST),
        ("silent", FailureKind.TIMEOUT),
        ("cut in the body", FailureKind.LOST),
    ],
)
async def test_no_traceback_holds_a_presigned_link(way: str, kind: FailureKind):
    """Neither an error nor one below it says where the signature can be read."""
    patience = Timeouts(connect=0.2, read=0.2)
    with store_that_fails(way) as store:
        async with connected("http://api.invalid", timeouts=patience) as transport:
            with pytest.raises(ExchangeFailedError) as caught:
                await fetch_whole(transport, store + LINK)

    assert caught.value.kind is kind
    assert "very-secret" not in "".join(traceback.format_exception(caught.value))
    assert all("very-secret" not in repr(error) for error in chain_of(caught.value))


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(f"HTTP/1.1 302 Found\r\nLocation: {LINK}\0\r\n\r\n".encode(), id="header"),
        pytest.param(STREAM_HEAD + f'{{"url": "{LINK}"}}\r\n'.encode(), id="chunk"),
    ],
)
@pytest.mark.parametrize("way", ["plain", "stream", "file"])
async def test_no_traceback_quotes_what_is_no_http(way: str, answer: bytes):
    """What came may be a link too, wherever it stands."""
    with serving([Expect(), Send(answer), Fin()]) as server:
        async with connected(server) as transport:
            with pytest.raises(ExchangeFailedError) as caught:
                if way == "plain":
                    await get(transport)
                elif way == "stream":
                    await read_all(await open_events(transport))
                else:
                    await fetch_whole(transport, server.url)

    assert caught.value.kind is FailureKind.LOST
    assert "very-secret" not in "".join(traceback.format_exception(caught.value))


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """All that is below an error, also what no traceback shows."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("url", ["ftp://host/x", "file:///etc/passwd", "/x", "http://", "\0"])
async def test_a_link_that_is_no_address_is_refused(url: str):
    """It is not asked, and not repeated in the error."""
    async with connected("http://api.invalid") as transport:
        with pytest.raises(ExchangeFailedError, match="not an HTTP address") as caught:
            await transport.fetch("GET", url, headers={})

    assert (caught.value.kind, caught.value.maybe_sent) == (FailureKind.CONNECT, False)


@pytest.mark.parametrize("content", [None, b"abc"], ids=["download", "upload"])
async def test_headers_of_a_foreign_answer_that_drip_have_a_total(content: bytes | None):
    """Once all is sent, the headers have `Timeouts.total` seconds, whatever comes meanwhile."""
    drops = [Wait(0.1), Send(b"X-Drop: 1\r\n")] * 50
    times = Timeouts(read=0.3, total=0.5)
    body = None if content is None else parts(content)
    headers = {} if content is None else {"Content-Length": str(len(content))}
    with serving([Expect(), Send(b"HTTP/1.1 200 OK\r\n"), *drops]) as server:
        async with connected(server, timeouts=times) as transport:
            with anyio.fail_after(4), pytest.raises(ExchangeFailedError, match=r"within 0\.5 s"):
                await transport.fetch(
                    "GET" if content is None else "PUT", server.url, headers=headers, content=body
                )


async def test_the_excerpt_of_a_foreign_answer_that_drips_has_a_total():
    """What an object store says of a refusal is read for so long, and no longer."""
    drops = [Wait(0.1), Send(b"x")] * 50
    with serving([Expect(), Send(head(Content_Length="1000")), *drops]) as server:
        async with connected(server, timeouts=Timeouts(read=0.3, total=0.5)) as transport:
            async with await transport.fetch("GET", server.url, headers={}) as answer:
                with anyio.fail_after(4), pytest.raises(ExchangeFailedError):
                    await answer.aread(500)
