"""What the task list says about a submission whose answer was never read."""

from datetime import UTC, datetime, timedelta

import pytest

from cyberun_async import TaskSnapshot
from cyberun_async.batch._ledger.queries import OpenSubmission
from cyberun_async.batch._reconcile import Search


INTENT = datetime(2026, 5, 1, 12, 0, 0, 900_000, UTC)


def seconds(number: float) -> datetime:
    """Return the time so many seconds after the intent."""
    return INTENT + timedelta(seconds=number)


def submission(workflow_id: str | None = "w-1", intent_at: datetime = INTENT) -> OpenSubmission:
    return OpenSubmission(1, 1, "job", "text-to-image", workflow_id, intent_at)


def task(task_id: str, workflow_id: str | None, created_at: datetime | None) -> TaskSnapshot:
    return TaskSnapshot(
        id=task_id, status="running", workflow_id=workflow_id, created_at=created_at
    )


def verdict_on(*tasks: TaskSnapshot, allowance: float = 0.0) -> tuple[str, tuple[str, ...]]:
    search = Search([submission()])
    search.add(tasks, {})
    [found] = search.judgements(allowance)
    return found.verdict, found.candidates


def test_without_a_candidate_it_was_probably_not_submitted() -> None:
    """No task at all, none of that workflow and none since the intent come to the same."""
    probably = ("probably not submitted", ())

    assert verdict_on() == probably
    assert verdict_on(task("other", "w-2", seconds(1))) == probably
    assert verdict_on(task("older", "w-1", seconds(-5))) == probably


def test_any_task_since_the_intent_is_a_candidate() -> None:
    """All unclaimed tasks of the workflow are named, and none is taken for the one."""
    tasks = [task("a", "w-1", seconds(1)), task("b", "w-1", seconds(3600))]

    assert verdict_on(*tasks) == ("uncertain", ("a", "b"))


@pytest.mark.parametrize(
    "listed",
    [
        pytest.param(task("a", None, seconds(1)), id="no-workflow"),
        pytest.param(task("a", "w-1", None), id="no-timestamp"),
        pytest.param(task("a", None, None), id="neither"),
    ],
)
def test_what_the_list_leaves_out_counts_as_a_match(listed: TaskSnapshot) -> None:
    """A task that may be the one is a candidate."""
    assert verdict_on(listed) == ("uncertain", ("a",))


def test_a_clock_may_be_ahead_by_the_allowance() -> None:
    """A task that seems older than the intent counts as far as the clocks may differ."""
    listed = task("a", "w-1", seconds(-100))

    assert verdict_on(listed, allowance=120) == ("uncertain", ("a",))
    assert verdict_on(listed, allowance=60) == ("probably not submitted", ())


def test_the_list_has_whole_seconds() -> None:
    """A task made just after the intent is listed with the second both of them fall in."""
    assert verdict_on(task("a", "w-1", INTENT.replace(microsecond=0))) == ("uncertain", ("a",))


def test_a_workflow_that_was_not_known_matches_all() -> None:
    """Where the intent has no workflow id, every task since then is a candidate."""
    search = Search([submission(None)])

    search.add([task("a", "w-2", seconds(1))], {})

    assert [one.candidates for one in search.judgements(0.0)] == [("a",)]


def test_two_submissions_may_have_the_same_candidate() -> None:
    """One task can be only one of the two, but nobody knows which."""
    search = Search([submission(), submission(intent_at=seconds(10))])

    search.add([task("a", "w-1", seconds(20))], {})

    assert [one.candidates for one in search.judgements(0.0)] == [("a",), ("a",)]


def test_tasks_of_the_ledger_and_of_others_are_no_candidates() -> None:
    """What is known to be another submission's is left out."""
    search = Search([submission()])

    search.add([task(each, "w-1", seconds(2)) for each in "abc"], {"a": seconds(0)})
    search.remove(["c", "d"])

    assert search.ids == ("b",)


def test_the_lead_of_the_clock_is_learned_from_own_tasks() -> None:
    """An own task that seems made before its intent shows how far this clock is ahead."""
    search = Search([submission()])

    search.add(
        [task("own", "w-1", seconds(-300)), task("a", "w-1", seconds(-300))], {"own": INTENT}
    )
    search.add([task("next", "w-1", seconds(-200))], {"next": seconds(50)})
    search.add([task("b", "w-1", seconds(-303))], {})

    assert [one.candidates for one in search.judgements(0.0)] == [("a",)]


def test_a_clock_is_not_ahead_by_days() -> None:
    """One strange timestamp in the list does not make every task of the year a candidate."""
    search = Search([submission()])
    days = [timedelta(hours=23), timedelta(hours=25)]

    search.add([task("own", "w-1", datetime(1970, 1, 1, tzinfo=UTC))], {"own": INTENT})
    search.add([task(str(each), "w-1", INTENT - each) for each in days], {})

    assert [one.candidates for one in search.judgements(0.0)] == [("23:00:00",)]


def test_only_what_may_be_a_candidate_is_kept() -> None:
    """Of a list of thousands, old tasks and those of other workflows take no memory."""
    search = Search([submission()])

    search.add([task("old", "w-1", INTENT - timedelta(days=30)), task("w", "w-2", INTENT)], {})

    assert search.ids == ()
