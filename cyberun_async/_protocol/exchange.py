"""
What one HTTP exchange can come to: a reply, or a failure and whether the request may have arrived.

These are the facts on which the retry decisions rest; they know nothing of the HTTP library.
"""

import enum
from collections.abc import Callable, Mapping

import attrs

from .._model import scrubbed


@attrs.frozen(kw_only=True)
class Response:
    """A complete answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], hash=False)
    body: bytes = b""
    method: str = "GET"
    path: str = ""

    def __repr__(self) -> str:
        # Neither the body nor a header such as Location is for a log.
        what = scrubbed(f"{self.status} {self.method} {self.path}").strip()
        return f"Response({what}, {len(self.body)} bytes)"

    @property
    def content_type(self) -> str | None:
        """The content type as sent, or None."""
        return self.headers.get("content-type")

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300


@attrs.define
class Departure:
    """Whether a request may have left, for whoever stops waiting for its answer."""

    _says: Callable[[], bool] | None = None

    @property
    def maybe_sent(self) -> bool:
        """Whether it may have left by now."""
        return self._says is not None and self._says()

    def begins(self, says: Callable[[], bool]) -> None:
        """It is being sent; *says* whether it may have left."""
        self._says = says

    def had_no_effect(self) -> None:
        """It did not leave, or was declined, and is sent again."""
        self._says = None


class FailureKind(enum.Enum):
    """Why an exchange gave no complete answer."""

    CONNECT = "could not connect"
    TLS = "the certificate could not be verified"
    PROXY = "the proxy refused"
    PROXY_FAILED = "the proxy could not be reached, or could not connect"
    TIMEOUT = "timed out"
    LOST = "the connection was lost"
    REDIRECT = "an unacceptable redirect"
    PROTOCOL = "the peer does not speak HTTP"

    @property
    def is_lasting(self) -> bool:
        """Whether a second try cannot help: the certificate, the proxy's decision, a redirect."""
        return self in {FailureKind.TLS, FailureKind.PROXY, FailureKind.REDIRECT}


class ExchangeFailedError(Exception):
    """
    No complete answer was read.

    Attributes:
        kind: What happened.
        maybe_sent: False only where the request provably did not reach the service.
        reason: Words fit for a user; no header, key or query string is in them.
    """

    def __init__(self, kind: FailureKind, *, maybe_sent: bool, reason: str = "") -> None:
        self.kind = kind
        self.maybe_sent = maybe_sent
        self.reason = reason or kind.value
        super().__init__(self.reason)
