"""
How long to pause: full jitter below a capped exponential, raised by the service's hints.

Pure functions; random draws from 0 to 1 come in from outside.
"""

from collections.abc import Callable


Draws = Callable[[], float]


def full_jitter(draw: float, tries: int, *, base: float, cap: float) -> float:
    """Return a pause drawn evenly from 0 to ``min(cap, base * 2**tries)`` seconds."""
    # Beyond 2**60 the cap has long been reached, and a float would overflow.
    return draw * min(cap, base * 2.0 ** min(tries, 60))


def raised(pause: float, hint: float | None, *, cap: float, draw: float) -> float:
    """
    Return *pause*, raised to what the service asked for, clamped to *cap*.

    A tenth of jitter goes on top, so that clients with the same hint do not return together.
    """
    if hint is None or hint <= pause:
        return pause
    floor = min(hint, cap)
    return max(pause, floor + draw * min(0.1 * floor, 1.0))
