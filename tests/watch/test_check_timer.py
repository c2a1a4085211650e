"""When the next check is due, after any mix of reasons for it."""

import pytest

from cyberun_async._watch import CheckTimer


def clock(at: float | None = None) -> CheckTimer:
    """Return a clock after its first check, due again at *at*."""
    made = CheckTimer(0.0)
    made.sent()
    made.at = at
    return made


def test_the_first_check_is_due_from_the_start_and_urgent() -> None:
    """Nothing is known at first, and no event takes the place of the first check."""
    checks = CheckTimer(5.0)

    checks.put_off(60.0)

    assert checks.at == 5.0


@pytest.mark.parametrize(
    "calls, expected",
    [
        pytest.param([("softly", 60.0)], 60.0, id="soft"),
        pytest.param([("softly", 60.0), ("softly", 5.0)], 5.0, id="the-sooner-wins"),
        pytest.param([("softly", 5.0), ("softly", 60.0)], 5.0, id="the-later-changes-nothing"),
        pytest.param([("softly", 5.0), ("put_off", 60.0)], 60.0, id="an-event-puts-it-off"),
        pytest.param([("by", 5.0), ("put_off", 60.0)], 5.0, id="unless-it-is-urgent"),
        pytest.param([("softly", 5.0), ("by", 9.0), ("put_off", 60.0)], 5.0, id="urgency-sticks"),
        pytest.param([("put_off", 60.0)], 60.0, id="an-event-sets-it-where-none-is-due"),
        pytest.param([("hold", 30.0), ("by", 5.0)], 30.0, id="held-even-if-urgent"),
        pytest.param([("by", 5.0), ("hold", 30.0)], 30.0, id="held-afterwards"),
        pytest.param([("by", 50.0), ("hold", 30.0)], 50.0, id="held-no-longer-than-due"),
        pytest.param([("hold", 30.0), ("hold", 20.0), ("by", 5.0)], 30.0, id="the-longer-hold"),
        pytest.param([("softly", 5.0), ("hold", 30.0), ("put_off", 10.0)], 30.0, id="put-off-held"),
        pytest.param([("hold", 30.0)], None, id="a-hold-checks-nothing-by-itself"),
        pytest.param([("by", 5.0), ("sent",)], None, id="sent"),
        pytest.param([("by", 5.0), ("sent",), ("softly", 9.0), ("put_off", 60.0)], 60.0, id="anew"),
    ],
)
def test_the_next_check(
    calls: list[tuple[str, float] | tuple[str]], expected: float | None
) -> None:
    """Urgent reasons stay, others are put off, and a hold comes before both."""
    checks = clock()

    for name, *arguments in calls:
        getattr(checks, name)(*arguments)

    assert checks.at == expected


@pytest.mark.parametrize(("now", "held"), [(29.9, True), (30.0, False)])
def test_a_hold_ends_at_its_moment(now: float, held: bool) -> None:
    """Checking is allowed again from the moment itself."""
    checks = clock()

    checks.hold(30.0)

    assert checks.is_held(now) is held


def test_waking_up_lifts_a_hold() -> None:
    """After a sleep of the machine the first thing is to check, whatever was said before it."""
    checks = clock()
    checks.hold(300.0)

    checks.wake(7.0)
    checks.put_off(60.0)

    assert checks.at == 7.0
    assert not checks.is_held(7.0)
