"""How long the batch repeats what the service declines for now."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from .. import (
    RateLimitedError,
    RequestRejectedError,
    ServiceUnavailableError,
    UnexpectedResponseError,
)


T = TypeVar("T")

Failure = RequestRejectedError | ServiceUnavailableError | UnexpectedResponseError

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0


class Patience:
    """The pauses before repeated attempts, for so many seconds in all."""

    def __init__(self, seconds: float) -> None:
        self._ends_at = anyio.current_time() + seconds
        self._next = _FIRST_PAUSE

    def extend(self, seconds: float) -> None:
        """Leave *seconds* out of account that the service has no part in."""
        self._ends_at += seconds

    def pause_after(self, failure: Failure) -> float:
        """Return how long to wait before the next attempt; raise *failure* once it is over."""
        left = self._ends_at - anyio.current_time()
        if left < 0 or (isinstance(failure, ServiceUnavailableError) and failure.is_final):
            raise failure
        # A mistyped header must not stop a batch for longer than its patience lasts.
        asked_for = None if isinstance(failure, UnexpectedResponseError) else failure.retry_after
        hint = min(asked_for or 0.0, left)
        pause = max(hint, self._next)
        self._next = min(2 * self._next, _LONGEST_PAUSE)
        return pause


async def patiently(seconds: float, call: Callable[[], Awaitable[T]]) -> T:
    """
    Return the result of *call*; repeat it while the service is away or asks for less.

    What is not the service's own answer, such as the page of a proxy, counts as being away.
    """
    patience = Patience(seconds)
    while True:
        try:
            return await call()
        except RequestRejectedError as error:
            if error.from_service and not isinstance(error, RateLimitedError):
                raise
            pause = patience.pause_after(error)
        except (ServiceUnavailableError, UnexpectedResponseError) as error:
            pause = patience.pause_after(error)
        await anyio.sleep(pause)
