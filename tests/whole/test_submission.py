"""A run costs money: it is sent again only where it provably did not arrive or was declined."""

import pickle
from typing import Any, Final

import pytest

from cyberun_async import (
    CyberunClient,
    InvalidInputError,
    PermissionDeniedError,
    RateLimitedError,
    RequestRejectedError,
    RetryPolicy,
    ServiceUnavailableError,
    SubmissionUncertainError,
)
from cyberun_async.testing import Behaviour, Simulator, faults

from .kit import VIRTUAL, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


PAGE: Final = "<html>Bad gateway</html>"
ENVOY: Final = "upstream connect error or disconnect/reset before headers"
JSON: Final = "application/json"
RUN: Final[tuple[str, dict[str, Any]]] = ("text-to-image", {"prompt": "a fox", "steps": 4})


@pytest.mark.parametrize(
    ("action", "accepted"),
    [
        pytest.param(faults.abandon(), 1, id="accepted-and-no-answer"),
        pytest.param(faults.abandon(reset=True), 1, id="accepted-and-reset"),
        pytest.param(faults.hang_up(), 0, id="hung-up-before"),
        pytest.param(faults.refuse(502, body=PAGE), 0, id="proxy-502"),
        pytest.param(faults.refuse(503, body=PAGE), 0, id="proxy-503"),
        pytest.param(faults.refuse(504, body=PAGE), 0, id="proxy-504"),
        pytest.param(
            faults.refuse(503, body=ENVOY, content_type="text/plain"), 0, id="proxy-503-in-words"
        ),
        pytest.param(
            faults.refuse(503, body='{"message": "Service Unavailable"}', content_type=JSON),
            0,
            id="gateway-503-in-json",
        ),
        pytest.param(
            faults.refuse(503, body='{"error_message": "busy"}', content_type="text/plain"),
            0,
            id="503-quoted",
        ),
        pytest.param(faults.refuse(504, "timed out"), 0, id="504-in-the-service's-words"),
        pytest.param(faults.refuse(408, "too slow"), 0, id="408"),
        pytest.param(faults.refuse(500), 0, id="500"),
        pytest.param(faults.garble("truncated"), 1, id="answer-cut"),
        pytest.param(faults.garble("html"), 1, id="answer-a-page"),
        pytest.param(faults.garble("empty"), 1, id="answer-empty"),
        pytest.param(faults.drop_after(bytes=5), 1, id="answer-dropped"),
        pytest.param(faults.hold(after=3600), 1, id="answer-too-late"),
    ],
)
async def test_an_unread_answer_is_never_followed_by_a_second_run(
    action: faults.Action, accepted: int
) -> None:
    """Where nobody can know whether the run was accepted, it says so and sends nothing more."""
    sim = Simulator(seed=7)
    sim.faults.add("run", action, times=None)
    async with virtual_client(sim) as client:
        with pytest.raises(SubmissionUncertainError, match="before submitting again") as caught:
            await client.submit(*RUN)

    error = caught.value
    assert len(sim.requests_to("run")) == 1
    assert len(sim.submissions) == accepted
    assert (error.workflow, error.parameters) == RUN
    assert error.sent_at.tzinfo is not None
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.sent_at, copy.reason, str(copy)) == (error.sent_at, error.reason, str(error))


@pytest.mark.parametrize(
    ("action", "error"),
    [
        pytest.param(faults.refuse(429, retry_after=5), RateLimitedError, id="429"),
        pytest.param(faults.refuse(503, "warming up"), ServiceUnavailableError, id="503"),
    ],
)
async def test_who_keeps_a_pace_of_their_own_hears_of_each_refusal(
    action: faults.Action, error: type[RateLimitedError | ServiceUnavailableError]
) -> None:
    """With ``retry=False`` a run is sent once, and the refusal is the caller's at once."""
    sim = Simulator(seed=7)
    sim.faults.add("run", action)
    async with virtual_client(sim) as client:
        with pytest.raises(error):
            await client.submit(*RUN, retry=False)

    assert len(sim.requests_to("run")) == 1


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(faults.refuse(429), id="429"),
        pytest.param(faults.refuse(429, retry_after=5), id="429-retry-after"),
        pytest.param(faults.refuse(503, "warming up"), id="503-in-the-service's-words"),
    ],
)
async def test_a_run_declined_for_now_is_sent_again(action: faults.Action) -> None:
    """What the service itself declined was not accepted, and is sent again, once each time."""
    sim = Simulator(seed=7)
    rule = sim.faults.add("run", action, times=2)
    async with virtual_client(sim) as client:
        task = await client.submit(*RUN)

    times = [request.at for request in sim.requests_to("run")]
    assert (rule.fired, len(times)) == (2, 3)
    assert [one.task_id for one in sim.submissions] == [task.id]
    if action == faults.refuse(429, retry_after=5):
        assert times[1] - times[0] >= 5


@pytest.mark.parametrize(
    ("action", "error"),
    [
        pytest.param(faults.refuse(429, "too many runs"), RateLimitedError, id="429"),
        pytest.param(faults.refuse(503, "too many runs"), ServiceUnavailableError, id="503"),
    ],
)
async def test_a_run_declined_for_good_is_certainly_not_accepted(
    action: faults.Action, error: type[Exception]
) -> None:
    """Declined until the tries are used up, the error is a plain one, with the service's words."""
    sim = Simulator(seed=7)
    sim.faults.add("run", action, times=None)
    async with virtual_client(sim, retries=RetryPolicy(max_attempts=3)) as client:
        with pytest.raises(error, match="too many runs"):
            await client.submit(*RUN)

    assert len(sim.requests_to("run")) == 3
    assert sim.submissions == []


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, RequestRejectedError), (403, PermissionDeniedError), (422, RequestRejectedError)],
)
async def test_a_refused_run_is_not_sent_again(status: int, error: type[Exception]) -> None:
    """A refusal is reported with the service's words, after one request."""
    sim = Simulator(seed=7)
    sim.faults.add("run", faults.refuse(status, "steps is too large"), times=None)
    async with virtual_client(sim) as client:
        with pytest.raises(error, match="steps is too large"):
            await client.submit(*RUN)

    assert len(sim.requests_to("run")) == 1


async def test_wrong_parameters_are_refused_by_the_service() -> None:
    """Where the service checks parameters, its words reach the caller."""
    sim = Simulator(seed=7, behaviour=Behaviour(validates=True))
    async with virtual_client(sim) as client:
        with pytest.raises(RequestRejectedError) as caught:
            await client.submit("text-to-image", {"steps": 4})

    assert caught.value.status == 400
    assert "prompt" in (caught.value.error_message or "")
    assert sim.submissions == []


@pytest.mark.parametrize(
    "slug", ["", "../admin", "a b", "A", "x/y", "a%2fb", "a\r\nb", "a@", "a@b"]
)
async def test_a_malformed_workflow_is_refused_before_anything_is_sent(slug: str) -> None:
    """What cannot be a slug never becomes part of a request."""
    sim = Simulator(seed=7)
    async with virtual_client(sim) as client:
        with pytest.raises(InvalidInputError):
            await client.submit(slug)

    assert sim.requests == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"bytes"])
async def test_parameters_that_json_cannot_hold_are_refused_before_anything_is_sent(
    value: object,
) -> None:
    """A value that cannot be sent is named before anything is."""
    sim = Simulator(seed=7)
    async with virtual_client(sim) as client:
        with pytest.raises(InvalidInputError, match="prompt"):
            await client.submit("text-to-image", {"prompt": value})

    assert sim.requests == []


async def test_a_slow_acceptance_is_waited_for() -> None:
    """A 202 that takes twenty seconds is an acceptance like any other."""
    sim = Simulator(seed=7, behaviour=Behaviour(accept_delay=20.0))
    async with virtual_client(sim) as client:
        task = await client.submit(*RUN)

    assert [one.task_id for one in sim.submissions] == [task.id]


async def test_options_of_a_run_are_passed_through() -> None:
    """What a run may say besides its parameters arrives as it was said, and only that."""
    sim = Simulator(seed=7)
    async with virtual_client(sim) as client:
        await client.submit(*RUN)
        await client.submit(*RUN, dispatch_target="agent", submitter_region="eu-west")

    plain, special = (dict(one.body) for one in sim.submissions)
    assert plain == {"parameters": RUN[1]}
    assert special == plain | {"dispatch_target": "agent", "submitter_region": "eu-west"}


class TestOnSockets:
    """What needs a port that nobody listens on."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_a_run_that_never_connected_is_sent_again(self) -> None:
        """A service that is just starting gets the run once it listens, exactly once."""
        sim = Simulator(seed=7)
        with sim:
            pass
        tries = 0

        def key() -> str:
            nonlocal tries
            tries += 1
            if tries == 3:
                sim.restart()
            return sim.key

        try:
            async with CyberunClient(key, base_url=sim.url) as client:
                task = await client.submit(*RUN)
        finally:
            sim.kill()

        assert tries == 3
        assert [one.task_id for one in sim.submissions] == [task.id]

    async def test_a_run_that_could_never_connect_was_certainly_not_accepted(self) -> None:
        """Without any connection the error is plain, not uncertain."""
        sim = Simulator(seed=7)
        with sim:
            pass
        policy = RetryPolicy(max_attempts=2, backoff_base=0.01)
        async with CyberunClient(sim.key, base_url=sim.url, retries=policy) as client:
            with pytest.raises(ServiceUnavailableError, match="base URL and the network") as caught:
                await client.submit(*RUN)

        assert caught.value.attempts == 2
        assert not caught.value.maybe_sent
