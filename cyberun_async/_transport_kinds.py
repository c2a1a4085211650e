"""Which library speaks HTTP: httpx by itself, or aiohttp behind the interface of httpx."""

import functools
import socket
import ssl
from collections.abc import Callable

import attrs
import httpx

from ._sse_codec import load_json
from ._transport_proxy import make_proxy
from ._transport_settings import Loads, MakeLane, TransportKind
from ._transport_via import Via


# The kernel finds half-open connections, too: probes after a minute of silence.
_SOCKET_OPTIONS = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))
        if hasattr(socket, name)
    ),
]

# How long it may be idle is decided by the stock, by the clock it is given.
_ONE_CONNECTION = httpx.Limits(
    max_connections=1, max_keepalive_connections=1, keepalive_expiry=None
)


@attrs.frozen
class Kind:
    """
    What differs between the libraries.

    Attributes:
        make_lane: Makes the transport of one connection.
        make_proxy: Makes the proxy of its URL, or says why it cannot be used.
        loads: Reads the JSON of events.
    """

    make_lane: MakeLane
    make_proxy: Callable[[Via, ssl.SSLContext | None], httpx.Proxy]
    loads: Loads


def kind_for(name: TransportKind) -> Kind:
    """Return the kind called *name*; nothing of another one is imported."""
    if name == "httpx":
        return Kind(_httpx_lane, make_proxy, load_json)
    from ._transport_aiohttp import AiohttpLane, load_json_fast

    make_lane = functools.partial(_aiohttp_lane, AiohttpLane)
    return Kind(make_lane, _proxy_without_socks, load_json_fast)


def _httpx_lane(tls: ssl.SSLContext, proxy: httpx.Proxy | None) -> httpx.AsyncBaseTransport:
    return httpx.AsyncHTTPTransport(
        verify=tls, limits=_ONE_CONNECTION, proxy=proxy, socket_options=_SOCKET_OPTIONS
    )


def _aiohttp_lane(
    make: Callable[..., httpx.AsyncBaseTransport], tls: ssl.SSLContext, proxy: httpx.Proxy | None
) -> httpx.AsyncBaseTransport:
    return make(verify=tls, proxy=proxy, socket_options=_SOCKET_OPTIONS)


def _proxy_without_socks(via: Via, context: ssl.SSLContext | None) -> httpx.Proxy:
    return make_proxy(via, context, schemes=("http", "https"))
