"""Reading the result of a task that is known to have completed, until it is there."""

from collections.abc import Awaitable, Callable

import anyio

from .._backoff import raised
from .._model import (
    CyberunError,
    RateLimitedError,
    RawResult,
    RequestRejectedError,
    ResultExpiredError,
    ServiceUnavailableError,
    TaskNotFoundError,
    TaskStatus,
    UnexpectedResponseError,
    WatchPolicy,
    is_terminal,
)
from .._runtime import draw


_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 10.0


class ResultReading:
    """
    Asks for a completed task's result again until the service gives it, or refuses it.

    Only the service's own words are a refusal. A proxy's page and a failure of the network are
    an outage, bounded by ``WatchPolicy.max_outage``; a result that lags behind the task's
    state is bounded by ``WatchPolicy.result_ready_within``.

    Attributes:
        failure: Why the last request brought no result.
    """

    def __init__(self, ask: Callable[[], Awaitable[RawResult]], policy: WatchPolicy) -> None:
        self._ask = ask
        self._policy = policy
        self._pause = _FIRST_PAUSE
        self.failure: CyberunError | None = None

    async def read(self) -> RawResult:
        """
        Return the result.

        Raises:
            ResultExpiredError: The service says that it no longer keeps it.
            RequestRejectedError: The service refused; or a proxy did, for too long.
            ServiceUnavailableError: The service was out of reach for too long.
            UnexpectedResponseError: Other answers came for too long, or the result lags.
        """
        begun = anyio.current_time()
        not_ready_since: float | None = None
        while True:
            hint, bound, since = None, self._policy.max_outage, begun
            try:
                result = await self._ask()
                if _is_ready(result):
                    return result
                failure: CyberunError = _not_ready(result)
                since = not_ready_since = (
                    anyio.current_time() if not_ready_since is None else not_ready_since
                )
                bound = self._policy.result_ready_within
            except (RequestRejectedError, ServiceUnavailableError) as error:
                if _is_final(error):
                    raise _in_words(error) from error.__cause__
                failure, hint = error, error.retry_after
            except UnexpectedResponseError as error:
                failure = error
            self.failure = failure
            if bound is not None and anyio.current_time() - since >= bound:
                raise failure
            await anyio.sleep(self._next_pause(hint))

    def _next_pause(self, hint: float | None) -> float:
        pause = self._pause * (0.5 + draw() / 2)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return raised(pause, hint, cap=self._policy.hint_cap, draw=draw())


def _is_ready(result: RawResult) -> bool:
    """Tell whether it is the result of an ended task, though it may be one without files."""
    is_open = isinstance(result.status, TaskStatus) and not is_terminal(result.status)
    return not is_open or bool(result.links) or result.output is not None


def _not_ready(result: RawResult) -> UnexpectedResponseError:
    return UnexpectedResponseError(
        "the task has completed, but its result is not ready: "
        f"it still gives the state {str(result.status)!r}, without output",
        status=200,
        content_type="application/json",
        body=result.raw or b"",
    )


def _is_final(error: RequestRejectedError | ServiceUnavailableError) -> bool:
    if isinstance(error, ServiceUnavailableError):
        return error.is_final
    return error.from_service and not isinstance(error, RateLimitedError)


def _in_words(
    error: RequestRejectedError | ServiceUnavailableError,
) -> RequestRejectedError | ServiceUnavailableError:
    """Return what the final *error* means for a task that is known to have completed."""
    return ResultExpiredError.after(error) if isinstance(error, TaskNotFoundError) else error
