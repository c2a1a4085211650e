"""
The only way to the network: one HTTP exchange, one event stream, one foreign file.

Nothing is retried and nothing is authorised here, and nothing of httpx goes out:
failures are :class:`ExchangeFailedError`, which says whether the request may have
arrived. Streams and foreign files have a connection each, plain requests share a
few; ``connections`` says why no pool of httpx is used for that.
"""

import functools
import ssl
import sys
from collections.abc import AsyncIterable, Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import anyio
import anyio.to_thread
import attrs
import httpx

from .._model import ClientClosedError, Timeouts
from .._protocol import Departure, ExchangeFailedError, FailureKind, Response
from .backends import Loads, backend_for
from .body import Body, Closable, close_all, read_whole
from .connections import Connection, ConnectionPool, Progress
from .custom_client import made_by, send_by_client
from .event_stream import CONTENT_TYPE, EventConnection
from .failures import RAISED_BY_TRANSPORTS, cause_of, failure
from .fairness import FairSemaphore, Usage
from .foreign import ForeignResponse
from .proxies import Via, check_proxy_answer, rules_for_all, rules_from_environment
from .requests import (
    Headers,
    Params,
    Phases,
    Redirects,
    api_url,
    body_of,
    build_request,
    cannot_send_again,
    foreign_url,
    host_of,
    is_redirect,
    with_headers,
)
from .settings import TransportKind, TransportSettings, TransportStatistics
from .tls import context_for, reads_files


OpenedT = TypeVar("OpenedT")

_STREAM_HEADERS: Headers = {
    "accept": CONTENT_TYPE,
    "cache-control": "no-cache",
    "accept-encoding": "identity",
}

# What a stream needs while it is opened is half as much again as what it needs
# afterwards, and thousands of handshakes at once do not get done any sooner.
_OPENINGS_AT_ONCE = 64

# One connection in so many serves nothing but status checks.
_KEPT_FOR_CHECKS = 5

# What is imported with the first connection.
_LOADED: Mapping[TransportKind, str] = {"httpx": "httpcore", "aiohttp": "httpx_aiohttp"}

# How long closing waits for requests in other tasks to notice.
_CLOSE_SECONDS = 5.0


class Transport:
    """
    Makes requests for one client.

    Each call may be cancelled at any moment, by anyio or by ``Task.cancel``, also
    twice: no connection, no place and no task is lost by it.

    Args:
        settings: How it reaches the service.
        is_shared: Whether several tenants use it now.
    """

    def __init__(
        self, settings: TransportSettings, is_shared: Callable[[], bool] = lambda: False
    ) -> None:
        self._settings = settings
        self._proxies = (
            rules_from_environment() if settings.proxy is None else rules_for_all(settings.proxy)
        )
        self._backend = backend_for(settings.kind)
        self.loads: Loads = self._backend.loads
        via = self._proxies.via_for(settings.base_url)
        if via is not None and settings.transport_factory is None:
            # Raises now and not at the first request.
            self._backend.make_proxy(via, None)
        # One is made now for the same reason; the first connection takes it.
        factory = settings.transport_factory
        self._made = None if factory is None else made_by(factory)
        most = settings.limits.max_connections
        self._requests = FairSemaphore(most, is_shared, reserved=most // _KEPT_FOR_CHECKS)
        self._openings = FairSemaphore(_OPENINGS_AT_ONCE, is_shared)
        base = httpx.URL(settings.base_url)
        self._pool = ConnectionPool(lambda: self._connect(base), settings.clock, most)
        self._streams: dict[EventConnection, Usage | None] = {}
        self._fetches: dict[ForeignResponse, Usage | None] = {}
        self._running: set[anyio.CancelScope] = set()
        self._all_ended: anyio.Event | None = None
        self._is_closed = False

    # Plain requests

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Headers,
        params: Params | None = None,
        content: bytes | None = None,
        fresh: bool = False,
        timeouts: Timeouts | None = None,
        is_check: bool = False,
        departure: Departure | None = None,
        usage: Usage | None = None,
    ) -> Response:
        """
        Make one request of the API and return its whole answer, whatever the status.

        Redirects within the origin are followed. Of requests that come at once, only
        ``max_connections`` are under way; the others wait, those of each tenant in
        order, without limit. From its turn to the last byte of the answer each has
        ``Timeouts.total`` seconds.

        Args:
            method: In capitals.
            path: Quoted, relative to the base URL.
            headers: All of them, credentials included.
            params: The query.
            content: The body.
            fresh: Use a connection that is new or was used a moment ago.
            timeouts: None takes those of the settings.
            is_check: It goes before the others, and on connections kept for its kind.
            departure: Says from now on whether the request may have left.
            usage: Whose request it is.

        Raises:
            ExchangeFailedError: There was no complete answer in time.
            InvalidInputError: The path or a header cannot be sent.
            ClientClosedError: The transport is or was closed.
        """
        redirects = Redirects(method, api_url(self._settings.base_url, path, params))
        headers = with_headers({"accept-encoding": "gzip"}, headers)
        total = (timeouts or self._settings.timeouts).total
        phases = self._phases(timeouts)
        progress = Progress()
        with self._while_open() as scope:
            async with self._requests.held_by(usage, urgent=is_check):
                scope.deadline = anyio.current_time() + total
                if departure is not None:
                    departure.begins(lambda: progress.is_sent is not False)
                while True:
                    request = build_request(method, redirects.url, headers, content, phases)
                    reply = await self._answer(request, path, progress, usage, fresh=fresh)
                    if not is_redirect(reply.status):
                        return reply
                    redirects.follow(reply.status, reply.headers)
        raise self._why_ended(redirects.url, total, progress, "answer")

    async def _answer(
        self,
        request: httpx.Request,
        path: str,
        progress: Progress,
        usage: Usage | None,
        *,
        fresh: bool,
    ) -> Response:
        client = self._settings.http_client
        if client is not None:
            self._count(usage)
            return await self._read_reply(request, await send_by_client(client, request), path)
        connection = self._pool.take(fresh=fresh)
        try:
            await self._pool.close_old()
            response = await self._send(connection, request, usage, progress)
            reply = await self._read_reply(request, response, path, connection.via)
            self._check_open()
        except BaseException:
            await self._pool.discard(connection)
            raise
        self._pool.bring_back(connection)
        return reply

    async def _read_reply(
        self, request: httpx.Request, response: httpx.Response, path: str, via: Via | None = None
    ) -> Response:
        headers = dict(response.headers.items())
        body = Body(response)
        try:
            content = await read_whole(
                body, self._settings.limits.max_reply_bytes, headers.get("content-encoding")
            )
        except RAISED_BY_TRANSPORTS as error:
            raise failure(error, host=host_of(request.url), is_sent=True) from cause_of(error)
        finally:
            await body.aclose()
        check_proxy_answer(response.status_code, request.url, via)
        return Response(
            status=response.status_code,
            headers=headers,
            body=content,
            method=request.method,
            path=path,
        )

    # Event streams

    async def open_stream(
        self,
        path: str,
        *,
        headers: Headers,
        open_timeout: float,
        timeouts: Timeouts | None = None,
        usage: Usage | None = None,
    ) -> EventConnection:
        """
        Open an event stream on a connection of its own, whatever the status.

        Of those opened at once, only some are under way; the others wait, those of each
        tenant in order, without limit. The caller closes what it gets, and notices
        silence: once a stream is open, nothing here ends it.

        Args:
            path: Quoted, relative to the base URL.
            headers: All but those that make it a stream.
            open_timeout:
                Seconds from its turn for everything up to the headers, redirects included.

            timeouts: None takes those of the settings.
            usage: Whose stream it is.

        Raises:
            ExchangeFailedError: There were no headers in time.
            InvalidInputError: The path or a header cannot be sent.
            ClientClosedError: The transport is or was closed.
        """
        redirects = Redirects("GET", api_url(self._settings.base_url, path))
        headers = with_headers(headers, _STREAM_HEADERS)
        chosen = timeouts or self._settings.timeouts
        # A timeout for each read would be a timer for each event, all of them kept for a
        # while: at a thousand streams the garbage collector alone takes a tenth for them.
        phases: Phases = {**self._phases(timeouts), "read": None}
        progress = Progress()
        with self._while_open() as scope:
            async with self._openings.held_by(usage):
                scope.deadline = anyio.current_time() + open_timeout
                while True:
                    request = build_request("GET", redirects.url, headers, None, phases)
                    stream = await self._open(
                        request,
                        progress,
                        usage,
                        functools.partial(self._stream_of, request, chosen.read),
                    )
                    if not is_redirect(stream.status):
                        self._streams[stream] = usage
                        if usage is not None:
                            usage.open_streams += 1
                        return stream
                    await stream.aclose()
                    redirects.follow(stream.status, stream.headers)
        raise self._why_ended(redirects.url, open_timeout, progress, "open the stream")

    def _stream_of(
        self,
        request: httpx.Request,
        body_timeout: float,
        response: httpx.Response,
        connection: Connection,
    ) -> EventConnection:
        return EventConnection(
            response,
            connection,
            host=host_of(request.url),
            limits=self._settings.limits,
            body_timeout=body_timeout,
            clock=self._settings.clock,
            on_close=self._forget_stream,
            # It holds until the stream sends another, or clears it.
            last_event_id=request.headers.get("Last-Event-ID", ""),
        )

    def _forget_stream(self, stream: EventConnection) -> None:
        if (usage := self._streams.pop(stream, None)) is not None:
            usage.open_streams -= 1

    # Foreign addresses

    async def fetch(
        self,
        method: str,
        url: str,
        *,
        headers: Headers,
        content: AsyncIterable[bytes] | bytes | None = None,
        may_follow: Callable[[str], bool] | None = None,
        timeouts: Timeouts | None = None,
        usage: Usage | None = None,
    ) -> ForeignResponse:
        """
        Make one request of an address that need not be the API's.

        It has a connection of its own and no header but those given, so no credential
        and no cookie goes with it. Whether the address may be asked at all is for
        the caller to decide. The caller closes what it gets. Once all is sent, the headers
        have ``Timeouts.total`` seconds.

        Args:
            method: In capitals.
            url: Absolute; it appears in no error.
            headers: With a Content-Length among them, the body is not sent in chunks.
            content: The body.
            may_follow:
                Asked for each redirect to another origin; without it none is followed.
                From https to http is never asked.

            timeouts: None takes those of the settings.
            usage: Whose request it is.

        Raises:
            ExchangeFailedError: There were no headers.
            InvalidInputError: A header cannot be sent.
            ClientClosedError: The transport is or was closed.
        """
        redirects = Redirects(method, foreign_url(url))
        total = (timeouts or self._settings.timeouts).total
        phases = self._phases(timeouts)

        def expect_answer() -> None:
            scope.deadline = anyio.current_time() + total

        progress = Progress(on_waiting=expect_answer)
        with self._while_open() as scope:
            while True:
                request = build_request(method, redirects.url, headers, content, phases)
                response = await self._open(
                    request,
                    progress,
                    usage,
                    functools.partial(
                        ForeignResponse,
                        host=host_of(request.url),
                        answer_timeout=total,
                        on_close=self._forget_fetch,
                    ),
                )
                if not is_redirect(response.status):
                    self._fetches[response] = usage
                    if usage is not None:
                        usage.open_transfers += 1
                    return response
                await response.aclose()
                redirects.follow(response.status, response.headers, may_follow)
                if content is not None and not isinstance(content, bytes):
                    raise cannot_send_again(response.status)
        raise self._why_ended(redirects.url, total, progress, "answer")

    def _forget_fetch(self, fetched: ForeignResponse) -> None:
        if (usage := self._fetches.pop(fetched, None)) is not None:
            usage.open_transfers -= 1

    # What they share

    async def _open(
        self,
        request: httpx.Request,
        progress: Progress,
        usage: Usage | None,
        make: Callable[[httpx.Response, Connection], OpenedT],
    ) -> OpenedT:
        connection = self._connect(request.url)
        try:
            response = await self._send(connection, request, usage, progress)
            check_proxy_answer(response.status_code, request.url, connection.via)
            return make(response, connection)
        except BaseException:
            opened: list[Closable] = [connection, body_of(request)]
            await close_all(opened)
            raise

    async def _send(
        self,
        connection: Connection,
        request: httpx.Request,
        usage: Usage | None,
        progress: Progress,
    ) -> httpx.Response:
        self._count(usage)
        response = await connection.send(request, progress)
        self._check_open()
        return response

    def _count(self, usage: Usage | None) -> None:
        if usage is not None:
            usage.requests += 1

    def _check_open(self) -> None:
        if self._is_closed:
            raise _closed()

    @contextmanager
    def _while_open(self) -> Generator[anyio.CancelScope]:
        """Let closing end the block, or a deadline; what follows it is reached only then."""
        self._check_open()
        with anyio.CancelScope() as scope:
            self._running.add(scope)
            try:
                yield scope
            finally:
                self._running.discard(scope)
                if self._all_ended is not None and not self._running:
                    self._all_ended.set()

    def _why_ended(
        self, url: httpx.URL, seconds: float, progress: Progress, what: str
    ) -> Exception:
        if self._is_closed:
            return _closed()
        never_left = progress.is_sent is False
        return ExchangeFailedError(
            FailureKind.CONNECT if never_left else FailureKind.TIMEOUT,
            maybe_sent=not never_left,
            reason=f"{host_of(url)} did not {what} within {seconds:g} s",
        )

    def _phases(self, timeouts: Timeouts | None) -> Phases:
        chosen = timeouts or self._settings.timeouts
        return {
            "connect": chosen.connect,
            "read": chosen.read,
            "write": chosen.write,
            "pool": chosen.pool,
        }

    def _connect(self, url: httpx.URL) -> Connection:
        settings = self._settings
        if settings.transport_factory is not None:
            first, self._made = self._made, None
            return Connection(first or made_by(settings.transport_factory))
        via = self._proxies.via_for(str(url))
        proxy = None if via is None else self._backend.make_proxy(via, self._tls)
        return Connection(self._backend.make_connection(self._tls, proxy), via)

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return context_for(self._settings.verify)

    def statistics(self) -> TransportStatistics:
        """Return what is open and what has been done."""
        return TransportStatistics(
            open_streams=len(self._streams),
            open_fetches=len(self._fetches),
            waiting=self._requests.waiting,
            busy_connections=self._pool.busy,
            idle_connections=self._pool.idle,
            retired_connections=self._pool.retired,
        )

    async def aclose(self) -> None:
        """
        End all requests, close all connections. Idempotent.

        Requests in other tasks raise :class:`ClientClosedError`; streams that are read
        there, :class:`ExchangeFailedError`.
        """
        self._is_closed = True
        for scope in self._running:
            scope.cancel()
        with anyio.CancelScope(shield=True):
            opened: list[Closable] = [*self._streams, *self._fetches, *self._pool.empty()]
            if self._made is not None:
                opened.append(self._made)
            await close_all(opened)
            await self._wait_for_the_running()

    async def _wait_for_the_running(self) -> None:
        if self._running:
            self._all_ended = anyio.Event()
            with anyio.move_on_after(_CLOSE_SECONDS):
                await self._all_ended.wait()


async def prepared(settings: TransportSettings) -> TransportSettings:
    """
    Return *settings* when all that reads files has been done, in another thread.

    Raises:
        ConfigurationError: A file that is named, by the environment too, cannot be used.
    """
    if settings.transport_factory is not None:
        return settings
    if not reads_files(settings.verify) and _LOADED[settings.kind] in sys.modules:
        return settings
    context = await anyio.to_thread.run_sync(_load, settings.kind, settings.verify)
    return attrs.evolve(settings, verify=context)


def _load(kind: TransportKind, verify: bool | ssl.SSLContext | str) -> ssl.SSLContext:
    # Making a connection imports what it needs; it is never opened.
    context = context_for(verify)
    backend_for(kind).make_connection(context, None)
    return context


def _closed() -> ClientClosedError:
    return ClientClosedError("the client is closed; a request cannot be made or finished")
