"""
How long to pause: full jitter below a capped exponential, raised by the service's hints.

Pure functions; random draws from 0 to 1 come in from outside.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ._options import WatchPolicy


Draws = Callable[[], float]

# Whole seconds, as the standard has it, or the fractions that some services send.
_SECONDS = re.compile(r"([0-9]+)(?:\.([0-9]*))?")
_MOST_DIGITS, _LONGEST_HINT = 11, 1e12


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


def rest_pause(policy: WatchPolicy, losses: int, hint: float | None, draws: Draws) -> float:
    """Return the pause before stream number *losses* after a loss is opened."""
    pause = full_jitter(
        draws(), max(losses - 1, 0), base=policy.backoff_base, cap=policy.backoff_cap
    )
    return raised(pause, hint, cap=policy.hint_cap, draw=draws())


def climb_pause(policy: WatchPolicy, climbs: int, hint: float | None, draws: Draws) -> float:
    """
    Return the pause before streaming is tried again, after *climbs* tries in vain.

    Between half and whole of the ceiling: growing, yet not in step with other watches.
    """
    ceiling = min(policy.climb_cap, policy.climb_base * 2.0 ** min(climbs, 60))
    return raised(ceiling * (0.5 + 0.5 * draws()), hint, cap=policy.hint_cap, draw=draws())


def poll_pause(policy: WatchPolicy, *, waited: float | None) -> float:
    """
    Return the interval of polling; *waited* is how long the task has been waiting, or None.

    A task that has waited long is unlikely to move in the next seconds.
    """
    if waited is None:
        return policy.poll_interval
    grown = policy.poll_interval + 0.1 * max(0.0, waited - 30.0)
    return min(grown, max(policy.poll_interval, policy.poll_interval_waiting))


def retry_pause(policy: WatchPolicy, failures: int, hint: float | None, draws: Draws) -> float:
    """Return the pause after *failures* asks in a row that got no usable answer."""
    pause = full_jitter(draws(), failures, base=policy.backoff_base, cap=policy.backoff_cap)
    pause = max(pause, policy.poll_interval)
    return raised(pause, hint, cap=policy.hint_cap, draw=draws())


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
