"""Which library speaks HTTP: httpx by itself, or aiohttp behind the interface of httpx."""

import functools
import socket
import ssl
from collections.abc import Callable
from typing import Any

import attrs
import httpx

from .._protocol import load_json
from .proxies import Via, make_proxy
from .settings import TransportKind


Loads = Callable[[str], Any]


# The kernel finds half-open connections, too: probes after a minute of silence.
_SOCKET_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))
        if hasattr(socket, name)
    ),
]

# How long it may be idle is decided by the connection pool, by its clock.
_ONE_CONNECTION = httpx.Limits(
    max_connections=1, max_keepalive_connections=1, keepalive_expiry=None
)


@attrs.frozen
class Backend:
    """
    What differs between the libraries.

    Attributes:
        make_connection: Makes the transport of one connection.
        make_proxy: Makes the proxy of its URL, or says why it cannot be used.
        loads: Reads the JSON of events.
    """

    make_connection: Callable[[ssl.SSLContext, httpx.Proxy | None], httpx.AsyncBaseTransport]
    make_proxy: Callable[[Via, ssl.SSLContext | None], httpx.Proxy]
    loads: Loads


def backend_for(kind: TransportKind) -> Backend:
    """Return the backend of *kind*; nothing of another one is imported."""
    if kind == "httpx":
        return Backend(_httpx_connection, make_proxy, load_json)
    from .aiohttp_backend import AiohttpConnection, load_json_fast

    def connection(tls: ssl.SSLContext, proxy: httpx.Proxy | None) -> httpx.AsyncBaseTransport:
        return AiohttpConnection(verify=tls, proxy=proxy, socket_options=_SOCKET_OPTIONS)

    without_socks = functools.partial(make_proxy, schemes=("http", "https"))
    return Backend(connection, without_socks, load_json_fast)


def _httpx_connection(tls: ssl.SSLContext, proxy: httpx.Proxy | None) -> httpx.AsyncBaseTransport:
    return httpx.AsyncHTTPTransport(
        verify=tls, limits=_ONE_CONNECTION, proxy=proxy, socket_options=_SOCKET_OPTIONS
    )
