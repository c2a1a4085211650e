"""
What a batch raises beside what its client does.

::

    CyberunError
    ├── InvalidInputError
    │   └── InvalidJobsError         jobs that cannot be run; nothing was sent, all are named
    ├── LedgerError                  the ledger cannot be used
    │   ├── LedgerBusyError          another process has it, or holds its lock; wait or end that
    │   ├── LedgerDamagedError       it is cut, overwritten, or no ledger; restore it
    │   ├── LedgerVersionError       a newer version of the library wrote it; upgrade
    │   └── LedgerWriteError         the disk is full or failing; run again once it is not
    ├── UncertainSubmissionsError    runs that may have been submitted; decide, then run again
    └── BatchStoppedError            a job did not complete and the policy says to stop
"""

from collections.abc import Sequence
from pathlib import Path

from .. import CyberunError, InvalidInputError
from ._jobs import JobFault
from ._outcomes import JobOutcome, UnconfirmedSubmission


_SHOWN = 20


class InvalidJobsError(InvalidInputError):
    """
    Jobs cannot be run as they are. Nothing was sent and the ledger is as it was.

    Attributes:
        faults: All that was found, in the order of the jobs; at most 1,000 are kept.
        count: How many there were.
    """

    def __init__(self, faults: Sequence[JobFault], *, count: int | None = None) -> None:
        self.faults: tuple[JobFault, ...] = tuple(faults)
        self.count: int = len(self.faults) if count is None else count
        lines = [str(fault) for fault in self.faults[:_SHOWN]]
        if self.count > len(lines):
            lines.append(f"and {self.count - len(lines)} more, most of them in `faults`")
        super().__init__("\n  ".join([f"{self.count} faults in the jobs:", *lines]))


class LedgerError(CyberunError):
    """
    The ledger cannot be used.

    Attributes:
        path: The ledger.
        unrecorded: Key and task id of runs that were accepted but could not be noted.
    """

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        self.unrecorded: list[tuple[str, str]] = []
        super().__init__(f"the ledger {path} {problem}")

    def __str__(self) -> str:
        """Name the runs that are not in the ledger."""
        message = super().__str__()
        if not self.unrecorded:
            return message
        tasks = ", ".join(f"{key!r} is task {task}" for key, task in self.unrecorded)
        return f"{message}; accepted but not noted: {tasks}"


class LedgerBusyError(LedgerError):
    """Another process works with the ledger, or holds its lock for too long."""


class LedgerDamagedError(LedgerError):
    """The file was cut or overwritten, or is not a ledger. It was left as it is."""


class LedgerVersionError(LedgerError):
    """A newer version of the library wrote the ledger. It was left as it is."""


class LedgerWriteError(LedgerError):
    """
    A step could not be written: the disk is full or failing.

    What was written before is safe.
    """


class UncertainSubmissionsError(CyberunError):
    """
    Runs may or may not have been submitted, and the policy leaves it to you.

    Look at the candidates; then :meth:`Batch.decide <cyberun_async.batch.Batch.decide>`
    job by job, or run again with another policy.

    Attributes:
        fates: Each such run, with the tasks it may have become.
    """

    def __init__(self, fates: Sequence[UnconfirmedSubmission]) -> None:
        self.fates: tuple[UnconfirmedSubmission, ...] = tuple(fates)
        lines = [str(fate) for fate in self.fates[:_SHOWN]]
        if len(self.fates) > len(lines):
            lines.append(f"and {len(self.fates) - len(lines)} more in `fates`")
        super().__init__("\n  ".join([f"{len(self.fates)} unconfirmed submissions:", *lines]))


class BatchStoppedError(CyberunError):
    """
    A job did not complete, and the policy says to stop then.

    What is left can be taken up by running again.

    Attributes:
        outcome: That job's.
    """

    def __init__(self, outcome: JobOutcome) -> None:
        self.outcome = outcome
        said = f": {outcome.error}" if outcome.error else ""
        super().__init__(f"job {outcome.key!r} {outcome.state}{said}; the batch was stopped")
