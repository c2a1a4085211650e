"""What becomes of each event, given what has been delivered before."""

from typing import Any

import attrs
import pytest

from cyberun_async._model import (
    Event,
    Notice,
    ProgressEvent,
    ResumeToken,
    StatusEvent,
    UnknownEvent,
)
from cyberun_async._watch import Fate, Ordering

from .kit import (
    OUTPUT,
    TASK,
    cancelled,
    completed,
    failed,
    progress,
    server_error,
    snapshot,
    status,
)


def order(*events: Event, **known: Any) -> Ordering:
    """Return the order after a stream was opened and has brought *events*."""
    made = Ordering(ResumeToken(task_id=TASK, **known), [])
    made.opened()
    for event in events:
        made.judge(event)
    return made


def reopened(made: Ordering) -> Ordering:
    """Return *made* on the next stream, with an empty outbox."""
    made.opened()
    made.outbox.clear()
    return made


def stamped(progress: float | None, second: int) -> ProgressEvent:
    raw = {"progress": progress, "timestamp": f"2026-03-01T10:00:{second:02}Z"}
    return ProgressEvent(task_id=TASK, progress=progress, raw=raw)


@pytest.mark.parametrize(
    "before, event, expected",
    [
        pytest.param([], status("pending"), Fate.NEWS, id="first-status"),
        pytest.param([], status("running"), Fate.NEWS, id="in-the-middle"),
        pytest.param([status("pending")], status("running"), Fate.NEWS, id="states-skipped"),
        pytest.param([status("running")], status("running"), Fate.PRESENT, id="present-state"),
        pytest.param([status("running")], status("queued"), Fate.STEP_BACK, id="lower"),
        pytest.param(
            [status("queued"), status("running")],
            status("queued"),
            Fate.STEP_BACK,
            id="known",
        ),
        pytest.param([status("queued")], status("provisioning"), Fate.STEP_BACK, id="between"),
        pytest.param([status("running")], status("paused"), Fate.NEWS, id="unknown-state"),
        pytest.param(
            [status("running"), status("paused")],
            status("running"),
            Fate.STEP_BACK,
            id="back",
        ),
        pytest.param([status("running")], status("completed"), Fate.ANNOUNCED, id="announced"),
        pytest.param([], completed(OUTPUT), Fate.END, id="completed"),
        pytest.param([], failed(), Fate.END, id="failed"),
        pytest.param([], cancelled(), Fate.END, id="cancelled"),
        pytest.param([], server_error(), Fate.PASSED, id="error"),
        pytest.param([], UnknownEvent(task_id=TASK, name="log"), Fate.PASSED, id="unknown"),
        pytest.param([], progress(0.1), Fate.NEWS, id="first-event"),
        pytest.param([status("running")], progress(0.1), Fate.NEWS, id="event"),
        pytest.param(
            [status("running"), status("queued")],
            progress(0.1),
            Fate.HELD,
            id="behind-a-step-back",
        ),
        pytest.param([status("running"), status("queued")], failed(), Fate.HELD, id="end-held-too"),
    ],
)
def test_what_an_event_turns_out_to_be(before: list[Event], event: Event, expected: Fate) -> None:
    """The life cycle decides about statuses; ends are recognised, all else is passed on."""
    made = order(*before)
    made.outbox.clear()

    assert made.judge(event) is expected
    delivered = expected in (Fate.NEWS, Fate.PASSED)
    assert made.outbox == ([event] if delivered else [])


@pytest.mark.parametrize(
    "last, event, expected",
    [
        pytest.param(progress(0.5), progress(0.5), Fate.REPEATED, id="equal"),
        pytest.param(progress(0.5), progress(0.6), Fate.NEWS, id="further"),
        pytest.param(progress(0.5), progress(0.4), Fate.PASSED, id="not-as-far"),
        pytest.param(stamped(0.5, 7), stamped(0.4, 8), Fate.NEWS, id="later-but-lower"),
        pytest.param(stamped(0.5, 7), stamped(0.6, 6), Fate.PASSED, id="earlier-but-higher"),
        pytest.param(stamped(0.5, 7), stamped(0.6, 7), Fate.NEWS, id="same-second-further"),
        pytest.param(stamped(0.5, 7), stamped(0.5, 7), Fate.REPEATED, id="same-second-equal"),
        pytest.param(stamped(None, 7), progress(0.5), Fate.NEWS, id="nothing-to-compare"),
        pytest.param(
            ProgressEvent(task_id=TASK, step_current=3),
            ProgressEvent(task_id=TASK, step_current=4),
            Fate.NEWS,
            id="a-step-further",
        ),
        pytest.param(
            ProgressEvent(task_id=TASK, step_current=3),
            ProgressEvent(task_id=TASK, step_current=3),
            Fate.REPEATED,
            id="equal-without-payload",
        ),
    ],
)
def test_a_progress_event_behind_a_reconnection(
    last: ProgressEvent, event: ProgressEvent, expected: Fate
) -> None:
    """An equal one is a repetition, an older one may be one, a later one is news."""
    made = reopened(order(status("running"), last))

    assert made.judge(event) is expected
    assert made.outbox == ([] if expected is Fate.REPEATED else [event])
    assert made.is_settled is (expected is Fate.NEWS)


def test_a_replay_of_progress_events_is_passed_on_but_proves_nothing() -> None:
    """Only beyond the point where the last stream broke is a event news."""
    made = reopened(order(*(progress(n / 10) for n in range(1, 4))))

    verdicts = [made.judge(progress(n / 10)) for n in range(1, 6)]

    assert verdicts == [
        *[Fate.PASSED] * 2,
        Fate.REPEATED,
        *[Fate.NEWS] * 2,
    ]


def test_streams_that_only_repeat_move_nothing() -> None:
    """What a second stream says again is no measure of what the third one says."""
    made = reopened(order(*(progress(n / 10) for n in range(1, 4))))
    assert made.judge(progress(0.1)) is Fate.PASSED

    again = reopened(made)
    verdicts = [again.judge(progress(n / 10)) for n in range(1, 5)]

    assert verdicts == [
        *[Fate.REPEATED, Fate.PASSED, Fate.REPEATED],
        Fate.NEWS,
    ]


def test_news_settles_a_stream() -> None:
    """Behind the first new event an equal event is no repetition any more."""
    made = reopened(order(status("queued"), progress(0.5)))

    assert made.judge(status("running")) is Fate.NEWS
    assert made.judge(progress(0.5)) is Fate.NEWS


@pytest.mark.parametrize(
    "is_explained, expected, delivered",
    [
        pytest.param(True, Fate.REPEATED, [], id="explained"),
        pytest.param(False, Fate.PASSED, [status("queued", unconfirmed=True)], id="not"),
    ],
)
def test_a_held_step_back_is_released(
    is_explained: bool, expected: Fate, delivered: list[Event]
) -> None:
    """With an explanation it is a repetition, without one it is delivered as unconfirmed."""
    made = order(status("queued"), status("running"), status("queued"))
    made.outbox.clear()

    [held] = made.release()

    assert made.judge_released(held, is_explained=is_explained) is expected
    assert made.outbox == delivered
    assert not made.held is not None


def test_the_present_state_is_never_unconfirmed() -> None:
    """What equals the state known by then says nothing new."""
    made = order(status("running"), status("queued"))
    made.release()

    assert made.judge_released(status("running"), is_explained=False) is Fate.REPEATED


def test_progress_events_behind_a_step_back_overwrite_each_other() -> None:
    """Of events in a row the newest is kept, anything else is kept in full."""
    made = order(status("running"), status("queued"))
    for event in (progress(0.1), progress(0.2), server_error(), progress(0.3), progress(0.4)):
        assert made.judge(event) is Fate.HELD

    assert made.release() == [status("queued"), progress(0.2), server_error(), progress(0.4)]


def test_what_is_held_is_bounded() -> None:
    """Behind an unexplained step back at most a thousand events wait."""
    made = order(status("running"), status("queued"))

    verdicts = [made.judge(server_error()) for _ in range(1100)]

    assert verdicts.count(Fate.HELD) == 1023
    assert verdicts[-1] is Fate.OVERFLOW
    assert len(made.release()) == 1024


# Answers


@pytest.mark.parametrize(
    "known, count, lags, beyond",
    [
        (None, None, False, True),
        (None, 0, False, True),
        (1, None, False, True),
        (1, 0, True, True),
        (1, 1, False, True),
        (1, 2, False, True),
    ],
)
def test_an_answer_may_be_old(
    known: int | None, count: int | None, lags: bool, beyond: bool
) -> None:
    """A lower count is of an attempt gone by, a lower state of an earlier moment."""
    made = order(status("running"), retry_count=known)

    assert made.lags(snapshot("queued", count)) is lags
    assert made.is_beyond(snapshot("queued", count)) is beyond
    assert not made.is_beyond(snapshot("running", count))
    assert not made.is_beyond(snapshot("paused", count))


@pytest.mark.parametrize(
    "answer, explains",
    [
        (snapshot("running", 0), True),
        (snapshot("queued", 0), True),
        (snapshot("failed", None), True),
        (snapshot("running", None), True),
        (snapshot("queued", None), False),
    ],
)
def test_what_explains_a_step_back(answer: Any, explains: bool) -> None:
    """A count does, an end does, and so does a state that did not fall."""
    assert order(status("running"), status("queued")).explains(answer) is explains


@pytest.mark.parametrize(
    "known, attempt, answer, is_current, expected",
    [
        pytest.param(0, 1, snapshot("running", 0), True, (1, 0, "running"), id="the-same"),
        pytest.param(0, 1, snapshot("running", 1), True, (2, 1, None), id="grown"),
        pytest.param(0, 1, snapshot("running", 4), True, (5, 4, None), id="jumped"),
        pytest.param(0, 1, snapshot("running", None), True, (1, 0, "running"), id="no-count"),
        pytest.param(None, 1, snapshot("running", 2), True, (3, 2, "running"), id="first-count"),
        pytest.param(None, 1, snapshot("queued", 2), True, (3, 2, None), id="first-and-lower"),
        pytest.param(
            None, 1, snapshot("queued", 2), False, (1, None, "running"), id="lower-but-old"
        ),
        pytest.param(None, 3, snapshot("queued", 2), True, (3, 2, "running"), id="known-attempt"),
    ],
)
def test_attempts_are_learnt_from_answers(
    known: int | None,
    attempt: int,
    answer: Any,
    is_current: bool,
    expected: tuple[int, int, str | None],
) -> None:
    """A grown count begins an attempt, in which each status may be delivered anew."""
    made = order(status("queued"), status("running"), retry_count=known, attempt=attempt)

    made.count_attempts(answer, is_current=is_current)

    assert (made.attempt, made.retry_count, made.status) == expected


@pytest.mark.parametrize(
    "state, reported",
    [
        pytest.param("running", True, id="further"),
        pytest.param("paused", True, id="unknown"),
        pytest.param("queued", False, id="the-present"),
        pytest.param("pending", False, id="known"),
        pytest.param("waiting", False, id="lower"),
    ],
)
def test_a_state_that_only_an_answer_shows_is_delivered(state: str, reported: bool) -> None:
    """It is made up as an event of its own, marked by its origin, and only forward."""
    made = order(status("pending"), status("queued"))
    made.outbox.clear()
    made_up: list[Event | Notice] = [StatusEvent(task_id=TASK, status=state, origin="poll")]

    assert made.catch_up(state) is reported
    assert made.outbox == (made_up if reported else [])
    assert made.status == (state if reported else "queued")


def test_an_unconfirmed_state_that_was_none_is_forgotten() -> None:
    """When the count did not grow after all, the true state counts again, silently."""
    made = order(status("running"), status("queued"), retry_count=0)
    for held in made.release():
        made.judge_released(held, is_explained=False)
    made.outbox.clear()
    assert made.status == "queued"

    assert not made.catch_up("running")

    assert (made.status, made.outbox) == ("running", [])


def test_events_belong_to_the_present_attempt() -> None:
    """Whatever is delivered carries the attempt that is known by then."""
    made = order(attempt=3, retry_count=2)

    made.judge(status("running"))
    made.judge(progress(0.1))
    made.judge(server_error())

    assert [item.attempt for item in made.outbox if isinstance(item, Event)] == [3, 3, 3]
    assert isinstance(made.last_progress, ProgressEvent)
    assert made.last_progress == attrs.evolve(progress(0.1), attempt=3)


def test_a_new_attempt_begins_without_a_progress_event() -> None:
    """Progress of the last attempt is not the beginning of this one."""
    made = order(status("running"), progress(0.9), retry_count=0)

    made.count_attempts(snapshot("queued", 1), is_current=True)

    assert made.last_progress is None


@pytest.mark.parametrize(
    ("known", "said", "expected"),
    [
        pytest.param(
            {"status": "pending", "retry_count": 0}, ("running", 0), ("running", 1), id="on"
        ),
        pytest.param({"status": "pending"}, ("running", 0), ("running", 1), id="count-unknown"),
        pytest.param({"status": "running", "retry_count": 0}, ("queued", 0), None, id="behind"),
        pytest.param({"status": "running", "retry_count": 0}, ("running", 0), None, id="same"),
        pytest.param(
            {"status": "queued", "retry_count": 1}, ("running", 0), None, id="attempt-over"
        ),
        pytest.param(
            {"status": "running", "retry_count": 0}, ("queued", 1), ("queued", 2), id="new-attempt"
        ),
        pytest.param({"status": "running"}, ("running", 1), None, id="perhaps-the-same-attempt"),
        pytest.param({"status": "running"}, ("queued", 1), None, id="perhaps-of-before"),
        pytest.param({"status": "running", "retry_count": 0}, ("paused", 0), None, id="unknown"),
        pytest.param({"status": "running", "retry_count": 0}, ("failed", 0), None, id="an-end"),
    ],
)
def test_what_a_reader_knows_from_elsewhere_is_learnt_forward_only(
    known: dict[str, Any], said: tuple[str, int], expected: tuple[str, int] | None
) -> None:
    """What is further on in the life cycle is delivered once; all else changes no status."""
    made = order(**known)

    assert made.merge(*said) is (expected is not None)

    reported = [
        (item.status, item.attempt) for item in made.outbox if isinstance(item, StatusEvent)
    ]
    assert reported == ([] if expected is None else [expected])
    assert made.status == (known["status"] if expected is None else expected[0])


def test_nothing_is_learnt_while_a_step_back_is_held() -> None:
    """The check that explains it tells more than a reader can."""
    made = order(status("running"), status("queued"), retry_count=0)
    made.outbox.clear()

    assert not made.merge("running", 1)
    assert (made.attempt, made.outbox) == (1, [])
    assert made.held is not None


@pytest.mark.parametrize(
    ("reported", "is_news"),
    [
        pytest.param((None, 1, None), True, id="nothing"),
        pytest.param(("pending", 2, 1), True, id="earlier"),
        pytest.param(("queued", 2, 1), False, id="the-same"),
        pytest.param(("running", 2, 1), False, id="later"),
        pytest.param(("queued", 1, 0), True, id="same-of-the-attempt-before"),
        pytest.param(("running", 1, 0), True, id="later-of-the-attempt-before"),
        pytest.param(("queued", 1, None), False, id="same-of-who-knows-which"),
        pytest.param(("running", 1, None), True, id="later-of-an-attempt-before"),
        pytest.param(("pending", 3, 2), False, id="of-the-attempt-after"),
        pytest.param((None, 3, 2), False, id="nothing-of-the-attempt-after"),
    ],
)
def test_what_is_news_to_a_reader_goes_by_attempt_and_rank(
    reported: tuple[str | None, int, int | None], is_news: bool
) -> None:
    """Who was reported as much, or more, is not delivered again; a new attempt is always news."""
    made = order(status="queued", attempt=2, retry_count=1)

    assert made.is_news(*reported) is is_news
    assert not order().is_news(*reported)
