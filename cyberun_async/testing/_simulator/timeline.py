"""A task's life as a line of marks: pure functions, no clock."""

from collections.abc import Mapping, Sequence

import attrs

from .behaviour import Behaviour
from .plan import Attempt, TaskPlan


TERMINAL = frozenset({"completed", "failed", "cancelled"})
ALIVE = ("pending", "waiting", "provisioning", "queued", "running")
STATUSES = frozenset(ALIVE) | TERMINAL

# Two ways of adding the same seconds differ in their last digits.
ROUNDING = 1e-6

_NOTHING: Mapping[str, object] = {}


@attrs.frozen
class Mark:
    """
    One point of a task's life, with all that holds from then on.

    *at* and *started* are seconds since the task was created, *name* is the
    event on the stream, *details* what that event says beyond the state, and
    *is_over* that the task ends here although the state is not a known end.
    """

    at: float
    name: str
    status: str
    attempt: int = 0
    started: float | None = None
    details: Mapping[str, object] = _NOTHING
    is_over: bool = False

    @property
    def is_terminal(self) -> bool:
        """Whether the task has ended with this mark."""
        return self.is_over or self.status in TERMINAL


def born() -> Mark:
    """Return the first mark of every task."""
    return Mark(0.0, "status", "pending")


def followed_by(
    last: Mark,
    at: float,
    name: str,
    *,
    status: str | None = None,
    details: Mapping[str, object] = _NOTHING,
) -> Mark:
    """Return the mark that comes after *last*, keeping what it does not change."""
    status = status or last.status
    is_start = status == "running" and last.status != "running"
    started = at if is_start else last.started
    return Mark(at, name, status, last.attempt, started, details)


def retried(last: Mark, at: float) -> Mark:
    """Return the mark with which the next attempt begins."""
    return Mark(at, "status", "waiting", last.attempt + 1)


def ended(last: Mark, at: float, outcome: str, error: str = "") -> Mark:
    """Return the mark with which a task ends."""
    details = {"error": error} if outcome == "failed" else {}
    return followed_by(last, at, outcome, status=outcome, details=details)


def ended_unknown(last: Mark, at: float, state: str, error: str) -> Mark:
    """Return the mark with which a task ends in a state that no page names."""
    mark = followed_by(last, at, "status", status=state, details={"error": error})
    return attrs.evolve(mark, is_over=True)


def cancelled(marks: Sequence[Mark], elapsed: float, stop_seconds: float) -> tuple[Mark, ...]:
    """
    Return the life of a task that is cancelled at *elapsed*.

    A running task needs *stop_seconds*, and keeps an end that comes before.
    """
    now = [mark for mark in marks if mark.at <= elapsed + ROUNDING][-1]
    if now.is_terminal:
        return tuple(marks)
    stop_at = elapsed + (stop_seconds if now.status == "running" else 0.0)
    kept = [mark for mark in marks if mark.at <= stop_at + ROUNDING]
    if not kept[-1].is_terminal:
        kept.append(ended(kept[-1], stop_at, "cancelled"))
    return tuple(kept)


def timeline(
    plan: TaskPlan,
    behaviour: Behaviour,
    *,
    steps: int,
    stages: tuple[str, ...],
    speed: float,
) -> tuple[Mark, ...]:
    """Compute the whole life that *plan* describes."""
    writer = _Writer(plan, behaviour, steps, stages, speed)
    writer.wait(plan.pending)
    for attempt in plan.attempts:
        writer.lost_attempt(attempt)
    writer.last_attempt()
    return tuple(writer.marks)


@attrs.define
class _Writer:
    """Writes marks one after the other, moving time along."""

    _plan: TaskPlan
    _behaviour: Behaviour
    _steps: int
    _stages: tuple[str, ...]
    _speed: float
    marks: list[Mark] = attrs.field(factory=lambda: [born()], init=False)
    _at: float = attrs.field(default=0.0, init=False)

    def wait(self, seconds: float) -> None:
        self._at += seconds / self._speed

    def lost_attempt(self, attempt: Attempt) -> None:
        self._reach_queue()
        if attempt.lost_in == "running":
            self._run(attempt.steps)
        self.marks.append(retried(self.marks[-1], self._at))

    def last_attempt(self) -> None:
        plan = self._plan
        if plan.forever_waiting:
            self._status("waiting")
            return
        self._reach_queue()
        cut = plan.stop_at_step if plan.outcome != "completed" else None
        self._run(self._steps if cut is None else cut)
        last = self.marks[-1]
        if plan.unknown_end is not None:
            self.marks.append(ended_unknown(last, self._at, plan.unknown_end, plan.error))
        else:
            self.marks.append(ended(last, self._at, plan.outcome, plan.error))

    def _reach_queue(self) -> None:
        self._status("waiting")
        self.wait(self._plan.waiting)
        if self._behaviour.provisioning:
            self._status("provisioning")
            self.wait(self._plan.provisioning)
        self._status("queued")
        self.wait(self._plan.queued)

    def _run(self, steps: int) -> None:
        self._status("running")
        self._extras()
        for step in range(1, min(steps, self._steps) + 1):
            self.wait(self._plan.step_seconds)
            self._event("progress", details=self._progress(step))

    def _extras(self) -> None:
        if self._behaviour.error_event is not None:
            self._event("error", details={"error": "could not fetch the status"})
        if self._behaviour.unknown_events:
            self._event("log", details={"line": "loading checkpoint"})
            self._event("preview", details={"image": "data:image/png;base64,"})

    def _progress(self, step: int) -> dict[str, object]:
        share = round(step / self._steps, 4)
        progress: dict[str, object] = {
            "progress": share,
            "step_current": step,
            "step_total": self._steps,
            "current_node": "3" if share < 1 else "9",
        }
        if self._stages:
            index = min(int((step - 1) / self._steps * len(self._stages)), len(self._stages) - 1)
            stage = self._stages[index]
            del progress["current_node"]
            progress |= {"stage": stage, "message": f"{stage}: step {step} of {self._steps}"}
        return progress

    def _status(self, status: str) -> None:
        # The first wait of a retried attempt is the mark of the retry itself.
        if self.marks[-1].status != status:
            self._event("status", status=status)

    def _event(
        self,
        name: str,
        *,
        status: str | None = None,
        details: Mapping[str, object] = _NOTHING,
    ) -> None:
        last = self.marks[-1]
        self.marks.append(followed_by(last, self._at, name, status=status, details=details))
