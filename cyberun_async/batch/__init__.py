"""
Batches that survive: bounded, resumable, and honest about what may have been billed twice.

Many runs are submitted, followed and recorded in a ledger, one SQLite file. The same
program, run again after a crash, continues where the ledger ends.
"""

from .._names import publish
from ._batch import Batch
from ._errors import (
    BatchStoppedError,
    InvalidJobsError,
    LedgerBusyError,
    LedgerDamagedError,
    LedgerError,
    LedgerVersionError,
    LedgerWriteError,
    UncertainSubmissionsError,
)
from ._jobs import Job, JobFault, read_jobs
from ._outcomes import (
    BatchProgress,
    BatchReport,
    JobOutcome,
    JobState,
    OutcomeState,
    UnconfirmedSubmission,
)
from ._policy import BatchPolicy
from ._run import BatchRun


__all__ = [
    "Batch",
    "BatchPolicy",
    "BatchProgress",
    "BatchReport",
    "BatchRun",
    "BatchStoppedError",
    "InvalidJobsError",
    "Job",
    "JobFault",
    "JobOutcome",
    "JobState",
    "LedgerBusyError",
    "LedgerDamagedError",
    "LedgerError",
    "LedgerVersionError",
    "LedgerWriteError",
    "OutcomeState",
    "UncertainSubmissionsError",
    "UnconfirmedSubmission",
    "read_jobs",
]

publish(__name__, globals(), __all__)
