"""
How long to pause: full jitter below a capped exponential, raised by the service's hints.

Pure functions; the random draw comes in as a number from 0 to 1.
"""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def full_jitter(draw: float, tries: int, *, base: float, cap: float) -> float:
    """Return a pause drawn evenly from 0 to ``min(cap, base * 2**tries)`` seconds."""
    # Beyond 2**60 the cap has long been reached, and a float would overflow.
    return draw * min(cap, base * 2.0 ** min(tries, 60))


def raised(pause: float, hint: float | None, *, cap: float, draw: float) -> float:
    """
    Return *pause*, raised to what the service asked for, clamped to *cap*.

    A tenth of jitter goes on top, so that clients told the same do not return together.
    """
    if hint is None or hint <= pause:
        return pause
    floor = min(hint, cap)
    return max(pause, floor + draw * min(0.1 * floor, 1.0))


def parse_retry_after(value: str | None, date: str | None) -> float | None:
    """
    Return the seconds that a ``Retry-After`` header asks for, or None for nonsense.

    A date is judged by the answer's own ``Date``, since the two clocks may differ;
    without one it is unusable. A moment gone by is 0 (RFC 9110, section 10.2.3).
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) < 12 else float("1e12")
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
