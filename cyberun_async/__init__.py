"""
Asyncio-native client for Cyberun Cloud.

Submit GPU workflows, follow them to their end however the network behaves, and
collect what they made.
"""

from ._client import CyberunClient
from ._errors import (
    AuthenticationError,
    ClientClosedError,
    ClientStateError,
    ConfigurationError,
    CyberunError,
    DetachedHandleError,
    InvalidInputError,
    NotFoundError,
    ParameterError,
    PermissionDeniedError,
    RateLimitedError,
    RequestRejectedError,
    ServiceUnavailableError,
    SlowReaderError,
    SubmissionUncertainError,
    TaskCancelledError,
    TaskEndedError,
    TaskFailedError,
    TaskNotFoundError,
    TransferError,
    UnexpectedResponseError,
    WaitTimeoutError,
    WatchLostError,
    WebhookVerificationError,
    WrongEventLoopError,
)
from ._events import (
    CancelledEvent,
    CompletedEvent,
    Connected,
    Event,
    FailedEvent,
    Gap,
    GaveUp,
    Notice,
    PollingStarted,
    ProgressEvent,
    ServerErrorEvent,
    StatusEvent,
    StreamingResumed,
    StreamLost,
    UnknownEvent,
)
from ._exchange import Reply
from ._group import MergedEvents, Outcome, Submission
from ._handle import TaskHandle
from ._models import (
    Agent,
    ArtifactLink,
    GpuDevice,
    ParameterDef,
    ResultRecord,
    ResumeToken,
    TaskSnapshot,
    TaskStatus,
    Workflow,
)
from ._observer import Observer
from ._options import Limits, RetryPolicy, Timeouts, WatchPolicy
from ._parameters import validate
from ._progress import ProgressUpdate
from ._progress_view import ProgressView
from ._resources import Listing
from ._results import Artifact, TaskResult
from ._statistics import ClientStatistics
from ._stream import EventStream
from ._uploads import Upload, UploadedFile
from ._version import version as _version
from ._webhook_models import CreatedWebhook, Webhook


__all__ = [
    "Agent",
    "Artifact",
    "ArtifactLink",
    "AuthenticationError",
    "CancelledEvent",
    "ClientClosedError",
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
    "Listing",
    "MergedEvents",
    "NotFoundError",
    "Notice",
    "Observer",
    "Outcome",
    "ParameterDef",
    "ParameterError",
    "PermissionDeniedError",
    "PollingStarted",
    "ProgressEvent",
    "ProgressUpdate",
    "ProgressView",
    "RateLimitedError",
    "Reply",
    "RequestRejectedError",
    "ResultRecord",
    "ResumeToken",
    "RetryPolicy",
    "ServerErrorEvent",
    "ServiceUnavailableError",
    "SlowReaderError",
    "StatusEvent",
    "StreamLost",
    "StreamingResumed",
    "Submission",
    "SubmissionUncertainError",
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


def __getattr__(name: str) -> str:
    if name == "__version__":
        return _version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
