"""
One connection at a time: transports that are thrown away rather than repaired.

httpx's pool loses a slot forever when a request is cancelled while it waits
for or opens a connection, and it looks at every connection for every request.
So each pool of httpx holds one connection only. A stream has a connection of
its own; plain requests take theirs from a pool here and bring back those whose
answer was read to its end. Whatever else happened, cancellation above all, the
connection is closed and forgotten, and with it all that httpx may have lost.
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import attrs
import httpx

from .._protocol import ExchangeFailedError, FailureKind
from .body import Closable, close_all
from .failures import RAISED_BY_TRANSPORTS, cause_of, failure
from .proxies import Stage, Via
from .requests import host_of


# Long enough for polls, shorter than the minute after which load balancers hang up.
KEEP_SECONDS = 20.0

# What was idle for less is not yet being closed by the other side.
FRESH_SECONDS = 2.0


# A connection begins its handshake with the service: the proxy has connected to it.
_TUNNELLED = frozenset({"proxy.start_tls.started", "socks.setup_socks5_connection.complete"})


class Progress:
    """
    Watches how far one request has come, through httpcore's documented trace events.

    It distinguishes a request that never left from one that may have arrived, and
    holds the socket while it is in no one's hands, during a TLS handshake.

    Args:
        on_waiting: Called when all of the request has left and the answer is awaited.
    """

    __slots__ = ("_is_traced", "_on_waiting", "_sent", "socket", "stage")

    def __init__(self, on_waiting: Callable[[], None] | None = None) -> None:
        self._is_traced = False
        self._sent = False
        self._on_waiting = on_waiting
        self.stage = Stage.START
        self.socket: Closable | None = None

    async def __call__(self, name: str, info: Mapping[str, Any]) -> None:
        """Take note of an event."""
        self._is_traced = True
        if name.endswith("connect_tcp.started"):
            self.stage = Stage.START
        elif name.endswith("connect_tcp.complete"):
            self.socket = info["return_value"]
            self.stage = Stage.PROXY
        elif name in _TUNNELLED:
            self.stage = Stage.TUNNEL
        elif name.endswith("send_request_headers.started"):
            # The proxy is not the service.
            self._sent = self._sent or info["request"].method != b"CONNECT"
        elif (
            self._on_waiting is not None
            and name.endswith("receive_response_headers.started")
            and info["request"].method != b"CONNECT"
        ):
            self._on_waiting()

    @property
    def is_sent(self) -> bool | None:
        """Whether the request began to leave; None where the transport does not report it."""
        return self._sent if self._is_traced else None


async def send_over(
    handle: Callable[[httpx.Request], Any],
    request: httpx.Request,
    progress: Progress,
    via: Via | None = None,
) -> httpx.Response:
    """
    Send a request and return when the headers of the answer are there.

    Raises:
        ExchangeFailedError: They did not come.
    """
    request.extensions["trace"] = progress
    try:
        response: httpx.Response = await handle(request)
    except RAISED_BY_TRANSPORTS as error:
        failed = failure(
            error,
            host=host_of(request.url),
            is_sent=progress.is_sent,
            via=via,
            stage=progress.stage,
        )
        raise failed from cause_of(error)
    except AttributeError as error:
        # A peer that resets a connection as it accepts it leaves uvloop without the socket
        # whose options anyio is about to set.
        if progress.is_sent or "setsockopt" not in str(error):
            raise
        reset = httpx.ConnectError("the connection was reset as it was opened")
        failed = failure(
            reset, host=host_of(request.url), is_sent=False, via=via, stage=progress.stage
        )
        raise failed from error
    except Exception as error:
        # What httpcore lets through where a SOCKS proxy hangs up, or speaks something else.
        if via is None or not via.speaks_socks or progress.stage is not Stage.PROXY:
            raise
        raise ExchangeFailedError(
            FailureKind.PROXY_FAILED, maybe_sent=False, reason=f"{via} gave no answer of SOCKS5"
        ) from error
    return response


class Connection:
    """
    A transport for one connection at a time, closed by throwing it away.

    Attributes:
        via: The proxy it goes through.
    """

    __slots__ = ("_socket", "_transport", "idle_since", "is_closed", "via")

    def __init__(self, transport: httpx.AsyncBaseTransport, via: Via | None = None) -> None:
        self._transport = transport
        self.via = via
        self._socket: Closable | None = None
        self.idle_since = 0.0
        self.is_closed = False

    async def send(self, request: httpx.Request, progress: Progress) -> httpx.Response:
        """As :func:`send_over`; what it raises leaves the connection unusable."""
        progress.socket = self._socket
        try:
            handle = self._transport.handle_async_request
            return await send_over(handle, request, progress, self.via)
        finally:
            self._socket = progress.socket

    async def aclose(self) -> None:
        """
        Close the connection. Idempotent.

        The socket is aborted before this first suspends, so a cancellation in the
        middle of it leaves nothing open.
        """
        if self.is_closed:
            return
        self.is_closed = True
        with anyio.CancelScope(shield=True):
            try:
                if self._socket is not None:
                    await self._socket.aclose()
            finally:
                await self._transport.aclose()


@attrs.define(eq=False)
class ConnectionPool:
    """
    The connections for plain requests; the idle ones newest last.

    Connections are taken and brought back without suspending; those that are too old
    wait in *doomed* until somebody who may suspend calls :meth:`close_old`.
    """

    _make: Callable[[], Connection]
    _clock: Callable[[], float]
    _capacity: int
    _idle: deque[Connection] = attrs.field(factory=deque[Connection], init=False)
    _busy: set[Connection] = attrs.field(factory=set[Connection], init=False)
    _doomed: list[Connection] = attrs.field(factory=list[Connection], init=False)
    retired: int = attrs.field(default=0, init=False)

    @property
    def idle(self) -> int:
        """How many connections wait for a request."""
        return len(self._idle)

    @property
    def busy(self) -> int:
        """How many connections serve a request."""
        return len(self._busy)

    def take(self, *, fresh: bool) -> Connection:
        """Return the connection used last, or a new one; *fresh* asks for one hardly idle."""
        now = self._clock()
        while self._idle and now - self._idle[0].idle_since > KEEP_SECONDS:
            self._doom(self._idle.popleft())
        usable = FRESH_SECONDS if fresh else KEEP_SECONDS
        if self._idle and now - self._idle[-1].idle_since < usable:
            connection = self._idle.pop()
        else:
            if self._idle and len(self._idle) + len(self._busy) >= self._capacity:
                self._doom(self._idle.popleft())
            connection = self._make()
        self._busy.add(connection)
        return connection

    def bring_back(self, connection: Connection) -> None:
        """Take back a connection whose answer was read to its end."""
        self._busy.discard(connection)
        connection.idle_since = self._clock()
        self._idle.append(connection)

    async def discard(self, connection: Connection) -> None:
        """Close a connection whose request came to no end."""
        self._busy.discard(connection)
        self.retired += 1
        await connection.aclose()

    async def close_old(self) -> None:
        """Close what is too old."""
        if self._doomed:
            await close_all(self._doomed)

    def empty(self) -> list[Connection]:
        """Remove and return all idle connections, to be closed; requests close the busy ones."""
        while self._idle:
            self._doom(self._idle.popleft())
        removed, self._doomed = self._doomed, []
        return removed

    def _doom(self, connection: Connection) -> None:
        self.retired += 1
        self._doomed.append(connection)
