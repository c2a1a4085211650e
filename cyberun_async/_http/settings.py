"""Settings of a transport, and its statistics."""

import os
import ssl
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Literal

import anyio
import attrs
import httpx

from .._model import ConfigurationError, Limits, Timeouts, quoted


TransportKind = Literal["httpx", "aiohttp"]
# What a user may give instead of the library's own.
TransportFactory = Callable[[], httpx.AsyncBaseTransport]
HttpClient = httpx.AsyncClient


def transport_kind(chosen: object) -> TransportKind:
    """
    Return the kind of transport, whose packages are installed.

    Raises:
        ConfigurationError: There is no such kind, or its extra is missing.
    """
    if chosen == "httpx":
        return "httpx"
    if chosen != "aiohttp":
        given = repr(chosen[:20]) if isinstance(chosen, str) else type(chosen).__name__
        raise ConfigurationError(f"transport must be 'httpx' or 'aiohttp', not {given}")
    if not (find_spec("httpx_aiohttp") and find_spec("msgspec")):
        raise ConfigurationError(
            "transport='aiohttp' needs the extra fast: pip install 'cyberun_async[fast]'"
        )
    return "aiohttp"


def _of_kind(wanted: str, *kinds: type) -> Any:
    def check(_: Any, attribute: "attrs.Attribute[Any]", value: object) -> None:
        if not isinstance(value, kinds):
            # Nothing of the value itself, as a proxy's URL may hold a password.
            kind = type(value).__name__
            raise ConfigurationError(f"{attribute.name} must be {wanted}, not of type {kind}")

    return check


def _callable_or_none(_: Any, attribute: "attrs.Attribute[Any]", value: object) -> None:
    if value is not None and not callable(value):
        raise ConfigurationError(f"{attribute.name} must be callable, not {quoted(value)}")


def _path_as_text(
    value: bool | ssl.SSLContext | str | os.PathLike[str],
) -> bool | ssl.SSLContext | str:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


@attrs.frozen(kw_only=True)
class TransportSettings:
    """
    What a transport needs to know.

    Attributes:
        base_url: Checked already, without a slash at its end.
        proxy: For everything; None asks the environment.
        verify: See :func:`.tls.context_for`.
        kind: Which library speaks HTTP, and with it which one decodes events.
        transport_factory: Makes a transport of httpx for each connection.
        http_client: Serves plain requests instead of connections of our own.
        clock: Monotonic seconds.

    Raises:
        ConfigurationError: A setting is of another kind.
    """

    base_url: str
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    limits: Limits = attrs.field(factory=Limits, validator=_of_kind("Limits", Limits))
    # It may hold a password.
    proxy: str | None = attrs.field(
        default=None, repr=False, validator=_of_kind("a URL or None", str, type(None))
    )
    verify: bool | ssl.SSLContext | str = attrs.field(
        default=True,
        converter=_path_as_text,
        validator=_of_kind("a bool, a path or a context", bool, str, ssl.SSLContext),
    )
    kind: TransportKind = "httpx"
    transport_factory: TransportFactory | None = attrs.field(
        default=None, validator=_callable_or_none
    )
    http_client: HttpClient | None = attrs.field(
        default=None, validator=_of_kind("an httpx.AsyncClient", httpx.AsyncClient, type(None))
    )
    clock: Callable[[], float] = anyio.current_time


@attrs.frozen(kw_only=True)
class TransportStatistics:
    """
    A transport's state.

    Attributes:
        open_streams: Event streams not closed yet.
        open_fetches: Foreign answers not closed yet.
        waiting: Plain requests that wait for a place.
        busy_connections, idle_connections: Connections for plain requests.
        retired_connections: Those closed, for age or because a request came to no end.
    """

    open_streams: int
    open_fetches: int
    waiting: int
    busy_connections: int
    idle_connections: int
    retired_connections: int
