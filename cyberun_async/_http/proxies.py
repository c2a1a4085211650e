"""
Forward proxies: which one a URL is reached through, and what its failures mean.

A transport that is made by hand does not look at HTTP_PROXY, HTTPS_PROXY,
ALL_PROXY and NO_PROXY, so it is done here, by httpx's rules and with networks
(``10.0.0.0/8``) in NO_PROXY, which httpx takes for a single address.

Only a decision of the proxy's operator is final: no user name and password, wrong
ones, or a host that is not allowed. A proxy that is down, or that does not reach the
service at the moment, is an outage like any other.
"""

import contextlib
import enum
import ipaddress
import os
import ssl
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

import attrs
import httpx

from .._model import ConfigurationError
from .._protocol import ExchangeFailedError, FailureKind
from .requests import host_of


# A proxy asks for a password of its own with this; the API never does.
_PROXY_WANTS_AUTHENTICATION = 407

_KNOWN_SCHEMES = frozenset({"socks", "socks4", "socks4a", "socks5", "socks5h", "pac", "quic"})

_DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}

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


@attrs.frozen
class Exemption:
    """One entry of NO_PROXY: hosts that are reached without a proxy."""

    scheme: str
    host: str
    port: int | None

    def covers(self, scheme: str, host: str, port: int | None) -> bool:
        """Return whether requests to this host go without a proxy."""
        if self.scheme not in {"", "all", scheme} or self.port not in {None, port}:
            return False
        if (address := _address(host)) is not None:
            return self._holds(address)
        if self.host.startswith("."):
            return host.endswith(self.host)
        return host == self.host or (self.host != "localhost" and host.endswith(f".{self.host}"))

    def _holds(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        try:
            return address in ipaddress.ip_network(self.host, strict=False)
        except ValueError:
            return False


@attrs.frozen
class ProxyRules:
    """The proxies per scheme and the exemptions from them."""

    proxies: Mapping[str, Via] = attrs.field(factory=dict[str, Via], hash=False)
    exemptions: tuple[Exemption, ...] = ()

    def via_for(self, url: str) -> Via | None:
        """Return the proxy, or None where *url* is reached directly."""
        if not self.proxies:
            return None
        parts = urlsplit(url)
        scheme, host = parts.scheme.lower(), (parts.hostname or "").rstrip(".")
        port = _port(parts) or _DEFAULT_PORTS.get(scheme)
        if any(exemption.covers(scheme, host, port) for exemption in self.exemptions):
            return None
        return self.proxies.get(scheme) or self.proxies.get("all")


def rules_from_environment() -> ProxyRules:
    """Return the rules as the environment has them now."""
    found = getproxies()
    exempt = [entry.strip() for entry in found.get("no", "").split(",")]
    if "*" in exempt:
        return ProxyRules()
    proxies = {
        scheme: Via(with_scheme(found[scheme]), _source(scheme))
        for scheme in ("http", "https", "all")
        if found.get(scheme)
    }
    return ProxyRules(proxies, tuple(_exemption(entry) for entry in exempt if entry))


def rules_for_all(proxy: str) -> ProxyRules:
    """Return rules that send everything through *proxy*."""
    return ProxyRules({"all": Via(with_scheme(proxy), "proxy=")})


def _source(scheme: str) -> str:
    # As urllib has them: those in lower case come first.
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper())
    return next((name for name in names if os.environ.get(name)), "the system's settings")


def make_proxy(
    via: Via,
    context: ssl.SSLContext | None = None,
    *,
    schemes: Sequence[str] = ("http", "https", "socks5", "socks5h"),
) -> httpx.Proxy:
    """
    Return the proxy as httpx wants it.

    Args:
        via: What it is.
        context: For one that is spoken to over TLS.
        schemes: Those that work.

    Raises:
        ConfigurationError: It cannot be used; the message does not hold the URL, which
            may hold a password.
    """
    scheme = via.url.partition("://")[0].lower()
    if scheme not in schemes:
        raise ConfigurationError(_wrong_scheme(scheme, via.source, schemes))
    if scheme.startswith("socks") and find_spec("socksio") is None:
        raise ConfigurationError(
            f"the SOCKS proxy from {via.source} needs the package socksio:"
            " pip install 'httpx[socks]'"
        )
    try:
        if urlsplit(via.url).port == 0:
            raise ValueError
        return httpx.Proxy(via.url, ssl_context=context if scheme == "https" else None)
    except (httpx.InvalidURL, UnicodeError, ValueError):
        raise ConfigurationError(
            f"the proxy from {via.source} is not a valid URL, such as http://host:port"
        ) from None


def _wrong_scheme(scheme: str, source: str, schemes: Sequence[str]) -> str:
    # Not whatever stands there: a URL with its parts mixed up may begin with a password.
    named = f" {scheme}://" if scheme in _KNOWN_SCHEMES else ""
    others = "; the default transport takes SOCKS, too" if "socks5" not in schemes else ""
    working = ", ".join(f"{one}://" for one in schemes)
    return (
        f"the proxy from {source} has a scheme{named} that cannot be used;"
        f" these work: {working}{others}"
    )


def with_scheme(proxy: str) -> str:
    """Return the proxy's URL; one without a scheme speaks HTTP."""
    return proxy if "://" in proxy else f"http://{proxy}"


def _exemption(entry: str) -> Exemption:
    scheme, _, rest = entry.lower().rpartition("://")
    # A bare IPv6 address or a network is no host with a port.
    if _address(rest) is not None or "/" in rest:
        return Exemption(scheme, rest.strip("[]").rstrip("/"), None)
    parts = urlsplit(f"//{rest}")
    host = (parts.hostname or "").removeprefix("*")
    return Exemption(scheme, host, _port(parts) or _DEFAULT_PORTS.get(scheme))


def _port(parts: SplitResult) -> int | None:
    with contextlib.suppress(ValueError):
        return parts.port
    return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def check_proxy_answer(status: int, url: httpx.URL, via: Via | None) -> None:
    """
    Raise where the proxy has answered, not the service.

    That is certain only of a 407 to a request in absolute form: in a tunnel, and where no
    proxy is configured, it is the page of something before the service.

    Raises:
        ExchangeFailedError: The proxy wants a password.
    """
    is_absolute = via is not None and not via.speaks_socks and url.scheme == "http"
    if is_absolute and status == _PROXY_WANTS_AUTHENTICATION:
        reason = password_wanted(via, host_of(url), status)
        raise ExchangeFailedError(FailureKind.PROXY, maybe_sent=False, reason=reason)


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
