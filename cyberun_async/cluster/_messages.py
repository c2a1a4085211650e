"""What workers and the client program say to each other, as plain data or pickled values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ..batch import (
    BatchPolicy,
    BatchReport,
    Job,
    JobFault,
    JobOutcome,
    JobState,
    UnconfirmedSubmission,
)
from ..batch._outcomes import OUTCOMES
from ._folder import Plan


Counts = Mapping[JobState, int]


@attrs.frozen(kw_only=True)
class ShardTask:
    """
    What a worker needs for one shard. No credential is among it.

    Attributes:
        run_id: The run of the client program that it belongs to.
        plugin: The name of the worker plugin that has the client.
        folder: The folder that all workers share.
        plan: What that folder is, so that another one of its name is told apart.
        shard: The shard's number.
        jobs: Its jobs.
        policy: The shard's own, which is a part of the batch's.
        topic: Where outcomes are told as they come; it names the run of the batch.
    """

    run_id: str
    plugin: str
    folder: str
    plan: Plan
    shard: int
    jobs: tuple[Job, ...] = attrs.field(repr=False)
    policy: BatchPolicy = attrs.field(repr=False)
    topic: str


@attrs.frozen(kw_only=True)
class ShardResult:
    """
    What came of one shard.

    Attributes:
        epoch: The epoch in which it was worked through.
        outcomes: One for each of its jobs that has one.
        report: What its ledger has.
        counts: Its jobs of this run, by state.
        undecided: Submissions whose fate is left to the caller; the shard is not finished.
        faults: Jobs that cannot be run; nothing of the shard was sent.
    """

    epoch: int
    outcomes: tuple[JobOutcome, ...] = ()
    report: BatchReport
    counts: Counts
    undecided: tuple[UnconfirmedSubmission, ...] = ()
    faults: tuple[JobFault, ...] = ()


@attrs.frozen
class News:
    """An outcome of a shard, or None, and how far the shard is."""

    run_id: str
    shard: int
    epoch: int
    outcome: JobOutcome | None
    counts: Counts


def without_snapshot(outcome: JobOutcome) -> JobOutcome:
    """Return the outcome as it travels: a snapshot would be most of it."""
    return attrs.evolve(outcome, snapshot=None)


def told(news: News) -> dict[str, Any]:
    """Return *news* in the form that Dask's events take."""
    outcome = news.outcome
    return {
        "run_id": news.run_id,
        "shard": news.shard,
        "epoch": news.epoch,
        "outcome": None if outcome is None else _plain(outcome),
        "counts": {str(state): count for state, count in news.counts.items()},
    }


def _plain(outcome: JobOutcome) -> dict[str, Any]:
    return {
        "key": outcome.key,
        "state": str(outcome.state),
        "task_id": outcome.task_id,
        "error": outcome.error,
        "files": [str(path) for path in outcome.files],
        "submissions": outcome.submissions,
        "is_replayed": outcome.is_replayed,
    }


def heard(message: Mapping[str, Any]) -> News:
    """Return what :func:`told` was given."""
    plain: dict[str, Any] | None = message["outcome"]
    return News(
        message["run_id"],
        message["shard"],
        message["epoch"],
        None if plain is None else _outcome(plain),
        {JobState(state): count for state, count in message["counts"].items()},
    )


def _outcome(plain: dict[str, Any]) -> JobOutcome:
    fields: dict[str, Any] = dict(plain)
    fields["state"] = OUTCOMES[plain["state"]]
    fields["files"] = tuple(Path(path) for path in plain["files"])
    return JobOutcome(**fields)
