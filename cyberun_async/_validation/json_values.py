"""JSON from a caller: parameters, bodies and queries, copied and checked."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import attrs

from .._model import (
    FILE_TYPES,
    SHOWN_CHARACTERS,
    InvalidInputError,
    looks_secret,
    refusal,
    shown,
)


MAX_DEPTH = 64


MAX_VALUES = 1_000_000


_MAX_WHERE = 300


# Python refuses to write longer ones (its guard against quadratic time).
_MAX_INTEGER_BITS = 4096


def parameters_of(parameters: object, allow: tuple[type, ...] = ()) -> dict[str, object]:
    """
    Return a copy of *parameters* that JSON can hold, whatever the caller does to the original.

    Values of the types *allow* are left as they are; tuples become lists.

    Raises:
        InvalidInputError: A value is no JSON; the message says where.
    """
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        kind = type(parameters).__name__
        raise InvalidInputError(f"parameters must be a mapping of names to values, not {kind}")
    return _Copier(allow).mapping(cast("Mapping[object, object]", parameters), "parameters")


@attrs.define
class _Copier:
    """Copies one structure; knows what it is inside of, to see a cycle, and how much it copied."""

    _allow: tuple[type, ...]
    _inside: set[int] = attrs.field(factory=set[int], init=False)
    _values: int = attrs.field(default=0, init=False)

    def mapping(self, value: Mapping[object, object], where: str) -> dict[str, object]:
        self._enter(value, where)
        copied: dict[str, object] = {}
        for key, one in value.items():
            name = _key(key, where)
            copied[name] = self._value(one, where + _step(name))
        self._inside.discard(id(value))
        return copied

    def _sequence(self, value: Sequence[object], where: str) -> list[object]:
        self._enter(value, where)
        copied = [self._value(one, f"{where}[{index}]") for index, one in enumerate(value)]
        self._inside.discard(id(value))
        return copied

    def _enter(self, value: object, where: str) -> None:
        if id(value) in self._inside:
            raise _fault(where, "contains itself")
        if len(self._inside) >= MAX_DEPTH:
            raise _fault(where, f"is nested deeper than {MAX_DEPTH} levels")
        self._inside.add(id(value))

    def _value(self, value: object, where: str) -> object:
        self._values += 1
        if self._values > MAX_VALUES:
            raise _fault("parameters", f"hold more than {MAX_VALUES} values")
        if value is None or isinstance(value, (bool, *self._allow)):
            return value
        if isinstance(value, Mapping):
            return self.mapping(cast("Mapping[object, object]", value), where)
        if isinstance(value, list | tuple):
            return self._sequence(cast("Sequence[object]", value), where)
        return _scalar(value, where)


def _scalar(value: object, where: str) -> object:
    fault = None
    if isinstance(value, str):
        fault = _text_fault(value)
    elif isinstance(value, int):
        if value.bit_length() > _MAX_INTEGER_BITS:
            fault = f"is an integer of more than {_MAX_INTEGER_BITS} bits"
    elif not isinstance(value, float):
        fault = f"is {refusal(value)}"
    elif not math.isfinite(value):
        fault = f"is {value!r}, which JSON cannot hold"
    if fault is not None:
        raise _fault(where, fault)
    return value


def _text_fault(text: str) -> str | None:
    try:
        str.encode(text)
    except UnicodeEncodeError:
        return "is text with half a surrogate pair, which is no valid Unicode"
    return None


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise _fault(where, f"has a key of type {type(key).__name__}; keys must be strings")
    if fault := _text_fault(key):
        raise _fault(where, f"has a key that {fault}")
    return key


def _step(key: str) -> str:
    is_plain = key.isascii() and key.isidentifier() and not looks_secret(key)
    return f".{key[:SHOWN_CHARACTERS]}" if is_plain else f"[{shown(key)}]"


def _fault(where: str, fault: str) -> InvalidInputError:
    return InvalidInputError(f"{where[:_MAX_WHERE]} {fault}")


def file_parameters_of(parameters: object) -> dict[str, Any]:
    """
    Return a copy of *parameters* in which paths and uploads still stand.

    Raises:
        InvalidInputError: A value is neither that nor JSON.
    """
    return parameters_of(parameters, allow=FILE_TYPES)


def json_of(value: object) -> Any:
    """
    Return a copy of *value* that JSON can hold.

    Raises:
        InvalidInputError: JSON cannot hold it.
    """
    return parameters_of({"json": value})["json"]


def query_of(params: object) -> dict[str, Any]:
    """
    Return what a query can hold: texts, numbers, truth values, and lists of these.

    Raises:
        InvalidInputError: It is something else.
    """
    checked = parameters_of(params)
    for name, value in checked.items():
        parts = cast("list[object]", value) if isinstance(value, list) else [value]
        if any(isinstance(part, dict | list) for part in parts):
            raise InvalidInputError(f"params has a structure under {shown(name)}")
    return checked
