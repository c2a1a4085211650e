"""What comes of jobs: outcomes, unconfirmed submissions, and the sums of both."""

import enum
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import attrs

from .. import TaskSnapshot


class JobState(enum.StrEnum):
    """
    Where a job is, as the ledger has it.

    ``completed``, ``failed``, ``cancelled``, ``rejected``, ``lost`` and ``skipped`` are
    outcomes.
    """

    PLANNED = "planned"
    """Nothing has been sent, or what was sent certainly made no task."""

    SENDING = "sending"
    """About to be sent, or sent and not answered: it may have become a task."""

    RUNNING = "running"
    """Accepted; the ledger has the task's id."""

    SAVING = "saving"
    """Completed; its files are to be downloaded."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    REJECTED = "rejected"
    """The service rejected it; no task exists. The next run tries it again."""

    LOST = "lost"
    """Its task could not be followed to an end. The next run tries that again."""

    SKIPPED = "skipped"
    """It may have been submitted; you or the policy gave it up."""


OutcomeState: TypeAlias = Literal[
    JobState.COMPLETED,
    JobState.FAILED,
    JobState.CANCELLED,
    JobState.REJECTED,
    JobState.LOST,
    JobState.SKIPPED,
]
"""The six states that are outcomes."""

OUTCOMES: Mapping[str, OutcomeState] = {state.value: state for state in get_args(OutcomeState)}

Verdict: TypeAlias = Literal["uncertain", "probably not submitted"]


@attrs.frozen(kw_only=True)
class JobOutcome:
    """
    What came of one job, as it stands in the ledger.

    Attributes:
        key: The job's.
        state: One of the six that are outcomes.
        task_id: The last task it became, or None.
        error: Why it did not complete, or why its files could not be downloaded.
        files: What was downloaded.
        submissions: How often it was submitted and accepted.
        snapshot: The task's final state, where it ended in this run.
        is_replayed: Whether it was recorded by an earlier run.
    """

    key: str
    state: OutcomeState
    task_id: str | None = None
    error: str | None = None
    files: tuple[Path, ...] = ()
    submissions: int = 0
    snapshot: TaskSnapshot | None = attrs.field(default=None, repr=False, eq=False)
    is_replayed: bool = False

    @property
    def is_completed(self) -> bool:
        """Whether the task completed; its files may still be missing, see `error`."""
        return self.state == JobState.COMPLETED


@attrs.frozen(kw_only=True)
class UnconfirmedSubmission:
    """
    A submission whose answer was never read.

    Attributes:
        key: The job's.
        workflow: What was to be run.
        intent_at: Just before the request left, by this machine's clock.
        verdict: What the task list says, or None before it was read.
        candidates: Tasks that it may have become, by id.
        action: What was done: ``resubmit``, ``skip``, ``adopt``; None while undecided.
    """

    key: str
    workflow: str
    intent_at: datetime
    verdict: Verdict | None = None
    candidates: tuple[str, ...] = ()
    action: str | None = None

    def __str__(self) -> str:
        """Say it in one line."""
        verdict: str = self.verdict or "not looked into yet"
        if self.candidates:
            verdict += f", candidates: {', '.join(self.candidates)}"
        done = f" -> {self.action}" if self.action else ""
        sent_at = self.intent_at.isoformat(timespec="seconds")
        return f"job {self.key!r} sent at {sent_at}: {verdict}{done}"


@attrs.frozen(kw_only=True)
class BatchProgress:
    """
    How far the whole batch is.

    Attributes:
        counts: Jobs by state.
    """

    counts: Mapping[JobState, int] = attrs.field(hash=False)

    @property
    def total(self) -> int:
        """All jobs."""
        return sum(self.counts.values())

    @property
    def ended(self) -> int:
        """Jobs that have an outcome."""
        return sum(count for state, count in self.counts.items() if state in OUTCOMES)

    @property
    def is_finished(self) -> bool:
        """Whether every job has an outcome."""
        return self.ended == self.total

    def __str__(self) -> str:
        """Say it in one line."""
        states = ", ".join(f"{count} {state}" for state, count in self.counts.items() if count)
        return f"{self.ended} of {self.total} jobs have an outcome ({states or 'no jobs'})"


@attrs.frozen(kw_only=True)
class BatchReport(BatchProgress):
    """
    The whole batch as the ledger has it.

    Attributes:
        counts: Jobs by state.
        fates: Every unconfirmed submission there ever was, whatever became of it.
    """

    fates: tuple[UnconfirmedSubmission, ...] = ()

    def __str__(self) -> str:
        """Say it in a line, and one for each unconfirmed submission."""
        return "\n".join([BatchProgress.__str__(self), *map(str, self.fates)])
