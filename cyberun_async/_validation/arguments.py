"""Arguments of other kinds: callables, durations, methods, header values."""

import math
import re
from datetime import timedelta

from .._model import InvalidInputError, shown


_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def invalid(what: str, fault: str) -> InvalidInputError:
    """Return the error for the argument called *what*."""
    return InvalidInputError(f"the {what} {fault}")


def text_fault(text: str) -> str | None:
    """Return what keeps *text* out of a URL, or None."""
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
        raise invalid("method", "must be letters, as GET or POST")
    return method.upper()


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


OWN_HEADERS = frozenset({"authorization", "x-team-id", "content-length", "host"})


# They are of one connection, which knows them itself.
HOP_HEADERS = frozenset(
    {
        *("connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
        *("proxy-authenticate", "proxy-authorization", "proxy-connection"),
    }
)
