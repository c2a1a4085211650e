"""
The forward proxy of a connection: its name in errors, and what its trouble means.

Only what the proxy's operator has decided is final: no user name and password, wrong
ones, or a host that is not allowed. A proxy that is down, or that does not reach the
service at the moment, is an outage like any other.
"""

import enum
from collections.abc import Mapping
from urllib.parse import urlsplit

import attrs

from .._protocol import FailureKind


# To a CONNECT; some proxies say 401 where the standard has 407.
_WANTS_PASSWORD = frozenset({401, 407})
_NOT_ALLOWED = 403

# What httpcore says of a SOCKS proxy that refuses.
_SOCKS_PASSWORD = ("Invalid username/password", "NO ACCEPTABLE METHODS", "USERNAME/PASSWORD.")
_SOCKS_NOT_ALLOWED = "not allowed by ruleset"
_SOCKS_WORDS: Mapping[str, str] = {
    words: words.lower()
    for words in (
        "General SOCKS server failure",
        "Network unreachable",
        "Host unreachable",
        "Connection refused",
        "TTL expired",
        "Command not supported",
        "Address type not supported",
    )
}


class Stage(enum.Enum):
    """How far a connection has come that goes through a proxy."""

    START = enum.auto()
    PROXY = enum.auto()  # it has accepted the connection
    TUNNEL = enum.auto()  # it has connected to the service


@attrs.frozen
class Via:
    """
    A proxy.

    Attributes:
        url: It may hold a password.
        source: Where it was set: a variable of the environment, or ``proxy=``.
    """

    url: str = attrs.field(repr=False)
    source: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"the proxy {parts.netloc.rpartition('@')[2]} (from {self.source})"

    @property
    def speaks_socks(self) -> bool:
        """Whether it is no proxy of HTTP."""
        return self.url.lower().startswith("socks")

    @property
    def has_password(self) -> bool:
        """Whether it is given a user name."""
        return "@" in urlsplit(self.url).netloc


def password_wanted(via: Via | None, host: str, status: int | None) -> str:
    """Return what to say where a proxy, perhaps one nobody knows of, wants a password."""
    said = "" if status is None else f" (HTTP {status})"
    if via is None:
        return f"a proxy before {host} wants a user name and password{said}"
    if via.has_password:
        return f"{via} does not accept the user name and password of its URL{said}"
    return f"{via} wants a user name and password{said}; write them into its URL"


def refusal(via: Via | None, host: str, words: str) -> tuple[FailureKind, str]:
    """
    Return what it means that a proxy did not connect, and how to say it.

    Args:
        via: The proxy, where it is known.
        host: Who was to be reached.
        words: The error's own: a status line, or what httpcore says of SOCKS.
    """
    proxy = via or f"a proxy before {host}"
    digits = words[:3]
    status = int(digits) if digits.isascii() and digits.isdigit() else None
    if status in _WANTS_PASSWORD or any(one in words for one in _SOCKS_PASSWORD):
        return FailureKind.PROXY, password_wanted(via, host, status)
    said = "" if status is None else f" (HTTP {status})"
    if status == _NOT_ALLOWED or _SOCKS_NOT_ALLOWED in words:
        return FailureKind.PROXY, f"{proxy} does not allow connections to {host}{said}"
    because = next((f": {text}" for one, text in _SOCKS_WORDS.items() if one in words), said)
    return FailureKind.PROXY_FAILED, f"{proxy} could not connect to {host}{because}"


def trouble(
    via: Via, stage: Stage, host: str, *, is_refused: bool, is_late: bool, because: str
) -> str:
    """Return what to say of a connection through a proxy that was not made."""
    if stage is Stage.START and is_refused:
        return f"{via} refused the connection"
    if is_late:
        return f"no connection to {host} through {via} in time"
    if stage is Stage.START:
        return f"could not connect to {via}{because}"
    if stage is Stage.PROXY:
        return f"{via} was lost before it had connected to {host}{because}"
    return f"could not connect to {host} through {via}{because}"
