"""What a status code and its headers say about trying again."""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from .exchange import Response
from .fields import is_object, parse_json


# Whole seconds, as the standard has it, or the fractions that some services send.
_SECONDS = re.compile(r"([0-9]+)(?:\.([0-9]*))?")


_MOST_DIGITS, _LONGEST_HINT = 11, 1e12


def parse_retry_after(value: str | None, date: str | None) -> float | None:
    """
    Return the seconds that a ``Retry-After`` header asks for, or None for nonsense.

    A date is judged by the answer's own ``Date``, since the two clocks may differ;
    without one it is unusable. A moment gone by is 0 (RFC 9110, section 10.2.3). A fraction
    of a second is not in the standard, but services send it: it is rounded up.
    """
    if value is None:
        return None
    text = value.strip()
    if (number := _SECONDS.fullmatch(text)) is not None:
        whole, fraction = number[1], number[2] or ""
        if len(whole) > _MOST_DIGITS:
            return _LONGEST_HINT
        return float(whole) + (1.0 if fraction.strip("0") else 0.0)
    moment, now = _http_date(text), _http_date(date or "")
    if moment is None or now is None:
        return None
    return max(0.0, (moment - now).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


RETRIED_REFUSALS = frozenset({408, 429})


_LONGEST_WORDS = 256 * 1024


# Failures that are the request's own: the method or the protocol's version.
_LASTING_FAILURES = frozenset({501, 505})


def is_passing(status: int) -> bool:
    """Return whether the same request may succeed later; gateways have 5xx of their own."""
    if status in RETRIED_REFUSALS:
        return True
    return 500 <= status <= 599 and status not in _LASTING_FAILURES


def speaks_for_service(reply: Response) -> bool:
    """Return whether the body of a refusal is the service's own: JSON with ``error_message``."""
    kind = (reply.content_type or "").partition(";")[0].strip().lower()
    if kind and kind != "application/json" and not kind.endswith("+json"):
        return False
    if b'"error_message"' not in reply.body or len(reply.body) > _LONGEST_WORDS:
        return False
    try:
        value = parse_json(reply.body)
    except ValueError:
        return False
    return is_object(value) and isinstance(value.get("error_message"), str)
