"""Parameters as they are typed: ``key=value``, ``key=@file``, JSON."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from .. import InvalidInputError


def value_of(text: str) -> Any:
    """Return the JSON value that *text* is, or else the text itself."""
    try:
        return json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError):
        return text


def parameter_of(text: str) -> tuple[str, Any]:
    """
    Return key and value of ``key=value``; a value that begins with ``@`` names a file.

    Raises:
        InvalidInputError: There is no ``=``, or no key before it.
    """
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise InvalidInputError(f"a parameter is written key=value, not {text!r}")
    if value.startswith("@@"):
        return key, value[1:]
    if value.startswith("@"):
        return key, Path(value[1:])
    return key, value_of(value)


def parameters_of(pairs: Iterable[str], base: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return *base* with what *pairs* say.

    Raises:
        InvalidInputError: A pair is malformed, or a key comes twice.
    """
    given: dict[str, Any] = {}
    for pair in pairs:
        key, value = parameter_of(pair)
        if key in given:
            raise InvalidInputError(f"the parameter {key!r} is given twice")
        given[key] = value
    return {**base, **given}


def object_of(text: str | bytes, source: str | os.PathLike[str]) -> dict[str, Any]:
    """
    Return the JSON object in *text*, as read from *source*.

    Raises:
        InvalidInputError: It is not one.
    """
    try:
        found: object = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError) as error:
        said = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise InvalidInputError(f"{source} is no JSON: {said}") from error
    if not isinstance(found, dict):
        raise InvalidInputError(f"{source} must hold a JSON object of parameters")
    return cast("dict[str, Any]", found)


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not one of its numbers")
