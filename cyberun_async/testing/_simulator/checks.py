"""Checks of what a simulator is given: every value against its type and its range."""

import math
import types
from collections.abc import Callable, Collection, Mapping
from functools import cache
from typing import Any, ClassVar, Literal, Union, cast, get_args, get_origin, get_type_hints

import attrs


# For type checkers, Callable is no class.
_CALLABLE: Any = Callable


@attrs.frozen
class Checked:
    """
    A value that checks every field against its annotation as it is made.

    Numbers are finite and not negative, unless `_signed` names them, and not 0 where
    `_positive` does.

    Raises:
        ValueError: A field is wrong; the message names it and says what it may be.
    """

    _positive: ClassVar[Collection[str]] = ()
    _signed: ClassVar[Collection[str]] = ()

    def __attrs_post_init__(self) -> None:
        cls = self.__class__
        names = [field.name for field in attrs.fields(cls)]
        values = {name: getattr(self, name) for name in names}
        check_all(cls, values, f"{cls.__name__}.", positive=self._positive, signed=self._signed)


def check_all(
    annotated: Callable[..., Any],
    values: Mapping[str, object],
    prefix: str = "",
    *,
    positive: Collection[str] = (),
    signed: Collection[str] = (),
) -> None:
    """
    Check every one of *values* for which a class or a function has an annotation.

    Raises:
        ValueError: One is wrong; the message names it and says what it may be.
    """
    hints = _hints(annotated)
    for name in [name for name in values if name in hints]:
        lowest = None if name in signed else 0
        is_positive = name in positive
        check(prefix + name, values[name], hints[name], lowest=lowest, is_positive=is_positive)


@cache
def _hints(annotated: Callable[..., Any]) -> Mapping[str, Any]:
    # Plans are made by the thousand, and what the annotations say does not change.
    return get_type_hints(annotated)


def check(
    name: str, value: object, hint: Any, *, lowest: float | None = 0, is_positive: bool = False
) -> None:
    """
    Check one value.

    Raises:
        ValueError: It is wrong; the message names it and says what it may be.
    """
    if not _fits(value, hint):
        raise ValueError(f"{name} must be {_expectation(hint)}, not {_shown(value)}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        _check_range(name, value, lowest, is_positive=is_positive)


def _check_range(name: str, value: float, lowest: float | None, *, is_positive: bool) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value}")
    if is_positive and value <= 0:
        raise ValueError(f"{name} must be more than 0, not {_shown(value)}")
    if lowest is not None and value < lowest:
        raise ValueError(f"{name} must be {lowest} or more, not {_shown(value)}")


def _fits(value: object, hint: Any) -> bool:
    """Return whether *value* is of the type that *hint* names."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in {Union, types.UnionType}:
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if origin is tuple and inner[1:] != (Ellipsis,):
        values = cast("tuple[object, ...]", value) if isinstance(value, tuple) else ()
        return len(values) == len(inner) and all(map(_fits, values, inner))
    if origin in {tuple, frozenset}:
        items = cast("Collection[object]", value)
        return isinstance(value, origin) and all(_fits(each, inner[0]) for each in items)
    if origin is _CALLABLE:
        return callable(value)
    return isinstance(value, origin or hint)


def _expectation(hint: Any) -> str:
    """Say what a value of the type that *hint* names is."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        # None comes last, where it reads as what it is: the way to leave something out.
        known = sorted(inner, key=lambda each: each is types.NoneType)
        return " or ".join(dict.fromkeys(map(_expectation, known)))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if origin in {tuple, frozenset}:
        return f"a {origin.__name__}, each of it {_expectation(inner[0])}"
    if isinstance(origin, type):
        return "something to call" if origin is _CALLABLE else "a mapping"
    return _NAMES.get(hint) or f"of {hint.__name__}"


_NAMES: Mapping[Any, str] = {
    types.NoneType: "None",
    bool: "True or False",
    bytes: "bytes",
    float: "a number",
    int: "a whole number",
    str: "a text",
}


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - whatever it is, it is not what was wanted
        text = type(value).__name__
    return text if len(text) <= 60 else f"{text[:59]}…"


def as_tuple(value: Any) -> Any:
    """Return a list as a tuple, and everything else as it is."""
    return tuple(cast("list[object]", value)) if isinstance(value, list) else value
