"""How long a watch waits before its next try."""

from .._backoff import Draws, full_jitter, raised
from .._model import WatchPolicy


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
    """Return the pause after *failures* status checks in a row that got no usable answer."""
    pause = full_jitter(draws(), failures, base=policy.backoff_base, cap=policy.backoff_cap)
    pause = max(pause, policy.poll_interval)
    return raised(pause, hint, cap=policy.hint_cap, draw=draws())
