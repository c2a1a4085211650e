"""
A watch keeps its promises whatever comes, in any order.

A model task lives its life; a service tells of it by a stream and by answers, as badly as
it likes: lossy, repeating, lagging, refusing, silent. After each fact the promises of
docs/guarantees.md that concern the decision core are checked, and in the end, when the
service has come to its senses, the watch has to know the truth.

``CYBERUN_WALKS`` sets how many lives are played (``nox -s walks`` plays many).
"""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from cyberun_async._model import (
    AuthenticationError,
    CancelledEvent,
    CompletedEvent,
    Event,
    FailedEvent,
    Notice,
    PermissionDeniedError,
    ProgressEvent,
    RequestRejectedError,
    ResumeToken,
    ServerErrorEvent,
    ServiceUnavailableError,
    StatusEvent,
    TaskNotFoundError,
    TaskSnapshot,
    UnknownEvent,
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

from .kit import OTHER, OUTPUT, TASK, refusal


WALKS = int(os.environ.get("CYBERUN_WALKS", "30"))
STEPS = 50

COURSE = ("pending", "waiting", "queued", "running")
RANKS = {name: rank for rank, name in enumerate(COURSE)}
ENDS = ("completed", "failed", "cancelled")
OUTAGE = 400.0
# The longest that the service may hold back: a clamped hint with its jitter, and then checks.
LONGEST_HOLD = WatchPolicy().hint_cap + 1.0

STEP_OF: dict[Phase, type[Step]] = {
    Phase.CONNECTING: Connect,
    Phase.READING: Read,
    Phase.RESTING: Wait,
    Phase.CHECKING: Wait,
    Phase.POLLING: Wait,
    Phase.FETCHING: FetchResult,
}


def _in(phase: Phase) -> Callable[[Any], Any]:
    return precondition(lambda self: self.watch.phase is phase)


in_phase = {phase: _in(phase) for phase in Phase}
not_over = precondition(lambda self: not self.is_over)
is_running = precondition(lambda self: self.truth[1] == "running")
ask_is_due = precondition(lambda self: self.sent_at is None and self.is_due)
ask_under_way = precondition(lambda self: self.sent_at is not None and not self.is_over)


class Life(RuleBasedStateMachine):
    """A task, its bad service, and the watch that has to tell the truth all the same."""

    # The task and what its service remembers.

    @initialize(
        counts=st.booleans(),
        ids=st.booleans(),
        draw=st.sampled_from([0.0, 0.5, 0.999]),
        streaming=st.sampled_from([True, True, True, False]),
        is_open=st.booleans(),
    )
    def begin(self, counts: bool, ids: bool, draw: float, streaming: bool, is_open: bool) -> None:
        self.counts, self.ids = counts, ids
        self.now = 0.0
        self.last_byte_at = 0.0
        self.history: list[tuple[int, str]] = [(0, "pending")]
        self.frames: list[dict[str, Any]] = []
        self.cursor = 0
        self.last_id: str | None = None
        self.sent_at: float | None = None
        self.reported: list[Event] = []
        self.delivered: set[object] = set()
        self.losses_before = 0
        self.refused_by: type[Exception] | None = None
        self.refused_since: float | None = None
        self.failed_since: float | None = None
        self.last_sign = 0.0
        self.watch = Watch(
            start=ResumeToken(task_id=TASK),
            policy=WatchPolicy(max_outage=OUTAGE, connect_within=OUTAGE),
            draw=lambda: draw,
            started_at=0.0,
            streaming=streaming,
        )
        self._frame("status", status="pending")
        self.task_moves_on(3)
        self.task_progress(2)
        if is_open and streaming:
            self.stream_opens("all")
            self.stream_tells(4)

    @property
    def truth(self) -> tuple[int, str]:
        return self.history[-1]

    @property
    def is_over(self) -> bool:
        return self.watch.phase in (Phase.DONE, Phase.FETCHING)

    @property
    def is_due(self) -> bool:
        return self.watch.check_at is not None and self.watch.check_at <= self.now

    def _frame(self, name: str, **payload: Any) -> None:
        payload["task_id"] = TASK
        self.frames.append({"name": name, "number": len(self.frames), **payload})

    @precondition(lambda self: self.truth[1] in COURSE[:3])
    @rule(steps=st.integers(1, 3))
    def task_moves_on(self, steps: int) -> None:
        retry_count, present = self.truth
        status = COURSE[min(RANKS[present] + steps, 3)]
        self.history.append((retry_count, status))
        self._frame("status", status=status)

    @is_running
    @rule(count=st.integers(1, 3))
    def task_progress(self, count: int) -> None:
        for _ in range(count):
            self._frame("progress", progress=len(self.frames) / 1000)

    @is_running
    @rule(status=st.sampled_from(COURSE[:3]))
    def task_is_dispatched_again(self, status: str) -> None:
        self.history.append((self.truth[0] + 1, status))
        self._frame("status", status=status)

    @is_running
    @rule(end=st.sampled_from(ENDS), announces=st.booleans(), has_output=st.booleans())
    def task_ends(self, end: str, announces: bool, has_output: bool) -> None:
        self.history.append((self.truth[0], end))
        if announces:
            self._frame("status", status=end)
        self._frame(end, output=OUTPUT if has_output else None)

    # The stream.

    @in_phase[Phase.CONNECTING]
    @rule(replay=st.sampled_from(["all", "state", "nothing", "resume"]))
    def stream_opens(self, replay: str) -> None:
        step = self.watch.next_step()
        assert isinstance(step, Connect)
        assert step.last_event_id == self.last_id
        newest = len(self.frames)
        state = max((f["number"] for f in self.frames if f["name"] != "progress"), default=newest)
        self.cursor = {"all": 0, "state": state, "nothing": newest}.get(
            replay, int(self.last_id) + 1 if self.last_id is not None else 0
        )
        self.last_byte_at = self.now
        self.watch.connected(self.now)
        self._sign()

    @in_phase[Phase.CONNECTING]
    @rule(code=st.sampled_from([204, 400, 401, 403, 404, 405, 429, 500, 503]), hint=st.booleans())
    def stream_is_refused(self, code: int, hint: bool) -> None:
        self._fault()
        self.watch.refused(refusal(code), self.now, retry_after=20.0 if hint else None)
        if code not in (429, 500, 503):
            self.last_id = None

    @precondition(lambda self: self.watch.phase in (Phase.CONNECTING, Phase.READING))
    @rule(clean=st.booleans())
    def stream_is_lost(self, clean: bool) -> None:
        self._fault()
        self.watch.lost("cut", self.now, clean=clean)

    @in_phase[Phase.READING]
    @rule(count=st.integers(1, 6))
    def stream_tells(self, count: int) -> None:
        for _ in range(count):
            if self.cursor < len(self.frames):
                self._send(self.frames[self.cursor])
                self.cursor += 1

    @in_phase[Phase.READING]
    @rule(replay=st.sampled_from(["all", "state", "nothing", "resume"]), count=st.integers(1, 9))
    def stream_is_replaced(self, replay: str, count: int) -> None:
        self.stream_is_lost(clean=False)
        step = self.watch.next_step()
        if isinstance(step, Wait) and step.until is not None:
            self._wait(step.until - self.now)
        if self.watch.phase is Phase.CONNECTING:
            self._collect()
            self.stream_opens(replay)
            self.stream_tells(count)

    @in_phase[Phase.READING]
    @rule()
    def stream_loses_a_frame(self) -> None:
        self.cursor = min(self.cursor + 1, len(self.frames))

    @in_phase[Phase.READING]
    @rule(back=st.integers(1, 6))
    def stream_repeats_itself(self, back: int) -> None:
        self.cursor = max(0, self.cursor - back)

    @in_phase[Phase.READING]
    @rule(kind=st.sampled_from(["foreign", "error", "unknown", "heartbeat", "retry"]))
    def stream_brings_other_things(self, kind: str) -> None:
        self.last_byte_at = self.now
        if kind == "foreign":
            raw = {"task_id": OTHER, "status": "completed"}
            self.watch.received(CompletedEvent(task_id=TASK, raw=raw, output=OUTPUT), self.now)
        elif kind == "error":
            self.watch.received(ServerErrorEvent(task_id=TASK, message="x"), self.now)
        elif kind == "unknown":
            self.watch.received(UnknownEvent(task_id=TASK, name="log", data="x"), self.now)
        elif kind == "retry":
            self.watch.apply_retry_hint(10.0)

    @in_phase[Phase.READING]
    @rule(name=st.sampled_from(["status", "progress", *ENDS]))
    def stream_is_garbled(self, name: str) -> None:
        self.last_byte_at = self.now
        self._fault(only_if_lost=True)
        self.watch.garbled(name, self.now)

    @not_over
    @rule()
    def slot_is_taken_back(self) -> None:
        self.watch.stream_revoked(self.now)

    @in_phase[Phase.POLLING]
    @rule()
    def slot_is_offered(self) -> None:
        self.watch.stream_granted(self.now)

    @not_over
    @rule(streaming=st.sampled_from([True, True, False]))
    def readers_come_and_go(self, streaming: bool) -> None:
        if streaming:
            self.watch.reader_came(self.now)
        else:
            self.watch.readers_left()

    # Checks.

    @ask_is_due
    @rule()
    def ask_is_sent(self) -> None:
        self._ask()

    @ask_under_way
    @rule(lag=st.sampled_from([0, 0, 0, 1, 2, 5]))
    def ask_is_answered(self, lag: int) -> None:
        self._answer(self.history[max(0, len(self.history) - 1 - lag)])

    @ask_is_due
    @rule(lag=st.sampled_from([0, 0, 0, 1, 2, 5]))
    def ask_is_sent_and_answered(self, lag: int) -> None:
        self._ask()
        self.ask_is_answered(lag)

    @ask_under_way
    @rule(hint=st.sampled_from([None, None, 20.0, 1e9]), reached=st.booleans())
    def ask_fails(self, hint: float | None, reached: bool) -> None:
        self._fault()
        self.sent_at = None
        self.watch.check_failed("no answer", self.now, retry_after=hint, was_reached=reached)

    @precondition(lambda self: self.sent_at is not None and self.now > 100 and not self.is_over)
    @rule(code=st.sampled_from([401, 403, 403, 404, 404, 404, 410]))
    def ask_is_refused(self, code: int) -> None:
        error = refusal(code)
        assert isinstance(error, RequestRejectedError)
        self.sent_at, self.refused_by = None, type(error)
        if self.refused_since is None:
            self.refused_since = self.now
        self.watch.check_refused(error, self.now)

    @ask_under_way
    @rule(
        code=st.sampled_from([400, 401, 403, 404, 405, 409, 410, 425, 451]),
        hint=st.sampled_from([None, None, 20.0]),
    )
    def ask_is_refused_by_a_proxy(self, code: int, hint: float | None) -> None:
        error = refusal(code)
        assert isinstance(error, RequestRejectedError)
        error.from_service, error.retry_after = False, hint
        self._fault()
        self.sent_at = None
        self.watch.check_refused(error, self.now)
        assert not isinstance(self.watch.error, RequestRejectedError)

    @in_phase[Phase.FETCHING]
    @rule(works=st.booleans())
    def result_is_read(self, works: bool) -> None:
        self._fetch(works)

    # Time, and facts that come too late.

    @rule(seconds=st.sampled_from([0.01, 0.5, 1.0, 3.0, 3.0, 10.0, 20.0, 31.0, 61.0, 130.0]))
    def time_passes(self, seconds: float) -> None:
        self._wait(seconds)

    @precondition(lambda self: self.now < 3600)
    @rule()
    def machine_sleeps(self) -> None:
        self.now += 3600.0
        if not self.is_over:
            self.last_sign = self.now
            self.failed_since = None if self.failed_since is None else self.now
        self.watch.woke(self.now)

    @precondition(lambda self: self.watch.phase is not Phase.READING)
    @rule()
    def given_up_line_still_speaks(self) -> None:
        self.watch.received(FailedEvent(task_id=TASK, error="late"), self.now)
        self.watch.garbled("completed", self.now)
        if self.watch.phase is not Phase.CONNECTING:
            self.watch.connected(self.now)

    # What the rules are made of.

    def _send(self, frame: dict[str, Any]) -> None:
        if self.watch.phase is not Phase.READING:
            return
        self.last_byte_at = self.now
        before = len(self.reported)
        self.watch.received(_event(frame), self.now)
        if self.ids:
            self.watch.last_event_id = self.last_id = str(frame["number"])
        self._collect()
        if len(self.reported) > before:
            self._sign()

    def _ask(self) -> None:
        self.sent_at = self.now
        self.watch.check_sent()
        assert self.watch.check_at is None

    def _answer(self, state: tuple[int, str]) -> None:
        self.refused_since = None
        assert self.sent_at is not None
        sent_at, self.sent_at = self.sent_at, None
        self._sign()
        count = state[0] if self.counts else None
        snapshot = TaskSnapshot(id=TASK, status=state[1], retry_count=count, error="why")
        self.watch.polled(snapshot, sent_at, self.now)
        self._collect()

    def _fetch(self, works: bool) -> None:
        end = self.watch.pending_end()
        self.watch.resulted(
            CompletedEvent(
                task_id=TASK,
                attempt=end.attempt,
                origin=end.origin,
                output=OUTPUT if works else None,
                output_error=None if works else "gone",
            )
        )

    def _wait(self, seconds: float) -> None:
        self.now += seconds
        was_reading = self.watch.phase is Phase.READING
        self.watch.time_passed(self.now, self.last_byte_at)
        if was_reading and self.watch.phase is not Phase.READING:
            self._fault()

    def _sign(self) -> None:
        self.last_sign = self.now
        self.failed_since = None

    def _fault(self, *, only_if_lost: bool = False) -> None:
        if self.failed_since is None and not only_if_lost:
            self.failed_since = self.now

    def _collect(self) -> None:
        for item in self.watch.take():
            if isinstance(item, Notice):
                continue
            self._check_delivery(item)
            self.reported.append(item)

    # The promises.

    def _check_delivery(self, event: Event) -> None:
        # 2. Settled: the end is delivered last.
        assert not any(earlier.is_terminal for earlier in self.reported)
        # 1. Ordered: attempts do not fall, and none is made up.
        assert event.attempt >= max((earlier.attempt for earlier in self.reported), default=1)
        assert event.attempt <= self.truth[0] + 1
        if isinstance(event, StatusEvent) and not event.unconfirmed:
            self._check_status(event)
        # 5. No event is invented.
        if isinstance(event, ProgressEvent):
            assert event.origin == "stream"

    def _check_status(self, event: StatusEvent) -> None:
        reported = [
            earlier.status
            for earlier in self.reported
            if isinstance(earlier, StatusEvent)
            and earlier.attempt == event.attempt
            and not earlier.unconfirmed
        ]
        # 3. Not twice, and 1. in the order of the life cycle.
        assert event.status not in reported
        assert all(RANKS[status] < RANKS[event.status] for status in reported)
        # Nothing is delivered that never was.
        assert event.status in {status for _, status in self.history}

    @invariant()
    def promises_hold(self) -> None:
        watch = self.watch
        before = {_key(event) for event in self.reported}
        self._collect()
        self._check_losses(before)
        step = watch.next_step()
        assert step == watch.next_step()
        if watch.phase is Phase.DONE:
            self._check_end(step)
            return
        assert isinstance(step, STEP_OF[watch.phase])
        if watch.phase is not Phase.FETCHING:
            self._check_bounds()

    def _check_losses(self, before: set[object]) -> None:
        # 6. Only a new event resets the backoff.
        new = {_key(event) for event in self.reported} - self.delivered
        if self.watch.streams.losses < self.losses_before:
            assert new
        self.delivered |= new | before
        self.losses_before = self.watch.streams.losses

    def _check_end(self, step: Step) -> None:
        # 2. Exactly one terminal event, the true one, or exactly one typed error.
        ends = [event for event in self.reported if event.is_terminal]
        if isinstance(step, Finish):
            assert ends == [self.watch.terminal]
            assert self.watch.terminal is self.reported[-1]
            assert getattr(ends[0], "status", None) == self.truth[1]
            return
        assert isinstance(step, Fail)
        assert ends == []
        if isinstance(step.error, WatchLostError):
            # 7. It gives up as the policy says, and with what was known.
            assert self.now - self.last_sign >= OUTAGE
            assert self.failed_since is None or self.now - self.failed_since >= OUTAGE
            assert step.error.snapshot == self.watch.snapshot
        else:
            # 6. Only the status request's refusal is the task's.
            assert type(step.error) is self.refused_by
            kinds = (AuthenticationError, PermissionDeniedError, TaskNotFoundError)
            assert isinstance(step.error, kinds)
            if not isinstance(step.error, AuthenticationError):
                # Said twice, some seconds apart, and nothing else in between.
                assert self.refused_since is not None
                assert self.now - self.refused_since >= self.watch.policy.confirm_after

    def _check_bounds(self) -> None:
        watch = self.watch
        # 4. Never mute: a check is under way, or due in time.
        assert self.sent_at is not None or watch.check_at is not None
        if watch.check_at is not None:
            assert watch.check_at <= self.now + max(LONGEST_HOLD, watch.policy.check_after)
        if watch.phase is Phase.READING:
            due = watch.due_at(self.last_byte_at)
            assert due is not None
            assert due <= self.last_byte_at + watch.policy.idle_timeout
        # 5. Who polls says so, and finds its way back.
        if watch.phase is not Phase.READING:
            assert not watch.progress_is_live
        step = watch.next_step()
        if isinstance(step, Wait) and step.until is not None:
            resting = watch.phase is Phase.RESTING
            longest = LONGEST_HOLD if resting else max(watch.policy.climb_cap, LONGEST_HOLD)
            # 7. Bounded.
            assert step.until <= self.now + longest
        if watch.phase in (Phase.CONNECTING, Phase.RESTING) and watch.streaming:
            assert (
                watch.streams.losses < watch.policy.tries_before_polling
                or watch.streams.have_failed
            )

    def teardown(self) -> None:
        """The service comes to its senses: now the watch has to learn the truth."""
        if not hasattr(self, "watch"):
            return
        began = self.now
        while not self.is_over and self.now - began <= 2 * LONGEST_HOLD:
            self._serve_well()
            self.promises_hold()
        if self.watch.phase is Phase.FETCHING:
            self._fetch(works=True)
        self.promises_hold()
        if self.watch.error is None:
            self._check_knowledge()

    def _serve_well(self) -> None:
        """Answer what is asked, open what is to be opened, and say nothing more."""
        watch = self.watch
        if self.sent_at is not None:
            self._answer(self.truth)
        elif watch.check_at is not None and watch.check_at <= self.now:
            self._ask()
        elif watch.phase is Phase.CONNECTING:
            self.stream_opens("nothing")
        else:
            due = [moment for moment in (watch.check_at, watch.due_at(self.now)) if moment]
            self.last_byte_at = self.now
            self._wait(max(0.01, min(due, default=self.now) - self.now))

    def _check_knowledge(self) -> None:
        retry_count, status = self.truth
        assert not self.watch.is_holding
        if status in ENDS:
            assert self.watch.phase is Phase.DONE
            assert self.watch.terminal is not None
        elif self.counts:
            known = self.watch.status
            assert self.watch.attempt == retry_count + 1
            # Statuses of an attempt that went by while it was held count for the present one,
            # which may not be as far yet; it is never behind the truth.
            assert known is not None
            # A step back that no check could explain was delivered; what had been delivered before
            # is not delivered again, even if it turns out that the step was none.
            doubted = any(isinstance(e, StatusEvent) and e.unconfirmed for e in self.reported)
            assert doubted or RANKS[known] >= RANKS[status]


def _event(frame: dict[str, Any]) -> Event:
    raw = {name: value for name, value in frame.items() if name not in ("name", "output")}
    match frame["name"]:
        case "status":
            return StatusEvent(task_id=TASK, raw=raw, status=frame["status"])
        case "progress":
            return ProgressEvent(task_id=TASK, raw=raw, progress=frame["progress"])
        case "completed":
            return CompletedEvent(task_id=TASK, raw=raw, output=frame["output"])
        case "failed":
            return FailedEvent(task_id=TASK, raw=raw, error="why")
        case _:
            return CancelledEvent(task_id=TASK, raw=raw)


def _key(event: Event) -> object:
    what = event.raw.get("number") if isinstance(event, ProgressEvent) else None
    return type(event), event.attempt, what, getattr(event, "status", None)


# Refusals of a stream that the model makes are what the client makes of such answers.
assert isinstance(refusal(503), ServiceUnavailableError)

TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=WALKS,
    stateful_step_count=STEPS,
    # The same lives in every run of the suite, new ones where many are asked for.
    derandomize="CYBERUN_WALKS" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
