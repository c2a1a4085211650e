"""
A reply's body as JSON, and the fields of its objects.

Essential fields raise, all others are tolerant: what is absent, null, the empty string or
of another type than documented is None (or empty), so that a change of a detail on the
service's side breaks nobody.
"""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn, TypeGuard

from .._model import UnexpectedResponseError, parse_timestamp, redacted
from .exchange import Response


Fields = Mapping[str, Any]

_NOTHING: Fields = {}
_LONGEST_TYPE = 100
_SHOWN_BYTES = 8192
# What no counter of the service exceeds; a larger one is no number to reckon with.
_LARGEST_WHOLE = 2**63


def is_object(value: object) -> TypeGuard[Fields]:
    """Return whether *value*, out of a JSON decoder, is an object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Return whether *value*, out of a JSON decoder, is a list."""
    return isinstance(value, list)


def unexpected(reply: Response, problem: str) -> UnexpectedResponseError:
    """Return the error for a reply that is not the protocol; links and keys are left out."""
    kind = reply.content_type
    return UnexpectedResponseError(
        problem,
        status=reply.status,
        content_type=None if kind is None else redacted(kind)[:_LONGEST_TYPE],
        body=redacted(reply.body[:_SHOWN_BYTES].decode("utf-8", "replace")),
    )


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is no JSON"
    raise ValueError(message)


def parse_json(body: bytes | str) -> Any:
    """
    Return what *body* holds.

    Raises:
        ValueError: It is no JSON, no UTF-8, nested too deeply, or has NaN or endless integers.
    """
    text = body.decode("utf-8-sig") if isinstance(body, bytes) else body
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        message = "it is nested too deeply"
        raise ValueError(message) from None


def read_json(reply: Response) -> Any:
    """
    Return the body of *reply*, decoded.

    Raises:
        UnexpectedResponseError: It is no JSON.
    """
    try:
        return parse_json(reply.body)
    except ValueError as error:
        problem = "the reply is empty" if not reply.body.strip() else _problem_of(error)
    raise unexpected(reply, problem)


def _problem_of(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "the reply is not UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"the reply is no JSON from character {error.pos} on"
    return "the reply is no JSON that can be read"


def read_object(reply: Response) -> Fields:
    """
    Return the JSON object in *reply*.

    Raises:
        UnexpectedResponseError: It is anything else.
    """
    return object_in(read_json(reply), reply)


def object_in(value: Any, reply: Response) -> Fields:
    """
    Return *value*, a part of *reply*, if it is a JSON object.

    Raises:
        UnexpectedResponseError: It is anything else.
    """
    if not is_object(value):
        raise unexpected(reply, "the reply is JSON, but not the object it should be")
    return value


def essential(fields: Fields, reply: Response, *names: str) -> str:
    """
    Return the text under the first of *names* that has one.

    Raises:
        UnexpectedResponseError: None has.
    """
    value = text(fields, *names)
    if value is None:
        raise unexpected(reply, f"the reply has no {names[0]} that is a text")
    return value


def text(fields: Fields, *names: str) -> str | None:
    """Return the first text that is not empty under one of *names*."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and value:
            return value
    return None


def texts(fields: Fields, name: str) -> tuple[str, ...]:
    """Return the texts of a list; values of other types are left out."""
    return tuple(one for one in rows(fields, name) if isinstance(one, str))


def rows(fields: Fields, name: str) -> Sequence[Any]:
    """Return a list, empty where there is none."""
    value = fields.get(name)
    return value if is_list(value) else ()


def nested(fields: Fields, name: str) -> Fields:
    """Return an object within *fields*, empty where there is none."""
    value = fields.get(name)
    return value if is_object(value) else _NOTHING


def whole(fields: Fields, name: str) -> int | None:
    """Return a whole number from 0 on."""
    value = number(fields, name)
    if value is None or value != int(value) or not 0 <= value < _LARGEST_WHOLE:
        return None
    return int(value)


def number(fields: Fields, name: str) -> float | None:
    """Return a finite number, as it was sent."""
    value = fields.get(name)
    if type(value) is int:
        return value if -_LARGEST_WHOLE <= value < 2 * _LARGEST_WHOLE else None
    return value if type(value) is float and math.isfinite(value) else None


def timestamp(fields: Fields, name: str) -> datetime | None:
    """Return an aware timestamp; that of the year 1 is how some servers write "not yet"."""
    value = parse_timestamp(fields.get(name))
    return None if value is None or value.year == 1 else value


def raw_of(value: Any) -> bytes:
    """Return one item of a list as bytes of its own."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except (UnicodeEncodeError, RecursionError):
        # Half a surrogate pair is no UTF-8, but JSON may escape it.
        return _escaped(value)


def _escaped(value: Any) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":")).encode()
    except RecursionError:
        return b""
