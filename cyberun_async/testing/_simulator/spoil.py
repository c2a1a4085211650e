"""Payloads gone bad."""

import json
from typing import cast

from ..faults import Spoiling


def spoilt(data: bytes, how: Spoiling) -> bytes:
    """Return what is left of a JSON object after *how* has happened to it."""
    match how:
        case "json":
            return b'{"task_id": oops, ' + data[1:]
        case "truncated":
            return data[: len(data) // 2]
        case "types":
            return _mistyped(data)
        case "scalar":
            return b"42"
        case "utf8":
            return data[:-1] + b', "note": "\xff\xfe"}'
        case "empty":
            return b""
        case "html":
            return b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def _mistyped(data: bytes) -> bytes:
    fields = cast("dict[str, object]", json.loads(data))
    return json.dumps({name: _other(value) for name, value in fields.items()}).encode()


def _other(value: object) -> object:
    match value:
        case str():
            return 7
        case dict() | list():
            return "not an object"
        case None:
            return [None]
        case _:
            return {"value": value}
