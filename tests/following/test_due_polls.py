"""Status checks that are due, by state, and the rate at which they leave."""

from itertools import pairwise

import anyio
import pytest

from cyberun_async._following import DuePolls, Lately, RateLimit

from ..whole.kit import VIRTUAL, virtual_backend


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


def test_who_is_due_longest_is_asked_about_first() -> None:
    """The order is that of coming due, across all states but those that are barred."""
    due: DuePolls[str] = DuePolls()
    for who, state, since in (("a", "queued", 3.0), ("b", "running", 1.0), ("c", "queued", 4.0)):
        due.add(who, state, since)

    assert due.counts() == {"queued": 2, "running": 1}
    assert due.take_one({"running"}) == ("a", 3.0)
    assert due.take_one(set()) == ("b", 1.0)
    assert due.take("queued") == {"c": 4.0}
    assert (len(due), due.take_one(set())) == (0, None)


def test_who_is_due_is_due_once() -> None:
    """Added again in another state it is there only; removed, it is nowhere."""
    due: DuePolls[str] = DuePolls()
    due.add("a", "queued", 1.0)
    due.add("a", "running", 2.0)

    assert due.counts() == {"running": 1}
    assert (due.discard("a"), due.discard("a"), len(due)) == (True, False, 0)


async def departures(pace: RateLimit, number: int) -> list[float]:
    moments = list[float]()
    for _ in range(number):
        await pace.turn()
        moments.append(anyio.current_time())
    return moments


async def test_requests_leave_at_the_pace() -> None:
    """The first leaves at once, the others one after the other."""
    pace = RateLimit(anyio.current_time, 10.0)
    moments = await departures(pace, 4)

    assert [later - sooner for sooner, later in pairwise(moments)] == pytest.approx([0.1] * 3)


async def test_a_429_stops_and_slows_everybody() -> None:
    """Nothing leaves for as long as was asked for, then less, and success restores it."""
    pace = RateLimit(anyio.current_time, 10.0)
    began = anyio.current_time()
    pace.slow_down(30.0, cap=300.0)
    pace.slow_down(30.0, cap=300.0)  # an answer to what was under way already
    first, second = await departures(pace, 2)

    assert first - began == pytest.approx(30.0)
    assert second - first == pytest.approx(0.15)
    for _ in range(20):
        pace.answered()
    third, fourth = await departures(pace, 2)
    assert fourth - third == pytest.approx(0.1)


async def test_a_429_without_a_pause_is_taken_ever_more_seriously() -> None:
    """Each in a row stops for twice as long as the one before."""
    pace = RateLimit(anyio.current_time, 10.0)
    pauses = list[float]()
    for _ in range(3):
        began = anyio.current_time()
        pace.slow_down(None, cap=300.0)
        await pace.turn()
        pauses.append(anyio.current_time() - began)

    assert pauses == pytest.approx([2.0, 4.0, 8.0])


def test_the_largest_of_late_is_forgotten_after_two_spans() -> None:
    """A number counts for one or two spans of time."""
    lately = Lately(10.0)
    lately.note(5.0, 1.0)
    lately.note(2.0, 12.0)

    assert [lately.largest(now) for now in (13.0, 23.0, 50.0)] == [5.0, 2.0, 0.0]
