"""
Asyncio-native client for Cyberun Cloud.

Submit GPU workflows, follow them to their end however the network behaves, and
collect what they made.
"""

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from ._public import *

    __version__: str


__all__ = [
    "Agent",
    "Artifact",
    "ArtifactLink",
    "AuthenticationError",
    "CancelledEvent",
    "ClientClosedError",
    "ClientOptions",
    "ClientStateError",
    "ClientStatistics",
    "CompletedEvent",
    "ConfigurationError",
    "Connected",
    "CreatedWebhook",
    "CyberunClient",
    "CyberunError",
    "DetachedHandleError",
    "Event",
    "EventStream",
    "FailedEvent",
    "Gap",
    "GaveUp",
    "GpuDevice",
    "InvalidInputError",
    "Limits",
    "MergedEvents",
    "NotFoundError",
    "Notice",
    "Observer",
    "Outcome",
    "Outcomes",
    "Pager",
    "ParameterDef",
    "ParameterError",
    "PermissionDeniedError",
    "PollingStarted",
    "ProgressEvent",
    "ProgressUpdate",
    "ProgressView",
    "RateLimitedError",
    "RawResult",
    "RequestRejectedError",
    "Response",
    "ResultExpiredError",
    "ResumeToken",
    "RetryPolicy",
    "RunOptions",
    "ServerErrorEvent",
    "ServiceUnavailableError",
    "SlowReaderError",
    "StatusEvent",
    "StreamLost",
    "StreamingResumed",
    "Submission",
    "SubmissionTimeoutError",
    "SubmissionUncertainError",
    "Submissions",
    "TaskCancelledError",
    "TaskEndedError",
    "TaskFailedError",
    "TaskHandle",
    "TaskNotFoundError",
    "TaskResult",
    "TaskSnapshot",
    "TaskStatus",
    "Timeouts",
    "TransferError",
    "UnexpectedResponseError",
    "UnknownEndError",
    "UnknownEvent",
    "Upload",
    "UploadedFile",
    "WaitTimeoutError",
    "WatchLostError",
    "WatchPolicy",
    "Webhook",
    "WebhookVerificationError",
    "Workflow",
    "WrongEventLoopError",
    "validate",
]


# Hidden from type checkers, which would take any misspelt name for an object.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from ._version import version

            return version()
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from . import _public

        globals().update({public: getattr(_public, public) for public in __all__})
        return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
