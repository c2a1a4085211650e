"""
The tables of a ledger, and views that answer what a person wants to know.

The version stands in ``PRAGMA user_version``. A version that adds nothing but views may
replace them; any other change gets a new number and a step that leads there.
"""

from typing import Final


VERSION: Final = 1
APPLICATION_ID: Final = 0x43794C67  # "CyLg"

TABLES: Final = """
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT
) WITHOUT ROWID;

-- One row per job. state: planned, sending, running, saving, or an outcome: completed,
-- failed, cancelled, rejected, lost, skipped.
CREATE TABLE jobs (
    number      INTEGER PRIMARY KEY,
    key         TEXT NOT NULL UNIQUE,
    workflow    TEXT NOT NULL,
    workflow_id TEXT,
    parameters  TEXT NOT NULL,
    files       TEXT NOT NULL,
    options     TEXT NOT NULL,
    digest      TEXT NOT NULL,
    run         INTEGER NOT NULL,
    state       TEXT NOT NULL DEFAULT 'planned',
    task_id     TEXT,
    accepted    INTEGER NOT NULL DEFAULT 0,
    error       TEXT,
    changed_at  TEXT NOT NULL
);
CREATE INDEX jobs_by_state ON jobs (state, number);

-- One row per intent to submit, written before the request leaves. answer: NULL while it
-- is not known, else accepted, declined, lost (never read), withdrawn (never sent).
CREATE TABLE submissions (
    id          INTEGER PRIMARY KEY,
    job         INTEGER NOT NULL REFERENCES jobs (number),
    intent_at   TEXT NOT NULL,
    answer      TEXT,
    answered_at TEXT,
    task_id     TEXT UNIQUE,
    status      TEXT,
    ended_at    TEXT,
    error       TEXT,
    verdict     TEXT,
    candidates  TEXT,
    action      TEXT
);
CREATE INDEX submissions_by_job ON submissions (job);
CREATE INDEX submissions_unconfirmed ON submissions (id) WHERE answer = 'lost';

CREATE TABLE files (
    job     INTEGER NOT NULL REFERENCES jobs (number),
    place   INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    path    TEXT NOT NULL,
    PRIMARY KEY (job, place)
) WITHOUT ROWID;
"""

VIEWS: Final = """
-- How far it is.
CREATE VIEW progress AS
    SELECT state, count(*) AS jobs FROM jobs GROUP BY state ORDER BY jobs DESC;

-- Every job in a line.
CREATE VIEW overview AS
    SELECT j.key, j.state, j.workflow, j.task_id, j.accepted AS times_submitted,
           (SELECT count(*) FROM files f WHERE f.job = j.number) AS files,
           j.error, j.changed_at
    FROM jobs j ORDER BY j.number;

-- What did not come out well.
CREATE VIEW problems AS
    SELECT key, state, task_id, error, changed_at FROM jobs
    WHERE error IS NOT NULL OR state IN ('failed', 'cancelled', 'rejected', 'lost', 'skipped')
    ORDER BY number;

-- Every submission whose answer was never read, and what was made of it.
CREATE VIEW unconfirmed_submissions AS
    SELECT j.key, j.workflow, s.intent_at, s.verdict, s.candidates, s.action, s.error
    FROM submissions s JOIN jobs j ON j.number = s.job
    WHERE s.answer = 'lost' OR (s.answer IS NULL AND j.state = 'sending')
    ORDER BY s.id;

-- Jobs that were billed more than once, or may have been.
CREATE VIEW paid_twice AS
    SELECT j.key, j.accepted AS times_submitted,
           sum(s.action IS 'resubmit') AS repeated_in_doubt
    FROM jobs j JOIN submissions s ON s.job = j.number
    GROUP BY j.number
    HAVING j.accepted > 1 OR repeated_in_doubt > 0;

-- Files, by job.
CREATE VIEW downloads AS
    SELECT j.key, f.task_id, f.path FROM files f JOIN jobs j ON j.number = f.job
    ORDER BY f.job, f.place;
"""

# Jobs of this run on their way in; the database's temporary file, so that memory does not grow.
STAGING: Final = """
CREATE TEMP TABLE IF NOT EXISTS staged (
    key         TEXT PRIMARY KEY,
    place       TEXT NOT NULL,
    workflow    TEXT NOT NULL,
    workflow_id TEXT,
    parameters  TEXT NOT NULL,
    files       TEXT NOT NULL,
    options     TEXT NOT NULL,
    digest      TEXT NOT NULL
)
"""
