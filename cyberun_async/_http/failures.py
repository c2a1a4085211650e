"""
What httpx raises, as the facts on which the retry decisions rest.

A reason is made of our own words, the host and the operating system's message.
The text of an httpx error never goes in: it may hold a header's value.
"""

import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import TypeVar

import httpx
import httpx_sse

from .._protocol import ExchangeFailedError, FailureKind
from .proxies import Stage, Via, refusal, trouble


# Whether the request may have arrived is said for transports that do not report
# it themselves. The table is complete, which a test proves, so that a new class of
# httpx is looked at before it is met.
OUTCOMES: Mapping[type[Exception], tuple[FailureKind, bool]] = {
    httpx.ConnectError: (FailureKind.CONNECT, False),
    httpx.ConnectTimeout: (FailureKind.CONNECT, False),
    httpx.PoolTimeout: (FailureKind.CONNECT, False),
    httpx.UnsupportedProtocol: (FailureKind.CONNECT, False),
    httpx.ProxyError: (FailureKind.PROXY, False),
    httpx.ReadTimeout: (FailureKind.TIMEOUT, True),
    httpx.WriteTimeout: (FailureKind.TIMEOUT, True),
    httpx.TimeoutException: (FailureKind.TIMEOUT, True),
    httpx.ReadError: (FailureKind.LOST, True),
    httpx.WriteError: (FailureKind.LOST, True),
    httpx.CloseError: (FailureKind.LOST, True),
    httpx.NetworkError: (FailureKind.LOST, True),
    httpx.RemoteProtocolError: (FailureKind.LOST, True),
    httpx.LocalProtocolError: (FailureKind.PROTOCOL, True),
    httpx.ProtocolError: (FailureKind.PROTOCOL, True),
    httpx.TransportError: (FailureKind.LOST, True),
    httpx.DecodingError: (FailureKind.PROTOCOL, True),
    httpx.TooManyRedirects: (FailureKind.REDIRECT, True),
    httpx.RequestError: (FailureKind.LOST, True),
    httpx_sse.SSEError: (FailureKind.PROTOCOL, True),
}

# What a connection that was never made comes to.
_NOT_CONNECTED = frozenset({FailureKind.CONNECT, FailureKind.LOST, FailureKind.TIMEOUT})

ErrorT = TypeVar("ErrorT", bound=BaseException)

_QUOTES = frozenset("\"'")

# What can come out of a transport: httpx's own, TLS errors while reading, which
# httpcore leaves as they are, and host names that no resolver takes.
RAISED_BY_TRANSPORTS = (httpx.RequestError, httpx.StreamError, ssl.SSLError, UnicodeError)


def failure(
    error: Exception,
    *,
    host: str,
    is_sent: bool | None,
    via: Via | None = None,
    stage: Stage = Stage.START,
) -> ExchangeFailedError:
    """
    Return what *error* means.

    Args:
        error: One of :data:`RAISED_BY_TRANSPORTS`.
        host: Who was spoken to, for the reason.
        is_sent: Whether any byte of the request left; None where nobody knows.
        via: The proxy that the connection goes through.
        stage: How far it has come.
    """
    if isinstance(error, httpx.ProxyError):
        refused, reason = refusal(via, host, str(error))
        return ExchangeFailedError(refused, maybe_sent=bool(is_sent), reason=reason)
    kind, maybe_sent = _outcome(error)
    if is_sent is not None:
        maybe_sent = is_sent
    # Only what the peer's certificate says will be the same at the next try: a handshake
    # ends in any other way because a server restarts, a proxy has none behind it, a line is
    # cut. A certificate is looked at before the request leaves, so later it is a loss.
    if is_sent is not True and _first(error, ssl.SSLCertVerificationError):
        kind, maybe_sent = FailureKind.TLS, False
    elif via is not None and is_sent is False and kind in _NOT_CONNECTED:
        return _not_connected(error, host, via, stage)
    peer = str(via) if via is not None and stage is Stage.PROXY else host
    return ExchangeFailedError(kind, maybe_sent=maybe_sent, reason=_reason(kind, error, peer))


def _not_connected(error: Exception, host: str, via: Via, stage: Stage) -> ExchangeFailedError:
    reason = trouble(
        via,
        stage,
        host,
        is_refused=_first(error, ConnectionRefusedError) is not None,
        is_late=isinstance(error, httpx.TimeoutException),
        because=_because(error),
    )
    kind = FailureKind.CONNECT if stage is Stage.TUNNEL else FailureKind.PROXY_FAILED
    return ExchangeFailedError(kind, maybe_sent=False, reason=reason)


def cause_of(error: Exception) -> Exception | None:
    """Return *error*, to be shown below its failure, unless it may quote what was sent or came."""
    if isinstance(error, httpx.LocalProtocolError):
        return None
    # h11 says which line was illegal: a header with a link, a part of the body.
    is_quoting = isinstance(error, httpx.RemoteProtocolError) and not _QUOTES.isdisjoint(str(error))
    return None if is_quoting else error


def _outcome(error: Exception) -> tuple[FailureKind, bool]:
    for cls in type(error).__mro__:
        if cls in OUTCOMES:
            return OUTCOMES[cls]
    if isinstance(error, UnicodeError):
        return FailureKind.CONNECT, False
    return FailureKind.LOST, True


def _reason(kind: FailureKind, error: Exception, host: str) -> str:
    because = _because(error)
    match kind:
        case FailureKind.CONNECT if isinstance(error, httpx.TimeoutException):
            return f"{host} did not accept a connection in time"
        case FailureKind.CONNECT:
            return f"could not connect to {host}{because}"
        case FailureKind.TLS:
            return f"no trusted TLS connection to {host}{because}"
        case FailureKind.PROXY | FailureKind.PROXY_FAILED:
            return f"a proxy did not connect to {host}"
        case FailureKind.TIMEOUT:
            return f"{host} did not answer in time"
        case FailureKind.LOST:
            return f"the connection to {host} was lost{because}"
        case FailureKind.PROTOCOL | FailureKind.REDIRECT:
            return f"the exchange with {host} was not valid HTTP"


def _because(error: Exception) -> str:
    detail = _detail(error)
    return f": {detail}" if detail else ""


def _detail(error: Exception) -> str:
    if (tls := _first(error, ssl.SSLError)) is not None:
        if isinstance(tls, ssl.SSLCertVerificationError):
            return tls.verify_message
        words = (tls.reason or "").replace("_", " ").lower()
        return f"the TLS handshake failed ({words})" if words else "the TLS handshake failed"
    for cause in _chain(error):
        if isinstance(cause, socket.gaierror):
            return "the name could not be resolved"
        if isinstance(cause, UnicodeError):
            return "the name is not valid"
        if isinstance(cause, OSError) and cause.errno is not None:
            return os.strerror(cause.errno)
    return ""


def _first(error: BaseException, kind: type[ErrorT]) -> ErrorT | None:
    return next((cause for cause in _chain(error) if isinstance(cause, kind)), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = _below(error)


def _below(error: BaseException) -> BaseException | None:
    # Several addresses of one host fail together.
    grouped: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    if grouped:
        return grouped[0]
    if error.__cause__ is not None:
        return error.__cause__
    # httpcore cuts the cause off and keeps it as argument. What stands in the context alone
    # is no cause: a caller may be handling it, or anyio was waiting when a timeout came.
    wrapped: object = error.args[0] if error.args else None
    return wrapped if isinstance(wrapped, BaseException) else None
