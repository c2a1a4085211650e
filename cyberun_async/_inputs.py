"""
Checks on the way in, and the paths made of what passed them.

Whatever ends up in a request line or a header is checked here, before anything is sent:
an identifier cannot change the path it is put into, nor a header the request it is part of.
Messages name the fault, and never repeat what looks like a credential.
"""

import functools
import inspect
import math
import re
from datetime import timedelta
from ipaddress import ip_address
from typing import Literal, cast
from urllib.parse import SplitResult, quote, urlsplit
from uuid import UUID

import attrs

from ._errors import ConfigurationError, InvalidInputError
from ._filenames import filename_of
from ._json_values import parameters_of
from ._redaction import shown


__all__ = [
    "WorkflowRef",
    "base_url_of",
    "callable_of",
    "filename_of",
    "header_text",
    "identifier_of",
    "is_uuid",
    "management_path",
    "method_of",
    "parameters_of",
    "path_for",
    "positive_seconds",
    "quote_segment",
    "raw_path_of",
    "sends_in_clear",
    "task_id_of",
    "workflow_path",
    "workflow_ref",
]

MAX_ID_CHARACTERS = 200
MAX_URL_CHARACTERS = 2048
_SLUG_CHARACTERS = range(2, 101)

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_PLAIN_SEGMENT = re.compile(r"[A-Za-z0-9-]+")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_KEY_PREFIX = re.compile(r"(?:sk-|dk-|ak-|eyJ|whsec_)")
# A slug may begin with "ak-"; a random part this long is no word of one.
_KEY_LIKE_SLUG = re.compile(r"(?:sk|dk|ak)-(?:.*-)?[a-z0-9]{20,}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_ESCAPED_DOTS = re.compile(r"(?:\.|%2e){1,2}", re.IGNORECASE)


@attrs.frozen
class WorkflowRef:
    """Which workflow is meant: by id, or by slug and, if pinned, its version."""

    kind: Literal["id", "slug"]
    value: str
    version: int | None = None

    @property
    def text(self) -> str:
        """The reference as written: the id, the slug, or ``slug@version``."""
        return self.value if self.version is None else f"{self.value}@{self.version}"


def is_uuid(text: str) -> bool:
    """Return whether *text* has the shape of a UUID."""
    return _UUID.fullmatch(text) is not None


def task_id_of(text: object) -> str:
    """
    Return the canonical id of a task; a UUID in lower case, anything else as it is.

    Raises:
        InvalidInputError: It cannot be an id; the message names the fault.
    """
    return identifier_of("task id", text)


def identifier_of(what: str, text: object) -> str:
    """
    Return *text* as an id that is safe within a path; *what* names it in messages.

    Raises:
        InvalidInputError: It cannot be an id; the message names the fault.
    """
    if isinstance(text, UUID):
        return str(text)
    if not isinstance(text, str):
        raise _invalid(what, f"must be a string or a UUID, not {type(text).__name__}")
    if _KEY_PREFIX.match(text):
        raise _invalid(what, "looks like an API key; pass the id itself (nothing was sent)")
    if fault := _identifier_fault(text):
        raise _invalid(what, f"{fault}: {shown(text)}" if text else fault)
    return text.lower() if is_uuid(text) else text


def _identifier_fault(text: str) -> str | None:
    if not text:
        return "is empty"
    if len(text) > MAX_ID_CHARACTERS:
        return f"has {len(text)} characters, at most {MAX_ID_CHARACTERS} are possible"
    if not text.isascii():
        return "has characters outside ASCII"
    if text in {".", ".."}:
        return "is a path step, not an id"
    return next((fault for letter in text if (fault := _letter_fault(letter))), None)


def _letter_fault(letter: str) -> str | None:
    if letter == " ":
        return "has a blank in it"
    if letter < " " or letter == "\x7f":
        return "has a control character in it"
    if letter in "/\\?#%":
        return f"has {letter!r} in it"
    return None


def _invalid(what: str, fault: str) -> InvalidInputError:
    return InvalidInputError(f"the {what} {fault}")


def workflow_ref(text: object, slug: bool | None = None) -> WorkflowRef:
    """
    Return which workflow *text* means: an id, a slug, or ``slug@version``.

    A UUID is an id unless *slug* is True; with *slug* False anything is an id.

    Raises:
        InvalidInputError: It can be neither; the message names the fault.
    """
    if isinstance(text, UUID) or slug is False:
        return WorkflowRef("id", identifier_of("workflow id", text))
    if not isinstance(text, str):
        raise _invalid("workflow", f"must be a string or a UUID, not {type(text).__name__}")
    if is_uuid(text) and slug is None:
        return WorkflowRef("id", text.lower())
    return _slug_ref(text, forced=slug is True)


def _slug_ref(text: str, *, forced: bool) -> WorkflowRef:
    value, at, version = text.partition("@")
    if fault := _slug_fault(value):
        raise _invalid("workflow slug", f"{fault}: {shown(text)}" if text else "is empty")
    if is_uuid(value) and not forced:
        raise _invalid("workflow id", f"cannot be pinned to a version: {shown(text)}")
    if not at:
        return WorkflowRef("slug", value)
    if not _VERSION.fullmatch(version):
        fault = "has a version that is no whole number from 1 on after its '@'"
        raise _invalid("workflow slug", f"{fault}: {shown(text)}")
    return WorkflowRef("slug", value, int(version))


def _slug_fault(value: str) -> str | None:
    if _KEY_LIKE_SLUG.match(value) or value.startswith(("eyJ", "whsec_")):
        return "looks like an API key"
    if len(value) not in _SLUG_CHARACTERS:
        return f"has {len(value)} characters, 2 to 100 are possible"
    if not _SLUG.fullmatch(value):
        return "is not lower-case words and digits joined by '-', as text-to-image"
    return None


def quote_segment(text: str) -> str:
    """
    Return *text* encoded so that it stays one segment of a path.

    Raises:
        InvalidInputError: No encoding can keep it one: it is empty, ``.`` or ``..``.
    """
    if _PLAIN_SEGMENT.fullmatch(text):
        return text
    if text in {"", ".", ".."}:
        raise _invalid("path segment", f"cannot be {shown(text)}")
    try:
        return quote(text, safe="@")
    except UnicodeEncodeError:
        raise _invalid("path segment", f"is no valid text: {shown(text)}") from None


def path_for(*segments: str) -> str:
    """Return the runtime path of *segments*: ``path_for("tasks", id)`` is ``/r/tasks/<id>``."""
    return management_path("r", *segments)


def management_path(*segments: str) -> str:
    """Return the path of *segments* outside the runtime surface, as ``/webhooks/<id>``."""
    return "".join(f"/{quote_segment(segment)}" for segment in segments)


def workflow_path(ref: WorkflowRef, *rest: str) -> str:
    """Return the runtime path of a workflow, followed by *rest* (``run``)."""
    if ref.kind == "id":
        return path_for("workflows", ref.value, *rest)
    return path_for("workflows", "slug", ref.text, *rest)


def raw_path_of(path: object) -> str:
    """
    Return *path* if it is a path below the base URL that nothing in it leads out of.

    Raises:
        InvalidInputError: It is a whole URL, has a query, steps upwards, or is no text.
    """
    if not isinstance(path, str):
        raise _invalid("path", f"must be a string, not {type(path).__name__}")
    if fault := _raw_path_fault(path):
        raise _invalid("path", f"{fault}: {shown(path)}")
    return path


def _raw_path_fault(path: str) -> str | None:
    if not path.startswith("/") or path.startswith("//"):
        return "must begin with one '/' and name no host"
    if len(path) > MAX_URL_CHARACTERS:
        return f"has {len(path)} characters, at most {MAX_URL_CHARACTERS} are possible"
    if fault := _text_fault(path):
        return fault
    if "?" in path or "#" in path:
        return "has a query or fragment; pass the query as params"
    if "%2f" in path.lower() or "%5c" in path.lower():
        return "has an encoded slash in it"
    if any(_ESCAPED_DOTS.fullmatch(step) for step in path.split("/")):
        return "has a step '.' or '..' in it"
    return None


def _text_fault(text: str) -> str | None:
    if not text.isascii():
        return "has characters outside ASCII"
    if any(letter <= " " or letter in "\\\x7f" for letter in text):
        return "has a blank, backslash or control character in it"
    return None


def method_of(method: object) -> str:
    """
    Return an HTTP method in upper case.

    Raises:
        InvalidInputError: It is no method.
    """
    if not isinstance(method, str) or not re.fullmatch(r"[A-Za-z]{1,20}", method):
        raise _invalid("method", "must be letters, as GET or POST")
    return method.upper()


def base_url_of(text: object) -> str:
    """
    Return the base URL in the form that paths are appended to, without a slash at its end.

    ``http`` is allowed, as self-hosted services and tests need it; whether the key then
    travels in the clear, :func:`sends_in_clear` tells.

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
    if fault := _text_fault(text):
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
    if any(_ESCAPED_DOTS.fullmatch(step) for step in parts.path.split("/")):
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


def header_text(name: object, value: object) -> str:
    """
    Return the value of a header if it and its *name* can be sent as they are.

    Raises:
        InvalidInputError: They cannot; the message never has the value in it.
    """
    if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
        raise InvalidInputError("the header has a name that is empty or has characters not allowed")
    if not isinstance(value, str):
        kind = type(value).__name__
        raise InvalidInputError(f"the header {shown(name)} must be a string, not {kind}")
    if fault := _header_fault(value):
        raise InvalidInputError(f"the header {shown(name)} {fault}")
    return value


def _header_fault(value: str) -> str | None:
    # By its characters, as a secret's own methods may hide them.
    letters = "".join(value)
    if not letters.isascii():
        return "has characters outside ASCII"
    if any((letter < " " and letter != "\t") or letter == "\x7f" for letter in letters):
        return "has a line end or another control character in it"
    if letters != letters.strip(" \t"):
        return "begins or ends with a blank"
    return None


def callable_of(name: str, value: object) -> None:
    """
    Check that *value* can be called, or is None.

    Raises:
        InvalidInputError: It cannot.
    """
    if value is not None and not callable(value):
        raise InvalidInputError(f"{name} must be callable, not {type(value).__name__}")


def is_asynchronous(value: object) -> bool:
    """Return whether calling *value* gives something to await, as far as can be seen."""
    while isinstance(value, functools.partial):
        value = cast("functools.partial[object]", value).func
    called = getattr(value, "__call__", None)  # noqa: B004 - an object may be callable so
    return any(
        inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one)
        for one in (value, called)
    )


def positive_seconds(name: str, value: object) -> float:
    """
    Return *value* in seconds; *name* is the argument's.

    Raises:
        InvalidInputError: It is no number, or not finite and greater than 0.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        kind = type(value).__name__
        raise InvalidInputError(f"{name} must be a number of seconds or a timedelta, not {kind}")
    try:
        number = float(seconds)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and number > 0):
        hint = "; where no limit is possible, None says so" if number == math.inf else ""
        raise InvalidInputError(f"{name} must be finite and greater than 0, not {number!r}{hint}")
    return number
