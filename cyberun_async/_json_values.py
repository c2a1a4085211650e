"""The parameters of a run, checked to be JSON before anything is sent."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import attrs

from ._errors import InvalidInputError
from ._redaction import SHOWN_CHARACTERS, looks_secret, shown


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
    for kind, fault_of in _SCALARS:
        if isinstance(value, kind):
            if fault := fault_of(value):
                raise _fault(where, fault)
            return value
    raise _fault(where, f"is of type {type(value).__name__}, which JSON cannot hold{_hint(value)}")


def _text_fault(value: object) -> str | None:
    try:
        str.encode(value) if isinstance(value, str) else None
    except UnicodeEncodeError:
        return "is text with half a surrogate pair, which is no valid Unicode"
    return None


def _integer_fault(value: object) -> str | None:
    if isinstance(value, int) and value.bit_length() > _MAX_INTEGER_BITS:
        return f"is an integer of more than {_MAX_INTEGER_BITS} bits"
    return None


def _float_fault(value: object) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return f"is {value!r}, which JSON cannot hold"
    return None


_SCALARS: tuple[tuple[type, Callable[[object], str | None]], ...] = (
    (str, _text_fault),
    (int, _integer_fault),
    (float, _float_fault),
)


def _key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise _fault(where, f"has a key of type {type(key).__name__}; keys must be strings")
    if fault := _text_fault(key):
        raise _fault(where, f"has a key that {fault}")
    return key


def _step(key: str) -> str:
    is_plain = key.isascii() and key.isidentifier() and not looks_secret(key)
    return f".{key[:SHOWN_CHARACTERS]}" if is_plain else f"[{shown(key)}]"


def _hint(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "; upload it as a file and pass its key"
    if hasattr(value, "__fspath__"):
        return "; a path is taken only for a parameter of type file"
    return ""


def _fault(where: str, fault: str) -> InvalidInputError:
    return InvalidInputError(f"{where[:_MAX_WHERE]} {fault}")
