"""What one message about a task says, when, and what it does not claim to know."""

import pytest
from hypothesis import given, strategies as st

from cyberun_async import (
    CancelledEvent,
    CompletedEvent,
    Event,
    FailedEvent,
    Notice,
    PollingStarted,
    ProgressEvent,
    ServerErrorEvent,
    StatusEvent,
    StreamingResumed,
    UnknownEvent,
)
from cyberun_async._client import ProgressReader
from cyberun_async._watch import ProgressTracker, ProgressUpdate, TimeLeft, duration


TASK = "0197a1b2-0000-7000-8000-00000000abcd"


def status(name: str, attempt: int = 1) -> StatusEvent:
    return StatusEvent(task_id=TASK, status=name, attempt=attempt)


def progress_event(
    progress: float | None, attempt: int = 1, step: int | None = None
) -> ProgressEvent:
    return ProgressEvent(
        task_id=TASK,
        progress=progress,
        attempt=attempt,
        step_current=step,
        step_total=None if step is None else 20,
    )


def shown(*events: Event, now: float = 0.0, is_live: bool = True) -> ProgressUpdate:
    tracker = ProgressTracker(TASK, 1.0)
    for event in events:
        tracker.take(event, now)
    return tracker.update(now, is_live=is_live)


def test_nothing_is_due_before_something_is_known() -> None:
    """Before the first event, and again after each update, there is nothing to say."""
    tracker = ProgressTracker(TASK, 1.0)
    assert tracker.due_at() is None

    tracker.take(status("queued"), 5.0)
    assert tracker.due_at() == 0.0
    tracker.update(5.0, is_live=True)
    assert tracker.due_at() is None


def test_updates_keep_their_distance() -> None:
    """What comes within the interval waits for its end, the last update included."""
    tracker = ProgressTracker(TASK, 2.5)
    tracker.take(status("running"), 10.0)
    tracker.update(10.0, is_live=True)
    tracker.take(progress_event(0.1), 10.1)
    assert tracker.due_at() == 12.5

    tracker.take(CompletedEvent(task_id=TASK), 10.2)
    assert tracker.due_at() == 12.5
    assert tracker.update(12.5, is_live=True).is_final


def test_only_the_newest_is_delivered() -> None:
    """Events between two updates are overwritten, and counted."""
    tracker = ProgressTracker(TASK, 1.0)
    for step in range(1, 11):
        tracker.take(progress_event(step / 20, step=step), 0.0)

    update = tracker.update(0.0, is_live=True)
    assert (update.progress, update.step_current, update.step_total) == (0.5, 10, 20)
    assert tracker.dropped_progress == 9


def test_progress_does_not_fall_within_an_attempt() -> None:
    """A event below the highest one, or without a number, changes nothing and is no news."""
    tracker = ProgressTracker(TASK, 1.0)
    tracker.take(progress_event(0.5, step=10), 0.0)
    tracker.update(0.0, is_live=True)
    tracker.take(progress_event(0.4, step=8), 1.0)
    tracker.take(progress_event(None), 1.0)
    assert tracker.due_at() is None

    update = tracker.update(1.0, is_live=True)
    assert (update.progress, update.step_current) == (0.5, 10)


def test_progress_begins_anew_with_an_attempt() -> None:
    """A new attempt forgets the old one's progress and rate."""
    update = shown(progress_event(0.9), status("queued", attempt=2))
    assert (update.attempt, update.progress) == (2, None)
    assert update.text == "attempt 2 · queued"

    assert shown(progress_event(0.9), progress_event(0.1, attempt=2)).progress == 0.1


@pytest.mark.parametrize(
    "event",
    [ServerErrorEvent(task_id=TASK), UnknownEvent(task_id=TASK, name="log", data="x")],
    ids=lambda event: type(event).__name__,
)
def test_what_is_no_progress_is_no_news(event: Event) -> None:
    """The service's own trouble and unknown events change no message."""
    tracker = ProgressTracker(TASK, 1.0)
    tracker.take(event, 0.0)
    assert tracker.due_at() is None


def test_polling_that_goes_on_is_no_news() -> None:
    """A view tells a switch once, however often a stream is tried in vain."""
    tracker = ProgressTracker(TASK, 1.0)
    reader = ProgressReader(tracker, now=float)
    polling = PollingStarted(task_id=TASK, cause="refused")
    expected: list[tuple[Notice, bool]] = [(polling, True), (polling, False)]
    expected.append((StreamingResumed(task_id=TASK), True))
    for notice, is_news in [*expected, *expected]:
        reader.push(notice)
        assert (tracker.due_at() is not None) is is_news
        tracker.update(0.0, is_live=False)


def test_a_switch_of_ways_is_news() -> None:
    """When progress becomes live, or stops being so, the message says so."""
    tracker = ProgressTracker(TASK, 1.0)
    tracker.take(progress_event(0.5), 0.0)
    tracker.update(0.0, is_live=True)
    tracker.changed()
    assert tracker.due_at() == 1.0
    assert tracker.update(1.0, is_live=False).text == "50 % · no live progress"


@pytest.mark.parametrize(
    "events, text",
    [
        pytest.param([], "submitted", id="nothing-known"),
        pytest.param([status("waiting")], "waiting", id="waiting"),
        pytest.param([status("running")], "running", id="no-event-yet"),
        pytest.param([progress_event(0.724, step=14)], "72 % · step 14/20", id="steps"),
        pytest.param([progress_event(0.724)], "72 %", id="no-steps"),
        pytest.param([CompletedEvent(task_id=TASK)], "completed", id="completed"),
        pytest.param([CancelledEvent(task_id=TASK)], "cancelled", id="cancelled"),
        pytest.param([FailedEvent(task_id=TASK)], "failed", id="failed"),
        pytest.param(
            [progress_event(0.5), FailedEvent(task_id=TASK, error="CUDA\nout of memory")],
            "failed · CUDA out of memory",
            id="failed-why",
        ),
        pytest.param(
            [ProgressEvent(task_id=TASK, progress=0.5, stage="train", message="step 500")],
            "train · 50 %",
            id="stage",
        ),
        pytest.param([status("archiving")], "archiving", id="unknown-state"),
    ],
)
def test_the_text_says_what_is_known(events: list[Event], text: str) -> None:
    """The ready text holds what is known, and nothing else."""
    assert shown(*events).text == text
    assert str(shown(*events)) == text


def test_a_long_error_is_shortened() -> None:
    """A message edited into a chat stays short, whatever the service says."""
    text = shown(FailedEvent(task_id=TASK, error="x" * 5000)).text
    assert len(text) < 220
    assert text.endswith("…")


def test_the_text_tells_the_time_left() -> None:
    """With an even rate the estimate is what is left at that rate."""
    tracker = ProgressTracker(TASK, 1.0)
    for step in range(1, 15):
        tracker.take(progress_event(step / 20, step=step), step * 1.25)

    update = tracker.update(14 * 1.25, is_live=True)
    assert update.seconds_left == pytest.approx(7.5)
    assert update.text == "70 % · step 14/20 · about 8 s left"


def test_no_time_is_delivered_while_polling_or_at_the_end() -> None:
    """Without events, and when nothing is left, there is no estimate."""
    tracker = ProgressTracker(TASK, 1.0)
    for step in range(1, 11):
        tracker.take(progress_event(step / 20), float(step))

    assert tracker.update(10.0, is_live=False).seconds_left is None
    tracker.take(CompletedEvent(task_id=TASK), 10.0)
    assert tracker.update(11.0, is_live=True).seconds_left is None


def estimate(points: list[tuple[float, float]], now: float) -> float | None:
    left = TimeLeft()
    for moment, progress in points:
        left.add(progress, moment)
    return left.at(now)


def test_an_estimate_needs_some_progress_events_and_seconds() -> None:
    """Two events, or many within a moment, are no rate."""
    assert estimate([], 0) is None
    assert estimate([(0, 0.1), (10, 0.2)], 10) is None
    assert estimate([(0, 0.1), (1, 0.2), (2, 0.3)], 2) is None
    assert estimate([(0, 0.1), (2, 0.2), (4, 0.3)], 4) == pytest.approx(14)


def test_an_estimate_counts_down_between_progress_events() -> None:
    """Time that passes without a event is taken off, and never below nothing."""
    points = [(0.0, 0.1), (2.0, 0.2), (4.0, 0.9)]
    assert estimate(points, 4) == pytest.approx(0.5)
    assert estimate(points, 4.4) == pytest.approx(0.1)
    assert estimate(points, 8) == 0.0


def test_a_task_that_stands_still_has_no_estimate() -> None:
    """After several of the usual pauses without a event nobody knows."""
    points = [(float(n * 5), n / 10) for n in range(5)]
    assert estimate(points, 20 + 19) is not None
    assert estimate(points, 20 + 21) is None


def test_the_rate_is_that_of_the_last_minute() -> None:
    """A slow beginning is forgotten."""
    slow = [(float(n * 10), n / 100) for n in range(10)]
    quick = [(200.0 + n, 0.1 + n / 100) for n in range(50)]
    assert estimate(slow + quick, 249) == pytest.approx(41)


def test_an_estimate_of_more_than_a_day_is_not_given() -> None:
    """A rate next to nothing tells nothing."""
    assert estimate([(0, 0.0), (2, 1e-7), (4, 2e-7)], 4) is None


@pytest.mark.parametrize(
    "seconds, said",
    [
        (0, "1 s"),
        (0.4, "1 s"),
        (7.6, "8 s"),
        (12, "10 s"),
        (57, "55 s"),
        (58, "1 min"),
        (61, "1 min"),
        (150, "2 min"),
        (5400, "1.5 h"),
    ],
)
def test_a_duration_is_no_finer_than_an_estimate_deserves(seconds: float, said: str) -> None:
    """Seconds by fives, then minutes, then hours."""
    assert duration(seconds) == said


events = st.lists(
    st.tuples(
        st.floats(0, 30), st.one_of(st.none(), st.floats(0, 1)), st.integers(1, 3)
    )  # pause, progress, attempt
)


@given(events)
def test_whatever_progress_events_come_the_message_never_goes_back(
    events: list[tuple[float, float | None, int]],
) -> None:
    """For any events, attempts and progress within them only rise; the estimate is sane."""
    tracker = ProgressTracker(TASK, 1.0)
    now, attempt, shown = 0.0, 1, (1, -1.0)
    for pause, progress, number in events:
        now, attempt = now + pause, max(attempt, number)
        tracker.take(progress_event(progress, attempt=attempt), now)
        update = tracker.update(now, is_live=True)
        reported_now = (update.attempt, -1.0 if update.progress is None else update.progress)
        assert reported_now >= shown
        assert update.seconds_left is None or 0 <= update.seconds_left <= 86_400
        shown = reported_now
