"""Values of other libraries: what they are, and what to pass in their place."""

from collections.abc import Callable
from datetime import date, time
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from uuid import UUID

import attrs


def refusal(value: object) -> str:
    """Say of what type *value* is, that JSON cannot hold it, and what to pass in its place."""
    return f"of type {type_name(value)}, which JSON cannot hold; {_remedy(value)}"


def type_name(value: object) -> str:
    """Return the name of the type, with its module: NumPy has a `bool` of its own."""
    kind = type(value)
    is_builtin = kind.__module__ == "builtins"
    return kind.__qualname__ if is_builtin else f"{kind.__module__}.{kind.__qualname__}"


def refusal_of_scalar(value: object) -> str | None:
    """Say what a scalar of another library is, and what to pass in its place; None for others."""
    return f"{type_name(value)}: pass its .item()" if _is_foreign_scalar(value) else None


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
