"""Workflows and their parameters, checked against their definitions."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from typing import Any, cast

import attrs

from .errors import InvalidInputError, ParameterError
from .foreign_values import refusal_of_scalar
from .redaction import FromReply, quoted, shown
from .tasks import ParameterDef
from .uploads import FILE_TYPES


def _misfits(definitions: Sequence[ParameterDef], given: Mapping[object, object]) -> Iterator[str]:
    for definition in definitions:
        if fault := _fault_of(definition, given):
            yield f"{shown(definition.key)} {fault}"


def _fault_of(definition: ParameterDef, given: Mapping[object, object]) -> str | None:
    if definition.key not in given:
        is_missing = definition.required and definition.default is None
        return "is required" if is_missing else None
    value = given[definition.key]
    if value is None:
        return "is required, but is None" if definition.required else None
    if definition.type == "file":
        return _file_fault(value)
    if isinstance(value, FILE_TYPES):
        return f"is not of type file, so it takes no {_kind(cast('object', value))}"
    check_one = _CHECKS.get(definition.type or "")
    return None if check_one is None else check_one(value, definition)


def _file_fault(value: object) -> str | None:
    if isinstance(value, str):
        return None if value else "is the empty string, which is no file's key"
    if isinstance(value, FILE_TYPES):
        return None
    return f"must be a path or the key of an uploaded file, not {_kind(value)}"


def _string_fault(value: object, _: ParameterDef) -> str | None:
    return None if isinstance(value, str) else f"must be a string, not {_kind(value)}"


def _boolean_fault(value: object, _: ParameterDef) -> str | None:
    return None if isinstance(value, bool) else f"must be True or False, not {_kind(value)}"


def _number_fault(value: object, definition: ParameterDef) -> str | None:
    # True is an int for Python, but not for whoever reads the JSON.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a number, not {_kind(value)}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"must be a finite number, not {value}"
    if definition.min is not None and value < definition.min:
        return f"must be at least {definition.min}, not {quoted(value)}"
    if definition.max is not None and value > definition.max:
        return f"must be at most {definition.max}, not {quoted(value)}"
    return None


def _integer_fault(value: object, definition: ParameterDef) -> str | None:
    fault = _number_fault(value, definition)
    if fault is None and isinstance(value, float) and not value.is_integer():
        return f"must be a whole number, not {value}"
    return fault


def _select_fault(value: object, definition: ParameterDef) -> str | None:
    options = definition.options
    if not options or value in options:
        return None
    if not isinstance(value, str):
        return f"must be one of its options, not {_kind(value)}"
    return f"cannot be {shown(value)}{_meant(value, options)}; options: {_listed(options)}"


_CHECKS: Mapping[str, Callable[[object, ParameterDef], str | None]] = {
    "string": _string_fault,
    "number": _number_fault,
    "integer": _integer_fault,
    "boolean": _boolean_fault,
    "select": _select_fault,
}


def _strangers(
    definitions: Sequence[ParameterDef], given: Mapping[object, object]
) -> Iterator[str]:
    known = [definition.key for definition in definitions]
    listed = f"; known: {_listed(known)}" if known else "; the workflow takes no parameters"
    for key in given:
        if not isinstance(key, str):
            yield f"a key is of type {type(key).__name__}, keys are strings"
        elif key not in known:
            yield f"{shown(key)} is not known{_meant(key, known) or listed}"


def _meant(word: str, known: Sequence[str]) -> str:
    by_lower = {one.lower(): one for one in known}
    # Longer words are slow to compare and no mistyped names.
    near = get_close_matches(word.lower(), by_lower, n=1) if len(word) <= 100 else []
    return f" (did you mean {shown(by_lower[near[0]])}?)" if near else ""


def _listed(words: Sequence[str], most: int = 10) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(shown(word) for word in words[:most]) + more


def _kind(value: object) -> str:
    # What looks like a number or a boolean, and is another library's, needs more than a name.
    return refusal_of_scalar(value) or type(value).__name__


@attrs.frozen(kw_only=True, repr=False)
class Workflow(FromReply):
    """
    A workflow and the parameters it takes.

    *pinned* says that it was fetched as ``slug@version``, so that running it runs
    that version and not the newest.
    """

    id: str
    slug: str | None = None
    display_name: str | None = None
    version: int | None = None
    status: str | None = None
    description: str | None = None
    parameters: tuple[ParameterDef, ...] | None = None
    required_labels: tuple[str, ...] = ()
    required_models: tuple[str, ...] = ()
    task_timeout: int | None = None
    max_retries: int | None = None
    preferred_gpu: str | None = None
    min_vram_gb: int | None = None
    default_dispatch_target: str | None = None
    tool_type: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    pinned: bool = False

    def validate(self, parameters: Mapping[str, Any]) -> None:
        """
        Check *parameters* for a run of this workflow; nothing is sent.

        All faults are reported at once: what is required and missing, a value of another
        type, out of its bounds or not among its options, and a key that is not known,
        with the one that was probably meant. For a parameter of type ``file``, a path,
        an :class:`Upload`, an :class:`UploadedFile` or its key will do. What the
        definition leaves open is left to the service, and so is everything where
        :attr:`parameters` is None, since the service did not say.

        :meth:`CyberunClient.submit` does this by itself when it is given the workflow.

        Args:
            parameters: Values by parameter key.

        Raises:
            ParameterError: They do not fit; ``faults`` lists all that was found.
            InvalidInputError: They are no mapping.
        """
        if not isinstance(parameters, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(parameters).__name__
            raise InvalidInputError(f"parameters must be a mapping of names to values, not {kind}")
        if self.parameters is None:
            return
        given = cast("Mapping[object, object]", parameters)
        faults = [*_misfits(self.parameters, given), *_strangers(self.parameters, given)]
        if faults:
            raise ParameterError(faults, workflow=self.slug or self.id)


def validate(workflow: Workflow, parameters: Mapping[str, Any]) -> None:
    """
    Check *parameters* for a run of *workflow*, as :meth:`Workflow.validate` does.

    Args:
        workflow: As ``client.workflows`` returned it.
        parameters: Values by parameter key.

    Raises:
        ParameterError: They do not fit; ``faults`` lists all that was found.
        InvalidInputError: They are no mapping, or *workflow* is no :class:`Workflow`.
    """
    if not isinstance(workflow, Workflow):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"workflow must be a Workflow, not {type(workflow).__name__}")
    workflow.validate(parameters)
