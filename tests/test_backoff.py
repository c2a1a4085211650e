"""Pauses are data: each row says which draws and hints give which seconds."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, strategies as st

from cyberun_async._backoff import full_jitter, raised
from cyberun_async._model import WatchPolicy
from cyberun_async._protocol import parse_retry_after
from cyberun_async._watch import climb_pause, poll_pause, rest_pause, retry_pause


POLICY = WatchPolicy(
    backoff_base=0.5,
    backoff_cap=30.0,
    hint_cap=300.0,
    poll_interval=3.0,
    poll_interval_waiting=15.0,
    climb_base=15.0,
    climb_cap=600.0,
)


def draws(*values: float) -> Callable[[], float]:
    lots: Iterator[float] = iter(values)
    return lambda: next(lots)


@pytest.mark.parametrize(
    "draw, tries, expected",
    [
        (0.0, 0, 0.0),
        (0.0, 50, 0.0),
        (0.5, 0, 0.25),
        (1.0, 0, 0.5),
        (1.0, 1, 1.0),
        (1.0, 2, 2.0),
        (1.0, 3, 4.0),
        (1.0, 4, 8.0),
        (1.0, 5, 16.0),
        (1.0, 6, 30.0),
        (0.5, 6, 15.0),
        (1.0, 10_000, 30.0),
    ],
)
def test_full_jitter_draws_below_a_capped_exponential(
    draw: float, tries: int, expected: float
) -> None:
    """The ceiling doubles up to the cap, and the draw takes any part of it, also none."""
    assert full_jitter(draw, tries, base=0.5, cap=30.0) == expected


@pytest.mark.parametrize(
    "pause, hint, draw, expected",
    [
        pytest.param(2.0, None, 1.0, 2.0, id="no-hint"),
        pytest.param(2.0, 0.0, 1.0, 2.0, id="zero-is-no-floor"),
        pytest.param(2.0, 1.0, 1.0, 2.0, id="below-the-own-pause"),
        pytest.param(2.0, 2.0, 1.0, 2.0, id="equal-to-the-own-pause"),
        pytest.param(2.0, 5.0, 0.0, 5.0, id="raised"),
        pytest.param(2.0, 5.0, 1.0, 5.5, id="a-tenth-on-top"),
        pytest.param(2.0, 100.0, 1.0, 101.0, id="a-second-on-top-at-most"),
        pytest.param(2.0, 1e9, 0.0, 300.0, id="clamped"),
        pytest.param(400.0, 1e9, 0.0, 400.0, id="clamped-but-never-shortened"),
    ],
)
def test_a_hint_is_a_floor_with_a_cap(
    pause: float, hint: float | None, draw: float, expected: float
) -> None:
    """What the service asks for lengthens a pause, never beyond the cap, and never shortens."""
    assert raised(pause, hint, cap=300.0, draw=draw) == expected


@pytest.mark.parametrize(
    "losses, hint, lots, expected",
    [
        pytest.param(0, None, (1.0, 0.0), 0.5, id="a-stream-of-long-life"),
        pytest.param(1, None, (1.0, 0.0), 0.5, id="first-loss"),
        pytest.param(2, None, (1.0, 0.0), 1.0, id="second-loss"),
        pytest.param(3, None, (1.0, 0.0), 2.0, id="third-loss"),
        pytest.param(99, None, (1.0, 0.0), 30.0, id="capped"),
        pytest.param(99, None, (0.0, 0.0), 0.0, id="may-be-nothing"),
        pytest.param(1, 7.0, (1.0, 0.0), 7.0, id="retry-after"),
        pytest.param(1, 7.0, (1.0, 0.5), 7.35, id="retry-after-with-jitter"),
        pytest.param(1, 86_400.0, (1.0, 0.0), 300.0, id="retry-after-clamped"),
    ],
)
def test_the_rest_before_a_stream(
    losses: int, hint: float | None, lots: tuple[float, ...], expected: float
) -> None:
    """Streams come back soon after the first loss, and later after each further one."""
    assert rest_pause(POLICY, losses, hint, draws(*lots)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "climbs, hint, lots, expected",
    [
        pytest.param(0, None, (0.0, 0.0), 7.5, id="at-least-half"),
        pytest.param(0, None, (1.0, 0.0), 15.0, id="at-most-all"),
        pytest.param(1, None, (1.0, 0.0), 30.0, id="doubles"),
        pytest.param(2, None, (1.0, 0.0), 60.0, id="and-again"),
        pytest.param(6, None, (1.0, 0.0), 600.0, id="ten-minutes-at-most"),
        pytest.param(500, None, (0.0, 0.0), 300.0, id="for-ever"),
        pytest.param(0, 120.0, (1.0, 0.0), 120.0, id="retry-after"),
        pytest.param(0, 1e9, (1.0, 0.0), 300.0, id="retry-after-clamped"),
    ],
)
def test_the_pause_before_climbing_back(
    climbs: int, hint: float | None, lots: tuple[float, ...], expected: float
) -> None:
    """The way back from polling is tried with pauses that grow to ten minutes."""
    assert climb_pause(POLICY, climbs, hint, draws(*lots)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "waited, expected",
    [
        pytest.param(None, 3.0, id="running"),
        pytest.param(0.0, 3.0, id="has-just-begun-to-wait"),
        pytest.param(30.0, 3.0, id="half-a-minute"),
        pytest.param(60.0, 6.0, id="a-minute"),
        pytest.param(150.0, 15.0, id="long"),
        pytest.param(86_400.0, 15.0, id="a-day"),
    ],
)
def test_polling_slows_down_for_a_task_that_waits_long(
    waited: float | None, expected: float
) -> None:
    """A running task is asked about every three seconds, one that waits less and less often."""
    assert poll_pause(POLICY, waited=waited) == expected


def test_polling_is_never_faster_for_a_waiting_task() -> None:
    """An interval above the one for waiting tasks holds for those, too."""
    slow = WatchPolicy(poll_interval=20.0, poll_interval_waiting=15.0)

    assert poll_pause(slow, waited=3600.0) == 20.0


@pytest.mark.parametrize(
    "failures, hint, lots, expected",
    [
        pytest.param(1, None, (1.0, 0.0), 3.0, id="never-faster-than-polling"),
        pytest.param(3, None, (1.0, 0.0), 4.0, id="grows"),
        pytest.param(3, None, (0.0, 0.0), 3.0, id="drawn"),
        pytest.param(50, None, (1.0, 0.0), 30.0, id="capped"),
        pytest.param(1, 20.0, (1.0, 0.0), 20.0, id="retry-after"),
        pytest.param(1, 1e9, (1.0, 0.0), 300.0, id="retry-after-clamped"),
    ],
)
def test_the_pause_after_asks_in_vain(
    failures: int, hint: float | None, lots: tuple[float, ...], expected: float
) -> None:
    """Asks that fail are repeated no faster than polling, and as ``Retry-After`` allows."""
    assert retry_pause(POLICY, failures, hint, draws(*lots)) == pytest.approx(expected)


NOON = "Tue, 03 Mar 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    "value, date, expected",
    [
        pytest.param(None, NOON, None, id="absent"),
        pytest.param("0", None, 0.0, id="at-once"),
        pytest.param("120", None, 120.0, id="seconds"),
        pytest.param(" 7 ", None, 7.0, id="blanks"),
        pytest.param("9" * 400, None, 1e12, id="endless-digits"),
        pytest.param("Tue, 03 Mar 2026 12:00:30 GMT", NOON, 30.0, id="date"),
        pytest.param("Tue, 03 Mar 2026 13:00:30 +0100", NOON, 30.0, id="date-with-an-offset"),
        pytest.param("Tue, 03 Mar 2026 12:00:30 -0000", NOON, 30.0, id="date-without-a-zone"),
        pytest.param("Tuesday, 03-Mar-26 12:00:30 GMT", NOON, 30.0, id="date-of-rfc-850"),
        pytest.param("Tue Mar  3 12:00:30 2026", NOON, 30.0, id="date-of-asctime"),
        pytest.param("Tue, 03 Mar 2026 11:00:00 GMT", NOON, 0.0, id="gone-by"),
        pytest.param("Tue, 03 Mar 2026 12:00:30 GMT", None, None, id="no-date-to-judge-by"),
        pytest.param("Tue, 03 Mar 2026 12:00:30 GMT", "today", None, id="odd-date-to-judge-by"),
        pytest.param("soon", NOON, None, id="nonsense"),
        pytest.param("", NOON, None, id="empty"),
        pytest.param("-5", NOON, None, id="negative"),
        pytest.param("2.0", None, 2.0, id="whole-with-a-point"),
        pytest.param("2.5", None, 3.0, id="fraction-rounded-up"),
        pytest.param("0.001", None, 1.0, id="less-than-a-second"),
        pytest.param("1.5.2", NOON, None, id="two-points"),
        pytest.param(".5", NOON, None, id="point-without-a-number"),
        pytest.param("1e3", NOON, None, id="exponent"),
        pytest.param("\u0661\u0662", NOON, None, id="digits-of-another-script"),
        pytest.param("Tue, 99 Mar 2026 12:00:30 GMT", NOON, None, id="a-day-that-is-none"),
        pytest.param("Tue, 03 Mar 99999 12:00:30 GMT", NOON, None, id="a-year-that-is-none"),
    ],
)
def test_retry_after_is_seconds_or_a_date(
    value: str | None, date: str | None, expected: float | None
) -> None:
    """Both forms count; a date is judged by the answer's own clock; nonsense is nothing."""
    assert parse_retry_after(value, date) == expected


@given(st.text(max_size=40), st.one_of(st.none(), st.text(max_size=40)))
def test_no_header_breaks_the_reading(value: str, date: str | None) -> None:
    """Whatever the headers hold, the answer is seconds that are not negative, or None."""
    seconds = parse_retry_after(value, date)

    assert seconds is None or seconds >= 0.0


@given(
    st.integers(0, 10**6),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
    st.one_of(st.none(), st.floats(0, 1e12)),
)
def test_every_pause_is_bounded(tries: int, draw: float, jitter: float, hint: float | None) -> None:
    """No number of failures, draw or hint gives a pause beyond the caps."""
    rest = rest_pause(POLICY, tries, hint, draws(draw, jitter))
    retry = retry_pause(POLICY, tries, hint, draws(draw, jitter))
    climb = climb_pause(POLICY, tries, hint, draws(draw, jitter))

    assert 0.0 <= rest <= POLICY.hint_cap + 1.0
    assert POLICY.poll_interval <= retry <= POLICY.hint_cap + 1.0
    assert POLICY.climb_base / 2 <= climb <= POLICY.climb_cap
