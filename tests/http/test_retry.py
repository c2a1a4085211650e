"""Retries of plain requests, as tables of answers, pauses and tokens."""

import attrs
import pytest

from cyberun_async._http import (
    RetryQuota,
    pause_before_retry,
    refuses_submission,
    submission_is_ambiguous,
)
from cyberun_async._model import RetryPolicy
from cyberun_async._protocol import ExchangeFailedError, FailureKind, Response, speaks_for_service


POLICY = RetryPolicy(max_attempts=4, backoff_base=0.5, backoff_cap=8.0, retry_after_cap=120.0)

JSON = {"content-type": "application/json; charset=utf-8"}
HTML = {"content-type": "text/html"}
SAID = b'{"error_message": "no capacity"}'
NOON = "Tue, 03 Mar 2026 12:00:00 GMT"


def failure(kind: FailureKind, *, maybe_sent: bool = True) -> ExchangeFailedError:
    return ExchangeFailedError(kind, maybe_sent=maybe_sent)


def reply(status: int, body: bytes = b"", **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status=status, headers=named, body=body)


# What may be repeated at all

REPEATED = 0.5
FINAL = None


@pytest.mark.parametrize(
    "outcome, expected",
    [
        *((reply(status), FINAL) for status in (301, 400, 401, 403, 404, 405, 409, 410, 422, 425)),
        *((reply(status), REPEATED) for status in (408, 429)),
        *((reply(status), REPEATED) for status in (500, 502, 503, 504, 507, 520, 522, 524, 530)),
        *((reply(status), FINAL) for status in (501, 505)),
        (failure(FailureKind.CONNECT, maybe_sent=False), REPEATED),
        (failure(FailureKind.TIMEOUT), REPEATED),
        (failure(FailureKind.LOST), REPEATED),
        (failure(FailureKind.PROTOCOL), REPEATED),
        (failure(FailureKind.TLS, maybe_sent=False), FINAL),
        (failure(FailureKind.PROXY, maybe_sent=False), FINAL),
        (failure(FailureKind.PROXY_FAILED, maybe_sent=False), REPEATED),
        (failure(FailureKind.REDIRECT), FINAL),
    ],
    ids=str,
)
def test_an_idempotent_request_is_repeated_where_that_can_help(
    outcome: Response | ExchangeFailedError, expected: float | None
) -> None:
    """Connection loss, 408, 429 and 5xx are repeated; refusals and wrong set-ups are not."""
    assert pause_before_retry(outcome, attempt=1, policy=POLICY, draw=1.0) == expected


@pytest.mark.parametrize(
    "outcome, repeated, ambiguous",
    [
        pytest.param(failure(FailureKind.CONNECT, maybe_sent=False), True, False, id="no-way"),
        pytest.param(failure(FailureKind.CONNECT), False, True, id="connect-too-late-to-say"),
        pytest.param(failure(FailureKind.LOST), False, True, id="lost"),
        pytest.param(failure(FailureKind.TIMEOUT), False, True, id="timed-out"),
        pytest.param(failure(FailureKind.TLS, maybe_sent=False), False, False, id="tls"),
        pytest.param(reply(429, SAID, **JSON), True, False, id="429"),
        pytest.param(reply(429), False, True, id="429-bare"),
        pytest.param(reply(429, b"<html>", **HTML), False, True, id="429-of-a-proxy"),
        pytest.param(reply(503, SAID, **JSON), True, False, id="503-by-the-service"),
        pytest.param(reply(503, b"<html>", **HTML), False, True, id="503-by-a-proxy"),
        pytest.param(reply(503, SAID, **HTML), False, True, id="503-in-html-with-its-words"),
        pytest.param(reply(503, b'{"message": "x"}', **JSON), False, True, id="503-in-other-json"),
        pytest.param(reply(503), False, True, id="503-bare"),
        pytest.param(reply(500, SAID, **JSON), False, True, id="500"),
        pytest.param(reply(502, b"<html>", **HTML), False, True, id="502"),
        pytest.param(reply(504, SAID, **JSON), False, True, id="504"),
        pytest.param(reply(408), False, True, id="408"),
        *(
            pytest.param(
                Response(status=status, body=body, headers=kind),
                False,
                ambiguous,
                id=f"{status}-{who}",
            )
            for status in (400, 401, 403, 404, 405, 409, 413, 422)
            for body, kind, ambiguous, who in (
                (SAID, JSON, False, "by-the-service"),
                (b"<html>", HTML, True, "by-a-proxy"),
                (b"", HTML, True, "bare"),
            )
        ),
        pytest.param(reply(200), False, False, id="accepted"),
    ],
)
def test_a_submission_is_repeated_only_where_it_provably_did_not_run(
    outcome: Response | ExchangeFailedError, repeated: bool, ambiguous: bool
) -> None:
    """A run that may have been accepted is never sent again, and said to be uncertain."""
    pause = pause_before_retry(outcome, attempt=1, policy=POLICY, draw=1.0, is_submission=True)

    assert (pause is not None) is repeated
    assert submission_is_ambiguous(outcome) is ambiguous
    assert not (repeated and ambiguous)


@pytest.mark.parametrize(
    "body, kind, is_its_own",
    [
        (SAID, "application/json", True),
        (SAID, "Application/JSON; charset=utf-8", True),
        (SAID, "application/problem+json", True),
        (SAID, None, True),
        (b'{"error_message": ""}', "application/json", True),
        (SAID, "text/html", False),
        (SAID, "text/plain", False),
        (SAID, "application/jsonx", False),
        (b'{"message": "x"}', "application/json", False),
        (b'{"error_message": null}', "application/json", False),
        (b'{"error_message": {"a": "b"}}', "application/json", False),
        (b'{"error": {"error_message": "x"}}', "application/json", False),
        (b'[{"error_message": "x"}]', "application/json", False),
        (b'"error_message"', "application/json", False),
        (SAID[:-1], "application/json", False),
        (b'{"error_message": "\xff"}', "application/json", False),
        (b"<p>" + SAID, "application/json", False),
        (b"", "application/json", False),
    ],
)
def test_the_words_of_the_service_are_json_with_its_own_field(
    body: bytes, kind: str | None, is_its_own: bool
) -> None:
    """A proxy's page may hold anything, also the name of the service's field."""
    headers = {} if kind is None else {"content-type": kind}
    answer = Response(status=503, headers=headers, body=body)

    assert speaks_for_service(answer) is is_its_own
    assert refuses_submission(answer) is is_its_own


# How long the pause is


@pytest.mark.parametrize(
    "attempt, draw, expected",
    [
        (1, 1.0, 0.5),
        (1, 0.0, 0.0),
        (2, 1.0, 1.0),
        (2, 0.25, 0.25),
        (3, 1.0, 2.0),
        (4, 1.0, None),
        (5, 1.0, None),
    ],
)
def test_pauses_grow_until_the_tries_are_used_up(
    attempt: int, draw: float, expected: float | None
) -> None:
    """Full jitter below a doubling ceiling; the last try's failure is final."""
    pause = pause_before_retry(reply(503), attempt=attempt, policy=POLICY, draw=draw)

    assert pause == expected


def test_pauses_stop_growing_at_the_cap() -> None:
    """However many tries there are, no pause of their own is longer than the cap."""
    patient = attrs.evolve(POLICY, max_attempts=100)

    assert pause_before_retry(reply(503), attempt=50, policy=patient, draw=1.0) == 8.0


@pytest.mark.parametrize(
    "headers, draw, expected",
    [
        pytest.param({"retry-after": "3"}, 0.0, 3.0, id="seconds"),
        pytest.param({"retry-after": "3"}, 1.0, 3.3, id="with-jitter-on-top"),
        pytest.param({"retry-after": "0"}, 1.0, 0.5, id="zero"),
        pytest.param({"retry-after": "120"}, 0.0, 120.0, id="as-long-as-allowed"),
        pytest.param({"retry-after": "121"}, 0.0, None, id="longer-is-the-callers-decision"),
        pytest.param({"retry-after": "1000000000"}, 0.0, None, id="absurd"),
        pytest.param({"retry-after": "soon"}, 1.0, 0.5, id="nonsense"),
        pytest.param(
            {"retry-after": "Tue, 03 Mar 2026 12:00:20 GMT", "date": NOON}, 0.0, 20.0, id="date"
        ),
        pytest.param(
            {"retry-after": "Tue, 03 Mar 2026 11:00:00 GMT", "date": NOON}, 1.0, 0.5, id="gone-by"
        ),
        pytest.param({"retry-after": "Tue, 03 Mar 2026 12:00:20 GMT"}, 1.0, 0.5, id="no-clock"),
    ],
)
def test_retry_after_is_honoured(
    headers: dict[str, str], draw: float, expected: float | None
) -> None:
    """The service's pause is a floor; one beyond the cap is reported instead of waited for."""
    answer = Response(status=429, headers=headers)

    pause = pause_before_retry(answer, attempt=1, policy=POLICY, draw=draw)

    assert pause == expected


# The quota


@attrs.frozen
class Row:
    """One exchange: how it went, and what is left of the quota afterwards."""

    outcome: str
    left: int


def play(quota: RetryQuota, outcome: str) -> bool:
    """Note an outcome in *quota*; False where a retry was not allowed."""
    if outcome == "retry":
        return quota.take()
    quota.give_back(retried=outcome == "success after a retry")
    return True


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(
            [Row("success", 500), Row("success after a retry", 500)], id="never-above-capacity"
        ),
        pytest.param([Row("retry", 486), Row("success after a retry", 500)], id="retry-succeeds"),
        pytest.param(
            [Row("retry", 486), Row("retry", 472), Row("success after a retry", 486)],
            id="the-last-retry-is-given-back",
        ),
        pytest.param(
            [Row("retry", 486), Row("success", 487), Row("success", 488)], id="one-by-one"
        ),
    ],
)
def test_retries_take_tokens_and_successes_give_them_back(rows: list[Row]) -> None:
    """A retry costs 14 of 500; its success gives them back, any other success gives one."""
    policy = RetryPolicy()
    quota = RetryQuota(policy.quota, policy.retry_cost)

    left: list[int] = []
    for row in rows:
        assert play(quota, row.outcome)
        left.append(quota._left)

    assert left == [row.left for row in rows]


def test_an_outage_uses_the_quota_up() -> None:
    """After 35 retries in vain nothing is retried until successes have filled it again."""
    quota = RetryQuota(500, 14)

    allowed = [quota.take() for _ in range(40)]

    assert allowed == [True] * 35 + [False] * 5
    assert quota._left == 10
    for _ in range(4):
        quota.give_back(retried=False)
    assert [quota.take(), quota.take()] == [True, False]


def test_without_a_quota_nothing_is_retried() -> None:
    """A capacity of none switches retries off, a cost of none lifts the limit."""
    assert not RetryQuota(0, 14).take()
    assert all(RetryQuota(0, 0).take() for _ in range(1000))
