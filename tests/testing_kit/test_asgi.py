"""The in-process transport streams both ways, tells the app of disconnects, and leaves nothing."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
import trio.testing
from httpx_sse import EventSource
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cyberun_async.testing._asgi.transport import (
    ASGIApp,
    Receive,
    Scope,
    Send,
    StreamingASGITransport,
)
from cyberun_async.testing._clock import VirtualClockLoop


# On trio, httpx's own generators warn when a reader leaves a body early; they hold nothing.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")

HOUR = 3600.0


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    if request.param == "trio":
        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": VirtualClockLoop}


class Witness:
    """An app made of a function, and what happened to it."""

    def __init__(self, body: Callable[[Receive, Send, "Witness"], Awaitable[None]]) -> None:
        self.body = body
        self.scope: Scope = {}
        self.received: list[str] = []
        self.sent = 0
        self.ended: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        how = "returned"
        try:
            await self.body(self._noting(receive), send, self)
        except Exception:
            how = "failed"
            raise
        except BaseException:
            how = "cancelled"
            raise
        finally:
            self.ended.append(how)

    def _noting(self, receive: Receive) -> Receive:
        async def noting_receive() -> Any:
            message = await receive()
            self.received.append(message["type"])
            return message

        return noting_receive


async def start(send: Send, status: int = 200, *, content_type: str = "text/plain") -> None:
    headers = [(b"content-type", content_type.encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def part(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def event(send: Send, witness: Witness, *, pause: float = 1.0) -> None:
    """Send numbered parts forever."""
    while True:
        await part(send, b"%d" % witness.sent)
        witness.sent += 1
        await anyio.sleep(pause)


def client_for(app: ASGIApp, **settings: Any) -> httpx.AsyncClient:
    transport = StreamingASGITransport(app, **settings)
    return httpx.AsyncClient(transport=transport, base_url="http://test", timeout=None)


async def settle() -> None:
    for _ in range(10):
        await anyio.lowlevel.checkpoint()


# Streaming


async def test_an_event_an_hour_is_read_in_virtual_time() -> None:
    """Headers come first, each event at its hour, and a day of it takes no real time."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send, content_type="text/event-stream")
        for number in range(24):
            await anyio.sleep(HOUR)
            await part(send, b"event: progress event\ndata: %d\n\n" % number)
        await part(send, b"", more=False)

    began = time.monotonic()
    zero = anyio.current_time()
    async with client_for(Witness(body)) as client, client.stream("GET", "/") as response:
        assert response.status_code == 200
        assert anyio.current_time() == zero
        seen = [
            (anyio.current_time() - zero, event.data)
            async for event in EventSource(response).aiter_sse()
        ]

    assert seen == [((number + 1) * HOUR, str(number)) for number in range(24)]
    assert time.monotonic() - began < 5


async def test_a_starlette_app_works() -> None:
    """Requests and responses of an ordinary application pass unchanged."""

    async def echo(request: Request) -> Response:
        body = {
            "method": request.method,
            "path": request.url.path,
            "query": dict(request.query_params),
            "host": request.headers["host"],
            "json": await request.json(),
            "client": request.client.host if request.client else None,
        }
        return JSONResponse(body, 201, headers={"x-a": "b"})

    app = Starlette(routes=[Route("/a b/{id}", echo, methods=["POST"])])
    async with client_for(app, client=("9.9.9.9", 1)) as client:
        response = await client.post("/a%20b/7?q=1", json={"x": [1]})
        missing = await client.get("/nothing")

    assert (response.status_code, response.headers["x-a"]) == (201, "b")
    assert response.json() == {
        "method": "POST",
        "path": "/a b/7",
        "query": {"q": "1"},
        "host": "test",
        "json": {"x": [1]},
        "client": "9.9.9.9",
    }
    assert missing.status_code == 404


async def test_the_scope_is_that_of_a_server() -> None:
    """The raw path, the query and the server's address come from the URL as it was sent."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send, 204)
        await part(send, b"", more=False)

    app = Witness(body)
    async with client_for(app, root_path="/sub") as client:
        await client.get("https://host/a%2Fb?x=%20", headers={"X-Key": "v"})

    wanted = {
        "type": "http",
        "scheme": "https",
        "path": "/a/b",
        "raw_path": b"/a%2Fb",
        "query_string": b"x=%20",
        "root_path": "/sub",
        "server": ("host", 443),
    }
    assert wanted == {name: app.scope[name] for name in wanted}
    assert (b"x-key", b"v") in app.scope["headers"]


async def test_a_request_body_is_streamed_while_the_app_reads() -> None:
    """The app gets each part when it is made, and can answer in between."""
    zero = anyio.current_time()
    arrivals: list[tuple[float, bytes]] = []

    async def upload() -> AsyncIterator[bytes]:
        for number in range(3):
            await anyio.sleep(10)
            yield b"%d" % number

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        while (message := await receive())["more_body"]:
            arrivals.append((anyio.current_time() - zero, message["body"]))
        await start(send)
        await part(send, b"thanks", more=False)

    async with client_for(Witness(body)) as client:
        response = await client.post("/", content=upload())

    assert response.text == "thanks"
    assert arrivals == [(10, b"0"), (20, b"1"), (30, b"2")]


async def test_a_failing_request_body_fails_the_request() -> None:
    """What the caller's body raises comes back to the caller; the app sees a disconnect."""

    async def upload() -> AsyncIterator[bytes]:
        yield b"x"
        raise KeyError("my own")

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await until_disconnect(receive)

    app = Witness(body)
    async with client_for(app) as client:
        with pytest.raises(KeyError, match="my own"):
            await client.post("/", content=upload())

    assert app.received == ["http.request", "http.disconnect"]
    assert app.ended == ["returned"]


async def test_a_request_body_the_app_leaves_is_closed() -> None:
    """A body that is not read to its end is not left hanging."""
    closed: list[bool] = []

    class Upload(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x"
            finally:
                await anyio.lowlevel.checkpoint()
                closed.append(True)

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await receive()
        await start(send, 413)
        await part(send, b"", more=False)

    async with client_for(Witness(body)) as client:
        response = await client.send(httpx.Request("POST", "http://test/", stream=Upload()))

    assert response.status_code == 413
    assert closed == [True]


async def test_a_body_may_be_a_bare_iterator() -> None:
    """A stream that is its own iterator, without `aclose`, does; a synchronous one does not."""

    class Upload(httpx.AsyncByteStream):
        left = 2

        def __aiter__(self) -> AsyncIterator[bytes]:
            return self

        async def __anext__(self) -> bytes:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return b"x"

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        while (await receive())["more_body"]:
            pass
        await start(send)
        await part(send, b"thanks", more=False)

    app = Witness(body)
    async with client_for(app) as client:
        request = httpx.Request("POST", "http://test/", stream=Upload())
        assert (await client.send(request)).text == "thanks"
    assert app.received == ["http.request"] * 3
    async with StreamingASGITransport(app) as transport:
        synchronous = httpx.Request("POST", "http://test/", content=iter([b"x"]))
        with pytest.raises(TypeError, match="synchronous body"):
            await transport.handle_async_request(synchronous)


async def test_a_fast_app_waits_for_its_reader() -> None:
    """No more parts are made than the reader takes and may wait for it."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        await event(send, witness, pause=0)

    app = Witness(body)
    async with (
        client_for(app, max_waiting_parts=3) as client,
        client.stream("GET", "/") as response,
    ):
        await anyio.sleep(HOUR)
        before = app.sent
        parts = response.aiter_raw()
        taken = [await anext(parts) for _ in range(5)]
        await anyio.sleep(HOUR)
        after = app.sent

    assert before == 3
    assert after == 8
    assert taken == [b"0", b"1", b"2", b"3", b"4"]


async def test_head_has_no_body() -> None:
    """What an app sends as the body of a HEAD response is dropped."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        await part(send, b"dropped", more=False)

    async with client_for(Witness(body)) as client:
        response = await client.head("/")

    assert response.content == b""


async def test_silence_raises_a_read_timeout() -> None:
    """The read timeout of the request holds for the headers and for each part."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await anyio.sleep(3)
        await start(send)
        await part(send, b"x")
        await anyio.sleep(30)

    zero = anyio.current_time()
    async with client_for(Witness(body)) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.get("/", timeout=httpx.Timeout(None, read=2.0))
        assert anyio.current_time() - zero == pytest.approx(3.0)  # one second of it is grace
        async with client.stream("GET", "/", timeout=httpx.Timeout(None, read=4.0)) as response:
            parts = response.aiter_raw()
            assert await anext(parts) == b"x"
            with pytest.raises(httpx.ReadTimeout):
                await anext(parts)


# Disconnects


async def test_leaving_the_response_disconnects_the_app() -> None:
    """By the time the response is closed the app has seen the disconnect and has ended."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        await part(send, b"x")
        await until_disconnect(receive)

    app = Witness(body)
    zero = anyio.current_time()
    async with client_for(app) as client:
        async with client.stream("GET", "/") as response:
            async for _ in response.aiter_raw():
                break
        assert app.ended == ["returned"]
        assert app.received == ["http.request", "http.disconnect"]
        assert anyio.current_time() == zero


async def test_starlette_ends_a_stream_whose_client_left() -> None:
    """Starlette's own streaming response notices and closes its generator."""
    ended: list[bool] = []

    async def events() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b": heartbeat\n\n"
                await anyio.sleep(15)
        finally:
            ended.append(True)

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(events(), media_type="text/event-stream")

    app = Starlette(routes=[Route("/", endpoint)])
    async with client_for(app) as client:
        async with client.stream("GET", "/") as response:
            async for _ in response.aiter_raw():
                break
        assert ended == [True]


async def test_an_app_that_ignores_the_disconnect_is_cancelled() -> None:
    """After the grace the app is cancelled, and has ended when the close returns."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        await event(send, witness)

    app = Witness(body)
    async with client_for(app, disconnect_grace=5) as client:
        async with client.stream("GET", "/"):
            await anyio.sleep(10)
            sent = app.sent
            zero = anyio.current_time()
        assert app.ended == ["cancelled"]
        assert app.sent > sent
        assert anyio.current_time() - zero == pytest.approx(5)


async def test_an_app_that_waits_in_send_is_freed_by_the_disconnect() -> None:
    """Backpressure does not keep an app from learning that its reader left."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        for _ in range(100):
            await part(send, b"x")
            witness.sent += 1

    app = Witness(body)
    async with client_for(app, max_waiting_parts=1) as client:
        async with client.stream("GET", "/"):
            await anyio.sleep(1)
            assert app.sent == 1
        assert (app.sent, app.ended) == (100, ["returned"])


async def test_cancellation_before_the_headers_ends_the_app() -> None:
    """A caller that gives up leaves no app behind."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await until_disconnect(receive)

    app = Witness(body)
    async with client_for(app) as client:
        with anyio.move_on_after(3) as scope:
            await client.get("/")
        assert scope.cancelled_caught
        assert app.received == ["http.request", "http.disconnect"]
        assert app.ended == ["returned"]


async def test_cancellation_while_reading_ends_the_app() -> None:
    """A cancelled reader closes its response, and the app sees the disconnect."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        await until_disconnect(receive)

    app = Witness(body)
    async with client_for(app) as client:
        with anyio.move_on_after(3):
            async with client.stream("GET", "/") as response:
                await response.aread()
        assert app.received == ["http.request", "http.disconnect"]
        assert app.ended == ["returned"]


async def test_another_task_may_close_the_response() -> None:
    """Closing from elsewhere ends the app and gives the reader a ReadError."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        await until_disconnect(receive)

    app = Witness(body)
    outcomes: list[str] = []

    async def read(response: httpx.Response) -> None:
        with pytest.raises(httpx.ReadError):
            await response.aread()
        outcomes.append("ReadError")

    async with client_for(app) as client, anyio.create_task_group() as group:
        response = await client.send(client.build_request("GET", "/"), stream=True)
        group.start_soon(read, response)
        await anyio.sleep(1)
        group.start_soon(response.aclose)
        await anyio.sleep(1)
        assert outcomes == ["ReadError"]
        assert app.ended == ["returned"]


async def test_a_response_opened_in_a_dead_task_is_closed_elsewhere() -> None:
    """A response outlives the task and the scopes in which it was opened."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        await event(send, witness)

    app = Witness(body)
    opened: list[httpx.Response] = []
    async with client_for(app) as client:

        async def open_it() -> None:
            with anyio.fail_after(5):
                opened.append(await client.send(client.build_request("GET", "/"), stream=True))

        async with anyio.create_task_group() as group:
            group.start_soon(open_it)
        parts = opened[0].aiter_raw()
        await anyio.sleep(20)
        assert [await anext(parts) for _ in range(3)] == [b"0", b"1", b"2"]
        await opened[0].aclose()
        assert app.ended == ["cancelled"]


async def test_closing_the_client_ends_every_app() -> None:
    """Open responses, complete ones with background work and unread ones: all end together."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        if len(witness.ended) == 0 and witness.sent == 0:
            witness.sent = 1
            await part(send, b"done", more=False)
            await anyio.sleep_forever()
        await event(send, witness)

    app = Witness(body)
    zero = anyio.current_time()
    client = client_for(app)
    assert (await client.get("/")).text == "done"
    opened = [await client.send(client.build_request("GET", "/"), stream=True) for _ in range(3)]
    assert app.ended == []

    await client.aclose()

    assert app.ended == ["cancelled"] * 4
    assert anyio.current_time() - zero == pytest.approx(1.0)
    for response in opened:
        with pytest.raises(httpx.ReadError):
            await response.aread()
        await response.aclose()


async def test_a_closed_transport_takes_no_request() -> None:
    """Using the transport after its end is an error that says so."""
    transport = StreamingASGITransport(Starlette())
    await transport.aclose()

    with pytest.raises(RuntimeError, match="transport is closed"):
        await transport.handle_async_request(httpx.Request("GET", "http://test/"))


async def test_background_work_goes_on_after_a_complete_response() -> None:
    """Reading a response to its end does not cut what the app does afterwards."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        await part(send, b"done", more=False)
        await until_disconnect(receive)
        await anyio.sleep(HOUR)

    app = Witness(body)
    async with client_for(app) as client:
        zero = anyio.current_time()
        await client.get("/")
        assert (app.ended, anyio.current_time() - zero) == ([], 0)
        await anyio.sleep(2 * HOUR)
        assert app.ended == ["returned"]


# Broken apps


async def test_a_failure_before_the_headers_reaches_the_caller() -> None:
    """The app's own exception is raised, so that a test shows where it comes from."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        raise ZeroDivisionError

    async with client_for(Witness(body)) as client:
        with pytest.raises(ZeroDivisionError):
            await client.get("/")


async def test_a_failure_before_the_headers_may_be_a_500() -> None:
    """Asked to, the transport answers as a server would."""

    async def fail(receive: Receive, send: Send, witness: Witness) -> None:
        raise ZeroDivisionError

    async def leave(receive: Receive, send: Send, witness: Witness) -> None:
        pass

    for body in (fail, leave):
        async with client_for(Witness(body), raise_app_exceptions=False) as client:
            response = await client.get("/")
            assert (response.status_code, response.text) == (500, "Internal Server Error")


async def test_an_app_without_an_answer_is_a_protocol_error() -> None:
    """Returning without a response is not an empty response."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        pass

    async with client_for(Witness(body)) as client:
        with pytest.raises(httpx.RemoteProtocolError, match="without a response"):
            await client.get("/")


@pytest.mark.parametrize("how", ["raise", "return"])
async def test_a_body_that_breaks_off_is_not_a_clean_end(how: str) -> None:
    """What was sent is read, then comes RemoteProtocolError, from the app's exception."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        await part(send, b"a")
        await part(send, b"b")
        if how == "raise":
            raise ZeroDivisionError

    async with client_for(Witness(body)) as client, client.stream("GET", "/") as response:
        parts = response.aiter_raw()
        got = [await anext(parts), await anext(parts)]
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await anext(parts)

    assert got == [b"a", b"b"]
    assert isinstance(caught.value.__cause__, ZeroDivisionError) == (how == "raise")


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(["http.response.body"], id="body-first"),
        pytest.param(["http.response.start"] * 2, id="two-starts"),
        pytest.param(["http.response.start", "http.response.nonsense"], id="unknown"),
        pytest.param(["http.response.start", *["http.response.body"] * 2], id="behind-the-end"),
    ],
)
async def test_an_app_that_breaks_the_protocol_gets_an_error(messages: list[str]) -> None:
    """A message at the wrong time raises in the app, where the mistake is."""
    problems: list[str] = []

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        for kind in messages:
            try:
                await send({"type": kind, "status": 200})
            except RuntimeError as error:
                problems.append(str(error))

    client = client_for(Witness(body), raise_app_exceptions=False)
    async with client, client.stream("GET", "/"):
        await settle()

    assert problems == [f"the app sent {messages[-1]!r} at the wrong time"]


async def test_a_failure_behind_the_response_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody reads any more, so the exception goes to the log instead of being lost."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        await part(send, b"fine", more=False)
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, "cyberun_async.testing"):
        async with client_for(Witness(body)) as client:
            assert (await client.get("/")).text == "fine"
            await settle()

    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [
        ZeroDivisionError
    ]


# Ownership


async def test_many_streams_at_once_leave_nothing_behind() -> None:
    """Three hundred streams, left in every way, leave no task and no open stream."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        async with anyio.create_task_group() as group:
            group.start_soon(event, send, witness)
            await until_disconnect(receive)
            group.cancel_scope.cancel()

    app = Witness(body)
    async with client_for(app) as client:

        async def follow(number: int) -> None:
            with anyio.move_on_after(5 if number % 3 == 0 else None):
                async with client.stream("GET", "/") as response:
                    async for chunk in response.aiter_raw():
                        if number % 3 == 1 and len(chunk) > 2:
                            break
                        if number % 3 == 2 and len(chunk) > 2:
                            raise KeyError(number)

        async def follow_and_forgive(number: int) -> None:
            try:
                await follow(number)
            except KeyError:
                assert number % 3 == 2

        async with anyio.create_task_group() as group:
            for number in range(300):
                group.start_soon(follow_and_forgive, number)
        assert len(app.ended) == 300

    gc.collect()
    assert client.is_closed


def test_native_cancellation_of_the_reader_ends_the_app() -> None:
    """Asyncio's own cancellation, twice, still leaves no app running when the client is closed."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        await event(send, witness)

    app = Witness(body)

    async def read(client: httpx.AsyncClient) -> None:
        async with client.stream("GET", "/") as response:
            await response.aread()

    async def main() -> None:
        async with client_for(app) as client:
            task = asyncio.create_task(read(client))
            await asyncio.sleep(3)
            task.cancel()
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert app.ended == ["cancelled"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    VirtualClockLoop.run(main())


def test_cancelling_at_any_step_leaves_nothing() -> None:
    """Cancelled at its first step, its second, and so on: the app always ends."""

    async def body(receive: Receive, send: Send, witness: Witness) -> None:
        await start(send)
        for _ in range(3):
            await part(send, b"x")
        await until_disconnect(receive)

    async def cancelled_at(step: int) -> bool:
        app = Witness(body)
        async with client_for(app, max_waiting_parts=1) as client:

            async def read() -> None:
                async with client.stream("GET", "/") as response:
                    count = 0
                    async for _ in response.aiter_raw():
                        count += 1
                        if count == 3:
                            break

            task = asyncio.create_task(read())
            for _ in range(step):
                await asyncio.sleep(0)
            was_running = task.cancel()
            await asyncio.wait([task])
        assert len(app.ended) <= 1
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return was_running

    async def main() -> None:
        step = 0
        while await cancelled_at(step):
            step += 1
        assert step > 5

    VirtualClockLoop.run(main())
