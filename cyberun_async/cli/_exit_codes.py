"""The exit codes of a command, and which error leads to which."""

import enum
from collections.abc import Iterable, Mapping
from typing import Self

import attrs

from .. import (
    AuthenticationError,
    ConfigurationError,
    CyberunError,
    InvalidInputError,
    NotFoundError,
    PermissionDeniedError,
    RequestRejectedError,
    SubmissionUncertainError,
    TaskCancelledError,
    TaskEndedError,
    TransferError,
    WaitTimeoutError,
)
from ..batch import BatchStoppedError, LedgerError, UncertainSubmissionsError


class ExitCode(enum.IntEnum):
    """Every exit code of the program, with its meaning."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        """Keep the meaning beside the number."""
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    DONE = 0, "everything was done"
    FAILED = 1, "a task failed, or a job of a batch did not complete"
    USAGE = 2, "the command, the parameters or the jobs are wrong; nothing was sent"
    CANCELLED = 3, "a task was cancelled"
    TIMED_OUT = 4, "the time given with --timeout or --start-timeout was up"
    KEY = 5, "the key or the base URL is missing or malformed, or the service refused the key"
    NOT_FOUND = 6, "there is no such task or workflow, or it is not yours"
    REFUSED = 7, "the service refused the request for another reason"
    UNREACHABLE = 8, "the service could not be reached, kept failing, or was not understood"
    UNCERTAIN = 9, "a run may or may not have been accepted; look before running again"
    LEDGER = 10, "the ledger of a batch is in use, damaged, or cannot be written"
    TRANSFER = 11, "a file could not be uploaded or downloaded"
    NO_EXTRA = 12, "an extra that the command needs is not installed"
    OUTPUT = 13, "standard output is closed or cannot be written"
    BUG = 70, "the program itself failed; please report what it printed"
    INTERRUPTED = 130, "interrupted with Ctrl-C"
    BROKEN_PIPE = 141, "the reader of the output has gone"
    TERMINATED = 143, "ended with SIGTERM"


class OutputError(CyberunError):
    """Standard output cannot be written; what the command started keeps running."""


# The first that fits decides.
_BY_ERROR: tuple[tuple[type[CyberunError], ExitCode], ...] = (
    (TaskCancelledError, ExitCode.CANCELLED),
    (TaskEndedError, ExitCode.FAILED),
    (BatchStoppedError, ExitCode.FAILED),
    (OutputError, ExitCode.OUTPUT),
    (ConfigurationError, ExitCode.KEY),
    (AuthenticationError, ExitCode.KEY),
    (PermissionDeniedError, ExitCode.KEY),
    (NotFoundError, ExitCode.NOT_FOUND),
    (RequestRejectedError, ExitCode.REFUSED),
    (InvalidInputError, ExitCode.USAGE),
    # Before a timeout, because it matters more.
    (SubmissionUncertainError, ExitCode.UNCERTAIN),
    (WaitTimeoutError, ExitCode.TIMED_OUT),
    (UncertainSubmissionsError, ExitCode.UNCERTAIN),
    (LedgerError, ExitCode.LEDGER),
    (TransferError, ExitCode.TRANSFER),
    (CyberunError, ExitCode.UNREACHABLE),
)
_BY_STATUS: Mapping[str, ExitCode] = {
    "completed": ExitCode.DONE,
    "failed": ExitCode.FAILED,
    "cancelled": ExitCode.CANCELLED,
}


@attrs.frozen(kw_only=True)
class Ending:
    """How following one task ended: with its final status, or with an error."""

    task_id: str
    status: str | None = None
    error: CyberunError | None = None

    @property
    def code(self) -> ExitCode:
        """The exit code, were this the only task."""
        if self.error is not None:
            return exit_code_of(self.error)
        return _BY_STATUS.get(self.status or "", ExitCode.UNREACHABLE)


def exit_code_of(error: CyberunError) -> ExitCode:
    """Return what the program ends with after *error*."""
    if isinstance(error, RequestRejectedError) and not error.from_service:
        # A proxy's page says nothing of the key, the task or the workflow.
        return ExitCode.UNREACHABLE
    return next(code for kind, code in _BY_ERROR if isinstance(error, kind))


def overall(endings: Iterable[Ending]) -> ExitCode:
    """Return the code for all: an error that kept a task from being followed comes first."""
    codes = [(ending.error is None, ending.code) for ending in endings]
    bad = sorted((pair for pair in codes if pair[1] is not ExitCode.DONE), key=lambda pair: pair[0])
    return bad[0][1] if bad else ExitCode.DONE
