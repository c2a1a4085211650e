"""Timelines: pure functions from plans to marks."""

import itertools
from typing import Literal

import pytest
from hypothesis import given, strategies as st

from cyberun_async.testing import Attempt, Behaviour, TaskPlan
from cyberun_async.testing._simulator.timeline import TERMINAL, Mark, cancelled, timeline


def marks_of(plan: TaskPlan, *, steps: int = 4, speed: float = 1.0) -> tuple[Mark, ...]:
    return timeline(plan, Behaviour(), steps=steps, stages=(), speed=speed)


def test_a_life_takes_as_long_as_planned() -> None:
    """The durations of a plan add up, divided by the speed."""
    plan = TaskPlan(pending=1, waiting=2, queued=4, step_seconds=8)
    slow, fast = (marks_of(plan, speed=speed) for speed in (1.0, 4.0))

    assert [mark.at for mark in slow] == [0, 1, 3, 7, 15, 23, 31, 39, 39]
    assert fast[-1].at == 39 / 4
    assert slow[-1].started == 7


@pytest.mark.parametrize("outcome", ["failed", "cancelled"])
def test_a_task_may_stop_early(outcome: Literal["failed", "cancelled"]) -> None:
    """A task that does not complete may end after any step."""
    plan = TaskPlan(stop_at_step=2, outcome=outcome)
    names = [mark.name for mark in marks_of(plan)]

    assert names.count("progress") == 2
    assert names[-1] == outcome


ATTEMPTS = st.builds(
    Attempt, steps=st.integers(0, 5), lost_in=st.sampled_from(["queued", "running"])
)
SECONDS = st.floats(0, 100)
PLANS = st.builds(
    TaskPlan,
    pending=SECONDS,
    waiting=SECONDS,
    queued=SECONDS,
    step_seconds=SECONDS,
    outcome=st.sampled_from(["completed", "failed", "cancelled"]),
    attempts=st.lists(ATTEMPTS, max_size=3).map(tuple),
    forever_waiting=st.booleans(),
)


@given(PLANS, st.integers(1, 10))
def test_every_life_is_lawful(plan: TaskPlan, steps: int) -> None:
    """Time never runs back, attempts rise by one, and only the last mark is an end."""
    marks = marks_of(plan, steps=steps)
    times = [mark.at for mark in marks]
    rises = [b.attempt - a.attempt for a, b in itertools.pairwise(marks)]

    assert times == sorted(times)
    assert set(rises) <= {0, 1}
    assert marks[-1].attempt == len(plan.attempts)
    assert not any(mark.status in TERMINAL for mark in marks[:-1])
    assert marks[-1].is_terminal != plan.forever_waiting


@given(PLANS, st.floats(0, 2000), st.floats(0, 50))
def test_a_cancelled_life_keeps_its_past_and_ends(
    plan: TaskPlan, elapsed: float, stop: float
) -> None:
    """Cancelling changes nothing that has happened, and an end follows in time."""
    marks = marks_of(plan)
    after = cancelled(marks, elapsed, stop)
    past = tuple(mark for mark in marks if mark.at <= elapsed)

    assert past == after[: len(past)]
    assert after[-1].is_terminal
    assert after[-1].at <= max(elapsed + stop, past[-1].at) + 1e-3
    assert after == cancelled(after, after[-1].at + 1, stop)
