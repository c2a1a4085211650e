"""Base URLs: which are accepted, and what is wrong with the others."""

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from .._model import ConfigurationError, shown
from .arguments import text_fault


MAX_URL_CHARACTERS = 2048


ESCAPED_DOTS = re.compile(r"(?:\.|%2e){1,2}", re.IGNORECASE)


def base_url_of(text: object) -> str:
    """
    Return the base URL in the form that paths are appended to, without a slash at its end.

    ``http`` is allowed, as self-hosted services and tests need it; whether the key then
    travels in the clear, see :func:`sends_in_clear`.

    Raises:
        ConfigurationError: It is no usable URL; the message names the fault.
    """
    if not isinstance(text, str):
        raise ConfigurationError(f"the base URL must be a string, not {type(text).__name__}")
    if fault := _url_fault(text):
        raise ConfigurationError(f"the base URL {fault}")
    parts = urlsplit(text)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def _url_fault(text: str) -> str | None:
    if not text:
        return "is empty"
    if len(text) > MAX_URL_CHARACTERS:
        return f"has {len(text)} characters, at most {MAX_URL_CHARACTERS} are possible"
    # Before splitting, which would silently drop tabs and line ends.
    if fault := text_fault(text):
        return f"{fault} (an internationalised host is written with xn--)"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "is malformed: its host or port cannot be read"
    if port == 0:
        return "has port 0"
    # A name or password, and most queries, are secrets, so neither is repeated.
    if "@" in parts.netloc:
        return "has a user name or password in it; pass the key as api_key"
    if "?" in text or "#" in text:
        return "has a query or fragment"
    return _url_parts_fault(parts, text)


def _url_parts_fault(parts: SplitResult, text: str) -> str | None:
    if parts.scheme not in {"http", "https"}:
        return f"must begin with https:// (or http://): {shown(text)}"
    if not _is_host(parts):
        return f"names no valid host: {shown(text)}"
    if any(ESCAPED_DOTS.fullmatch(step) for step in parts.path.split("/")):
        return f"has a step '.' or '..' in its path: {shown(text)}"
    return None


def _is_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    if "[" in parts.netloc:
        return _is_address(host)
    labels = host.removesuffix(".").split(".")
    return all(re.fullmatch(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", label) for label in labels)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    # httpx knows no zones of IPv6 addresses.
    return "%" not in host


def sends_in_clear(base_url: str) -> bool:
    """Return whether a key sent to *base_url* can be read on the way (http, not loopback)."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if parts.scheme != "http" or host == "localhost" or host.endswith(".localhost"):
        return False
    return not (_is_address(host) and ip_address(host).is_loopback)
