"""`StreamingASGITransport` behaves to an app as uvicorn does, and to its caller as httpx's own."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from cyberun_async.testing import StreamingASGITransport, virtual_backend


# On trio, httpx's own generators warn when a reader leaves a body early; they hold nothing.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return virtual_backend(request.param)


def client_of(app: Any, **settings: Any) -> httpx.AsyncClient:
    transport = StreamingASGITransport(app, **settings)
    return httpx.AsyncClient(transport=transport, base_url="http://site.test", timeout=None)


async def passed_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


MIDDLEWARE = [
    pytest.param([], id="bare"),
    pytest.param([Middleware(BaseHTTPMiddleware, dispatch=passed_on)], id="middleware"),
]


# Clients that leave


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_handler_learns_that_its_client_has_left(method: str) -> None:
    """`await request.is_disconnected()` is false while the client waits, and true afterwards."""
    seen: list[bool] = []

    async def slow(request: Request) -> Response:
        if method == "POST":
            assert await request.body() == b"hello"
        while not (is_gone := await request.is_disconnected()):
            seen.append(is_gone)
            await anyio.sleep(1)
        seen.append(is_gone)
        return PlainTextResponse("too late")

    app = Starlette(routes=[Route("/", slow, methods=[method])])
    async with client_of(app, disconnect_grace=5) as client:
        with anyio.move_on_after(3.5):
            await client.request(method, "/", content=b"hello" if method == "POST" else None)

    assert seen == [False, False, False, False, True]


async def test_a_streaming_handler_learns_that_its_reader_has_left() -> None:
    """A body made while somebody reads sees the disconnect, too."""
    seen: list[str] = []

    async def numbers(request: Request) -> AsyncIterator[bytes]:
        try:
            while not await request.is_disconnected():
                yield b"x"
                await anyio.sleep(1)
            seen.append("left")
        except BaseException:
            # Starlette listens for the disconnect, too, and may be the first.
            seen.append("left")
            raise

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(numbers(request))

    async with client_of(Starlette(routes=[Route("/", endpoint)])) as client:
        async with client.stream("GET", "/") as response:
            async for _ in response.aiter_raw():
                break

    assert seen == ["left"]


async def test_to_look_for_a_disconnect_takes_nothing_of_the_body_along() -> None:
    """A body that is being sent is whole for who reads it after `is_disconnected()`."""

    async def slowly() -> AsyncIterator[bytes]:
        for part in (b"one ", b"two ", b"three"):
            await anyio.sleep(1)
            yield part

    async def endpoint(request: Request) -> Response:
        assert not await request.is_disconnected()
        return Response(await request.body())

    app = Starlette(routes=[Route("/", endpoint, methods=["POST"])])
    async with client_of(app) as client:
        answer = await client.post("/", content=slowly())

    assert answer.text == "one two three"


# Exceptions


class OddityError(Exception):
    """What only a handler raises."""


async def fail(request: Request) -> Response:
    raise OddityError


async def regret(request: Request, error: Exception) -> Response:
    return PlainTextResponse("sorry", status_code=418)


@pytest.mark.parametrize("middleware", MIDDLEWARE)
@pytest.mark.parametrize("handlers", [{}, {Exception: regret}], ids=["own-500", "handler"])
async def test_an_exception_of_a_handler_reaches_the_test(
    middleware: list[Middleware], handlers: Any
) -> None:
    """Where Starlette answers 500 and raises, the test sees the exception, streaming or not."""
    app = Starlette(
        routes=[Route("/", fail)], middleware=middleware, exception_handlers=handlers, debug=True
    )
    async with client_of(app) as client:
        with pytest.raises(OddityError):
            await client.get("/")
        with pytest.raises(OddityError):
            async with client.stream("GET", "/"):
                raise AssertionError("the response has no exception in it")


async def test_switched_off_the_exception_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    """With `raise_app_exceptions=False` the response comes, and the exception is logged."""
    with caplog.at_level(logging.ERROR, "cyberun_async.testing"):
        app = Starlette(routes=[Route("/", fail)])
        async with client_of(app, raise_app_exceptions=False) as client:
            assert (await client.get("/")).status_code == 500

    found = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert found == [OddityError]


async def test_an_error_that_is_streamed_is_not_waited_for() -> None:
    """A response of 500 that goes on for an hour is there after the grace, and is read."""

    async def numbers() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x"
            await anyio.sleep(3600)

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(numbers(), status_code=500)

    async with client_of(Starlette(routes=[Route("/", endpoint)])) as client:
        zero = anyio.current_time()
        async with client.stream("GET", "/") as response:
            assert anyio.current_time() - zero == pytest.approx(1.0)
            assert await response.aread() == b"xxx"


# The lifespan


@asynccontextmanager
async def with_a_pool(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    app.state.events = ["up"]
    yield {"pool": ["connection"]}
    await anyio.sleep(30)
    app.state.events.append("down")


async def pool(request: Request) -> Response:
    request.state.mine = True
    return JSONResponse(request.state.pool)


async def has_mine(request: Request) -> Response:
    return JSONResponse(hasattr(request.state, "mine"))


async def test_what_a_lifespan_yields_is_in_the_request_s_state() -> None:
    """Entered, the transport runs the app's lifespan around all requests, as a server does."""
    app = Starlette(routes=[Route("/", pool), Route("/mine", has_mine)], lifespan=with_a_pool)
    async with client_of(app) as client:
        assert app.state.events == ["up"]
        assert (await client.get("/")).json() == ["connection"]
        # Each request has a copy of its own.
        assert (await client.get("/mine")).json() is False

    assert app.state.events == ["up", "down"]


@pytest.mark.parametrize("lifespan", [True, False, None])
async def test_a_lifespan_can_be_asked_for_and_left(lifespan: bool | None) -> None:
    """An app that is wrapped has its lifespan run where asked; any app can do without."""
    inner = Starlette(routes=[Route("/", has_mine)], lifespan=with_a_pool)
    inner.state.events = []

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        await inner(scope, receive, send)

    async with client_of(wrapped, lifespan=lifespan) as client:
        assert (await client.get("/")).json() is False

    assert inner.state.events == (["up", "down"] if lifespan else [])


@pytest.mark.parametrize("moment", ["startup", "shutdown"])
async def test_a_lifespan_that_fails_fails_the_test(moment: str) -> None:
    """The app's own exception is raised where the transport is entered or closed."""

    @asynccontextmanager
    async def failing(app: Starlette) -> AsyncIterator[None]:
        if moment == "startup":
            raise OddityError
        yield
        raise OddityError

    steps: list[str] = []
    with pytest.raises(OddityError):
        async with client_of(Starlette(lifespan=failing), lifespan=True):
            steps.append("entered")

    assert steps == ([] if moment == "startup" else ["entered"])


async def test_clients_of_one_app_share_its_lifespan() -> None:
    """Two browsers at one app are served by one lifespan, which ends with the last of them."""
    app = Starlette(routes=[Route("/", pool)], lifespan=with_a_pool)
    async with client_of(app) as one:
        async with client_of(app) as other:
            assert (await other.get("/")).json() == ["connection"]
        assert app.state.events == ["up"]
        assert (await one.get("/")).json() == ["connection"]
    assert app.state.events == ["up", "down"]

    async with client_of(app) as later:
        assert (await later.get("/")).json() == ["connection"]
    assert app.state.events == ["up", "down"]


async def test_a_lifespan_that_runs_already_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """A test that runs the lifespan by itself is served, and the log says what was tried."""
    opened: list[str] = []

    @asynccontextmanager
    async def once(app: Starlette) -> AsyncIterator[None]:
        if opened:
            raise OddityError
        opened.append("opened")
        yield

    app = Starlette(routes=[Route("/", has_mine)], lifespan=once)
    with caplog.at_level(logging.ERROR, "cyberun_async.testing"):
        async with app.router.lifespan_context(app), client_of(app) as client:
            assert (await client.get("/")).json() is False
            async with client_of(app) as other:
                assert (await other.get("/")).json() is False

    assert "lifespan did not start" in caplog.text


async def does_not_look(scope: Any, receive: Any, send: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def refuses(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def answers_at_once(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@pytest.mark.parametrize("app", [does_not_look, refuses, answers_at_once])
async def test_an_app_without_a_lifespan_is_served_all_the_same(app: Any) -> None:
    """One that knows no lifespan holds nobody up."""
    async with client_of(app, lifespan=True) as client:
        with anyio.move_on_after(5):
            assert (await client.get("/")).status_code == 204


async def test_an_app_may_say_that_it_does_not_start() -> None:
    """`lifespan.startup.failed` without an exception is an error with its message."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(RuntimeError, match="startup failed: no database"):
        async with client_of(app, lifespan=True):
            pass


async def test_cancelled_while_the_lifespan_ends_nothing_is_left() -> None:
    """A shutdown that takes too long is cut by the caller's timeout."""
    ended: list[str] = []

    @asynccontextmanager
    async def slow(app: Starlette) -> AsyncIterator[None]:
        yield
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("ended")

    client = client_of(Starlette(lifespan=slow))
    await client.__aenter__()
    with anyio.move_on_after(5):
        await client.aclose()

    assert ended == ["ended"]
