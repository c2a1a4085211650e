"""Plain requests: what is repeated, after which pause, with which key, and what is raised."""

import contextlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, cast

import anyio
import pytest

from cyberun_async import (
    AuthenticationError,
    CyberunError,
    NotFoundError,
    RateLimitedError,
    ServiceUnavailableError,
)
from cyberun_async._http import Account, Caller, Keyring, Transport, Usage
from cyberun_async._model import RetryPolicy, Timeouts
from cyberun_async._protocol import Departure, ExchangeFailedError, FailureKind, Response

from ..whole.kit import VIRTUAL, virtual_backend


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


Outcome = Response | ExchangeFailedError

FINE: Final = Response(status=200, body=b"{}")
POLICY: Final = RetryPolicy(max_attempts=4, backoff_base=1.0, backoff_cap=3.0, retry_after_cap=60.0)


def answer(status: int, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named.setdefault("content-type", "application/json")
    return Response(status=status, headers=named, body=b'{"error_message": "no"}')


def failure(kind: FailureKind, *, maybe_sent: bool = True) -> ExchangeFailedError:
    return ExchangeFailedError(kind, maybe_sent=maybe_sent)


class Network:
    """Answers from a script, the last line of it forever, and remembers what was asked when."""

    def __init__(self, *script: Outcome, delay: float = 0.0) -> None:
        self._script: list[Outcome] = list(script)
        self._delay = delay
        self.moments: list[float] = []
        self.keys: list[str] = []
        self.fresh: list[bool] = []

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str | bytes],
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        fresh: bool = False,
        timeouts: Timeouts | None = None,
        is_check: bool = False,
        departure: Departure | None = None,
        usage: Usage | None = None,
    ) -> Response:
        self.moments.append(anyio.current_time())
        self.keys.append("".join(str(letter) for letter in headers["Authorization"])[7:])
        self.fresh.append(fresh)
        outcome = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        await anyio.sleep(self._delay)
        if isinstance(outcome, ExchangeFailedError):
            raise outcome
        return outcome

    @property
    def pauses(self) -> list[float]:
        return [round(later - sooner, 6) for sooner, later in pairwise(self.moments)]


def caller(network: Network, *, draw: float = 1.0, api_key: Any = "sk-1", **policy: Any) -> Caller:
    chosen = POLICY if not policy else RetryPolicy(**policy)
    return Caller(
        cast("Transport", network),
        Account(Keyring(api_key, None), chosen),
        policy=chosen,
        timeouts=Timeouts(),
        draw=lambda: draw,
        headers={},
    )


async def outcome_of(network: Network, **settings: Any) -> CyberunError | Response:
    try:
        return await caller(network, **settings).call("GET", "/r/tasks/x", task=True)
    except CyberunError as error:
        return error


PASSING: Final = [408, 429, 500, 502, 503, 504]
FINAL: Final = [400, 401, 402, 403, 404, 405, 409, 410, 422, 423, 501]
LOST: Final = [FailureKind.CONNECT, FailureKind.LOST, FailureKind.TIMEOUT]
HOPELESS: Final = [FailureKind.TLS, FailureKind.PROXY, FailureKind.REDIRECT]


@pytest.mark.parametrize("first", [answer(s) for s in PASSING] + [failure(kind) for kind in LOST])
async def test_what_passes_is_repeated(first: Outcome) -> None:
    """A lost connection, 408, 429 and what the service has trouble with are asked again."""
    network = Network(first, first, FINE)

    assert await outcome_of(network) == FINE
    assert network.pauses == [1.0, 2.0]


@pytest.mark.parametrize("first", [answer(s) for s in FINAL] + [failure(kind) for kind in HOPELESS])
async def test_what_does_not_pass_is_raised_at_once(first: Outcome) -> None:
    """A refusal, an unverified peer, a proxy's no and a foreign redirect are not asked again."""
    network = Network(first, FINE)

    assert isinstance(await outcome_of(network), CyberunError)
    assert len(network.moments) == 1


@pytest.mark.parametrize(("draw", "pauses"), [(0.0, [0, 0, 0]), (0.5, [0.5, 1, 1.5])])
async def test_the_jitter_is_full(draw: float, pauses: Sequence[float]) -> None:
    """Pauses are drawn from nothing up to a doubling, capped ceiling; then it is given up."""
    network = Network(answer(500))
    error = await outcome_of(network, draw=draw)

    assert isinstance(error, ServiceUnavailableError)
    assert (error.attempts, error.status, error.error_message) == (4, 500, "no")
    assert network.pauses == pauses


DATE: Final = "Mon, 02 Nov 2026 10:00:00 GMT"
LATER: Final = "Mon, 02 Nov 2026 10:00:20 GMT"
SOONER: Final = "Mon, 02 Nov 2026 09:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"retry_after": "20"}, 20),
        ({"retry_after": "0"}, 0),
        ({"retry_after": LATER, "date": DATE}, 20),
        ({"retry_after": SOONER, "date": DATE}, 0),
        ({"retry_after": LATER}, 0),
        ({"retry_after": "soon"}, 0),
        ({"retry_after": "-5"}, 0),
    ],
)
async def test_retry_after_is_honoured(headers: dict[str, str], pause: float) -> None:
    """Seconds and dates, a date by the answer's own clock; nonsense is no reason to wait."""
    network = Network(answer(429, **headers), FINE)
    await outcome_of(network, draw=0.0)

    assert network.pauses == [pause]


async def test_a_long_retry_after_is_the_callers_decision() -> None:
    """What would take longer than the policy allows is raised at once, with the time."""
    network = Network(answer(429, retry_after="61"), FINE)
    error = await outcome_of(network)

    assert isinstance(error, RateLimitedError)
    assert error.retry_after == 61
    assert len(network.moments) == 1


async def test_retries_have_a_quota_of_the_client() -> None:
    """When the bucket is empty failures are raised at once; successes fill it again."""
    network = Network(answer(500))
    asks = caller(network, quota=10, retry_cost=3, max_attempts=10)
    for tried in (4, 1, 1):  # three retries, then none
        begun = len(network.moments)
        with pytest.raises(ServiceUnavailableError):
            await asks.call("GET", "/x")
        assert len(network.moments) - begun == tried
    network._script = [FINE]
    for _ in range(2):
        await asks.call("GET", "/x")
    network._script = [answer(500)]
    begun = len(network.moments)
    with pytest.raises(ServiceUnavailableError):
        await asks.call("GET", "/x")

    assert len(network.moments) - begun == 2


async def test_a_retry_that_succeeds_gives_its_tokens_back() -> None:
    """Trouble that passes costs nothing in the long run."""
    network = Network(*[answer(500), FINE] * 50)
    asks = caller(network, quota=3, retry_cost=3)
    for _ in range(50):
        await asks.call("GET", "/x")

    assert len(network.moments) == 100


async def test_what_may_not_be_repeated_is_not() -> None:
    """A request of the caller's own that is no GET is sent once."""
    network = Network(answer(503), FINE)
    with pytest.raises(ServiceUnavailableError):
        await caller(network).call("PUT", "/x", repeatable=False)

    assert len(network.moments) == 1


@pytest.mark.parametrize(
    ("first", "times"),
    [
        pytest.param(failure(FailureKind.CONNECT, maybe_sent=False), 2, id="not connected"),
        pytest.param(answer(429), 2, id="429"),
        pytest.param(answer(503), 2, id="503 of the service"),
        pytest.param(Response(status=503, body=b"<html>"), 1, id="503 of a proxy"),
        pytest.param(
            Response(status=503, headers={"content-type": "application/json"}, body=b"{}"),
            1,
            id="503 of who knows whom",
        ),
        pytest.param(answer(500), 1, id="500"),
        pytest.param(answer(408), 1, id="408"),
        pytest.param(Response(status=502, body=b"<html>"), 1, id="502"),
        pytest.param(failure(FailureKind.LOST), 1, id="lost"),
        pytest.param(failure(FailureKind.TIMEOUT), 1, id="timed out"),
        pytest.param(failure(FailureKind.CONNECT), 1, id="connected, perhaps"),
    ],
)
async def test_a_submission_is_repeated_only_where_it_was_not_taken(
    first: Outcome, times: int
) -> None:
    """Not connected, or declined by the service itself; each time over a fresh connection."""
    network = Network(first, FINE)
    reply: Response | None = None
    with contextlib.suppress(CyberunError):
        reply = await caller(network).call("POST", "/run", json_body={}, is_submission=True)

    assert network.fresh == [True] * times
    assert (reply == FINE) == (times == 2)


@pytest.mark.parametrize(
    ("outcome", "maybe_begun"),
    [
        pytest.param(failure(FailureKind.CONNECT, maybe_sent=False), False, id="not connected"),
        pytest.param(failure(FailureKind.LOST), True, id="lost"),
        pytest.param(answer(503), False, id="503 of the service"),
        pytest.param(
            Response(status=503, headers={"content-type": "text/plain"}, body=b"upstream reset"),
            True,
            id="503 of a proxy that speaks plainly",
        ),
        pytest.param(
            Response(
                status=503,
                headers={"content-type": "application/json"},
                body=b'{"message": "Service Unavailable"}',
            ),
            True,
            id="503 of a gateway that speaks JSON",
        ),
        pytest.param(answer(500), True, id="500"),
        pytest.param(answer(504), True, id="504"),
        pytest.param(answer(408), True, id="408"),
    ],
)
async def test_an_error_says_whether_the_request_may_have_had_an_effect(
    outcome: Outcome, maybe_begun: bool
) -> None:
    """The reply decides, not the words that were found in it: a proxy has words as well."""
    network = Network(*[outcome] * 4)
    with pytest.raises(ServiceUnavailableError) as caught:
        await caller(network).call("POST", "/run", json_body={}, is_submission=True)

    assert caught.value.maybe_begun is maybe_begun


# Keys.


class Provider:
    """Gives out keys in turn, the last one forever, and takes its time."""

    def __init__(self, *keys: str) -> None:
        self._keys = list(keys)
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        key = self._keys.pop(0) if len(self._keys) > 1 else self._keys[0]
        await anyio.sleep(0.1)
        return key


async def test_the_provider_is_asked_before_each_request() -> None:
    """No key is kept: what the provider says now is what is sent."""
    network = Network(FINE)
    asks = caller(network, api_key=Provider("sk-1", "sk-2", "sk-3"))
    for _ in range(3):
        await asks.call("GET", "/x")

    assert network.keys == ["sk-1", "sk-2", "sk-3"]


async def test_a_refused_key_is_replaced_once_for_all() -> None:
    """However many requests were refused with one key, one asks for the next."""
    network = Network(*[answer(401)] * 20, FINE, delay=1.0)
    provider = Provider(*["sk-1"] * 20, "sk-2")
    asks = caller(network, api_key=provider)
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(asks.call, "GET", "/x")

    assert network.keys == ["sk-1"] * 20 + ["sk-2"] * 20
    assert provider.asked == 21


@pytest.mark.parametrize("api_key", [Provider("sk-1"), Provider("sk-1", "sk-2"), "sk-1"])
async def test_a_second_refusal_is_final(api_key: Any) -> None:
    """A new key that is refused as well is not replaced, nor is one that cannot be."""
    network = Network(answer(401))
    error = await outcome_of(network, api_key=api_key)

    assert isinstance(error, AuthenticationError)
    assert len(network.keys) == (1 if api_key == "sk-1" else 2)


async def test_a_key_that_was_replaced_twice_is_not_answered_with_the_first_replacement() -> None:
    """A request that was held up over two changes of the key goes on with the present one."""
    network = Network(answer(401), FINE, FINE, answer(401), FINE)
    asks = caller(network, api_key=Provider("sk-1", "sk-2", "sk-3", "sk-1", "sk-3"))
    for _ in range(3):  # sk-1 refused, sk-2; then sk-3; then sk-1 again, refused
        await asks.call("GET", "/x")

    assert network.keys == ["sk-1", "sk-2", "sk-3", "sk-1", "sk-3"]


async def test_a_retry_after_a_renewal_asks_for_the_key_of_its_moment() -> None:
    """Between two tries a key may change once more; that is no second refusal."""
    network = Network(answer(401), answer(500), answer(401), FINE)
    error = await outcome_of(network, api_key=Provider("sk-1", "sk-2", "sk-3", "sk-4"))

    assert error == FINE
    assert network.keys == ["sk-1", "sk-2", "sk-3", "sk-4"]


async def test_a_task_that_is_not_found_has_an_error_of_its_own() -> None:
    """A 404 about a task names it as such; any other is a 404."""
    network = Network(answer(404))
    error = await outcome_of(network)
    with pytest.raises(NotFoundError) as other:
        await caller(network).call("GET", "/r/workflows/x")

    assert type(error).__name__ == "TaskNotFoundError"
    assert type(other.value) is NotFoundError
