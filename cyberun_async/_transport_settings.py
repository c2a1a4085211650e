"""What a transport is told, and what it tells about itself."""

import ssl
from collections.abc import Callable

import anyio
import attrs
import httpx

from ._options import Limits, Timeouts


@attrs.frozen(kw_only=True)
class TransportSettings:
    """
    What a transport needs to know.

    Attributes:
        base_url: Checked already, without a slash at its end.
        proxy: For everything; None asks the environment.
        verify: See :func:`._transport_tls.context_for`.
        transport_factory: Makes a transport of httpx for each connection.
        http_client: Serves plain requests instead of connections of our own.
        clock: Monotonic seconds.
        idle_backstop: Seconds without a byte after which a stream counts as lost, here.
    """

    base_url: str
    timeouts: Timeouts = attrs.field(factory=Timeouts)
    limits: Limits = attrs.field(factory=Limits)
    # It may hold a password.
    proxy: str | None = attrs.field(default=None, repr=False)
    verify: bool | ssl.SSLContext | str = True
    transport_factory: Callable[[], httpx.AsyncBaseTransport] | None = None
    http_client: httpx.AsyncClient | None = None
    clock: Callable[[], float] = anyio.current_time
    idle_backstop: float = 180.0


@attrs.frozen(kw_only=True)
class TransportStatistics:
    """
    A transport's state at a moment.

    Attributes:
        open_streams: Event streams not closed yet.
        open_fetches: Foreign answers not closed yet.
        requests: Requests made so far, redirects, streams and fetches included.
        waiting: Plain requests that wait for their turn.
        busy_connections, idle_connections: Connections for plain requests.
        retired_connections: Those closed, for age or because a request came to no end.
        cancelled_early: Requests cancelled before their headers.
    """

    open_streams: int
    open_fetches: int
    requests: int
    waiting: int
    busy_connections: int
    idle_connections: int
    retired_connections: int
    cancelled_early: int
