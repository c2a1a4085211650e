"""
Every exception the library raises, named by what the caller can do about it.

::

    CyberunError
    ├── ConfigurationError           settings, key or base URL are wrong; fix them
    ├── InvalidInputError            an argument is malformed; nothing was sent
    │   └── ParameterError           parameters do not fit the workflow; all faults listed
    ├── ClientStateError             the client is not usable in this way or at this time
    │   ├── ClientClosedError        closed under an operation, or used after closing
    │   ├── WrongEventLoopError      used on another event loop than it belongs to
    │   └── DetachedHandleError      a handle without a client was asked to act
    ├── RequestRejectedError         the service said no: status and message
    │   ├── AuthenticationError      401: the key is not accepted
    │   ├── PermissionDeniedError    403: not allowed, or a feature is not licensed
    │   ├── NotFoundError            404: no such thing, or not yours
    │   │   ├── TaskNotFoundError    404 for a task
    │   │   └── ResultExpiredError   the task completed, but its result is no longer kept
    │   └── RateLimitedError         429: slow down; ``retry_after`` seconds
    ├── ServiceUnavailableError      could not be reached, or kept failing; try again later
    │   └── WatchLostError           a watch gave up after a long outage; resume with the token
    ├── UnexpectedResponseError      what came back is not the protocol of the service
    ├── SubmissionUncertainError     a run may or may not have been accepted; look before retrying
    │   └── SubmissionTimeoutError   and your deadline passed (also a ``WaitTimeoutError``)
    ├── TransferError                a file could not be uploaded or downloaded
    ├── SlowReaderError              a reader fell behind further than its buffer allows
    ├── TaskEndedError               the task itself did not complete
    │   ├── TaskFailedError          it failed; ``error`` says why
    │   ├── TaskCancelledError       it was cancelled
    │   └── UnknownEndError          it is over, in a state that this version does not know
    ├── WaitTimeoutError             your deadline passed (also a ``TimeoutError``)
    └── WebhookVerificationError     a webhook request is not to be trusted

No message, attribute or pickle of these holds a credential or a presigned link, also
where the service's own words did: what it sent is in ``raw`` of a snapshot or an event, on
purpose only. All pickle and copy. Errors that end a watch carry ``resume_token``.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self

from .redaction import scrubbed, words
from .tasks import ResumeToken, TaskSnapshot


EXCERPT_CHARACTERS = 200
# Redacted first and then cut, so that no half of a link is left.
_LONGEST_EXCERPTED = 8192

_LONGEST_STATE = 100
_NOT_THE_SERVICE = (
    "these are not the service's own words; a proxy may have answered, or the base URL is wrong"
)


class CyberunError(Exception):
    """
    The root of everything this library raises.

    ``resume_token`` is set on errors that end a watch or a wait: pass it to
    :meth:`CyberunClient.watch <cyberun_async.CyberunClient.watch>` to go on.
    """

    resume_token: ResumeToken | None = None

    def __init__(self, *args: object) -> None:
        super().__init__(*(scrubbed(arg) if isinstance(arg, str) else arg for arg in args))

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only constructors do not survive the default protocol.
        return type(self).__new__, (type(self),), {**vars(self), "args": self.args}

    def with_token(self, token: ResumeToken | None) -> Self:
        """Set :attr:`resume_token` and return the error itself."""
        self.resume_token = token
        return self

    def at_least_with(self, token: ResumeToken) -> Self:
        """Set :attr:`resume_token` unless there is one, and return the error itself."""
        self.resume_token = self.resume_token or token
        return self


class ConfigurationError(CyberunError, ValueError):
    """A setting, the key or the base URL is wrong; the message says which and how to fix it."""


class InvalidInputError(CyberunError, ValueError):
    """An argument is malformed. Nothing was sent."""


class ParameterError(InvalidInputError):
    """
    Parameters do not fit the workflow's definition.

    :attr:`faults` has one sentence per fault, all found at once.
    """

    def __init__(self, faults: Sequence[str], *, workflow: str | None = None) -> None:
        self.faults: tuple[str, ...] = tuple(faults)
        self.workflow = workflow
        where = f" for workflow {workflow!r}" if workflow else ""
        super().__init__(f"parameters do not fit{where}: " + "; ".join(self.faults))


class ClientStateError(CyberunError, RuntimeError):
    """The client cannot be used in this way or at this time."""


class ClientClosedError(ClientStateError):
    """The client was closed under the operation, or is used after closing."""


class WrongEventLoopError(ClientStateError):
    """The client belongs to another event loop; make one client per loop."""


class DetachedHandleError(ClientStateError):
    """A handle without a client was asked to act; bind it with ``client.handle(handle)``."""


class RequestRejectedError(CyberunError):
    """
    The service refused a request; sending the same again will not help.

    Attributes:
        status: The HTTP status.
        error_message: The service's own words, or None.
        method, path: What was asked, without query.
        from_service: False where the body is not what the service says (a JSON object
            with ``error_message``): a proxy may have answered, and later it may not.
    """

    advice = ""
    # Of the class, too, for errors that were pickled before there was such an attribute.
    from_service: bool = True

    def __init__(
        self,
        *,
        status: int,
        error_message: str | None = None,
        method: str = "",
        path: str = "",
        retry_after: float | None = None,
        from_service: bool = True,
        suspicion: str | None = None,
    ) -> None:
        self.status = status
        self.error_message: str | None = words(error_message)
        error_message = self.error_message
        self.method = method
        self.path: str = scrubbed(path)
        path = self.path
        self.retry_after = retry_after
        self.from_service = from_service
        said = f": {error_message}" if error_message else ""
        # What a proxy means by a status, only its operator knows.
        text = suspicion or (self.advice if from_service else _NOT_THE_SERVICE)
        advice = f" ({text})" if text else ""
        super().__init__(f"{method} {path} was refused with HTTP {status}{said}{advice}".strip())


class AuthenticationError(RequestRejectedError):
    """401: the credential is not accepted (wrong, expired or revoked)."""

    advice = "check the API key; it may be expired or revoked"


class PermissionDeniedError(RequestRejectedError):
    """403: the credential is valid but not allowed this, or a feature is not licensed."""

    advice = "the key lacks this right, or the feature is not licensed"


class NotFoundError(RequestRejectedError):
    """404: no such thing, or it belongs to another team."""

    advice = "it does not exist or is not yours"


class TaskNotFoundError(NotFoundError):
    """404 for a task: unknown id, another team's, or removed."""


class ResultExpiredError(NotFoundError):
    """404 or 410 for the result of a task that is known to have completed: it is kept no longer."""

    advice = "the task completed, but the service no longer keeps its result"

    @classmethod
    def after(cls, error: NotFoundError) -> Self:
        """Return what *error* means where the task is known to have completed."""
        return cls(
            status=error.status,
            error_message=error.error_message,
            method=error.method,
            path=error.path,
        )


class RateLimitedError(RequestRejectedError):
    """429 that outlasted the retries; :attr:`retry_after` is in seconds, or None."""

    advice = "slow down"


class ServiceUnavailableError(CyberunError):
    """
    The service could not be reached or kept failing until the retries were used up.

    Attributes:
        status: The last HTTP status, or None when there was no answer.
        error_message: The service's own words, or None.
        attempts: How many requests were made.
        reason: The last cause in words. The exception itself is ``__cause__``.
        maybe_sent: False where the request provably did not reach the service.
        maybe_begun: False where it provably had no effect: not sent, or the service declined it.
        is_final: True where trying again cannot help (certificate, proxy).
    """

    maybe_sent: bool = True
    maybe_begun: bool = True
    is_final: bool = False

    def __init__(
        self,
        reason: str,
        *,
        status: int | None = None,
        error_message: str | None = None,
        attempts: int = 1,
        retry_after: float | None = None,
    ) -> None:
        self.reason: str = scrubbed(reason)
        reason = self.reason
        self.status = status
        self.error_message: str | None = words(error_message)
        error_message = self.error_message
        self.attempts = attempts
        self.retry_after = retry_after
        said = f": {error_message}" if error_message else ""
        tries = f" after {attempts} attempts" if attempts > 1 else ""
        super().__init__(f"{reason}{said}{tries}")


class WatchLostError(ServiceUnavailableError):
    """
    A watch gave up: there was no news of the task for longer than the policy allows.

    The task itself goes on. Attributes:
        snapshot: The last known state, or None.
        outage: Seconds since the last answer of the service.
    """

    def __init__(
        self,
        reason: str,
        *,
        outage: float,
        snapshot: TaskSnapshot | None = None,
        attempts: int = 1,
    ) -> None:
        self.outage = outage
        self.snapshot = snapshot
        known = f"; last known status {snapshot.status}" if snapshot is not None else ""
        super().__init__(
            f"no news of the task for {outage:.0f} s ({reason}){known}", attempts=attempts
        )


class UnexpectedResponseError(CyberunError):
    """
    What came back is not the protocol of the service (a proxy's page, cut or wrong JSON).

    Attributes:
        status: The HTTP status.
        content_type: As sent, or None.
        excerpt: The first 200 characters of the body.
    """

    def __init__(
        self,
        problem: str,
        *,
        status: int | None = None,
        content_type: str | None = None,
        body: bytes | str = b"",
    ) -> None:
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        self.problem = problem
        self.status = status
        self.content_type: str | None = words(content_type)
        content_type = self.content_type
        self.excerpt: str = scrubbed(text[:_LONGEST_EXCERPTED])[:EXCERPT_CHARACTERS]
        super().__init__(
            f"{problem} (HTTP {status}, content type {content_type!r}, "
            f"body begins {self.excerpt!r}); a proxy may have answered, or the base URL is wrong"
        )


class SubmissionUncertainError(CyberunError):
    """
    A run was sent but its answer was not read: the task may exist, and may cost money.

    Do not simply submit again. Look for a task of the workflow created since
    :attr:`sent_at`, as ``client.tasks.list()`` shows them. Attributes:

        workflow: The slug or id that was to be run.
        parameters: What was sent.
        sent_at: Aware datetime just before the request left.
        reason: Why no answer was read.
    """

    def __init__(self, *, workflow: str, parameters: Any, sent_at: datetime, reason: str) -> None:
        self.workflow = workflow
        self.parameters = parameters
        self.sent_at = sent_at
        self.reason: str = scrubbed(reason)
        reason = self.reason
        # By name, as a subclass has a second base in between.
        CyberunError.__init__(
            self,
            f"it is not known whether the run of {workflow!r} was accepted ({reason}); "
            f"look for a task created since {sent_at.isoformat()} before submitting again",
        )


class TransferError(CyberunError):
    """A file could not be uploaded or downloaded; the message says why and what remains."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        self.status = status
        super().__init__(message)


class SlowReaderError(CyberunError):
    """
    A reader fell so far behind that events were dropped; watch again with the token.

    Statuses are never dropped before it, and where the end has come it is raised no more.
    """


class TaskEndedError(CyberunError):
    """
    The task ended without completing.

    Attributes:
        task_id: The task.
        snapshot: Its final state, or None where only the event was seen.
        error: The service's words without keys and signed links, or None; as they were
            sent they are in ``snapshot.raw_json()``, where there is a snapshot.
    """

    verb: str = "ended"

    def __init__(
        self, *, task_id: str, error: str | None = None, snapshot: TaskSnapshot | None = None
    ) -> None:
        self.task_id = task_id
        self.error: str | None = words(error)
        error = self.error
        self.snapshot = snapshot
        said = f": {error}" if error else ""
        super().__init__(f"task {task_id} {self.verb}{said}")


class TaskFailedError(TaskEndedError):
    """The task failed: the run itself, its time limit, or its agent was lost."""

    verb = "failed"


class TaskCancelledError(TaskEndedError):
    """The task was cancelled before it completed."""

    verb = "was cancelled"


class UnknownEndError(TaskEndedError):
    """
    The task is over, as the service says, in a state that this version does not know.

    Whether it made anything, only the service can say: ``client.raw_result(task)`` shows it.

    Attributes:
        status: The state, as the service calls it.
    """

    def __init__(
        self,
        *,
        task_id: str,
        status: str,
        error: str | None = None,
        snapshot: TaskSnapshot | None = None,
    ) -> None:
        self.status = status
        self.verb: str = f"ended in the state {status[:_LONGEST_STATE]!r}, which is not known here"
        super().__init__(task_id=task_id, error=error, snapshot=snapshot)


class WaitTimeoutError(CyberunError, TimeoutError):
    """
    The caller's deadline passed; the task goes on unless it was asked to be cancelled.

    Attributes:
        task_id: The task; None where the time of a ``run`` was up before there was one.
        timeout: The limit in seconds.
        snapshot: The last known state, or None.
        cancel_requested: Whether the service took the request to cancel the task.
        cancel_failed: Whether it was to be asked, and did not answer or would not.
    """

    def __init__(
        self,
        *,
        task_id: str | None,
        timeout: float,
        what: str = "end",
        snapshot: TaskSnapshot | None = None,
        cancel_requested: bool = False,
        cancel_failed: bool = False,
    ) -> None:
        self.task_id = task_id
        self.timeout = timeout
        self.what = what
        self.snapshot = snapshot
        self.cancel_requested = cancel_requested
        self.cancel_failed = cancel_failed
        known = f"; last known status {snapshot.status}" if snapshot is not None else ""
        after = "it goes on remotely"
        if cancel_requested:
            after = "its cancellation was requested"
        elif cancel_failed:
            after = "its cancellation could not be requested, so it may go on remotely"
        elif snapshot is not None and snapshot.is_terminal:
            after = "it has ended, and its result can still be read"
        elif task_id is None:
            after = "nothing was submitted"
        whose = "the run" if task_id is None else f"task {task_id}"
        super().__init__(f"{whose} did not {what} within {timeout:g} s{known}; {after}")


class SubmissionTimeoutError(SubmissionUncertainError, WaitTimeoutError):
    """
    The deadline of a ``run`` passed after it was sent and before it was answered.

    It is both a :class:`WaitTimeoutError` and a :class:`SubmissionUncertainError`: the task
    may exist, and may cost money, and its id is not known yet. While the client stays
    open it goes on waiting for the answer, as long as :class:`Timeouts` lets it: it logs the
    id then, and asks for the cancellation if ``cancel_on_timeout`` was set.
    """

    def __init__(
        self, *, workflow: str, parameters: Any, sent_at: datetime, timeout: float
    ) -> None:
        WaitTimeoutError.__init__(self, task_id=None, timeout=timeout, what="be accepted")
        # Last, for its message is the one that matters.
        SubmissionUncertainError.__init__(
            self,
            workflow=workflow,
            parameters=parameters,
            sent_at=sent_at,
            reason=f"there was no answer within {timeout:g} s",
        )


class WebhookVerificationError(CyberunError):
    """A webhook request is not to be trusted: signature, shape, age or repetition is wrong."""
