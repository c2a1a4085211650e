"""A uvicorn server in a thread of its own, which can cut connections."""

import asyncio
import contextlib
import functools
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, ClassVar

import attrs
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .middleware import ABORT


_KEEP_ALIVE = 75
_LOOP_TURNS = 5
_NO_LINGER = struct.pack("ii", 1, 0)


def listen(*ports: int) -> list[socket.socket]:
    """
    Return sockets bound to *ports* on 127.0.0.1; 0 takes a free one.

    Raises:
        OSError: A port is taken.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in ports]
        for one, port in zip(sockets, ports, strict=True):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", port))
        stack.pop_all()
    return sockets


@attrs.define(eq=False)
class ServerThread:
    """
    Serves an application until it is stopped, and then at once.

    *beside* is run next to it and cancelled with it; *accepted* is called for
    each connection, which speaks TLS where *tls* is given.
    """

    _app: ASGIApp
    _sockets: Sequence[socket.socket]
    _accepted: Callable[[], None]
    _beside: Callable[[], Awaitable[None]]
    tls: ssl.SSLContext | None = None
    _thread: threading.Thread = attrs.field(init=False)
    _started: threading.Event = attrs.field(init=False, factory=threading.Event)
    _loop: asyncio.AbstractEventLoop = attrs.field(init=False)
    _stop: asyncio.Event = attrs.field(init=False)
    _error: BaseException | None = attrs.field(init=False, default=None)
    _transports: set[asyncio.Transport] = attrs.field(init=False, factory=set[asyncio.Transport])
    _handshakes: "set[asyncio.Task[None]]" = attrs.field(
        init=False, factory=set["asyncio.Task[None]"]
    )

    def start(self) -> None:
        """Start serving and return once connections are accepted."""
        self._thread = threading.Thread(target=self._run, name="cyberun-simulator", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """Cut all connections, stop serving and return once the thread has ended."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._transports)

    def connected(self, transport: asyncio.Transport) -> None:
        """Count a new connection."""
        self._transports.add(transport)
        self._accepted()

    def disconnected(self, transport: asyncio.Transport) -> None:
        """Count the end of a connection."""
        self._transports.discard(transport)

    def run_handshake(self, handshake: Coroutine[Any, Any, None]) -> None:
        """Run a handshake, and cancel it when the server stops."""
        task = self._loop.create_task(handshake)
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    def with_abort(self, app: ASGIApp, transport: asyncio.Transport) -> ASGIApp:
        """Return *app* with the means to cut the connection of its requests."""

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            extensions = scope.setdefault("extensions", {})
            extensions[ABORT] = functools.partial(_abort, transport)
            try:
                await app(scope, receive, send)
            except asyncio.CancelledError:
                # The connection is gone; uvicorn would report the request as failed.
                if not self._stop.is_set():
                    raise

        return application

    def _run(self) -> None:
        try:
            # Not the loop of the policy: the service's clock is the machine's.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed over to the starter
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = uvicorn.Server(self._config())
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup(sockets=list(self._sockets))
        beside = asyncio.ensure_future(self._beside())
        self._started.set()
        try:
            await self._stop.wait()
        finally:
            await self._shut_down(server, beside)

    async def _shut_down(self, server: uvicorn.Server, beside: asyncio.Future[None]) -> None:
        # A listener that is closed while a connection is being accepted loses its socket, so
        # accepting stops first; what was accepted is a connection a few turns of the loop later.
        for listener in server.servers:
            for one in listener.sockets:
                self._loop.remove_reader(one.fileno())
        for _ in range(_LOOP_TURNS):
            await asyncio.sleep(0)
            for transport in tuple(self._transports):
                transport.abort()
        for listener in server.servers:
            listener.close()
        tasks = (beside, *self._handshakes, *server.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listener in server.servers:
            await listener.wait_closed()
        # A transport closes its socket one turn of the loop after it was aborted.
        await asyncio.sleep(0)

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self._app,
            http=_protocol(self),
            ws="none",
            lifespan="off",
            proxy_headers=False,
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            backlog=4096,
        )


def _protocol(thread: ServerThread) -> type[H11Protocol]:
    """Return a protocol class that reports to *thread*."""

    class Connection(_Connection):
        _server_thread = thread

    return Connection


class _Connection(H11Protocol):
    """
    A connection that is counted and that the application can cut.

    The TLS handshake is made here and not by the listener, which knows no connection before
    its handshake is over: one that never ends could be neither counted nor cut.
    """

    _server_thread: ClassVar[ServerThread]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._socket_transport = transport
        # What arrives before the handshake is over; None afterwards.
        self._early: list[bytes] | None = []
        self._server_thread.connected(transport)
        if self._server_thread.tls is None:
            self._start(transport)
            return
        # What is read before TLS is in place would be lost.
        transport.pause_reading()
        self._server_thread.run_handshake(self._secure())

    async def _secure(self) -> None:
        context = self._server_thread.tls
        assert context is not None
        transport = None
        try:
            # None where the client went away during the handshake.
            transport = await self.loop.start_tls(
                self._socket_transport, self, context, server_side=True
            )
        except OSError:  # and ssl.SSLError, which is one
            self._socket_transport.abort()
        finally:
            if transport is None:
                self._server_thread.disconnected(self._socket_transport)
        if transport is not None:
            self._start(transport)

    def _start(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        # The TLS transport no longer knows its socket once the connection is lost.
        self.app = self._server_thread.with_abort(self.app, self._socket_transport)
        early, self._early = self._early or [], None
        for data in early:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        # A request may come together with the last bytes of the handshake.
        if self._early is None:
            super().data_received(data)
        else:
            self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._early is None:
            super().connection_lost(exc)
            self._server_thread.disconnected(self._socket_transport)


def _abort(transport: asyncio.Transport, reset: bool) -> None:
    sock: socket.socket | None = transport.get_extra_info("socket")
    if reset and sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
