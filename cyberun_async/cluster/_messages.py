"""What workers and the client program send each other, as plain data or pickled values."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs

from ..batch import (
    BatchPolicy,
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
class Setup:
    """
    What all shards of an open batch have in common. It holds no credential.

    Attributes:
        run_id: The client program's, whose shards alone the worker plugin runs.
        plugin: The name of the worker plugin that has the client.
        folder: The folder that all workers share.
        parts: How many shards run at once.
        shard_size: About how many jobs a shard has.
        policy: The policy of one shard, which is a part of the batch's.
    """

    run_id: str
    plugin: str
    folder: str
    parts: int
    shard_size: int
    policy: BatchPolicy = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class ShardTask:
    """
    What a worker needs for one shard.

    Attributes:
        setup: What all shards have in common.
        plan: What the folder is, so that another one of its name is noticed.
        shard: The shard's number.
        jobs: Its jobs.
        topic: Where outcomes are reported as they come; it names the run of the batch.
    """

    setup: Setup
    plan: Plan
    shard: int
    jobs: tuple[Job, ...] = attrs.field(default=(), repr=False)
    topic: str = ""


@attrs.frozen(kw_only=True)
class ShardResult:
    """
    What came of one shard.

    Attributes:
        epoch: The epoch in which it was worked through.
        outcomes: One for each of its jobs that has one.
        counts: Its jobs of this run, by state.
        undecided: Unconfirmed submissions left to the caller; the shard is not finished.
        faults: Jobs that cannot be run; nothing of the shard was sent.
    """

    epoch: int
    outcomes: tuple[JobOutcome, ...] = ()
    counts: Counts
    undecided: tuple[UnconfirmedSubmission, ...] = ()
    faults: tuple[JobFault, ...] = ()


@attrs.frozen
class News:
    """An outcome of a shard, or None, and how far the shard is."""

    shard: int
    epoch: int
    outcome: JobOutcome | None
    counts: Counts


def to_plain(news: News) -> dict[str, Any]:
    """Return *news* in the form that Dask's events take."""
    return attrs.asdict(news, value_serializer=_plain_value)


def _plain_value(_: object, __: object, value: object) -> object:
    return str(value) if isinstance(value, StrEnum | Path) else value


def from_plain(message: Mapping[str, Any]) -> News:
    """Return what :func:`to_plain` was given."""
    plain: dict[str, Any] | None = message["outcome"]
    return News(
        message["shard"],
        message["epoch"],
        None if plain is None else _outcome(plain),
        {JobState(state): count for state, count in message["counts"].items()},
    )


def _outcome(plain: dict[str, Any]) -> JobOutcome:
    files = tuple(Path(path) for path in plain["files"])
    fields: dict[str, Any] = {**plain, "state": OUTCOMES[plain["state"]], "files": files}
    return JobOutcome(**fields)
