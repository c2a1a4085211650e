"""
Progress for people: what one message about a task says, when, and the time it may still take.

Events go in with their moment; what is to be shown comes out. There is no await and no
clock in here.
"""

from collections import deque

import attrs

from .._model import (
    CancelledEvent,
    CompletedEvent,
    Described,
    Event,
    FailedEvent,
    ProgressEvent,
    StatusEvent,
    TerminalEvent,
)


# Before this much was seen, a rate is a guess.
_SECONDS_SEEN = 3.0
_EVENTS_SEEN = 3
# The rate is that of the last minute: models load slowly and then run evenly.
_WINDOW = 60.0
_POINTS = 64
# A task that stands still for this many of its usual pauses has no rate any more.
_PAUSES = 4.0
_SHORTEST_STILL = 10.0
_LONGEST_LEFT = 86_400.0

# From here on seconds rounded by fives would read as a minute.
_NEARLY_A_MINUTE = 57.5
_MINUTE, _HOUR = 60.0, 3600.0
_ERROR_CHARACTERS = 200


@attrs.frozen(kw_only=True, repr=False)
class ProgressUpdate(Described):
    """
    What is known of a task at one moment, for one message about it.

    Attributes:
        task_id: The task.
        status: Its state, the final one included; None where nothing is known yet.
        attempt: Counted from 1.
        progress: 0.0 to 1.0, never falling within an attempt; None before the first event.
        step_current, step_total: Where the runtime reports steps.
        stage, message: Nerfstudio's stage and free text.
        seconds_left: An estimate, or None where none can be given: at the start, while
            polling, and when the task stands still.
        is_live: Whether progress arrives as it happens; not so while polling.
        end: The terminal event, with the last update only.
    """

    task_id: str
    status: str | None = None
    attempt: int = 1
    progress: float | None = None
    step_current: int | None = None
    step_total: int | None = None
    stage: str | None = None
    message: str | None = None
    seconds_left: float | None = None
    is_live: bool = False
    end: TerminalEvent | None = None

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""
        return self.end is not None

    @property
    def text(self) -> str:
        """A line such as ``72 % · step 14/20 · about 8 s left``."""
        return " · ".join(_end_parts(self) if self.end is not None else _live_parts(self))

    def __str__(self) -> str:
        return self.text


def _end_parts(update: ProgressUpdate) -> list[str]:
    parts = [str(update.status)]
    if isinstance(update.end, FailedEvent) and update.end.error:
        parts.append(_shortened(update.end.error))
    return parts


def _live_parts(update: ProgressUpdate) -> list[str]:
    parts = [f"attempt {update.attempt}"] if update.attempt > 1 else []
    if update.stage:
        parts.append(update.stage)
    if update.progress is None or update.status != "running":
        parts.append(str(update.status or "submitted"))
    else:
        parts.append(f"{update.progress * 100:.0f} %")
        if update.step_current is not None and update.step_total:
            parts.append(f"step {update.step_current}/{update.step_total}")
    if update.status == "running" and not update.is_live:
        parts.append("no live progress")
    elif update.seconds_left is not None:
        parts.append(f"about {duration(update.seconds_left)} left")
    return parts


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _ERROR_CHARACTERS else f"{line[: _ERROR_CHARACTERS - 1]}…"


def duration(seconds: float) -> str:
    """Return *seconds* as a person would say them, no finer than an estimate deserves."""
    if seconds < _NEARLY_A_MINUTE:
        grain = 1 if seconds < 10 else 5
        return f"{max(grain, round(seconds / grain) * grain)} s"
    if seconds < _HOUR:
        return f"{round(seconds / _MINUTE)} min"
    return f"{seconds / _HOUR:.1f} h"


@attrs.define
class TimeLeft:
    """How long an attempt may still take, from the progress of its last minute."""

    _points: deque[tuple[float, float]] = attrs.field(
        factory=lambda: deque[tuple[float, float]](maxlen=_POINTS), init=False
    )

    def add(self, progress: float, now: float) -> None:
        """Note progress that moved the task."""
        while self._points and now - self._points[0][0] > _WINDOW:
            self._points.popleft()
        self._points.append((now, progress))

    def at(self, now: float) -> float | None:
        """Return the seconds left at *now*, or None where nobody could know."""
        if len(self._points) < _EVENTS_SEEN:
            return None
        (began, first), (last, done) = self._points[0], self._points[-1]
        seen, gained = last - began, done - first
        if seen < _SECONDS_SEEN or gained <= 0:
            return None
        usual = seen / (len(self._points) - 1)
        if now - last > max(_SHORTEST_STILL, _PAUSES * usual):
            return None
        left = max(0.0, (1.0 - done) * seen / gained - (now - last))
        return left if left <= _LONGEST_LEFT else None


@attrs.define
class ProgressTracker:
    """
    The newest state of one task, and whether there is something to say.

    At most one update is due in *min_interval* seconds. The last one is always due,
    after what is left of the interval.
    """

    task_id: str
    min_interval: float
    _status: str | None = attrs.field(default=None, init=False)
    _attempt: int = attrs.field(default=1, init=False)
    _progress: ProgressEvent | None = attrs.field(default=None, init=False)
    _end: TerminalEvent | None = attrs.field(default=None, init=False)
    _time_left: TimeLeft = attrs.field(factory=TimeLeft, init=False)
    _has_news: bool = attrs.field(default=False, init=False)
    _updated_at: float | None = attrs.field(default=None, init=False)
    dropped_progress: int = attrs.field(default=0, init=False)

    def take(self, event: Event, now: float) -> None:
        """Note *event*."""
        if event.attempt > self._attempt:
            self._attempt = event.attempt
            self._progress = None
            self._time_left = TimeLeft()
        match event:
            case ProgressEvent():
                self._take_progress(event, now)
            case StatusEvent(status=status):
                self._news(status)
            case CompletedEvent() | FailedEvent() | CancelledEvent():
                self._end = event
                self._news(event.status)
            case _:
                pass

    def changed(self) -> None:
        """Progress has become live, or is so no longer."""
        self._has_news = True

    def due_at(self) -> float | None:
        """Return the moment at which an update is due, or None while nothing is new."""
        if not self._has_news:
            return None
        return 0.0 if self._updated_at is None else self._updated_at + self.min_interval

    def update(self, now: float, *, is_live: bool) -> ProgressUpdate:
        """Return the newest state, as of *now*."""
        self._has_news = False
        self._updated_at = now
        newest = self._progress
        return ProgressUpdate(
            task_id=self.task_id,
            status=self._status,
            attempt=self._attempt,
            progress=None if newest is None else newest.progress,
            step_current=None if newest is None else newest.step_current,
            step_total=None if newest is None else newest.step_total,
            stage=None if newest is None else newest.stage,
            message=None if newest is None else newest.message,
            seconds_left=self._time_left.at(now) if is_live and self._end is None else None,
            is_live=is_live,
            end=self._end,
        )

    def _take_progress(self, newest: ProgressEvent, now: float) -> None:
        shown = None if self._progress is None else self._progress.progress
        if shown is not None and (newest.progress is None or newest.progress < shown):
            return
        if newest.progress is not None and (shown is None or newest.progress > shown):
            self._time_left.add(newest.progress, now)
        self._progress = newest
        # Progress is proof enough that the task runs, where the service says no more.
        self._news("running")

    def _news(self, status: str) -> None:
        self.dropped_progress += self._has_news
        self._has_news = True
        self._status = status
