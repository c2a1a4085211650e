"""
The only way to the network: one HTTP exchange, one event stream, one foreign file.

Nothing is retried and nothing is authorised here, and nothing of httpx goes out:
failures are :class:`ExchangeFailedError`, which says whether the request may have
arrived. Streams and foreign files have a connection each, plain requests share a
few; ``_transport_lane`` says why no pool of httpx is used for that.
"""

import functools
import ssl
import sys
from collections.abc import AsyncIterable, Callable, Generator, Mapping
from contextlib import contextmanager

import anyio
import anyio.to_thread
import attrs
import httpx

from .._model import ClientClosedError, Timeouts
from .._protocol import Departure, ExchangeFailedError, FailureKind, Response
from .backends import Kind, kind_for
from .body import Body, Closable, close_all, read_whole
from .connections import Connection, ConnectionPool, Progress
from .custom_client import made_by, send_by_client
from .event_stream import CONTENT_TYPE, EventConnection
from .failures import RAISED_BY_TRANSPORTS, cause_of, failure
from .fairness import Turns, Usage
from .foreign import ForeignResponse
from .proxies import Via, check_proxy_answer, rules_for_all, rules_from_environment
from .requests import (
    Headers,
    Params,
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
from .settings import Loads, TransportKind, TransportSettings, TransportStatistics
from .tls import context_for, reads_files


# Seconds by phase, as httpx has them; None for no limit.
Phases = dict[str, float | None]

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
    twice: no connection, no turn and no task is lost by it.

    Args:
        settings: How it reaches the service.
        is_shared: Whether several tenants use it now.
    """

    def __init__(
        self, settings: TransportSettings, is_shared: Callable[[], bool] = lambda: False
    ) -> None:
        self._settings = settings
        self._base = httpx.URL(settings.base_url)
        self._proxies = (
            rules_from_environment() if settings.proxy is None else rules_for_all(settings.proxy)
        )
        self._kind: Kind = kind_for(settings.kind)
        self.loads: Loads = self._kind.loads
        via = self._proxies.via_for(settings.base_url)
        if via is not None and settings.transport_factory is None:
            # Raises now and not at the first request.
            self._kind.make_proxy(via, None)
        # One is made now for the same reason; the first connection takes it.
        factory = settings.transport_factory
        self._made = None if factory is None else made_by(factory)
        connections = settings.limits.max_connections
        self._turns = Turns(connections, is_shared, reserved=connections // _KEPT_FOR_CHECKS)
        self._openings = Turns(_OPENINGS_AT_ONCE, is_shared)
        self._pool = ConnectionPool(
            lambda: self._lane(self._base), settings.clock, settings.limits.max_connections
        )
        self._streams: dict[EventConnection, Usage | None] = {}
        self._fetches: dict[ForeignResponse, Usage | None] = {}
        self._running: set[anyio.CancelScope] = set()
        self._all_ended: anyio.Event | None = None
        self._is_closed = False
        self._requests = 0
        self._cancelled_early = 0

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
        url = api_url(self._settings.base_url, path, params)
        redirects = Redirects(method, url)
        headers = with_headers({"accept-encoding": "gzip"}, headers)
        total = (timeouts or self._settings.timeouts).total
        progress = Progress()
        with self._while_open() as scope:
            async with self._turns.of(usage, urgent=is_check):
                scope.deadline = anyio.current_time() + total
                if departure is not None:
                    departure.begins(lambda: progress.is_sent is not False)
                while True:
                    request = build_request(method, url, headers, content)
                    request.extensions["timeout"] = self._phases(timeouts)
                    reply = await self._answer(request, path, progress, usage, fresh=fresh)
                    if not is_redirect(reply.status):
                        return reply
                    url = redirects.target(reply.status, reply.headers)
        raise _closed() if self._is_closed else _too_slow(host_of(url), total, progress, "answer")

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
            return await self._answer_by_client(client, request, path, usage)
        lane = self._pool.take(fresh=fresh)
        try:
            await self._pool.sweep()
            response = await self._send(lane, request, usage, progress)
            reply = await self._read_reply(request, response, path, lane.via)
        except BaseException:
            await self._pool.discard(lane)
            raise
        if self._is_closed:
            await self._pool.discard(lane)
            raise _closed()
        self._pool.bring_back(lane)
        return reply

    async def _answer_by_client(
        self, client: httpx.AsyncClient, request: httpx.Request, path: str, usage: Usage | None
    ) -> Response:
        with self._counting(usage):
            response = await send_by_client(client, request)
        return await self._read_reply(request, response, path)

    async def _read_reply(
        self, request: httpx.Request, response: httpx.Response, path: str, via: Via | None = None
    ) -> Response:
        headers = dict(response.headers.items())
        host = host_of(request.url)
        body = Body(response)
        try:
            content = await read_whole(
                body, self._settings.limits.max_reply_bytes, headers.get("content-encoding")
            )
        except RAISED_BY_TRANSPORTS as error:
            raise failure(error, host=host, is_sent=True) from cause_of(error)
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
        url = api_url(self._settings.base_url, path)
        headers = with_headers(headers, _STREAM_HEADERS)
        progress = Progress()
        chosen = timeouts or self._settings.timeouts
        with self._while_open() as scope:
            async with self._openings.of(usage):
                scope.deadline = anyio.current_time() + open_timeout
                return await self._open_stream(url, headers, chosen, progress, usage)
        raise (
            _closed()
            if self._is_closed
            else _too_slow(host_of(url), open_timeout, progress, "open the stream")
        )

    async def _open_stream(
        self,
        url: httpx.URL,
        headers: Headers,
        timeouts: Timeouts,
        progress: Progress,
        usage: Usage | None,
    ) -> EventConnection:
        # A time-out for each read would be a timer for each event, all of them kept for a
        # while: at a thousand streams the garbage collector alone takes a tenth for them.
        phases: Phases = {**self._phases(timeouts), "read": None}
        redirects = Redirects("GET", url)
        while True:
            request = build_request("GET", url, headers)
            request.extensions["timeout"] = phases
            connection = await self._connect_stream(request, progress, timeouts.read, usage)
            if not is_redirect(connection.status):
                return connection
            await connection.aclose()
            url = redirects.target(connection.status, connection.headers)

    async def _connect_stream(
        self,
        request: httpx.Request,
        progress: Progress,
        body_timeout: float,
        usage: Usage | None,
    ) -> EventConnection:
        lane = self._lane(request.url)
        try:
            response = await self._send(lane, request, usage, progress)
            host = host_of(request.url)
            check_proxy_answer(response.status_code, request.url, lane.via)
            connection = EventConnection(
                response,
                lane,
                host=host,
                limits=self._settings.limits,
                body_timeout=body_timeout,
                clock=self._settings.clock,
                on_close=self._forget_stream,
                # It holds until the stream sends another, or clears it.
                last_event_id=request.headers.get("Last-Event-ID", ""),
            )
        except BaseException:
            await lane.aclose()
            raise
        self._streams[connection] = usage
        if usage is not None:
            usage.open_streams += 1
        return connection

    def _forget_stream(self, connection: EventConnection) -> None:
        usage = self._streams.pop(connection, None)
        if usage is not None:
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
        target = foreign_url(url)
        redirects = Redirects(method, target)
        total = (timeouts or self._settings.timeouts).total
        with self._while_open() as scope:

            def expect_answer() -> None:
                scope.deadline = anyio.current_time() + total

            progress = Progress(on_waiting=expect_answer)
            while True:
                request = build_request(method, target, headers, content)
                request.extensions["timeout"] = self._phases(timeouts)
                response = await self._connect_foreign(request, progress, total, usage)
                if not is_redirect(response.status):
                    return response
                await response.aclose()
                target = redirects.target(response.status, response.headers, may_follow)
                if content is not None and not isinstance(content, bytes):
                    raise cannot_send_again(response.status)
        raise (
            _closed() if self._is_closed else _too_slow(host_of(target), total, progress, "answer")
        )

    async def _connect_foreign(
        self,
        request: httpx.Request,
        progress: Progress,
        answer_timeout: float,
        usage: Usage | None,
    ) -> ForeignResponse:
        lane = self._lane(request.url)
        try:
            response = await self._send(lane, request, usage, progress)
            host = host_of(request.url)
            check_proxy_answer(response.status_code, request.url, lane.via)
            fetched = ForeignResponse(
                response,
                lane,
                host=host,
                answer_timeout=answer_timeout,
                on_close=self._forget_fetch,
            )
        except BaseException:
            opened: list[Closable] = [lane, body_of(request)]
            await close_all(opened)
            raise
        self._fetches[fetched] = usage
        if usage is not None:
            usage.open_transfers += 1
        return fetched

    def _forget_fetch(self, fetched: ForeignResponse) -> None:
        usage = self._fetches.pop(fetched, None)
        if usage is not None:
            usage.open_transfers -= 1

    # What they share

    async def _send(
        self,
        lane: Connection,
        request: httpx.Request,
        usage: Usage | None,
        progress: Progress | None = None,
    ) -> httpx.Response:
        with self._counting(usage):
            response = await lane.send(request, progress or Progress())
        if self._is_closed:
            raise _closed()
        return response

    @contextmanager
    def _counting(self, usage: Usage | None) -> Generator[None]:
        self._requests += 1
        if usage is not None:
            usage.requests += 1
        try:
            yield
        except anyio.get_cancelled_exc_class():
            self._cancelled_early += 1
            raise

    @contextmanager
    def _while_open(self) -> Generator[anyio.CancelScope]:
        """Let closing end the block, or a deadline; what follows it is reached only then."""
        if self._is_closed:
            raise _closed()
        with anyio.CancelScope() as scope:
            self._running.add(scope)
            try:
                yield scope
            finally:
                self._running.discard(scope)
                if self._all_ended is not None and not self._running:
                    self._all_ended.set()

    def _phases(self, timeouts: Timeouts | None) -> Phases:
        chosen = timeouts or self._settings.timeouts
        return {
            "connect": chosen.connect,
            "read": chosen.read,
            "write": chosen.write,
            "pool": chosen.pool,
        }

    def _lane(self, url: httpx.URL) -> Connection:
        settings = self._settings
        if settings.transport_factory is not None:
            first, self._made = self._made, None
            return Connection(made_by(settings.transport_factory) if first is None else first)
        via = self._proxies.via_for(str(url))
        made = None if via is None else self._kind.make_proxy(via, self._tls)
        return Connection(self._kind.make_connection(self._tls, made), via)

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return context_for(self._settings.verify)

    def statistics(self) -> TransportStatistics:
        """Return what is open and what has been done."""
        return TransportStatistics(
            open_streams=len(self._streams),
            open_fetches=len(self._fetches),
            requests=self._requests,
            waiting=self._turns.waiting,
            busy_connections=self._pool.busy,
            idle_connections=self._pool.idle,
            retired_connections=self._pool.retired,
            cancelled_early=self._cancelled_early,
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
    kind_for(kind).make_connection(context, None)
    return context


def _closed() -> ClientClosedError:
    return ClientClosedError("the client is closed; a request cannot be made or finished")


def _too_slow(host: str, seconds: float, progress: Progress, what: str) -> ExchangeFailedError:
    never_left = progress.is_sent is False
    return ExchangeFailedError(
        FailureKind.CONNECT if never_left else FailureKind.TIMEOUT,
        maybe_sent=not never_left,
        reason=f"{host} did not {what} within {seconds:g} s",
    )
