"""What the batch reads from its ledger and writes to it, in SQL; all run in the ledger's thread."""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs

from .._jobs import JobFault, PreparedJob
from .._outcomes import OUTCOMES, BatchReport, JobOutcome, JobState, UnconfirmedSubmission, Verdict
from .file import note
from .schema import STAGING


SKIPPED_WHY = "it may have been submitted, and was left at that"

# Notes about the run that is going on: its name, and which jobs it submitted again.
_RUN_MARKER = "run marker"
_RESUBMITTED = "resubmitted:"

_ROW = (
    "number, key, workflow, workflow_id, parameters, files, options, state, task_id, accepted, run"
)


@attrs.frozen
class JobRow:
    """A job that is to be worked on."""

    number: int
    key: str
    workflow: str
    workflow_id: str | None
    parameters: str = attrs.field(repr=False)
    files: str
    options: str
    state: str
    task_id: str | None
    accepted: int
    run: int


@attrs.frozen
class Known:
    """What the ledger has under a key already."""

    digest: str
    state: str


@attrs.frozen
class OpenSubmission:
    """An unconfirmed submission that is to be decided."""

    id: int
    job: int
    key: str
    workflow: str
    workflow_id: str | None
    intent_at: datetime


def now() -> str:
    """Return the current time as the ledger writes it."""
    return datetime.now(UTC).isoformat()


def begin_staging(db: sqlite3.Connection) -> None:
    """Delete jobs that were staged but not accepted."""
    db.execute(STAGING)
    db.execute("DELETE FROM temp.staged")


def known(db: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Known]:
    """Return which of *keys* are in the ledger."""
    found: dict[str, Known] = {}
    for key in keys:
        row = db.execute("SELECT digest, state FROM jobs WHERE key = ?", (key,)).fetchone()
        if row is not None:
            found[key] = Known(*row)
    return found


def stage(
    db: sqlite3.Connection, jobs: Iterable[tuple[int, PreparedJob, str | None]]
) -> list[tuple[int, JobFault]]:
    """Stage jobs, each with its place and its workflow's id; return the duplicate keys."""
    faults: list[tuple[int, JobFault]] = []
    insert = "INSERT OR IGNORE INTO temp.staged VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    for place, job, workflow_id in jobs:
        fields = (job.workflow, workflow_id, job.parameters, job.files, job.options, job.digest)
        if db.execute(insert, (job.key, job.place, *fields)).rowcount == 0:
            [first] = db.execute(
                "SELECT place FROM temp.staged WHERE key = ?", (job.key,)
            ).fetchone()
            fault = JobFault(job.place, job.key, f"the key is that of {first} already")
            faults.append((place, fault))
    return faults


def accept_staged(db: sqlite3.Connection) -> int:
    """Put the staged jobs into the ledger and return the number of this run."""
    run = _next_run(db)
    db.execute(
        "INSERT INTO jobs (key, workflow, workflow_id, parameters, files, options, digest, run,"
        " changed_at) SELECT key, workflow, workflow_id, parameters, files, options, digest, ?, ?"
        " FROM temp.staged WHERE true ORDER BY temp.staged.rowid"
        " ON CONFLICT (key) DO UPDATE SET run = excluded.run",
        (run, now()),
    )
    db.execute("DELETE FROM temp.staged")
    return run


def take_all(db: sqlite3.Connection) -> int:
    """Make every job of the ledger one of this run, and return the run's number."""
    run = _next_run(db)
    db.execute("UPDATE jobs SET run = ?", (run,))
    return run


def _next_run(db: sqlite3.Connection) -> int:
    [last] = db.execute("SELECT coalesce(max(run), 0) FROM jobs").fetchone()
    return int(last) + 1


def _reopen(db: sqlite3.Connection, run: int, *, max_submissions: int, saves: bool) -> None:
    """Plan again what an earlier run left without a good end and may be tried once more."""
    db.execute(
        "UPDATE jobs SET state = CASE state WHEN 'lost' THEN 'running' WHEN 'completed' THEN"
        " 'saving' ELSE 'planned' END, error = NULL WHERE run = ? AND (state IN ('rejected',"
        " 'lost') OR (state = 'failed' AND accepted < ?)"
        " OR (state = 'completed' AND error IS NOT NULL AND ?))",
        (run, max_submissions, saves),
    )


def work(
    db: sqlite3.Connection, run: int, after: int, limit: int, *, may_submit: bool = True
) -> list[JobRow]:
    """
    Return the next jobs to work on: those of this run, and any that has a task already.

    A job of an earlier run that was never sent stays as it is. So do all jobs without a
    task if nothing may be submitted.
    """
    rows = db.execute(
        f"SELECT {_ROW} FROM jobs WHERE number > ? AND"  # noqa: S608 - a constant
        " (state IN ('running', 'saving') OR (state = 'planned' AND run = ? AND ?))"
        " ORDER BY number LIMIT ?",
        (after, run, may_submit, limit),
    )
    return [JobRow(*row) for row in rows]


def outcomes(
    db: sqlite3.Connection, run: int, after: int, limit: int
) -> list[tuple[int, JobOutcome]]:
    """Return the next outcomes the ledger has of jobs of this run, with the jobs' numbers."""
    rows = db.execute(
        "SELECT number, key, state, task_id, error, accepted FROM jobs WHERE number > ? AND run = ?"
        " AND state NOT IN ('planned', 'sending', 'running', 'saving') ORDER BY number LIMIT ?",
        (after, run, limit),
    ).fetchall()
    return [
        (
            number,
            JobOutcome(
                key=key,
                state=OUTCOMES[state],
                task_id=task_id,
                error=error,
                files=_files(db, number),
                submissions=accepted,
                is_replayed=True,
            ),
        )
        for number, key, state, task_id, error, accepted in rows
    ]


def _files(db: sqlite3.Connection, number: int) -> tuple[Path, ...]:
    rows = db.execute("SELECT path FROM files WHERE job = ? ORDER BY place", (number,))
    return tuple(Path(path) for (path,) in rows)


def intend(db: sqlite3.Connection, job: int) -> int:
    """Note that the job is about to be submitted, and return the submission's number."""
    cursor = db.execute("INSERT INTO submissions (job, intent_at) VALUES (?, ?)", (job, now()))
    _move(db, job, JobState.SENDING)
    return int(cursor.lastrowid or 0)


def withdraw(db: sqlite3.Connection, job: int, submission: int, answer: str, why: str) -> None:
    """Note that the submission certainly made no task."""
    db.execute(
        "UPDATE submissions SET answer = ?, answered_at = ?, error = ? WHERE id = ?",
        (answer, now(), why, submission),
    )
    _move(db, job, JobState.PLANNED)


def reject(db: sqlite3.Connection, job: int, submission: int | None, why: str) -> None:
    """Note that the service rejected the job."""
    if submission is not None:
        withdraw(db, job, submission, "declined", why)
    _move(db, job, JobState.REJECTED, error=why)


def accept(db: sqlite3.Connection, job: int, submission: int, task_id: str) -> None:
    """Note the task that the submission became."""
    db.execute(
        "UPDATE submissions SET answer = 'accepted', answered_at = ?, task_id = ? WHERE id = ?",
        (now(), task_id, submission),
    )
    _run(db, job, task_id)


def _run(db: sqlite3.Connection, job: int, task_id: str) -> None:
    db.execute(
        "UPDATE jobs SET state = 'running', error = NULL, changed_at = ?, task_id = ?,"
        " accepted = accepted + 1 WHERE number = ?",
        (now(), task_id, job),
    )


def end(
    db: sqlite3.Connection,
    job: int,
    task_id: str,
    *,
    status: str,
    error: str | None,
    state: JobState,
) -> None:
    """Note how the task ended, and what that makes of the job."""
    db.execute(
        "UPDATE submissions SET status = ?, ended_at = ?, error = ? WHERE task_id = ?",
        (status, now(), error, task_id),
    )
    is_over = state in OUTCOMES and state != JobState.COMPLETED
    _move(db, job, state, error=(error or status) if is_over else None)


def lose(db: sqlite3.Connection, job: int, why: str) -> None:
    """Note that the task could not be followed to its end."""
    _move(db, job, JobState.LOST, error=why)


def saved(
    db: sqlite3.Connection, job: int, task_id: str, paths: Sequence[Path], problem: str | None
) -> None:
    """Note the files of a completed task, or why there are none."""
    db.execute("DELETE FROM files WHERE job = ?", (job,))
    rows = [(job, place, task_id, str(path)) for place, path in enumerate(paths)]
    db.executemany("INSERT INTO files VALUES (?, ?, ?, ?)", rows)
    _move(db, job, JobState.COMPLETED, error=problem)


def _move(db: sqlite3.Connection, job: int, state: JobState, error: str | None = None) -> None:
    db.execute(
        "UPDATE jobs SET state = ?, error = ?, changed_at = ? WHERE number = ?",
        (state, error, now(), job),
    )


def lost_answer(db: sqlite3.Connection, submission: int, why: str) -> None:
    """Note that the answer was not read; the job stays where it is."""
    db.execute("UPDATE submissions SET answer = 'lost', error = ? WHERE id = ?", (why, submission))


def open_submissions(db: sqlite3.Connection) -> list[OpenSubmission]:
    """Return the unconfirmed submissions to be decided; note that their answers are lost."""
    db.execute(
        "UPDATE submissions SET answer = 'lost',"
        " error = 'the program ended before the answer was read' WHERE answer IS NULL"
        " AND job IN (SELECT number FROM jobs WHERE state = 'sending')"
    )
    rows = db.execute(
        "SELECT s.id, j.number, j.key, j.workflow, j.workflow_id, s.intent_at FROM submissions s"
        " JOIN jobs j ON j.number = s.job"
        " WHERE s.answer = 'lost' AND s.action IS NULL AND j.state = 'sending' ORDER BY s.id"
    )
    return [
        OpenSubmission(number, job, key, workflow, workflow_id, datetime.fromisoformat(intent_at))
        for number, job, key, workflow, workflow_id, intent_at in rows
    ]


def claimed(db: sqlite3.Connection, task_ids: Sequence[str]) -> dict[str, datetime]:
    """Return which of the tasks this ledger submitted, and when."""
    found: dict[str, datetime] = {}
    for task_id in task_ids:
        row = db.execute(
            "SELECT intent_at FROM submissions WHERE task_id = ?", (task_id,)
        ).fetchone()
        if row is not None:
            found[task_id] = datetime.fromisoformat(row[0])
    return found


def judge(
    db: sqlite3.Connection, submission: int, verdict: Verdict, candidates: Sequence[str]
) -> None:
    """Note what the task list says about a submission."""
    db.execute(
        "UPDATE submissions SET verdict = ?, candidates = ? WHERE id = ?",
        (verdict, json.dumps(list(candidates)), submission),
    )


def resubmit(db: sqlite3.Connection, job: int, submission: int) -> None:
    """Plan the job anew."""
    _act(db, submission, "resubmit")
    _move(db, job, JobState.PLANNED)


def skip(db: sqlite3.Connection, job: int, submission: int) -> None:
    """Leave the job at that."""
    _act(db, submission, "skip")
    _move(db, job, JobState.SKIPPED, error=SKIPPED_WHY)


def adopt(db: sqlite3.Connection, job: int, submission: int, task_id: str) -> None:
    """Take *task_id* for the task that the submission became, as a person said."""
    _act(db, submission, "adopt")
    db.execute("UPDATE submissions SET task_id = ? WHERE id = ?", (task_id, submission))
    _run(db, job, task_id)


def _act(db: sqlite3.Connection, submission: int, action: str) -> None:
    db.execute("UPDATE submissions SET action = ? WHERE id = ?", (action, submission))


def counts(db: sqlite3.Connection, run: int | None = None) -> dict[JobState, int]:
    """Return how many jobs, of this run or of all, are in which state."""
    query = "SELECT state, count(*) FROM jobs WHERE run = coalesce(?, run) GROUP BY state"
    found = dict(db.execute(query, (run,)).fetchall())
    return {state: found.get(state, 0) for state in JobState}


def report(db: sqlite3.Connection) -> BatchReport:
    """Return the whole batch as the ledger has it."""
    rows = db.execute(
        "SELECT key, workflow, intent_at, verdict, candidates, action FROM unconfirmed_submissions"
    )
    fates = tuple(
        UnconfirmedSubmission(
            key=key,
            workflow=workflow,
            intent_at=datetime.fromisoformat(intent_at),
            verdict=verdict,
            candidates=tuple(json.loads(candidates or "[]")),
            action=action,
        )
        for key, workflow, intent_at, verdict, candidates, action in rows
    )
    return BatchReport(counts=counts(db), fates=fates)


def begin(
    db: sqlite3.Connection, run: int, marker: str, *, max_submissions: int, saves: bool
) -> None:
    """Begin the run of this marker, and plan again what it may try; or continue it."""
    found = db.execute("SELECT value FROM meta WHERE name = ?", (_RUN_MARKER,)).fetchone()
    if found == (marker,):
        return
    _reopen(db, run, max_submissions=max_submissions, saves=saves)
    db.execute("DELETE FROM meta WHERE name GLOB ?", (f"{_RESUBMITTED}*",))
    note(db, _RUN_MARKER, marker)


def mark_resubmitted(db: sqlite3.Connection, job: int) -> None:
    """Note that the policy had the job submitted again in this run."""
    note(db, f"{_RESUBMITTED}{job}", "")


def resubmitted(db: sqlite3.Connection) -> set[int]:
    """Return the numbers of the jobs that the policy had submitted again in this run."""
    rows = db.execute("SELECT name FROM meta WHERE name GLOB ?", (f"{_RESUBMITTED}*",))
    return {int(name.removeprefix(_RESUBMITTED)) for (name,) in rows}
