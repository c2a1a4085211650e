"""What other ledgers of the folder have: tasks of other shards, and of overtaken epochs."""

import json
import sqlite3
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from cyberun_async.batch import Job, JobOutcome, JobState, LedgerDamagedError, LedgerWriteError
from cyberun_async.batch._jobs import PreparedJob, prepared
from cyberun_async.batch._ledger import queries
from cyberun_async.batch._ledger.file import connect
from cyberun_async.cluster._counts import ShardCounts
from cyberun_async.cluster._lease import Lease, claim
from cyberun_async.cluster._messages import News, from_plain, to_plain
from cyberun_async.cluster._other_ledgers import OvertakenSubmission, claimed_by_others
from cyberun_async.cluster._reports import report_of
from cyberun_async.cluster._takeover import take_over


HOLDER = "tcp://127.0.0.1:1"


def held(folder: Path, shard: int = 0) -> Lease:
    lease = claim(folder, shard, HOLDER)
    take_over(lease)
    return lease


def with_job(ledger: Path, key: str) -> int:
    """Take a job in, write its intent, and return the submission's number."""
    job = prepared(Job(key=key, workflow="text-to-image"), 0)
    assert isinstance(job, PreparedJob)
    with closing(connect(ledger, durable=True, shared=True)) as db:
        queries.begin_staging(db)
        queries.stage(db, [(0, job, None)])
        queries.accept_staged(db)
        [number] = db.execute("SELECT number FROM jobs WHERE key = ?", (key,)).fetchone()
        return queries.intend(db, number)


def accepted(ledger: Path, submission: int, task_id: str) -> None:
    with closing(connect(ledger, durable=True, shared=True)) as db:
        [job] = db.execute("SELECT job FROM submissions WHERE id = ?", (submission,)).fetchone()
        queries.accept(db, job, submission, task_id)


def repeated(ledger: Path, submission: int, task_id: str) -> None:
    """Submit the job again, as a new holder does if its policy says so."""
    with closing(connect(ledger, durable=True, shared=True)) as db:
        [found] = queries.open_submissions(db)
        assert found.id == submission
        queries.judge(db, submission, "probably not submitted", ())
        queries.resubmit(db, found.job, submission)
        again = queries.intend(db, found.job)
        queries.accept(db, found.job, again, task_id)


def overtaken(folder: Path) -> tuple[OvertakenSubmission, ...]:
    return report_of(str(folder)).overtaken


def test_tasks_of_other_shards_are_theirs(tmp_path: Path) -> None:
    """A task that another shard's newest ledger knows is no candidate for one's own jobs."""
    mine, other = held(tmp_path, 0), held(tmp_path, 1)
    accepted(mine.ledger, with_job(mine.ledger, "a"), "task-a")
    accepted(other.ledger, with_job(other.ledger, "b"), "task-b")

    assert claimed_by_others(tmp_path, 0, ["task-a", "task-b", "task-c"]) == {"task-b"}


def test_a_ledger_that_cannot_be_read_claims_nothing(tmp_path: Path) -> None:
    """Its tasks stay candidates, which is the careful side."""
    held(tmp_path, 0)
    other = held(tmp_path, 1)
    other.ledger.write_bytes(b"no database at all")

    assert claimed_by_others(tmp_path, 0, ["task-b"]) == set()


def test_what_was_taken_over_is_the_new_epochs_own(tmp_path: Path) -> None:
    """What a ledger had when it was taken over is the new epoch's own."""
    old = held(tmp_path)
    accepted(old.ledger, with_job(old.ledger, "a"), "task-a")
    held(tmp_path)

    assert overtaken(tmp_path) == ()


def test_an_answer_read_after_the_move_is_found(tmp_path: Path) -> None:
    """The task is reported with those that the job has beside it."""
    old = held(tmp_path)
    submission = with_job(old.ledger, "a")
    new = held(tmp_path)
    repeated(new.ledger, submission, "task-2")
    assert overtaken(tmp_path) == ()
    accepted(old.ledger, submission, "task-1")

    [found] = overtaken(tmp_path)
    assert (found.key, found.task_id, found.other_tasks) == ("a", "task-1", ("task-2",))
    assert (found.shard, found.epoch) == (0, 1)
    report = report_of(str(tmp_path))
    assert report.overtaken == (found,)
    assert [fate.action for fate in report.fates] == ["resubmit"]
    assert "job 'a' sent at" in str(report)
    assert "became task task-1 beside task-2: the worker of epoch 1 had lost" in str(report)


def test_an_adopted_task_is_the_job_s(tmp_path: Path) -> None:
    """A person who took the task for the job's has settled the matter."""
    old = held(tmp_path)
    submission = with_job(old.ledger, "a")
    new = held(tmp_path)
    accepted(old.ledger, submission, "task-1")
    with closing(connect(new.ledger, durable=True, shared=True)) as db:
        [found] = queries.open_submissions(db)
        queries.adopt(db, found.job, found.id, "task-1")

    assert overtaken(tmp_path) == ()


def test_a_report_that_cannot_be_made_is_a_typed_error(tmp_path: Path) -> None:
    """A folder that is gone, and a file that is no ledger, now or of an epoch before."""
    with pytest.raises(LedgerWriteError, match="No such file"):
        report_of(str(tmp_path / "elsewhere"))
    with pytest.raises(LedgerWriteError, match="No such file"):
        claimed_by_others(tmp_path / "elsewhere", 0, ["task-a"])
    old = held(tmp_path)
    with_job(old.ledger, "a")
    new = held(tmp_path)
    old.ledger.write_bytes(b"no database at all" * 100)
    with pytest.raises(LedgerDamagedError):
        report_of(str(tmp_path))
    new.ledger.write_bytes(b"no database at all" * 100)
    with pytest.raises(LedgerDamagedError):
        report_of(str(tmp_path))


def test_evidence_is_not_touched(tmp_path: Path) -> None:
    """Looking for what was overtaken leaves every ledger as it is."""
    old = held(tmp_path)
    with_job(old.ledger, "a")
    held(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    report_of(str(tmp_path))

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_news_arrives_as_it_was_sent() -> None:
    """Outcomes travel as plain data, and come back whole."""
    outcome = JobOutcome(
        key="a",
        state=JobState.COMPLETED,
        task_id="task-a",
        error="its files were not downloaded",
        files=(Path("out/a.png"),),
        submissions=2,
        is_replayed=True,
    )
    for news in (
        News(3, 2, outcome, {JobState.COMPLETED: 1}),
        News(3, 2, None, {JobState.PLANNED: 5, JobState.RUNNING: 1}),
    ):
        assert from_plain(json.loads(json.dumps(to_plain(news)))) == news


def test_an_outcome_is_reported_once() -> None:
    """Whoever reports it first, of the newest epoch; an overtaken worker does not count."""
    counts = ShardCounts()
    counts.begin({0: 2, 1: 3})
    is_new = partial(_is_new, counts)

    assert counts.progress().counts[JobState.PLANNED] == 5
    assert is_new(0, 1, "a", completed=1)
    assert not is_new(0, 1, "a", completed=1)
    assert not is_new(0, 2, None, completed=1)
    assert not is_new(0, 1, "b", completed=9)
    assert is_new(0, 2, "b", completed=2)
    assert not is_new(9, 1, "c", completed=1)
    assert (counts.progress().ended, counts.progress().total) == (2, 5)


def _is_new(counts: ShardCounts, shard: int, epoch: int, key: str | None, completed: int) -> bool:
    outcome = None if key is None else JobOutcome(key=key, state=JobState.COMPLETED)
    return counts.add(News(shard, epoch, outcome, {JobState.COMPLETED: completed}))


def test_timestamps_are_aware(tmp_path: Path) -> None:
    """When a request left has its time zone."""
    old = held(tmp_path)
    submission = with_job(old.ledger, "a")
    held(tmp_path)
    accepted(old.ledger, submission, "task-1")

    [found] = overtaken(tmp_path)
    assert isinstance(found.intent_at, datetime)
    assert found.intent_at.utcoffset() is not None


def test_the_ledger_stays_readable(tmp_path: Path) -> None:
    """A person may ask the newest ledger with anything that reads SQLite."""
    lease = held(tmp_path)
    with_job(lease.ledger, "a")
    with closing(sqlite3.connect(lease.ledger)) as connection:
        assert connection.execute("SELECT key FROM overview").fetchall() == [("a",)]
