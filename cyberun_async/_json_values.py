"""The parameters of a run, checked to be JSON before anything is sent."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import cast
from uuid import UUID

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
    raise _fault(where, f"is {refusal(value)}")


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


def refusal(value: object) -> str:
    """Say of what type *value* is, that JSON cannot hold it, and what to pass in its place."""
    return f"of type {kind_of(value)}, which JSON cannot hold; {_remedy(value)}"


def kind_of(value: object) -> str:
    """Return the name of the type, with its module: the `bool` of NumPy is none of Python's."""
    kind = type(value)
    is_builtin = kind.__module__ == "builtins"
    return kind.__qualname__ if is_builtin else f"{kind.__module__}.{kind.__qualname__}"


def refusal_of_scalar(value: object) -> str | None:
    """Say what a scalar of another library is, and what to pass in its place; None for others."""
    return f"{kind_of(value)}: pass its .item()" if _is_foreign_scalar(value) else None


def _is_foreign_scalar(value: object) -> bool:
    is_native = isinstance(value, str | int | float)
    return not is_native and _has("item")(value) and not getattr(value, "shape", ())


def _remedy(value: object) -> str:
    for fits, remedy in _REMEDIES:
        if fits(value):
            return remedy
    return "pass a text, a number, a boolean, a list or a mapping"


def _is_a(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kinds)


def _has(name: str) -> Callable[[object], bool]:
    return lambda value: callable(getattr(type(value), name, None))


# The first that fits. Scalars of NumPy and its like have both `item()` and `tolist()`.
_REMEDIES: tuple[tuple[Callable[[object], bool], str], ...] = (
    (_is_a(bytes, bytearray, memoryview), "upload it as a file and pass its key"),
    (_has("__fspath__"), "a path is taken only for a parameter of type file"),
    (_is_a(Enum), "pass its .value"),
    (_is_a(date, time), "pass its .isoformat()"),
    (_is_a(UUID), "pass str() of it"),
    (_is_a(Decimal, Fraction), "pass float() or str() of it"),
    (_is_a(type), "pass a value, not a class"),
    (_is_foreign_scalar, "pass its .item()"),
    (_has("tolist"), "pass its .tolist()"),
    (_has("model_dump"), "pass its .model_dump(mode='json')"),
    (lambda value: attrs.has(type(value)), "pass attrs.asdict() of it"),
    (lambda value: hasattr(type(value), "__dataclass_fields__"), "pass dataclasses.asdict() of it"),
    (_has("__await__"), "await it first"),
    (_has("__aiter__"), "collect it into a list first"),
    (_has("__iter__"), "pass list() of it"),
)


def _fault(where: str, fault: str) -> InvalidInputError:
    return InvalidInputError(f"{where[:_MAX_WHERE]} {fault}")
