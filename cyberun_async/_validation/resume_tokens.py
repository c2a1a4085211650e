"""Reading back the text of a resume token, which may come from anywhere."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, cast

from .._model import InvalidInputError, ResumeToken, parse_status
from .paths import task_id_of


_PROBLEM = (
    "a task begins with `{` and is not the text of a resume token; "
    "pass what dumps() returned, or the id itself"
)


def looks_like_a_token(text: str) -> bool:
    """Return whether *text* is meant as a token's; no id begins like one."""
    return text.lstrip().startswith("{")


def token_of(text: str) -> ResumeToken:
    """
    Return the token whose ``dumps()`` is *text*, without what a later version added.

    Raises:
        InvalidInputError: It is no token; the text, which may be a secret, is not repeated.
    """
    try:
        found: object = json.loads(text)
        fields = cast("dict[str, object]", found) if isinstance(found, dict) else {}
        known = {name: read(fields[name]) for name, read in _READERS.items() if name in fields}
        return ResumeToken(**known)
    except InvalidInputError:
        raise
    except (TypeError, ValueError, RecursionError):
        raise InvalidInputError(_PROBLEM) from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _count(value: object, least: int = 0) -> int:
    if type(value) is not int or value < least:
        raise TypeError
    return value


def _datetime(value: object) -> datetime:
    found = datetime.fromisoformat(_text(value))
    if found.tzinfo is None:
        raise ValueError
    return found


_READERS: Mapping[str, Callable[[object], Any]] = {
    "task_id": task_id_of,
    "status": lambda value: parse_status(_text(value)),
    "attempt": lambda value: _count(value, least=1),
    "retry_count": _count,
    "last_event_id": _text,
    "submitted_at": _datetime,
}
