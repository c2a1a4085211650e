"""What the task list says about a submission whose answer was never read."""

from datetime import UTC, datetime, timedelta

import pytest

from cyberun_async import TaskSnapshot
from cyberun_async.batch._ledger.queries import OpenFate
from cyberun_async.batch._outcomes import Verdict
from cyberun_async.batch._reconcile import Sighting, Sweep, judged


INTENT = datetime(2026, 5, 1, 12, 0, 0, 900_000, UTC)
NONE = timedelta(0)


def seconds(number: float) -> datetime:
    """Return the moment so many seconds after the intent."""
    return INTENT + timedelta(seconds=number)


def fate(workflow_id: str | None = "w-1", intent_at: datetime = INTENT) -> OpenFate:
    return OpenFate(1, 1, "job", "text-to-image", workflow_id, intent_at)


def task(
    task_id: str, created_at: datetime | None, workflow_id: str | None = "w-1"
) -> TaskSnapshot:
    return TaskSnapshot(
        id=task_id, status="running", workflow_id=workflow_id, created_at=created_at
    )


def verdict_on(*sightings: Sighting, allowance: float = 0.0) -> tuple[Verdict, tuple[str, ...]]:
    [found] = judged([fate()], sightings, timedelta(seconds=allowance))
    return found.verdict, found.candidates


def test_without_a_candidate_it_was_probably_not_submitted() -> None:
    """No task at all, none of that workflow and none since the intent come to the same."""
    probably = ("probably not submitted", ())

    assert verdict_on() == probably
    assert verdict_on(Sighting("other", "w-2", seconds(1))) == probably
    assert verdict_on(Sighting("older", "w-1", seconds(-5))) == probably


def test_any_task_since_the_intent_is_a_candidate() -> None:
    """All unclaimed tasks of the workflow are named, and none is taken for the one."""
    sightings = [Sighting("a", "w-1", seconds(1)), Sighting("b", "w-1", seconds(3600))]

    assert verdict_on(*sightings) == ("uncertain", ("a", "b"))


@pytest.mark.parametrize(
    "sighting",
    [
        pytest.param(Sighting("a", None, seconds(1)), id="no-workflow"),
        pytest.param(Sighting("a", "w-1", None), id="no-moment"),
        pytest.param(Sighting("a", None, None), id="neither"),
    ],
)
def test_what_the_list_leaves_out_counts_as_a_match(sighting: Sighting) -> None:
    """A task that may be the one is a candidate."""
    assert verdict_on(sighting) == ("uncertain", ("a",))


def test_a_clock_may_be_ahead_by_the_allowance() -> None:
    """A task that seems older than the intent counts as far as the clocks may differ."""
    sighting = Sighting("a", "w-1", seconds(-100))

    assert verdict_on(sighting, allowance=120) == ("uncertain", ("a",))
    assert verdict_on(sighting, allowance=60) == ("probably not submitted", ())


def test_the_list_tells_whole_seconds() -> None:
    """A task made just after the intent is listed with the second both of them fall in."""
    assert verdict_on(Sighting("a", "w-1", INTENT.replace(microsecond=0))) == ("uncertain", ("a",))


def test_a_workflow_that_was_not_known_matches_all() -> None:
    """Where the intent has no workflow id, every task since then is a candidate."""
    [found] = judged([fate(None)], [Sighting("a", "w-2", seconds(1))], NONE)

    assert found.candidates == ("a",)


def test_two_submissions_may_have_the_same_candidate() -> None:
    """One task can be only one of the two, but nobody knows which."""
    fates = [fate(), fate(intent_at=seconds(10))]

    found = judged(fates, [Sighting("a", "w-1", seconds(20))], NONE)

    assert [one.candidates for one in found] == [("a",), ("a",)]


def test_tasks_of_the_ledger_are_no_candidates() -> None:
    """What is known to be another submission's is left out."""
    sweep = Sweep([fate()])

    sweep.see([task("own", seconds(1)), task("strange", seconds(2))], {"own": seconds(0)})

    assert [one.id for one in sweep.unclaimed] == ["strange"]


def test_the_lead_of_the_clock_is_learned_from_own_tasks() -> None:
    """An own task that seems made before its intent shows how far this clock is ahead."""
    sweep = Sweep([fate()])

    sweep.see([task("own", seconds(-300))], {"own": seconds(0)})
    sweep.see([task("next", seconds(-200))], {"next": seconds(50)})

    assert sweep.lead == timedelta(seconds=300)


def test_a_clock_is_not_ahead_by_days() -> None:
    """One strange moment in the list does not make every task of the year a candidate."""
    sweep = Sweep([fate()])

    sweep.see([task("own", datetime(1970, 1, 1, tzinfo=UTC))], {"own": INTENT})

    assert sweep.lead == timedelta(days=1)


def test_only_what_may_be_a_candidate_is_kept() -> None:
    """Of a list of thousands, old tasks and those of other workflows take no memory."""
    sweep = Sweep([fate()])

    sweep.see([task("old", INTENT - timedelta(days=30)), task("w", INTENT, "w-2")], {})

    assert list(sweep.unclaimed) == []
