"""
What to do about one plain request that failed: try again after a pause, or report it.

Nothing here waits or draws at random; the caller passes the numbers in.
"""

from collections.abc import Mapping

import attrs

from .._backoff import full_jitter, raised
from .._model import RetryPolicy
from .._protocol import (
    ExchangeFailedError,
    Response,
    is_passing,
    parse_retry_after,
    speaks_for_service,
)


# By these the service declines a run for now.
_DECLINED = frozenset({429, 503})


_TOO_SLOW = 408


@attrs.define
class RetryQuota:
    """
    The client-wide bucket that keeps retries from multiplying an outage.

    A retry takes tokens, a success gives one back; when it is empty, failures are
    reported at once (AWS SDKs, standard retry mode).
    """

    _capacity: int
    _cost: int
    _left: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._left = self._capacity

    def take(self) -> bool:
        """Take the tokens of one retry; False when there are not enough."""
        if self._left < self._cost:
            return False
        self._left -= self._cost
        return True

    def give_back(self, *, retried: bool) -> None:
        """Note a success."""
        self._left = min(self._capacity, self._left + (self._cost if retried else 1))


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Return the seconds an answer asks to wait, or None."""
    return parse_retry_after(headers.get("retry-after"), headers.get("date"))


def pause_before_retry(
    outcome: Response | ExchangeFailedError,
    *,
    attempt: int,
    policy: RetryPolicy,
    draw: float,
    is_submission: bool = False,
) -> float | None:
    """
    Return the seconds before the next try, or None to stop.

    Try number *attempt* (counted from 1) ended with *outcome*.

    A submission is repeated only where it provably did not arrive, or the service
    itself refused it: a proxy's error page says nothing of what lies behind it.
    """
    if attempt >= policy.max_attempts or not _may_repeat(outcome, is_submission):
        return None
    hint = retry_after_of(outcome.headers) if isinstance(outcome, Response) else None
    if hint is not None and hint > policy.retry_after_cap:
        return None
    pause = full_jitter(draw, attempt - 1, base=policy.backoff_base, cap=policy.backoff_cap)
    return raised(pause, hint, cap=policy.retry_after_cap, draw=draw)


def _may_repeat(outcome: Response | ExchangeFailedError, is_submission: bool) -> bool:
    if isinstance(outcome, ExchangeFailedError):
        return not (outcome.kind.is_lasting or (is_submission and outcome.maybe_sent))
    if is_submission:
        return refuses_submission(outcome)
    return is_passing(outcome.status)


def refuses_submission(reply: Response) -> bool:
    """Return whether the service itself declined a run for now, so that it was not started."""
    return reply.status in _DECLINED and speaks_for_service(reply)


def submission_is_ambiguous(outcome: Response | ExchangeFailedError) -> bool:
    """Return whether a run may have been accepted although no acceptance was read."""
    if isinstance(outcome, ExchangeFailedError):
        return outcome.maybe_sent
    if outcome.is_success:
        return False
    is_refusal = 400 <= outcome.status <= 499 and outcome.status != _TOO_SLOW
    # A proxy may say anything of a request that it has passed on before.
    return not ((is_refusal or outcome.status in _DECLINED) and speaks_for_service(outcome))
