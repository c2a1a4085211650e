"""
The transport of aiohttp behind the interface of httpx: the extra ``fast``.

Everything is httpx-aiohttp's, but for what decides about money: it calls a connection
that was lost after the request had left a connect timeout, and it cannot tell whether
the request has left. So aiohttp is asked itself, and its errors are named anew.
"""

import contextlib
import math
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from types import SimpleNamespace
from typing import Any, Final, cast

import aiohttp
import anyio
import attrs
import httpx
import httpx_aiohttp
import msgspec
import msgspec.json
import yarl

from .._protocol import load_json
from .._runtime import runs_uvloop
from .requests import BytesBody, UploadBody


# Whether a connection is still good is decided by the connection pool.
_KEEP_SECONDS = 3600.0
# Some eighty events: what reads them can pause in between.
_PIECE_BYTES = 16 * 1024
# Of a body, aiohttp leaves so much to the kernel without waiting.
_NOT_AWAITED_BYTES = 64 * 1024
# As long as httpcore lets the whole head of an answer be.
_FIELD_BYTES = 100 * 1024
# Nothing may be in a request that was not given.
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")

_SocketOption = tuple[int, int, int]
_Trace = Callable[[str, Mapping[str, Any]], Any]

_fast = msgspec.json.Decoder().decode


def load_json_fast(text: str) -> Any:
    """As ``json.loads``: what the fast decoder refuses (NaN, half a surrogate) goes there."""
    try:
        return _fast(text)
    except (ValueError, msgspec.MsgspecError):  # before msgspec 0.20 it was no ValueError
        return load_json(text)


class AiohttpConnection(httpx.AsyncBaseTransport):
    """
    One connection at a time over aiohttp.

    Args:
        verify: For the service and for a proxy of https alike.
        proxy: Speaks HTTP; aiohttp knows no SOCKS.
        socket_options: Set before the socket connects.
    """

    def __init__(
        self,
        *,
        verify: ssl.SSLContext,
        proxy: httpx.Proxy | None,
        socket_options: list[_SocketOption],
    ) -> None:
        password: str | None = None
        if proxy is not None and proxy.auth is not None:
            password = aiohttp.encode_basic_auth(*proxy.auth)
            proxy = httpx.Proxy(proxy.url, headers={"proxy-authorization": password})
        self._requester = _Requester(verify, socket_options, password)
        client = cast("aiohttp.ClientSession", self._requester)
        self._inner = httpx_aiohttp.AiohttpTransport(verify=verify, proxy=proxy, client=client)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send *request*; the trace callback among its extensions gets the events of httpcore."""
        self._requester.trace = request.extensions.get("trace")
        upload = _upload_of(request)
        self._requester.upload = upload
        try:
            if upload is None:
                response = await self._inner.handle_async_request(request)
            else:
                response = await self._handle_upload(request, upload)
        except _TO_BE_NAMED as error:
            await self._requester.report_stage(error)
            failed = named_anew(error)
        else:
            response.stream = _Stream(response.stream, self._requester.take_content())
            return response
        raise upload.error if upload is not None and upload.error is not None else failed

    async def _handle_upload(self, request: httpx.Request, upload: "_Upload") -> httpx.Response:
        # Only here, as it is a timer: any other request leaves in one go.
        with upload.patience:
            return await self._inner.handle_async_request(request)
        raise httpx.WriteTimeout("the body was not taken in time")

    async def aclose(self) -> None:
        """Close the connection."""
        await self._requester.aclose()


class _Requester:
    """
    What httpx-aiohttp takes for a session.

    It calls anything but a session anew for each request, so this returns itself.
    """

    def __init__(
        self,
        verify: ssl.SSLContext,
        socket_options: list[_SocketOption],
        proxy_password: str | None,
    ) -> None:
        self._verify = verify
        self._proxy_password = proxy_password
        self._socket_options = socket_options
        self._session: aiohttp.ClientSession | None = None
        self.trace: _Trace | None = None
        # httpx-aiohttp sees no body but one that httpx has made, and knows no limit for it.
        self.upload: _Upload | None = None
        self._content: aiohttp.StreamReader | None = None
        # With its inode, which shows whether the number of a socket is still its own.
        self._sockets: dict[socket.socket, int] = {}

    def __call__(self) -> "_Requester":
        return self

    def request(self, **given: Any) -> Any:
        """Begin a request, as a context manager that is only entered."""
        return SimpleNamespace(__aenter__=lambda: self._request(**given))

    def take_content(self) -> aiohttp.StreamReader:
        """Return what is read of the answer that has just come."""
        content, self._content = self._content, None
        return cast("aiohttp.StreamReader", content)

    async def _request(
        self, *, url: str, timeout: aiohttp.ClientTimeout, **rest: Any
    ) -> aiohttp.ClientResponse:
        # The address goes out as it is, as it may be signed.
        if self._session is None:
            self._session = self._open()
        if self.upload is not None:
            rest["data"] = self.upload
            rest["headers"].pop("transfer-encoding", None)
        if self._proxy_password is not None and url.startswith("http:"):
            # There is no tunnel: the proxy is asked with the request itself.
            rest["headers"]["proxy-authorization"] = self._proxy_password
        # There is no waiting for a connection: each transport has one.
        timeout = attrs.evolve(timeout, connect=None)
        rest["trace_request_ctx"] = self
        target = yarl.URL(url, encoded=True)
        response = await self._session.request(url=target, timeout=timeout, **rest)
        self._content = response.content
        return response

    async def aclose(self) -> None:
        # aiohttp sends what it has taken of a body first, though nobody may ever read it.
        if self.upload is not None:
            self._shut_down()
        try:
            if self._session is not None:
                await self._session.close()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        # Loops lose a connection that is cancelled just before its handshake begins.
        self._shut_down()
        if runs_uvloop():
            # It closes the descriptor by itself, also where a handshake fails: whoever closed
            # the socket as well would hit what has the same number by then.
            for opened in self._sockets:
                opened.detach()

    def _shut_down(self) -> None:
        for opened, inode in self._sockets.items():
            if _inode_of(opened) == inode:
                with contextlib.suppress(OSError):
                    opened.shutdown(socket.SHUT_RDWR)

    def _open(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=1,
            ssl=self._verify,
            keepalive_timeout=_KEEP_SECONDS,
            socket_factory=self._make_socket,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NOT_ADDED,
            trace_configs=[_WATCHER],
            middlewares=(_once,),
            max_line_size=_FIELD_BYTES,
            max_field_size=_FIELD_BYTES,
        )

    def _make_socket(self, address: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol = address[:3]
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)  # noqa: FBT003 - takes no name
        for level, option, value in self._socket_options:
            made.setsockopt(level, option, value)
        self._sockets = {one: inode for one, inode in self._sockets.items() if one.fileno() >= 0}
        self._sockets[made] = _inode_of(made)
        return made

    async def report_connect(self) -> None:
        """Pass on that a connection is being made."""
        if self.trace is not None:
            await self.trace("connection.connect_tcp.started", {})

    async def report_stage(self, error: Exception) -> None:
        """Pass on how far a connection through a proxy had come, which only its error says."""
        cause = _aiohttp_error(error)
        is_start = isinstance(
            cause, aiohttp.ClientProxyConnectionError | aiohttp.ConnectionTimeoutError
        )
        if self.trace is None or cause is None or is_start:
            return
        await self.trace("connection.connect_tcp.complete", {"return_value": None})
        if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ClientSSLError):
            await self.trace("proxy.start_tls.started", {})

    async def report_sent(self, method: str) -> None:
        """Pass on that the head of a request has left."""
        if self.trace is not None:
            request = SimpleNamespace(method=method.encode())
            await self.trace("http11.send_request_headers.started", {"request": request})


def _inode_of(opened: socket.socket) -> int:
    try:
        return os.fstat(opened.fileno()).st_ino
    except OSError:  # closed; on Windows no socket is a file
        return -1


async def _connecting(_session: object, context: SimpleNamespace, _params: object) -> None:
    await context.trace_request_ctx.report_connect()


async def _sent(
    _session: object, context: SimpleNamespace, sent: aiohttp.TraceRequestHeadersSentParams
) -> None:
    await context.trace_request_ctx.report_sent(sent.method)


def _watcher() -> aiohttp.TraceConfig:
    watcher = aiohttp.TraceConfig()
    watcher.on_connection_create_start.append(_connecting)
    watcher.on_request_headers_sent.append(_sent)
    watcher.freeze()
    return watcher


# One for all sessions: it is frozen, and it costs more to make than the session itself.
_WATCHER: Final = _watcher()


class _Upload:
    """
    A body to be sent, and the error that ended it: aiohttp blames the network.

    aiohttp has no timeout of writing, but it asks for a piece only when those before have
    left: *patience* is cancelled when it does not ask in time, and waits for the source.
    """

    def __init__(self, body: AsyncIterator[bytes], *, write: float, read: float) -> None:
        self._body = body
        self._write = write
        self._read = read
        self.patience = anyio.CancelScope()
        self.error: Exception | None = None

    def __aiter__(self) -> "_Upload":
        return self

    async def __anext__(self) -> bytes:
        self.patience.deadline = math.inf
        try:
            piece = await anext(self._body)
        except StopAsyncIteration:
            # The end has to leave, too; how long the answer takes is aiohttp's to watch.
            self._allow(self._write + self._read)
            raise
        except Exception as error:
            self.error = error
            raise
        self._allow(self._write)
        return piece

    def _allow(self, seconds: float) -> None:
        self.patience.deadline = anyio.current_time() + seconds


def _upload_of(request: httpx.Request) -> _Upload | None:
    body: AsyncIterator[bytes]
    if isinstance(request.stream, UploadBody):
        body = request.stream
    elif isinstance(request.stream, BytesBody) and len(request.content) > _NOT_AWAITED_BYTES:
        body = aiter(request.stream)
    else:
        return None
    phases: Mapping[str, float | None] = request.extensions.get("timeout", {})
    write, read = (phases.get(phase) for phase in ("write", "read"))
    return _Upload(
        body,
        write=math.inf if write is None else write,
        read=math.inf if read is None else read,
    )


class _Stream(httpx.AsyncByteStream):
    """The body, whose errors are named anew."""

    def __init__(self, stream: Any, content: aiohttp.StreamReader) -> None:
        self._stream: httpx.AsyncByteStream = stream
        self._content = content

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        # Each event may come by itself, and the iterators of both libraries, or a context
        # manager, would cost as much as it does.
        try:
            chunk = await self._content.read(_PIECE_BYTES)
        except aiohttp.ClientError as error:
            failed = named_anew(error)
        else:
            if not chunk:
                raise StopAsyncIteration
            return chunk
        raise failed

    async def aclose(self) -> None:
        # A reader in another task is woken by that.
        try:
            await self._stream.aclose()
        except _TO_BE_NAMED as error:
            failed = named_anew(error)
        else:
            return
        raise failed


class _NotRepeatedError(aiohttp.ClientError):
    """Something that aiohttp would answer by sending the request again."""


async def _once(
    request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send a request once: whether it is repeated is decided where it is counted."""
    try:
        return await send(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _NotRepeatedError from error


# httpx-aiohttp takes the first of its names that fits, whose order is not that of the
# classes: a refused connection, and one that is lost, are timeouts of connecting to it.
_NAMES: tuple[tuple[type[aiohttp.ClientError], type[httpx.TransportError]], ...] = (
    (aiohttp.ClientHttpProxyError, httpx.ProxyError),
    (aiohttp.ClientProxyConnectionError, httpx.ConnectError),
    (aiohttp.ClientConnectorError, httpx.ConnectError),
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientConnectionError, httpx.ReadError),
    (aiohttp.ClientError, httpx.RemoteProtocolError),
)


_TO_BE_NAMED = (httpx.TransportError, aiohttp.ClientError)


def named_anew(error: Exception) -> Exception:
    """
    Return what httpx calls it, or *error* itself if that has a fitting name already.

    It is to be raised outside of the handler: aiohttp puts the whole address into its
    errors, and in a handler they would remain in the chain of the new one.
    """
    cause = _aiohttp_error(error)
    for kind, name in _NAMES:
        if cause is not None and isinstance(cause, kind):
            named = name(_words(cause))
            named.__cause__ = _below(cause)
            return named
    return error


def _aiohttp_error(error: Exception) -> BaseException | None:
    cause = error if isinstance(error, aiohttp.ClientError) else error.__cause__
    return cause.__cause__ if isinstance(cause, _NotRepeatedError) else cause


def _words(cause: BaseException) -> str:
    # Neither the address nor what the peer has sent, as that may hold one.
    kind = type(cause).__name__
    # Of a proxy, the status is named.
    return f"{cause.status} {kind}" if isinstance(cause, aiohttp.ClientResponseError) else kind


def _below(cause: BaseException) -> BaseException | None:
    """Return what says more: a name that is unknown, a certificate."""
    below = cause.__cause__
    while isinstance(below, aiohttp.ClientError):
        below = below.__cause__
    return below if isinstance(below, OSError | UnicodeError) else None
