"""
A run as its caller sees it, which several batches in turn may work on.

Where a worker of a cluster is lost, another one goes on with its ledger, in the same run:
what was told already stays as it was told, and what may be done once is not done again.
"""

import sqlite3
from collections.abc import Callable

from ._ledger_file import note


_NAME = "sitting"
_RESUBMITTED = "resubmitted:"


def begin(db: sqlite3.Connection, name: str, renew: Callable[[sqlite3.Connection], None]) -> None:
    """Begin the run *name*, with *renew*, or go on with it."""
    found = db.execute("SELECT value FROM meta WHERE name = ?", (_NAME,)).fetchone()
    if found == (name,):
        return
    renew(db)
    db.execute("DELETE FROM meta WHERE name GLOB ?", (f"{_RESUBMITTED}*",))
    note(db, _NAME, name)


def mark_resubmitted(db: sqlite3.Connection, job: int) -> None:
    """Note that the policy had the job submitted again in this run."""
    note(db, f"{_RESUBMITTED}{job}", "")


def resubmitted(db: sqlite3.Connection) -> set[int]:
    """Return the numbers of the jobs that the policy had submitted again in this run."""
    rows = db.execute("SELECT name FROM meta WHERE name GLOB ?", (f"{_RESUBMITTED}*",))
    return {int(name.removeprefix(_RESUBMITTED)) for (name,) in rows}
