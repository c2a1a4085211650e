"""
What of a task has been delivered, and what to think of the event that comes next.

Attempts are counted, statuses ranked by the life cycle, progress compared with those seen
before the connection. No time, no network: only what may be delivered, and in which order.
"""

import enum
from collections.abc import Sequence
from datetime import datetime

import attrs

from .._model import (
    CancelledEvent,
    CompletedEvent,
    Event,
    FailedEvent,
    Notice,
    ProgressEvent,
    ResumeToken,
    StatusEvent,
    TaskSnapshot,
    TaskStatus,
    TerminalEvent,
    is_terminal,
)


_RANKS: dict[str, int] = {
    status: rank
    for rank, status in enumerate(
        (
            TaskStatus.PENDING,
            TaskStatus.WAITING,
            TaskStatus.PROVISIONING,
            TaskStatus.QUEUED,
            TaskStatus.RUNNING,
        )
    )
}
_MAX_HELD = 1024


class Fate(enum.Enum):
    """What becomes of an event, and why."""

    NEWS = "delivered, and not known before"
    PASSED = "delivered, but proves nothing: it may be a repetition"
    PRESENT = "dropped, as it is known, but it is the present state"
    REPEATED = "dropped: known, and of the past"
    STEP_BACK = "held until a status check explains it"
    HELD = "held behind a step back"
    OVERFLOW = "dropped: too much is held"
    ANNOUNCED = "the end, without the terminal event"
    END = "the terminal event; not delivered yet"


@attrs.define
class Ordering:
    """The delivered history of one task, as far as order and repetition need it."""

    _start: ResumeToken
    # Shared with the watch, which puts its notices between the events.
    outbox: list[Event | Notice]
    status: str | None = attrs.field(default=None, init=False)
    attempt: int = attrs.field(init=False)
    retry_count: int | None = attrs.field(init=False)
    last_progress: ProgressEvent | None = attrs.field(default=None, init=False)
    # Whether the next event may be a repetition, since a stream was opened before it.
    _is_unsettled: bool = attrs.field(default=True, init=False)
    # A step back that waits for its explanation, and all behind it.
    held: list[Event] | None = attrs.field(default=None, init=False)
    _seen: set[str] = attrs.field(factory=set[str], init=False)
    _rank: int = attrs.field(default=-1, init=False)
    _progress_before: ProgressEvent | None = attrs.field(default=None, init=False)
    _unconfirmed: bool = attrs.field(default=False, init=False)
    # Whether the stream has come as far as what is known: what follows is no repetition.
    _is_level: bool = attrs.field(default=False, init=False)
    # What the stream has shown: whether it began with the task's life, and how many attempts.
    _from_start: bool = attrs.field(default=False, init=False)
    _parts: int = attrs.field(default=0, init=False)
    _part_rank: int = attrs.field(default=-1, init=False)
    _held_parts: list[int] = attrs.field(factory=list[int], init=False)
    _was_doubted: bool = attrs.field(default=False, init=False)
    # The service's stamp on the last that was delivered of an earlier attempt.
    _past_until: datetime | None = attrs.field(default=None, init=False)
    _last_status: StatusEvent | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.attempt, self.retry_count = self._start.attempt, self._start.retry_count
        if self._start.status is not None:
            self._note(self._start.status)

    @property
    def is_settled(self) -> bool:
        """Whether the next event can be no repetition, and waits behind none."""
        return not self._is_unsettled and self.held is None

    # Events of the stream.

    def opened(self) -> None:
        """A stream was opened: what it brings first may be a repetition."""
        if not self._is_unsettled or self._progress_before is None:
            self._progress_before = self.last_progress
        # Else the last stream brought nothing new, and its progress is no measure of it.
        self._is_unsettled = True
        self._is_level = self._from_start = self._was_doubted = False
        self._parts, self._part_rank = 0, -1

    def judge(self, event: Event) -> Fate:
        """Deliver, drop or hold *event*, and say which; a terminal event is only recognised."""
        if isinstance(event, StatusEvent):
            self._place(event.status)
        if self.held is not None:
            return self._hold(self.held, event)
        if self.retry_count and isinstance(event, StatusEvent | ProgressEvent):
            if self._is_past(event):
                return Fate.REPEATED
            if self._is_behind():
                return self._judge_behind(event)
        return self._judge_present(event)

    def _judge_present(self, event: Event) -> Fate:
        if isinstance(event, ProgressEvent):
            return self._judge_progress(event)
        if isinstance(event, StatusEvent):
            return self._judge_status(event)
        return self._judge_other(event)

    def release(self, answer: TaskSnapshot | None = None) -> list[Event]:
        """
        Return what was held, for :meth:`judge_released`, and clear it.

        Of what *answer* and the order of the replay show to be of an earlier attempt,
        nothing is returned; and where they cannot show it yet, it stays held.
        """
        held, parts = self.held or [], self._held_parts
        self.held, self._held_parts = None, []
        if answer is None or answer.is_terminal or not self.retry_count:
            return held
        held = [event for event in held if not self._is_past(event)]
        if len(held) < len(parts) or not self._from_start:
            return held
        present = self.retry_count + 1
        if self._parts >= present:
            return [one for one, part in zip(held, parts, strict=True) if part >= present]
        last = next((one for one in reversed(held) if isinstance(one, StatusEvent)), None)
        if last is None or last.status != answer.status:
            return []  # the replay has not come to the present attempt yet
        if not self._was_doubted:
            self.held, self._held_parts, self._was_doubted = held, parts, True
            return []
        # Nothing shows which: the life began anew with the attempt, or the replay is very slow.
        self._from_start = False
        return [attrs.evolve(last, unconfirmed=True)]

    def release_unexplained(self) -> list[Event]:
        """Return what was held, as nothing will explain it; its progress may be of any attempt."""
        is_behind = self._is_behind()
        held = self.release()
        if not is_behind:
            return held
        self._from_start = False
        last = next((one for one in reversed(held) if isinstance(one, StatusEvent)), None)
        others: list[Event] = [
            one for one in held if not isinstance(one, StatusEvent | ProgressEvent)
        ]
        return others if last is None else [attrs.evolve(last, unconfirmed=True), *others]

    def judge_released(
        self, event: Event, *, is_explained: bool, present: str | None = None
    ) -> Fate:
        """
        As :meth:`judge`, but a step back is a repetition (*is_explained*) or unconfirmed.

        *present* is the state that the explanation has shown.
        """
        if not isinstance(event, StatusEvent):
            return self._judge_present(event)
        status = event.status
        if not self._steps_back(status):
            if not self._may_be_old(status):
                return self._judge_present(event)
            if status == present:
                self._is_level = True
                return self._judge_present(event)
        if is_explained or status == self.status:
            self._is_level = self._is_level or status == self.status
            return Fate.REPEATED
        self.status = event.status
        self._unconfirmed = True
        self._deliver(attrs.evolve(event, unconfirmed=True))
        return Fate.PASSED

    # Answers to status checks.

    def lags(self, snapshot: TaskSnapshot) -> bool:
        """Return whether *snapshot* is from before the present attempt (a late replica)."""
        count, known = snapshot.retry_count, self.retry_count
        return count is not None and known is not None and count < known

    def is_beyond(self, snapshot: TaskSnapshot) -> bool:
        """Return whether more is known than *snapshot*, of the same attempt, says."""
        return _rank_of(snapshot.status, self._rank) < self._rank

    def explains(self, snapshot: TaskSnapshot) -> bool:
        """Return whether *snapshot* distinguishes a repetition from a step back."""
        if snapshot.retry_count is not None or snapshot.is_terminal:
            return True
        return not self._unconfirmed and _rank_of(snapshot.status, self._rank) >= self._rank

    def count_attempts(self, snapshot: TaskSnapshot, *, is_current: bool) -> None:
        """Learn the attempt from *snapshot*, asked for after the present status (*is_current*)."""
        count = snapshot.retry_count
        if count is None:
            return
        if self.retry_count is None and not is_current and self.is_beyond(snapshot):
            return  # of before the present status, or of a new attempt: the next answer shows it
        if self._is_new_attempt(count, snapshot.status, is_current=is_current):
            self._begin_attempt()
            # What the stream brings next may still be of the attempt before.
            self._is_unsettled = True
        self.retry_count = count
        self.attempt = max(self.attempt, count + 1)

    def catch_up(self, status: str) -> bool:
        """Deliver a *status* that only a check has shown; return whether it was new."""
        if self._steps_back(status) or status == self.status:
            self._confirm(status)
            return False
        self._note(status)
        self.outbox.append(
            StatusEvent(
                task_id=self._start.task_id, attempt=self.attempt, origin="poll", status=status
            )
        )
        return True

    # What readers know from elsewhere, and the end.

    def merge(self, status: str, retry_count: int) -> bool:
        """Deliver what is known elsewhere, if it is further on; return whether it was."""
        said = TaskSnapshot(id=self._start.task_id, status=status, retry_count=retry_count)
        if self.held is not None or self.lags(said):
            return False
        # From when that is nobody knows; what is known here may be as new.
        self.count_attempts(said, is_current=False)
        return _rank_of(status, -1) > self._rank and self.catch_up(status)

    def is_news(self, status: str | None, attempt: int, retry_count: int | None) -> bool:
        """Return whether the present status is news to who knows *status* of *attempt*."""
        if self.status is None or self.attempt < attempt:
            return False
        if status is None or (self.attempt > attempt and retry_count is not None):
            return True
        present = _rank_of(self.status, len(_RANKS))
        return self.status != status and (self.attempt > attempt or present >= _rank_of(status, -1))

    def end(self, event: TerminalEvent) -> None:
        """Deliver the end."""
        self.status = event.status
        self.outbox.append(event)

    # Within.

    def _judge_progress(self, event: ProgressEvent) -> Fate:
        verdict = Fate.NEWS
        if self._is_unsettled:
            before = self._progress_before
            if _is_same(event, self.last_progress) or _is_same(event, before):
                return Fate.REPEATED
            if before is None or _is_beyond(event, before):
                self._is_unsettled = False
            else:
                verdict = Fate.PASSED
        self.pass_progress((event,))
        return verdict

    def pass_progress(self, events: Sequence[ProgressEvent]) -> None:
        """Deliver progress of which none can be a repetition."""
        attempt = self.attempt
        for event in events:
            if event.attempt != attempt:
                events = [attrs.evolve(one, attempt=attempt) for one in events]
                break
        self.last_progress = events[-1]
        self.outbox.extend(events)

    def _judge_status(self, event: StatusEvent) -> Fate:
        status = event.status
        if is_terminal(status):
            return Fate.ANNOUNCED
        if status == self.status:
            self._is_level = True
            return Fate.PRESENT
        if self._steps_back(status) or self._may_be_old(status):
            self.held = [event]
            self._held_parts = [self._parts]
            return Fate.STEP_BACK
        self._is_unsettled = False
        self._is_level = True
        self._note(status)
        self._last_status = event
        self._deliver(event)
        return Fate.NEWS

    def _judge_other(self, event: Event) -> Fate:
        if isinstance(event, CompletedEvent | FailedEvent | CancelledEvent):
            return Fate.END
        self._deliver(event)
        return Fate.PASSED

    def _hold(self, held: list[Event], event: Event) -> Fate:
        if isinstance(event, ProgressEvent) and isinstance(held[-1], ProgressEvent):
            held[-1] = event
            self._held_parts[-1] = self._parts
        elif len(held) >= _MAX_HELD:
            return Fate.OVERFLOW
        else:
            held.append(event)
            self._held_parts.append(self._parts)
        return Fate.HELD

    def _deliver(self, event: Event) -> None:
        self.outbox.append(attrs.evolve(event, attempt=self.attempt))

    # Replays across attempts.

    def _place(self, status: str) -> None:
        """Count the attempts that the stream has shown, by the order of its states."""
        rank = _rank_of(status, -1)
        if self._parts == 0:
            self._parts, self._from_start = 1, rank == 0
        elif 0 <= rank < self._part_rank:
            self._parts += 1
            self._part_rank = -1
        self._part_rank = max(self._part_rank, rank)

    def _is_past(self, event: Event) -> bool:
        """Return whether *event* itself says that it is of an earlier attempt."""
        if not isinstance(event, StatusEvent | ProgressEvent) or self.retry_count is None:
            return False
        count = event.raw.get("retry_count")
        if type(count) is int and count < self.retry_count:
            return True
        until, at = self._past_until, event.sent_at
        return until is not None and at is not None and at <= until

    def _is_behind(self) -> bool:
        """Return whether the stream replays the life and is not at the present attempt yet."""
        return self._from_start and 0 < self._parts <= (self.retry_count or 0)

    def _judge_behind(self, event: StatusEvent | ProgressEvent) -> Fate:
        if not isinstance(event, StatusEvent) or event.status != self.status:
            return Fate.REPEATED
        # Or has the attempt begun like the life itself? An answer and what follows will show.
        self.held = [event]
        self._held_parts = [self._parts]
        return Fate.STEP_BACK

    def _steps_back(self, status: str) -> bool:
        return status in self._seen or _rank_of(status, self._rank) < self._rank

    def _may_be_old(self, status: str) -> bool:
        """Return whether a stream may repeat *status*, which cannot be ranked, or the present."""
        if self._is_level or self.status is None:
            return False
        return status not in _RANKS or self.status not in _RANKS

    def _note(self, status: str) -> None:
        self.status = status
        self._unconfirmed = False
        self._seen.add(status)
        self._rank = max(self._rank, _rank_of(status, -1))

    def _confirm(self, status: str) -> None:
        # The unconfirmed step back was none: go on from the true state, without a word,
        # since a status is never delivered twice in one attempt.
        is_other = status != self.status and status in self._seen
        if self._unconfirmed and is_other and self.retry_count is not None:
            self.status = status
            self._unconfirmed = False

    def _is_new_attempt(self, count: int, status: str, *, is_current: bool) -> bool:
        if self.retry_count is not None:
            return count > self.retry_count
        # No count was known before: only a step back shows that one attempt has ended.
        stepped_back = self.held is not None or self._unconfirmed
        lower = is_current and _rank_of(status, self._rank) < self._rank
        is_replay = self._from_start and self._parts < count + 1
        return count + 1 > self.attempt and (stepped_back or lower or is_replay)

    def _begin_attempt(self) -> None:
        known = (self.last_progress, self._last_status)
        stamps = [one.sent_at for one in known if one is not None]
        self._past_until = max((at for at in stamps if at is not None), default=self._past_until)
        self._last_status = None
        self.status = None
        self._seen.clear()
        self._rank = -1
        self._unconfirmed = False
        self.last_progress = self._progress_before = None


def _rank_of(status: str, default: int) -> int:
    return _RANKS.get(status, default)


def _is_same(event: ProgressEvent, known: ProgressEvent | None) -> bool:
    return known is not None and event.raw == known.raw and (bool(event.raw) or event == known)


def _is_beyond(event: ProgressEvent, before: ProgressEvent) -> bool:
    """Return whether *event* is further on than *before*, by whatever both of them say."""
    signs = (
        _sign(_seconds(event.sent_at), _seconds(before.sent_at)),
        _sign(event.progress, before.progress),
        _sign(event.step_current, before.step_current),
    )
    decisive = next((sign for sign in signs if sign), None)
    # Nothing to compare: at least it is not the same.
    return True if decisive is None else decisive > 0


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _sign(new: float | None, old: float | None) -> int:
    if new is None or old is None:
        return 0
    return (new > old) - (new < old)
