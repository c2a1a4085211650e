"""The decision core of a watch: the phase table row by row, and each decision by its name."""

import math
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from cyberun_async._model import (
    AuthenticationError,
    CancelledEvent,
    ClientClosedError,
    CompletedEvent,
    Connected,
    Event,
    FailedEvent,
    Gap,
    PermissionDeniedError,
    PollingStarted,
    ProgressEvent,
    RequestRejectedError,
    ResumeToken,
    StatusEvent,
    StreamingResumed,
    StreamLost,
    TaskNotFoundError,
    UnknownEndError,
    WatchLostError,
    WatchPolicy,
)
from cyberun_async._watch import (
    Connect,
    Fail,
    FetchResult,
    Finish,
    Phase,
    Read,
    Step,
    Wait,
    Watch,
)

from .kit import (
    LONG_LOST,
    OTHER,
    OUTPUT,
    POLICY,
    REACHED,
    TASK,
    Fact,
    apply_retry_hint,
    broken,
    cancelled,
    check_failed,
    check_refused,
    check_sent,
    completed,
    connected,
    delivered,
    ended,
    failed,
    garbled,
    lost,
    noticed,
    passed,
    play,
    polled,
    progress,
    received,
    refusal,
    refused,
    resulted,
    server_error,
    snapshot,
    status,
    stream_granted,
    stream_revoked,
    watch,
    woke,
)


# The phase table


@pytest.mark.parametrize(
    "phase, fact, expected",
    [
        # CONNECTING
        pytest.param("connecting", connected(1), Read(), id="connecting-connected"),
        pytest.param("connecting", lost(1), Wait(1.5), id="connecting-lost"),
        pytest.param("connecting", refused(503, 1), Wait(1.5), id="connecting-refused-for-now"),
        pytest.param("connecting", refused(405, 1), Wait(None), id="connecting-refused"),
        pytest.param("connecting", stream_revoked(1), Wait(None), id="connecting-stream_revoked"),
        pytest.param("connecting", passed(1), Connect(None), id="connecting-time"),
        # READING
        pytest.param("reading", received(status("running"), 2), Read(), id="reading-received"),
        pytest.param("reading", received(completed(OUTPUT), 2), Finish(), id="reading-completed"),
        pytest.param("reading", received(failed("oom"), 2), Finish(), id="reading-failed"),
        pytest.param("reading", received(cancelled(), 2), Finish(), id="reading-cancelled"),
        pytest.param("reading", received(completed(), 2), FetchResult(), id="reading-no-output"),
        pytest.param("reading", lost(2), Wait(2.5), id="reading-lost-dirty"),
        pytest.param("reading", ended(2), Wait(None), id="reading-lost-clean"),
        pytest.param("reading", passed(120.9, 1), Read(), id="reading-nearly-idle"),
        pytest.param("reading", passed(121, 1), Wait(121.5), id="reading-no-byte"),
        pytest.param("reading", stream_revoked(2), Wait(None), id="reading-stream_revoked"),
        # RESTING
        pytest.param("resting", passed(2.4), Wait(2.5), id="resting-not-yet"),
        pytest.param("resting", passed(2.5), Connect(None), id="resting-time"),
        pytest.param("resting", stream_revoked(2.1), Wait(2.5), id="resting-stream_revoked"),
        # CHECKING
        pytest.param("checking", polled("running", 2.1), Wait(2.5), id="checking-polled"),
        pytest.param("checking", polled("running", 9), Wait(9.0), id="checking-polled-late"),
        pytest.param("checking", check_failed(2.1), Wait(2.6), id="checking-check-failed"),
        pytest.param("checking", passed(9), Wait(None), id="checking-time"),
        pytest.param("checking", stream_revoked(2.1), Wait(None), id="checking-stream_revoked"),
        # POLLING
        pytest.param("polling", polled("running", 5), Wait(19.0), id="polling-polled"),
        pytest.param("polling", check_failed(5), Wait(19.0), id="polling-check-failed"),
        pytest.param("polling", passed(18.9), Wait(19.0), id="polling-not-yet"),
        pytest.param("polling", passed(19), Connect(None), id="polling-climb"),
        pytest.param(
            "polling", stream_granted(18), Wait(19.0), id="polling-stream_granted-too-early"
        ),
        pytest.param("polling", stream_granted(19), Connect(None), id="polling-stream_granted"),
        # FETCHING
        pytest.param("fetching the result", resulted(OUTPUT), Finish(), id="fetching-resulted"),
        pytest.param("fetching the result", passed(1e6), FetchResult(), id="fetching-time"),
        pytest.param(
            "fetching the result", stream_revoked(3), FetchResult(), id="fetching-stream_revoked"
        ),
    ],
)
def test_the_phase_table(phase: str, fact: Fact, expected: Step) -> None:
    """Each row of the table leads where it says, and asking again gives the same step."""
    played = play(*REACHED[phase])
    assert played.phase.value == phase

    fact(played)

    assert played.next_step() == expected
    assert played.next_step() == expected


ANY_PHASE = [name for name in REACHED if name not in {"done", "fetching the result"}]


@pytest.mark.parametrize("phase", ANY_PHASE)
@pytest.mark.parametrize(
    "fact, expected, event",
    [
        pytest.param(
            polled("failed", 5, error="out of memory"),
            Finish(),
            FailedEvent(task_id=TASK, origin="poll", error="out of memory"),
            id="failed",
        ),
        pytest.param(
            polled("cancelled", 5),
            Finish(),
            CancelledEvent(task_id=TASK, origin="poll"),
            id="cancelled",
        ),
        pytest.param(polled("completed", 5), FetchResult(), None, id="completed"),
    ],
)
def test_an_end_that_a_check_shows_ends_the_watch_in_any_phase(
    phase: str, fact: Fact, expected: Step, event: Event | None
) -> None:
    """Checks run beside every phase, and the first to tell the end has the word."""
    played = play(*REACHED[phase])
    played.take()

    fact(played)

    assert played.next_step() == expected
    assert delivered(played) == ([] if event is None else [event])
    assert played.check_at is None


@pytest.mark.parametrize("phase", ANY_PHASE)
@pytest.mark.parametrize(
    "code, kind",
    [
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, TaskNotFoundError),
        (410, TaskNotFoundError),
    ],
)
def test_refusals_in_the_services_own_words_end_the_watch_in_any_phase(
    phase: str, code: int, kind: type[RequestRejectedError]
) -> None:
    """Said twice some seconds apart it is final, and that of the key at once without a stream."""
    played = play(*REACHED[phase], check_refused(code, 5))
    if code != 401 or phase == "reading":
        assert not isinstance(played.next_step(), Fail)
        assert played.check_at == 10.0

        check_refused(code, 9.9)(played)
        assert not isinstance(played.next_step(), Fail)
        assert played.check_at == 10.0
        check_refused(code, 10)(played)

    step = played.next_step()

    assert isinstance(step, Fail)
    assert type(step.error) is kind
    assert played.check_at is None


OTHER_REFUSALS = (400, 402, 405, 409, 418, 421, 422, 425, 431, 451, 499)


@pytest.mark.parametrize("phase", ANY_PHASE)
@pytest.mark.parametrize(
    "code, from_service",
    [
        *((code, True) for code in OTHER_REFUSALS),
        *((code, False) for code in (*OTHER_REFUSALS, 401, 403, 404, 410)),
    ],
)
def test_any_other_refusal_is_an_outage(phase: str, code: int, from_service: bool) -> None:
    """A proxy's page, and what says nothing of key and task, never ends a watch by itself."""
    refusals = [check_refused(code, 5.0 + 6 * n, from_service=from_service) for n in range(8)]
    played = play(*REACHED[phase], *refusals)

    assert played.error is None
    assert played.check_at is not None
    polled("failed", 54)(played)
    assert played.next_step() == Finish()


def test_pages_of_a_proxy_are_given_up_as_an_outage() -> None:
    """Where nothing but pages ever came, the address is most likely wrong: that is soon said."""
    pages = [refused(404, 1, from_service=False, was_reached=False)]
    pages += [check_refused(404, 1.0 + 6 * n, from_service=False) for n in range(10)]
    played = play(*pages, passed(60.9))
    assert played.error is None

    passed(61)(played)

    assert isinstance(played.error, WatchLostError)
    assert "404" in str(played.error)


def test_events_of_an_open_stream_outweigh_refused_checks() -> None:
    """Whoever brings events of the task knows more than who denies it."""
    played = quiet()
    now = 62.0
    for _ in range(20):
        check_refused(403, now)(played)
        received(progress(now), now + 2)(played)
        assert played.check_at == now + 62
        now += 62

    assert played.next_step() == Read()
    check_refused(403, now)(played)
    check_refused(403, now + 5)(played)
    assert isinstance(played.next_step(), Fail)


def test_an_answer_between_two_refusals_starts_their_count_anew() -> None:
    """Only what is said again, and nothing else in between, is final."""
    played = play(*LONG_LOST, check_refused(404, 5), polled("running", 10), check_refused(404, 15))

    assert played.error is None
    check_refused(404, 20)(played)
    assert isinstance(played.next_step(), Fail)


def test_a_page_between_two_refusals_changes_nothing() -> None:
    """A proxy knows nothing of the task, so its page is no sign of it."""
    page = check_refused(404, 7, from_service=False)
    played = play(*LONG_LOST, check_refused(404, 5), page, check_refused(404, 10))

    assert isinstance(played.next_step(), Fail)


def test_a_proxys_refusal_of_the_stream_keeps_the_id() -> None:
    """It says nothing of the id, and a check shows whether the service is there at all."""
    played = play(refused(403, 1, from_service=False), last_event_id="17")

    assert (played.next_step(), played.last_event_id) == (Wait(None), "17")


OUT_OF_PLACE: list[tuple[str, Fact, set[str]]] = [
    ("connected", connected(50), {"connecting"}),
    ("received", received(status("running"), 50), {"reading"}),
    ("received-end", received(failed("no"), 50), {"reading"}),
    ("garbled", garbled("progress", 50), {"reading"}),
    ("lost", lost(50), {"connecting", "reading"}),
    ("ended", ended(50), {"connecting", "reading"}),
    ("refused", refused(403, 50), {"connecting"}),
    ("stream_granted", stream_granted(2.1), {"polling"}),
    ("resulted", resulted(OUTPUT), {"fetching the result"}),
    ("polled", polled("failed", 50), {*ANY_PHASE}),
    ("check-failed", check_failed(50), {*ANY_PHASE}),
    ("check-refused", check_refused(403, 50), {*ANY_PHASE}),
    ("time", passed(1e6, 0), {*ANY_PHASE}),
    ("woke", woke(50), {*ANY_PHASE}),
    ("stream_revoked", stream_revoked(50), {*ANY_PHASE} - {"polling"}),
    ("failed", broken(ClientClosedError()), {*ANY_PHASE, "fetching the result"}),
]


@pytest.mark.parametrize(
    "phase, fact",
    [
        pytest.param(phase, fact, id=f"{phase}-{name}")
        for name, fact, places in OUT_OF_PLACE
        for phase in REACHED
        if phase not in places
    ],
)
def test_a_fact_out_of_place_changes_nothing(phase: str, fact: Fact) -> None:
    """What a line that was given up still reports is ignored."""
    played = play(*REACHED[phase])
    played.take()
    before = (played.next_step(), played.status, played.token(), played.progress_is_live)

    fact(played)

    assert (played.next_step(), played.status, played.token(), played.progress_is_live) == before
    assert played.take() == []


def test_a_watch_without_readers_polls_from_the_start() -> None:
    """Waiting needs no stream: it checks at once, and connects when a stream is granted."""
    waiting = watch(streaming=False)

    assert (waiting.next_step(), waiting.check_at) == (Wait(None), 0.0)
    waiting.stream_granted(1.0)
    assert waiting.next_step() == Wait(None)
    waiting.streaming = True
    waiting.stream_granted(1.0)
    assert waiting.next_step() == Connect(None)


@pytest.mark.parametrize("end", [lost(2), ended(2)], ids=["dirty", "clean"])
def test_a_stream_nobody_reads_any_more_is_not_opened_again(end: Fact) -> None:
    """Once the last reader has left, a lost stream leads to polling."""
    played = play(connected(1))
    played.readers_left()

    end(played)
    polled("running", 3)(played)

    assert played.next_step() == Wait(None)


def test_a_new_reader_does_not_shorten_the_way_back_of_a_refused_stream() -> None:
    """What was learnt of the route is not forgotten with the reader that learnt it."""
    played = play(polled("running", 0.5), refused(403, 1))
    played.readers_left()
    polled("running", 1.5)(played)

    played.streaming = True
    stream_granted(2)(played)
    assert played.next_step() == Wait(16.5)

    stream_granted(16.5)(played)
    assert played.next_step() == Connect(None)


def test_readers_that_leave_during_a_rest_end_it_with_polling() -> None:
    """A rest that was meant for the next stream ends in polling when nobody reads."""
    played = play(connected(1), lost(2))
    played.readers_left()

    passed(2.5)(played)

    assert played.next_step() == Wait(None)
    assert played.check_at is not None


# Ordered (promise 1)


def test_a_life_is_delivered_in_order() -> None:
    """Statuses, events and the end pass as they come, the end last."""
    life: list[Event] = [status("pending"), status("queued"), status("running")]
    life += [progress(0.5), completed(OUTPUT)]

    played = play(connected(1), *(received(event, 2) for event in life))

    assert delivered(played) == life
    assert played.next_step() == Finish()


BACK = (
    connected(1),
    polled("running", 1.5),
    received(status("queued"), 2),
    received(progress(0.1), 3),
)
"""`queued` after `running`, and a event behind it."""


def test_a_step_back_is_held_with_all_behind_it() -> None:
    """Nothing of it is delivered, and the status is asked for at once."""
    played = play(*BACK)

    assert delivered(played) == [StatusEvent(task_id=TASK, status="running", origin="poll")]
    assert played.check_at == 2.0


@pytest.mark.parametrize(
    "answer, expected",
    [
        pytest.param(polled("running", 4, 0), [progress(0.1)], id="a-repetition-is-dropped"),
        pytest.param(
            polled("queued", 4, 1),
            [status("queued", attempt=2), attrs.evolve(progress(0.1), attempt=2)],
            id="a-new-attempt-is-reported",
        ),
        pytest.param(
            polled("running", 4, 1),
            [
                status("queued", attempt=2),
                attrs.evolve(progress(0.1), attempt=2),
                StatusEvent(task_id=TASK, status="running", origin="poll", attempt=2),
            ],
            id="a-new-attempt-that-has-gone-on",
        ),
        pytest.param(
            polled("queued", 4, 3),
            [status("queued", attempt=4), attrs.evolve(progress(0.1), attempt=4)],
            id="attempts-unseen-show-as-a-jump",
        ),
        pytest.param(
            polled("queued", 4, None),
            [status("queued", unconfirmed=True), progress(0.1)],
            id="a-service-without-counts-cannot-tell",
        ),
        pytest.param(
            polled("running", 4, None),
            [progress(0.1)],
            id="a-state-that-did-not-fall-was-no-step-back",
        ),
        pytest.param(
            polled("failed", 4, 0, error="x"),
            [progress(0.1), FailedEvent(task_id=TASK, origin="poll", error="x")],
            id="the-end-explains-it-too",
        ),
        pytest.param(polled("running", 4, 0, sent_at=1.9), [], id="an-older-answer-does-not"),
        pytest.param(check_failed(4), [], id="a-failed-ask-does-not"),
    ],
)
def test_a_check_explains_a_step_back(answer: Fact, expected: list[Event]) -> None:
    """A grown ``retry_count`` means a new attempt, an equal one a repetition."""
    played = play(*BACK)
    played.take()

    answer(played)

    assert delivered(played) == expected


def test_a_step_back_that_nobody_explains_is_delivered_as_unconfirmed() -> None:
    """Where no check can be had, events are held for a quarter of a minute at most."""
    played = play(*BACK, check_failed(4), check_failed(9))
    played.take()

    assert played.due_at(last_byte_at=9) == 17.0
    passed(16.9)(played)
    assert delivered(played) == []
    passed(17)(played)
    assert delivered(played) == [status("queued", unconfirmed=True), progress(0.1)]


def test_an_unconfirmed_step_back_is_corrected_without_a_word() -> None:
    """When the service is back and it was no new attempt, the true status is known again."""
    played = play(*BACK, passed(17), polled("running", 20, 0))
    played.take()

    assert (played.status, played.attempt) == ("running", 1)


def test_an_end_behind_a_step_back_comes_after_its_explanation() -> None:
    """The terminal event is held like the rest, and ends the watch with the new attempt."""
    played = play(*BACK, received(completed(OUTPUT), 3))
    played.take()
    assert played.next_step() == Read()

    polled("completed", 4, 1)(played)

    assert delivered(played)[-1] == attrs.evolve(completed(OUTPUT), attempt=2)
    assert played.next_step() == Finish()


def test_an_end_behind_a_step_back_outlasts_a_refusal() -> None:
    """The task is gone by the time it is asked about, but its end had been received."""
    played = play(*BACK, received(failed("x"), 3), check_refused(403, 4), check_refused(403, 9))

    assert delivered(played)[-1] == failed("x")
    assert played.next_step() == Finish()


def test_too_much_behind_a_step_back_loses_the_stream() -> None:
    """What is held is bounded: events overwrite each other, the rest ends the stream."""
    played = play(*BACK)
    for _ in range(10_000):
        played.received(progress(0.2), 3.0)
    assert played.next_step() == Read()

    for _ in range(2_000):
        played.received(server_error(), 3.0)

    assert played.phase is Phase.RESTING


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(polled("queued", 4, 0), id="of-this-attempt"),
        pytest.param(polled("queued", 4, None), id="without-a-count"),
    ],
)
def test_an_answer_that_lags_changes_nothing(answer: Fact) -> None:
    """A replica may be behind the stream: a lower state is not delivered and not kept."""
    played = play(connected(1), received(status("running"), 2), polled("running", 3))
    played.take()

    answer(played)

    assert delivered(played) == []
    assert (played.status, played.attempt) == ("running", 1)
    assert played.snapshot == snapshot("running")


def test_an_answer_from_an_attempt_gone_by_changes_nothing() -> None:
    """A lower count is a replica's memory, even where the state looks further on."""
    played = play(connected(1), polled("queued", 2, 1), polled("running", 3, 0))
    played.take()

    assert (played.status, played.attempt, played.token().retry_count) == ("queued", 2, 1)


def test_an_end_from_an_attempt_gone_by_has_to_be_shown_twice_in_a_row() -> None:
    """An end is final, so it cannot be of an earlier attempt; a second answer decides."""
    played = play(connected(1), polled("running", 2, 1), polled("failed", 3, 0))
    assert (played.next_step(), played.check_at) == (Read(), 4.0)

    polled("running", 4, 1)(played)
    polled("failed", 5, 0)(played)
    assert played.next_step() == Read()

    polled("failed", 6, 0)(played)
    assert played.next_step() == Finish()


@pytest.mark.parametrize(
    "facts, expected",
    [
        pytest.param([polled("running", 5, 2)], 3, id="from-the-first-count"),
        pytest.param([polled("running", 5, 0), polled("running", 9, 1)], 2, id="grown-count"),
        pytest.param([polled("running", 5, 3), polled("queued", 9, None)], 4, id="count-left-out"),
    ],
)
def test_attempts_are_counted_from_the_services_own_count(facts: list[Fact], expected: int) -> None:
    """The attempt is one more than ``retry_count``, and never falls."""
    assert play(connected(1), *facts).attempt == expected


# Settled (promise 2)


@pytest.mark.parametrize("phase", list(REACHED))
def test_every_watch_ends_once(phase: str) -> None:
    """Whatever comes after the end, there is one terminal event, and nothing follows it."""
    played = play(*REACHED[phase])
    played.take()
    ended_before = phase == "done"

    polled("completed", 10)(played)
    resulted(OUTPUT)(played)
    for fact in (
        resulted(OUTPUT),
        received(failed("late"), 11),
        received(progress(0.9), 11),
        polled("failed", 12),
        check_refused(404, 13),
        lost(14),
        passed(1e9, 0),
        broken(ClientClosedError()),
    ):
        fact(played)

    events = delivered(played)
    assert [event for event in events if event.is_terminal] == events[-1:] * (not ended_before)
    assert (played.next_step(), played.error) == (Finish(), None)


@pytest.mark.parametrize(
    "result, expected",
    [
        pytest.param(resulted(OUTPUT), CompletedEvent(task_id=TASK, output=OUTPUT), id="read"),
        pytest.param(
            resulted(None, "gone"),
            CompletedEvent(task_id=TASK, output=None, output_error="gone"),
            id="not-to-be-had",
        ),
    ],
)
def test_an_output_that_cannot_be_read_still_ends_the_watch(
    result: Fact, expected: CompletedEvent
) -> None:
    """The completion comes with the output, or with the reason why there is none."""
    played = play(connected(1), received(completed(), 2), result)

    assert delivered(played) == [expected]
    assert played.terminal == expected


def test_a_completion_waits_for_its_output_with_what_was_delivered_of_it() -> None:
    """The event to be filled keeps attempt and origin, also where only a check reported the end."""
    by_stream = play(connected(1), polled("running", 2, 1), received(completed(), 3))
    by_ask = play(polled("completed", 3, 1))

    assert by_stream.pending_end() == CompletedEvent(task_id=TASK, attempt=2, origin="stream")
    assert by_ask.pending_end() == CompletedEvent(task_id=TASK, attempt=2, origin="poll")


def test_a_closed_client_ends_a_watch_that_still_fetches() -> None:
    """The typed error stands in the place of the end."""
    error = ClientClosedError()

    assert play(*REACHED["fetching the result"], broken(error)).next_step() == Fail(error)


def test_states_that_only_a_check_has_seen_are_delivered() -> None:
    """What was missed between streams is made up from the answer, marked as such."""
    played = play(
        connected(1), received(status("queued"), 2), lost(3), passed(3.5), polled("running", 4)
    )

    assert delivered(played) == [
        status("queued"),
        StatusEvent(task_id=TASK, status="running", origin="poll"),
    ]


def test_the_first_check_runs_beside_the_opening_stream() -> None:
    """A stream need not repeat what was before it, so the state is asked for at once."""
    assert watch().check_at == 0.0
    assert play(polled("queued", 1), connected(2)).check_at == 4.0


def test_each_connection_is_followed_by_a_check() -> None:
    """Whatever happened while nobody listened is found: asked for as the stream opens."""
    played = play(polled("queued", 1), connected(2), lost(30), polled("queued", 30.1), passed(30.5))

    assert (played.next_step(), played.check_at) == (Connect(None), 30.5)


def test_an_answer_from_before_the_connection_is_followed_by_another() -> None:
    """What happened between answer and connection is asked for soon, unless events come."""
    played = play(check_sent(), connected(2))
    played.polled(snapshot("queued"), 1.0, 3.0)

    assert played.check_at == 7.0


def test_an_announced_end_is_checked_for_unless_it_comes() -> None:
    """A status frame may say ``completed`` before, or without, the terminal event."""
    announced = play(connected(1), polled("running", 1), received(status("completed"), 2))

    assert (announced.next_step(), announced.check_at) == (Read(), 3.0)
    assert [type(event) for event in delivered(announced)] == [StatusEvent]
    received(completed(OUTPUT), 2.5)(announced)
    assert announced.next_step() == Finish()


@pytest.mark.parametrize("name", ["completed", "failed", "cancelled"])
def test_an_end_that_cannot_be_read_is_checked_for(name: str) -> None:
    """A garbled terminal event is no end, but a reason to ask at once."""
    played = play(connected(1), polled("running", 1), garbled(name, 2))

    assert (played.next_step(), played.check_at) == (Read(), 2.0)


# Not twice (promise 3)


@pytest.mark.parametrize("by_ask", [False, True])
def test_a_status_is_delivered_once(by_ask: bool) -> None:
    """Repetitions after a reconnection, in any number, are dropped and counted."""
    patient = WatchPolicy(tries_before_polling=10)
    reported_before = [received(status("queued"), 2), received(status("running"), 3)]
    played = play(connected(1), *reported_before, policy=patient)
    played.take()
    for moment in (10, 20, 30):
        lost(moment)(played)
        passed(moment + 9)(played)
        connected(moment + 9.1)(played)
        received(status("running"), moment + 9.2)(played)
        if by_ask:
            polled("running", moment + 9.3)(played)

    assert delivered(played) == []
    assert played.counters.repeats_dropped == 3


def test_a_replayed_life_is_dropped_whole() -> None:
    """With or without ids, a stream that repeats all it said tells nothing new."""
    life: list[Event] = [status("pending"), status("queued"), status("running"), progress(0.5)]
    replay = [received(event, 4) for event in life]

    played = play(
        connected(1), *(received(event, 2) for event in life), lost(3), passed(4), connected(4)
    )
    played.take()
    for fact in replay:
        fact(played)
    polled("running", 5)(played)

    assert delivered(played) == []


def test_equal_progress_events_are_passed_on_while_a_stream_lasts() -> None:
    """Only behind a reconnection may an equal event be a repetition."""
    played = play(connected(1), *(received(progress(0.5), 2) for _ in range(3)))

    assert delivered(played) == [progress(0.5)] * 3


@pytest.mark.parametrize(
    "name, expected",
    [
        pytest.param(TASK, 1, id="its-own"),
        pytest.param(TASK.upper(), 1, id="its-own-in-capitals"),
        pytest.param(None, 1, id="nobody's"),
        pytest.param(OTHER, 0, id="another's"),
        pytest.param(7, 0, id="a-number"),
    ],
)
def test_frames_of_another_task_are_dropped_and_counted(name: Any, expected: int) -> None:
    """Nothing of them is delivered, and they prove nothing about this task."""
    event = StatusEvent(task_id=TASK, status="running", raw={"task_id": name})

    played = play(connected(1), received(event, 2))

    assert len(delivered(played)) == expected
    assert played.counters.foreign_frames == 1 - expected


def test_trouble_of_the_service_may_repeat() -> None:
    """The service's own error is delivered each time, and neither ends nor proves anything."""
    played = play(connected(1), polled("running", 2), *(received(server_error(), 30) for _ in "ab"))

    assert delivered(played)[1:] == [server_error()] * 2
    assert (played.next_step(), played.check_at) == (Read(), 62.0)


# Never mute (promise 4)


def quiet(*facts: Fact) -> Watch:
    """Return a watch that reads, and has had its first answers, after *facts*."""
    return play(connected(1), polled("running", 2), *facts)


def test_silence_of_a_minute_is_checked() -> None:
    """The check is due a minute after the last answer or event, beside the open stream."""
    assert quiet().check_at == 62.0
    assert quiet(received(progress(0.1), 10)).check_at == 70.0
    assert quiet(received(progress(0.1), 10)).next_step() == Read()


@pytest.mark.parametrize(
    "fact",
    [
        pytest.param(passed(60, 60), id="heartbeats"),
        pytest.param(received(server_error(), 60), id="trouble-of-the-service"),
        pytest.param(garbled("progress", 60), id="unreadable"),
        pytest.param(
            received(StatusEvent(task_id=TASK, status="queued", raw={"task_id": OTHER}), 60),
            id="another-task",
        ),
    ],
)
def test_only_events_of_the_task_put_off_checks(fact: Fact) -> None:
    """Bytes prove the socket, not the task."""
    assert quiet(fact).check_at == 62.0


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param([garbled("completed", 5)], id="an-end-that-cannot-be-read"),
        pytest.param([received(status("completed"), 4)], id="an-announced-end"),
        pytest.param([received(status("waiting"), 5)], id="a-step-back"),
    ],
)
def test_urgent_checks_are_not_put_off(facts: list[Fact]) -> None:
    """What needs an answer gets one, whatever else the stream brings."""
    assert quiet(*facts, received(progress(0.4), 5.5)).check_at == 5.0


def test_every_byte_puts_off_reconnecting() -> None:
    """The idle limit counts from the last byte, whether it was an event or a heartbeat."""
    assert quiet().due_at(last_byte_at=100) == 220.0
    assert quiet(passed(219, 100)).next_step() == Read()
    assert quiet(passed(220, 100)).phase is Phase.RESTING


def test_checks_go_on_after_each_answer() -> None:
    """A task that is silent for an hour is asked about every minute of it."""
    played = quiet()
    for moment in (62, 122, 182):
        assert played.check_at == moment
        polled("running", moment)(played)


def test_a_clean_end_is_checked_before_anything_is_opened_again() -> None:
    """The stream ended in good order: the task has probably ended, too."""
    played = quiet(ended(30))

    assert (played.next_step(), played.check_at) == (Wait(None), 30.0)
    polled("completed", 30.2)(played)
    assert played.next_step() == FetchResult()


def test_an_answer_from_before_a_clean_end_does_not_count() -> None:
    """What was asked before the stream ended says nothing of its end."""
    played = quiet(check_sent(), ended(30))
    played.polled(snapshot("running"), 29.0, 30.5)

    assert (played.next_step(), played.check_at) == (Wait(None), 30.0)


def test_a_clean_end_while_checks_are_held_back_waits_for_neither() -> None:
    """Where the service allows no check for long, the stream is opened again instead."""
    played = quiet(check_failed(10, retry_after=200), ended(30))

    assert played.next_step() == Wait(30.5)
    assert played.check_at is not None
    assert played.check_at >= 210


# A stream that is stale


def test_a_stream_that_does_not_bring_what_a_check_saw_is_dropped() -> None:
    """After the baseline, a change seen by asking has to come over the stream in time."""
    played = play(connected(1), polled("waiting", 2), polled("queued", 62))

    assert played.due_at(last_byte_at=60) == 67.0
    passed(66.9, 60)(played)
    assert played.next_step() == Read()
    passed(67, 60)(played)
    assert played.phase is Phase.RESTING


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param([received(status("queued"), 63)], id="the-status"),
        pytest.param([received(status("running"), 63)], id="a-later-one"),
        pytest.param([received(progress(0.1), 63)], id="a-event"),
        pytest.param([lost(63), passed(63.5), connected(64)], id="a-new-stream"),
    ],
)
def test_a_stream_that_catches_up_is_kept(facts: list[Fact]) -> None:
    """A late event is no staleness."""
    played = play(connected(1), polled("waiting", 2), polled("queued", 62), *facts, passed(70, 60))

    assert played.next_step() == Read()


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([polled("queued", 2)], id="the-first-answer-is-the-baseline"),
        pytest.param([polled("queued", 2), polled("queued", 62)], id="nothing-has-changed"),
        pytest.param([polled("queued", 2, sent_at=0.5)], id="asked-before-the-connection"),
    ],
)
def test_a_stream_need_not_repeat_what_was_before_it(answers: list[Fact]) -> None:
    """Whether the service replays the state on connecting is not known."""
    played = play(connected(1), *answers, passed(100, 100))

    assert played.next_step() == Read()


def test_a_change_that_the_first_check_shows_is_checked_again_soon() -> None:
    """It may be from before the connection, or held back: the pauses grow from 5 s."""
    played = play(polled("queued", 0.5), connected(1), polled("running", 6))
    moments = list[float | None]()
    for _ in range(5):
        assert played.check_at is not None
        moments.append(played.check_at)
        polled("running", played.check_at)(played)

    assert moments == [11.0, 21.0, 41.0, 81.0, 141.0]
    received(progress(0.5), 142)(played)
    assert played.check_at == 202.0


def test_a_stream_without_a_single_byte_leads_to_polling_soon() -> None:
    """A proxy that buffers is found out after two streams, not after all tries."""
    played = play(connected(1), polled("waiting", 2), polled("queued", 62), passed(67, 0.5))
    assert played.phase is Phase.POLLING

    [started] = [notice for notice in noticed(played) if isinstance(notice, PollingStarted)]
    assert "buffering" in started.cause


# Switches by itself (promise 5)


@pytest.mark.parametrize(
    "facts, switches",
    [
        pytest.param([lost(1), passed(1.5), lost(2)], False, id="two-losses"),
        pytest.param([*LONG_LOST], True, id="three-losses"),
        pytest.param(
            [lost(1), passed(1.5), connected(2), lost(3), passed(5)], False, id="two-again"
        ),
        pytest.param(
            [lost(1), passed(1.5), connected(2), lost(3), passed(5), connected(5), lost(6)],
            True,
            id="a-connection-is-no-success",
        ),
    ],
)
def test_repeated_loss_leads_to_polling(facts: list[Fact], switches: bool) -> None:
    """Three streams lost without a new event: the same watch goes on by polling."""
    played = play(*facts)

    assert (played.phase is Phase.POLLING) is switches
    assert played.counters.switches_to_polling == switches
    assert not played.progress_is_live


@pytest.mark.parametrize("code", [200, 204, 400, 401, 403, 404, 405, 406, 410, 501])
def test_a_refused_stream_is_judged_by_a_check(code: int) -> None:
    """While the status can be had, whatever the stream's route says only means polling."""
    played = play(polled("running", 0.5), refused(code, 1))

    assert (played.next_step(), played.check_at) == (Wait(None), 1.0)
    polled("running", 1.5)(played)
    assert played.next_step() == Wait(16.5)


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504, 520])
def test_a_passing_refusal_is_a_loss(code: int) -> None:
    """The stream is tried again like a broken one, and leads to polling like one."""
    assert play(refused(code, 1)).next_step() == Wait(1.5)
    refusals = [refused(code, 1), passed(1.5), refused(code, 2), passed(3), refused(code, 4)]
    assert play(*refusals).phase is Phase.POLLING


def test_the_way_back_is_tried_with_growing_pauses() -> None:
    """Each climb in vain doubles the pause before the next, up to ten minutes."""
    played = play(*LONG_LOST)
    pauses: list[float] = []
    for _ in range(9):
        step = played.next_step()
        assert isinstance(step, Wait)
        assert step.until is not None
        passed(step.until)(played)
        lost(step.until)(played)
        after = played.next_step()
        assert isinstance(after, Wait)
        assert after.until is not None
        pauses.append(after.until - step.until)
        polled("running", step.until)(played)

    assert pauses == [30, 60, 120, 240, 480, 600, 600, 600, 600]


def test_streaming_is_back_with_the_first_new_event() -> None:
    """Neither the connection nor a repetition ends polling; something new does."""
    played = play(polled("running", 0.5), *LONG_LOST, passed(19), connected(20))
    assert not played.progress_is_live
    assert played.check_at is not None
    assert played.check_at <= 23.0

    received(status("running"), 21)(played)
    assert not played.progress_is_live
    played.take()
    received(progress(0.3), 22)(played)

    assert played.progress_is_live
    assert played.take() == [progress(0.3), StreamingResumed(task_id=TASK)]
    assert play(*LONG_LOST, passed(19), connected(20), lost(21)).phase is Phase.POLLING
    lost(23)(played)
    assert played.phase is Phase.RESTING


def test_polling_is_said_once() -> None:
    """One notice when it begins, however often climbing fails."""
    played = play(*LONG_LOST, passed(19), lost(19), passed(49), lost(49))

    assert [type(notice) for notice in noticed(played)] == [StreamLost, StreamLost, PollingStarted]


@pytest.mark.parametrize(
    "end",
    [
        pytest.param([lost(21)], id="broken"),
        pytest.param([ended(21), polled("running", 21.5)], id="ended"),
        pytest.param([stream_revoked(21)], id="slot-taken-back"),
    ],
)
def test_a_stream_that_was_tried_in_vain_is_said_to_be_so(end: list[Fact]) -> None:
    """After `Connected` comes a notice that it holds no longer, though it always polled."""
    played = play(*LONG_LOST, passed(19), connected(20))
    noticed(played)

    for fact in end:
        fact(played)

    assert [type(notice) for notice in noticed(played)] == [PollingStarted]
    assert played.counters.switches_to_polling == 1
    lost(100)(played)
    assert noticed(played) == []


def test_a_watch_without_a_slot_says_that_it_polls() -> None:
    """Who waits for a slot has no live progress, says so, and says when it is back."""
    played = play(stream_revoked(1), polled("running", 2))
    assert not played.progress_is_live

    stream_granted(5)(played)
    connected(6)(played)
    received(progress(0.5), 7)(played)

    assert [type(notice) for notice in noticed(played)] == [
        PollingStarted,
        Connected,
        StreamingResumed,
    ]
    assert played.progress_is_live


def test_a_wait_that_gives_its_stream_back_says_nothing() -> None:
    """Nobody reads any more, so nobody is delivered."""
    played = play(connected(1))
    played.take()
    played.readers_left()

    stream_revoked(2)(played)

    assert played.take() == []


@pytest.mark.parametrize(
    "facts, expected",
    [
        pytest.param([polled("running", 10)], 13.0, id="running"),
        pytest.param(
            [polled("waiting", 5), polled("waiting", 65)], 71.0, id="waiting-for-a-minute"
        ),
        pytest.param([polled("waiting", 5), polled("waiting", 605)], 620.0, id="waiting-for-long"),
        pytest.param([check_failed(10)], 13.0, id="failed"),
        pytest.param([check_failed(10, retry_after=60)], 71.0, id="retry-after"),
        pytest.param([check_failed(10, retry_after=1e9)], 311.0, id="retry-after-clamped"),
    ],
)
def test_the_pace_of_polling(facts: list[Fact], expected: float) -> None:
    """Three seconds while running, slower for a long wait, never faster than allowed."""
    played = play(*LONG_LOST, *facts)

    assert played.check_at == expected


def test_retry_after_of_the_stream_holds_checks_back_too() -> None:
    """What one route was reported holds for the account."""
    played = play(polled("running", 0.5), refused(429, 1, retry_after=40))

    assert played.check_at is not None
    assert played.check_at >= 41.0


def test_no_invitation_overrules_the_service() -> None:
    """A rest that was asked for is kept, also when a slot is given back and offered again."""
    played = play(refused(503, 1, retry_after=50), stream_revoked(2), stream_granted(3))
    assert played.next_step() == Wait(52.0)

    stream_granted(52)(played)
    assert played.next_step() == Connect(None)


def test_a_refused_watch_whose_stream_is_revoked_keeps_its_pause() -> None:
    """Giving the slot back does not shorten the way back of a stream that was refused."""
    assert play(refused(403, 1), stream_revoked(1.2)).next_step() == Wait(16.2)


def test_the_end_of_an_outage_shortens_a_long_pause() -> None:
    """When checks are answered again, nothing is wrong with streaming as such."""
    failures = [check_failed(10 + 5 * number) for number in range(3)]
    played = play(*LONG_LOST, passed(19), lost(19), passed(49), lost(49), *failures)
    assert played.next_step() == Wait(109.0)

    polled("running", 60)(played)

    assert played.next_step() == Wait(63.0)


# Server trouble is not task trouble (promise 6)

SLOWLY_LOST = (lost(1), passed(102), lost(102), passed(204), lost(204))


def test_only_a_new_event_resets_the_backoff() -> None:
    """A service that accepts, repeats the known state and drops is met with growing pauses."""
    policy = WatchPolicy(tries_before_polling=100)
    played = play(polled("running", 0), policy=policy)
    pauses: list[float] = []
    now = 1.0
    for _ in range(6):
        connected(now)(played)
        received(status("running"), now)(played)
        lost(now)(played)
        step = played.next_step()
        assert isinstance(step, Wait)
        assert step.until is not None
        pauses.append(step.until - now)
        now = step.until
        passed(now)(played)
    connected(now)(played)
    received(progress(0.5), now)(played)
    lost(now)(played)

    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
    assert played.next_step() == Wait(now + 0.5)


@pytest.mark.parametrize(
    "facts, expected",
    [
        pytest.param([refused(503, 1, retry_after=20)], Wait(22.0), id="retry-after"),
        pytest.param([refused(503, 1, retry_after=1e9)], Wait(302.0), id="clamped"),
        pytest.param([apply_retry_hint(20), lost(1)], Wait(22.0), id="retry"),
        pytest.param([apply_retry_hint(1e9), lost(1)], Wait(302.0), id="retry-clamped"),
        pytest.param([apply_retry_hint(0), lost(1)], Wait(1.5), id="retry-zero"),
        pytest.param([apply_retry_hint(-5), lost(1)], Wait(1.5), id="retry-negative"),
        pytest.param(
            [apply_retry_hint(20), refused(503, 1, retry_after=30)], Wait(32.0), id="the-longer"
        ),
        pytest.param(
            [polled("running", 0), apply_retry_hint(100), *SLOWLY_LOST],
            Wait(305.0),
            id="retry-holds-for-climbing",
        ),
    ],
)
def test_what_the_service_asks_for_is_a_floor(facts: list[Fact], expected: Step) -> None:
    """``Retry-After`` and ``retry:`` raise a pause up to the cap, and never shorten it."""
    assert play(*facts).next_step() == expected


def test_a_stream_of_long_life_is_no_failure() -> None:
    """Load balancers end quiet streams every minute; that does not count."""
    played = play(polled("running", 0))
    now = 1.0
    for _ in range(20):
        connected(now)(played)
        ended(now + 30)(played)
        polled("running", now + 30.1)(played)
        step = played.next_step()
        assert isinstance(step, Wait)
        assert step.until is not None
        now = step.until
        passed(now)(played)

    assert played.counters.switches_to_polling == 0


def test_a_404_soon_after_the_submission_is_checked_again() -> None:
    """A replica may not know the task yet: neither route's 404 counts within the grace."""
    young = play(check_refused(404, 2), not_found_until=10.0)
    assert (young.next_step(), young.check_at) == (Connect(None), 3.0)
    assert play(refused(404, 2), not_found_until=10.0).next_step() == Wait(2.5)

    check_refused(404, 10)(young)
    assert isinstance(young.next_step(), Fail)


def test_a_410_has_no_such_grace() -> None:
    """What is gone was there: nothing has to appear."""
    gone = play(check_refused(410, 2), not_found_until=10.0)
    assert gone.check_at == 7.0
    check_refused(410, 7)(gone)
    assert isinstance(gone.next_step(), Fail)
    assert play(refused(410, 2), not_found_until=10.0).next_step() == Wait(None)


def test_a_404_is_checked_once_more() -> None:
    """One odd answer of a replica does not end a watch."""
    played = play(connected(1), polled("running", 2), check_refused(404, 62))
    assert (played.next_step(), played.check_at) == (Read(), 67.0)

    polled("running", 67)(played)
    check_refused(404, 127)(played)
    assert played.next_step() == Read()

    check_refused(404, 132)(played)
    assert isinstance(played.next_step(), Fail)


def test_an_event_between_two_404s_starts_their_count_anew() -> None:
    """A task that is known is not gone."""
    played = quiet(check_refused(404, 62), received(progress(0.1), 62.5), check_refused(404, 68))

    assert played.next_step() == Read()


def test_five_unreadable_events_in_a_row_lose_the_stream() -> None:
    """A stream of noise is useless, a single unreadable event is not."""
    noise = [garbled("progress", 3)] * 4
    assert quiet(*noise, received(progress(0.1), 4), *noise).next_step() == Read()
    assert quiet(*noise, garbled("progress", 4)).phase is Phase.RESTING
    assert quiet(*noise).counters.garbled_payloads == 4


def test_an_id_the_service_refuses_is_dropped_once() -> None:
    """After a restart the service may not know the id: the stream is opened without it."""
    played = play(refused(400, 1), last_event_id="17")
    assert played.next_step() == Wait(1.5)

    passed(1.5)(played)
    assert played.next_step() == Connect(None)
    refused(400, 2)(played)
    assert played.next_step() == Wait(None)


def test_the_id_of_the_last_event_is_sent_when_there_is_one() -> None:
    """Streams are resumed where ids exist, and only there."""
    played = play(connected(1))
    assert played.token().last_event_id is None

    played.last_event_id = "18"
    lost(2)(played)
    passed(2.5)(played)

    assert played.next_step() == Connect("18")


# Bounded (promise 7)


def test_an_outage_beyond_the_policy_is_given_up() -> None:
    """Half an hour after the first failure without a word in between, the watch says so."""
    played = play(
        connected(1), polled("running", 2), lost(100), check_failed(103), check_failed(1800)
    )
    assert played.due_at(last_byte_at=100) == 100.5

    passed(1899.9)(played)
    assert played.error is None
    passed(1900)(played)

    assert isinstance(played.error, WatchLostError)
    assert played.error.outage == 1898.0
    assert played.error.snapshot == snapshot("running")
    assert "no answer" in str(played.error)
    assert played.token() == ResumeToken(task_id=TASK, status="running", retry_count=0)


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param(polled("running", 500), id="answer"),
        pytest.param(connected(500), id="connection"),
        pytest.param(woke(500), id="the-machine-slept"),
    ],
)
def test_a_sign_of_life_ends_an_outage(sign: Fact) -> None:
    """What counts is the time without any."""
    played = play(
        polled("running", 0), lost(1), passed(2), sign, check_failed(600), passed(2000, 2000)
    )

    assert played.error is None


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param([connected(1), polled("running", 2)], id="a-quiet-stream"),
        pytest.param([stream_revoked(1), polled("waiting", 2)], id="polled-slowly"),
        pytest.param([stream_revoked(1)], id="waits-for-its-turn"),
    ],
)
def test_silence_without_a_failure_is_no_outage(facts: list[Fact]) -> None:
    """A policy of little patience does not end a watch that nothing has gone wrong with."""
    hasty = WatchPolicy(max_outage=1.0, connect_within=1.0)

    played = play(*facts, passed(50, 50), policy=hasty)

    assert played.error is None


@pytest.mark.parametrize(
    "facts, given_up",
    [
        pytest.param([lost(1), check_failed(1)], True, id="no-connection"),
        pytest.param([check_failed(1)], True, id="no-answer"),
        pytest.param([refused(503, 1)], False, id="the-stream-was-answered"),
        pytest.param([check_failed(1, was_reached=True)], False, id="the-check-was-answered"),
        pytest.param([check_failed(1, retry_after=5)], False, id="reported-to-wait"),
    ],
)
def test_a_service_that_was_never_reached_is_given_up_soon(
    facts: list[Fact], given_up: bool
) -> None:
    """A wrong address is delivered within a minute; a service that answers at all is known."""
    played = play(*facts, passed(60.9))
    assert played.error is None

    passed(61)(played)

    assert isinstance(played.error, WatchLostError) is given_up


def test_a_watch_may_wait_forever() -> None:
    """Without limits it never gives up by itself."""
    patient = WatchPolicy(max_outage=None, connect_within=None)

    assert play(lost(1), check_failed(1), passed(1e9), policy=patient).error is None


def test_giving_up_delivers_what_was_held() -> None:
    """An end that waits behind a step back is better than an error."""
    hasty = WatchPolicy(max_outage=3.0)
    facts = [*BACK, received(failed("x"), 3), lost(3.5), check_failed(4), passed(6.5)]

    played = play(*facts, policy=hasty)

    assert delivered(played)[-1] == failed("x")
    assert (played.next_step(), played.error) == (Finish(), None)


def test_after_a_sleep_of_the_machine_the_first_thing_is_to_check() -> None:
    """All that was known is old, and no pause of before counts."""
    played = quiet(check_failed(10, retry_after=250), woke(3600))

    assert played.check_at is not None
    assert played.check_at <= 3600
    assert played.next_step() == Read()


# Notices


def test_notices_tell_what_happens_to_a_watch() -> None:
    """Connected, lost with cause and pause, and the gap that nobody saw."""
    played = play(connected(1), lost(2), passed(2.5), connected(4))

    assert noticed(played) == [
        Connected(task_id=TASK),
        StreamLost(task_id=TASK, cause="cut", delay=0.5),
        Gap(task_id=TASK, seconds=2.0),
        Connected(task_id=TASK),
    ]
    assert played.counters.reconnects == 1


def test_what_is_taken_is_counted_and_gone() -> None:
    """The outbox is emptied by reading it."""
    played = play(connected(1), received(status("running"), 2), received(progress(0.1), 3))

    assert len(played.take()) == 3
    assert played.take() == []
    assert played.counters.events == 2


def test_a_resumed_watch_goes_on_where_the_other_one_stopped() -> None:
    """A token brings status, attempt, count and id along, and nothing is delivered again."""
    token = ResumeToken(task_id=TASK, status="running", attempt=2, retry_count=1, last_event_id="5")
    resumed = watch(status="running", attempt=2, retry_count=1, last_event_id="5")

    assert resumed.token() == token
    assert resumed.next_step() == Connect("5")
    polled("running", 1, 1)(resumed)
    assert delivered(resumed) == []


def test_there_is_nothing_to_wait_for_after_the_end() -> None:
    """An ended watch is never due again."""
    played = play(*REACHED["done"])

    assert (played.due_at(math.inf), played.check_at) == (None, None)


def test_refusals_of_the_table_are_typed() -> None:
    """The kit's refusals are the errors that answers come to."""
    assert isinstance(refusal(404), TaskNotFoundError)
    assert WatchPolicy() == POLICY


# States that nobody knows

OVER: dict[str, Any] = {"completed_at": datetime(2026, 3, 1, tzinfo=UTC), "error": "too old"}


def test_a_task_that_is_over_in_an_unknown_state_ends_with_its_second_sighting() -> None:
    """A typed error names the state; the state itself is reported before."""
    played = play(connected(1), polled("running", 2), polled("archived", 62, **OVER))
    assert (played.next_step(), played.check_at) == (Read(), 67.0)
    assert delivered(played)[-1] == StatusEvent(task_id=TASK, status="archived", origin="poll")

    polled("archived", 66.9, **OVER)(played)
    assert played.next_step() == Read()
    polled("archived", 67, **OVER)(played)

    assert isinstance(played.error, UnknownEndError)
    assert (played.error.status, played.error.error) == ("archived", "too old")
    assert "archived" in str(played.error)
    assert played.error.snapshot == snapshot("archived", **OVER)


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(polled("archived", 64), id="it-is-not-over"),
        pytest.param(polled("running", 64, 1), id="another-attempt"),
        pytest.param(received(progress(0.5), 64), id="it-goes-on"),
    ],
)
def test_a_sighting_that_is_contradicted_is_the_first_again(between: Fact) -> None:
    """A task that is known in between has not ended."""
    facts = [connected(1), polled("running", 2), received(progress(0.1), 3)]
    played = play(
        *facts, polled("archived", 62, **OVER), between, polled("archived", 67, 1, **OVER)
    )

    assert played.error is None


def test_an_unknown_state_is_in_progress() -> None:
    """Nobody knows what it means, so it ends nothing."""
    played = play(*(polled("archived", 10.0 * n) for n in range(1, 50)))

    assert played.error is None
    assert played.status == "archived"


def replayed(*states: str, **known: Any) -> Watch:
    """Return a watch that resumes with what is *known* on a stream that repeats *states*."""
    facts = [connected(1), *(received(status(state), 2) for state in states)]
    return play(*facts, retry_count=0, **known)


@pytest.mark.parametrize(
    "known, answer, states, news",
    [
        pytest.param("running", "running", "pending created running", "", id="in-the-midst"),
        pytest.param("running", "running", "created running", "", id="at-the-beginning"),
        pytest.param("running", "running", "created", "", id="cut-off-at-it"),
        pytest.param("running", "running", "running saving", "saving", id="behind-the-present"),
        pytest.param("running", "saving", "saving", "saving", id="the-present-itself"),
        pytest.param("saving", "saving", "pending queued running saving", "", id="known-itself"),
        pytest.param("saving", "saving", "pending queued", "", id="known-and-cut-off"),
        pytest.param("saving", "running", "saving running", "running", id="gone-on"),
        pytest.param("saving", "pushing", "running pushing", "pushing", id="to-another-one"),
        pytest.param("running", "running", "created running saving", "saving", id="gone-on-to-it"),
    ],
)
def test_a_replay_with_unknown_states_reports_what_is_new(
    known: str, answer: str, states: str, news: str
) -> None:
    """Order in the replay and one answer tell what the holder of a token knows already."""
    played = replayed(*states.split(), status=known)
    if played.is_holding:
        polled(answer, 3)(played)

    found = [event.status for event in delivered(played) if isinstance(event, StatusEvent)]
    assert found == news.split()


def test_an_unknown_state_that_nobody_can_place_is_unconfirmed() -> None:
    """Where no answer can be had in time, it is delivered with the doubt."""
    played = replayed("created", status="running")
    passed(17)(played)

    assert delivered(played) == [status("created", unconfirmed=True)]


# Outages: whose silence it is


def test_silence_that_the_service_asked_for_is_no_outage() -> None:
    """Kept up to the cap, it does not count towards giving up, and overlaps count once."""
    hasty = WatchPolicy(max_outage=30.0)
    hints = [check_failed(1, retry_after=40), refused(503, 1, retry_after=40)]
    played = play(*hints, passed(70.9, 70.9), policy=hasty)
    assert played.error is None

    passed(71)(played)
    assert isinstance(played.error, WatchLostError)


def test_a_sign_of_life_forgets_what_was_excused() -> None:
    """The next outage counts from its own beginning."""
    hasty = WatchPolicy(max_outage=30.0)
    facts = [check_failed(1, retry_after=300), polled("running", 310), check_failed(320)]
    played = play(stream_revoked(0.5), *facts, passed(349.9), policy=hasty)
    assert played.error is None

    passed(350)(played)
    assert isinstance(played.error, WatchLostError)


FROZEN = (*LONG_LOST, check_failed(5, was_reached=True), passed(7200))
"""An outage of which the process has seen only the beginning."""


def test_a_process_that_was_frozen_checks_before_it_gives_up() -> None:
    """It knows nothing of the time in between: one answer, and all is well."""
    played = play(*FROZEN)
    assert played.error is None
    assert played.check_at is not None
    assert played.check_at <= 7200

    polled("running", 7201)(played)
    passed(7300)(played)
    assert played.error is None


@pytest.mark.parametrize(
    "end",
    [
        pytest.param([check_failed(7201)], id="not-answered"),
        pytest.param([check_sent(), passed(7260)], id="nothing-comes"),
    ],
)
def test_a_process_that_was_frozen_checks_once(end: list[Fact]) -> None:
    """The outage is as long as it is."""
    played = play(*FROZEN, *end)

    assert isinstance(played.error, WatchLostError)


def test_a_check_of_before_the_freeze_is_not_the_one() -> None:
    """It may have failed for the freeze alone."""
    played = play(*FROZEN)
    played.check_failed("timed out", 7200.1)

    assert played.error is None


def test_after_a_general_outage_streams_come_back_soon() -> None:
    """Where checks failed as well, the streams were not to blame: no long pause, no longer next."""
    played = play(connected(0.5), polled("running", 0.6), *LONG_LOST, check_failed(4.1))
    assert played.next_step() == Wait(19.0)

    polled("running", 7.2)(played)

    assert played.next_step() == Wait(7.2 + 3.0)
    passed(11)(played)
    lost(12)(played)
    assert played.next_step() == Wait(12 + 15.0)


def test_a_check_that_fails_while_polling_does_not_bring_streams_back() -> None:
    """It says nothing of why the stream was given up before."""
    played = play(connected(0.5), *LONG_LOST, polled("running", 5), check_failed(8))
    polled("running", 12)(played)

    assert played.next_step() == Wait(19.0)


def test_a_stream_whose_headers_are_held_back_is_found_out() -> None:
    """The task moves on and the stream is not even answered: something between buffers."""
    played = play(polled("queued", 0.1), polled("running", 3.2))
    assert played.due_at(0) == 8.2
    passed(8.1)(played)
    assert played.next_step() == Connect(None)

    passed(8.2)(played)

    assert played.phase in (Phase.POLLING, Phase.RESTING)
    noticed_causes = [one.cause for one in noticed(played) if isinstance(one, PollingStarted)]
    assert [cause for cause in noticed_causes if "buffering proxy" in cause]


def test_what_a_mute_stream_held_back_counts_as_a_gap() -> None:
    """The gap begins when the stream was opened, or asked for, not when it was found out."""
    held = play(polled("queued", 0.1), polled("running", 3.2), passed(8.2), passed(23.2))
    held.take()
    connected(24)(held)
    assert Gap(task_id=TASK, seconds=24.0) in noticed(held)


def test_headers_in_time_are_no_buffering() -> None:
    """A service under load answers late."""
    played = play(polled("queued", 0.1), polled("running", 3.2), connected(8))
    passed(8.3, 8)(played)

    assert played.next_step() == Read()


# Replays across attempts


def replay(*items: object) -> list[Fact]:
    """Return a connection at 20 that brings statuses (by name) and events (by number)."""
    events = [status(one) if isinstance(one, str) else progress(float(str(one))) for one in items]
    return [lost(19), passed(20), connected(20), *(received(event, 20) for event in events)]


FIRST = ("pending", "queued", "running", 0.5, 0.9)
KNOWN = [
    connected(1),
    polled("pending", 1.5),
    *(received(event, 2) for event in (status("queued"), status("running"), progress(0.5))),
]


@pytest.mark.parametrize(
    "known, items, answer, expected",
    [
        pytest.param(KNOWN, (*FIRST, "queued"), "queued", [(2, "queued")], id="whole"),
        pytest.param(KNOWN, FIRST, "queued", [(2, "queued")], id="not-yet-whole"),
        pytest.param(
            KNOWN,
            (*FIRST, "queued", "running", 0.1),
            "running",
            [(2, "queued"), (2, "running"), (2, 0.1)],
            id="gone-on",
        ),
        pytest.param(
            [polled("queued", 1, 1)], (*FIRST, "queued"), "queued", [], id="known-to-be-the-second"
        ),
        pytest.param(
            [polled("queued", 1, 1)],
            (*FIRST, "queued", "running", 0.1),
            "running",
            [(2, "running"), (2, 0.1)],
            id="known-to-be-the-second-and-gone-on",
        ),
        pytest.param([polled("running", 1, 1)], FIRST, "running", [], id="both-run"),
    ],
)
def test_a_replay_across_a_retry_tells_the_attempts_apart(
    known: list[Fact], items: tuple[object, ...], answer: str, expected: list[object]
) -> None:
    """What the order of the replay shows to be of an earlier attempt is dropped."""
    played = play(*known)
    played.take()
    for fact in [*replay(*items), polled(answer, 21, 1)]:
        fact(played)

    assert [_short(event) for event in delivered(played)] == expected


def _short(event: Event) -> object:
    if isinstance(event, ProgressEvent):
        return event.attempt, event.progress
    return event.attempt, getattr(event, "status", None)


def test_a_life_that_begins_anew_with_its_attempt_is_delivered_with_doubt() -> None:
    """Where neither order nor answer can tell, the state is unconfirmed, and progress waits."""
    played = play(polled("pending", 1, 1), *replay("pending", "queued"))
    played.take()
    polled("queued", 21, 1)(played)
    for fact in (received(status("queued"), 22), received(progress(0.1), 22.1)):
        fact(played)
    assert played.check_at == 22.0
    polled("queued", 23, 1)(played)
    for fact in (received(status("running"), 25), received(progress(0.2), 26)):
        fact(played)

    assert [_short(event) for event in delivered(played)] == [
        (2, "queued"),
        (2, "running"),
        (2, 0.2),
    ]


@pytest.mark.parametrize(
    "stamps",
    [
        pytest.param({"timestamp": "2026-03-01T10:00:05Z"}, id="older-than-the-last-known"),
        pytest.param({"retry_count": 0}, id="says-so-itself"),
    ],
)
def test_an_event_may_say_itself_that_it_is_of_an_earlier_attempt(stamps: dict[str, Any]) -> None:
    """Also where the stream does not begin with the life."""
    seen = progress(0.9, timestamp="2026-03-01T10:00:09Z")
    played = play(connected(1), polled("running", 1.5), received(seen, 2), polled("queued", 9, 1))
    played.take()
    old: list[Event] = [
        progress(0.4, **stamps),
        StatusEvent(task_id=TASK, status="running", raw=stamps),
    ]
    for fact in [lost(19), passed(20), connected(20), *(received(one, 20) for one in old)]:
        fact(played)

    assert delivered(played) == []
    assert played.status == "queued"
