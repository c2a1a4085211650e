"""What the exit code of a command says, and which error leads to which."""

import enum
from collections.abc import Iterable, Mapping

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
    """Every exit code of the program."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CANCELLED = 3
    TIMED_OUT = 4
    KEY = 5
    NOT_FOUND = 6
    REFUSED = 7
    UNREACHABLE = 8
    UNCERTAIN = 9
    LEDGER = 10
    TRANSFER = 11
    NO_EXTRA = 12
    OUTPUT = 13
    BUG = 70
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.DONE: "all that was asked for is done",
    ExitCode.FAILED: "a task failed, or a job of a batch did not complete",
    ExitCode.USAGE: "the command, the parameters or the jobs are wrong; nothing was sent",
    ExitCode.CANCELLED: "a task was cancelled",
    ExitCode.TIMED_OUT: "the time given with --timeout or --start-timeout was up",
    ExitCode.KEY: "the key or the base URL is missing or malformed, or the key is not accepted "
    "or may not do this",
    ExitCode.NOT_FOUND: "there is no such task or workflow, or it is not yours",
    ExitCode.REFUSED: "the service refused the request for another reason",
    ExitCode.UNREACHABLE: "the service could not be reached, kept failing, or was not understood",
    ExitCode.UNCERTAIN: "a run may or may not have been accepted; look before running again",
    ExitCode.LEDGER: "the ledger of a batch is in use, damaged, or cannot be written",
    ExitCode.TRANSFER: "a file could not be uploaded or downloaded",
    ExitCode.NO_EXTRA: "an extra that the command needs is not installed",
    ExitCode.OUTPUT: "standard output is closed or cannot be written",
    ExitCode.BUG: "the program itself failed; please report what it printed",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C",
    ExitCode.BROKEN_PIPE: "whoever read the output has gone",
    ExitCode.TERMINATED: "ended with SIGTERM",
}


class OutputError(CyberunError):
    """What a command has to say cannot be written; what it has begun goes on."""


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
    # Before a time that is up, for it matters more.
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
