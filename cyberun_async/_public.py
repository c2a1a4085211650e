"""
Every public name of the package, imported where it is made.

The package itself loads this module when the first of them is asked for, so that what only
names the package (the pytest plugin, a console script) does not load the network.
"""

from ._client import CyberunClient as CyberunClient
from ._errors import (
    AuthenticationError as AuthenticationError,
    ClientClosedError as ClientClosedError,
    ClientStateError as ClientStateError,
    ConfigurationError as ConfigurationError,
    CyberunError as CyberunError,
    DetachedHandleError as DetachedHandleError,
    InvalidInputError as InvalidInputError,
    NotFoundError as NotFoundError,
    ParameterError as ParameterError,
    PermissionDeniedError as PermissionDeniedError,
    RateLimitedError as RateLimitedError,
    RequestRejectedError as RequestRejectedError,
    ResultExpiredError as ResultExpiredError,
    ServiceUnavailableError as ServiceUnavailableError,
    SlowReaderError as SlowReaderError,
    SubmissionTimeoutError as SubmissionTimeoutError,
    SubmissionUncertainError as SubmissionUncertainError,
    TaskCancelledError as TaskCancelledError,
    TaskEndedError as TaskEndedError,
    TaskFailedError as TaskFailedError,
    TaskNotFoundError as TaskNotFoundError,
    TransferError as TransferError,
    UnexpectedResponseError as UnexpectedResponseError,
    UnknownEndError as UnknownEndError,
    WaitTimeoutError as WaitTimeoutError,
    WatchLostError as WatchLostError,
    WebhookVerificationError as WebhookVerificationError,
    WrongEventLoopError as WrongEventLoopError,
)
from ._events import (
    CancelledEvent as CancelledEvent,
    CompletedEvent as CompletedEvent,
    Connected as Connected,
    Event as Event,
    FailedEvent as FailedEvent,
    Gap as Gap,
    GaveUp as GaveUp,
    Notice as Notice,
    PollingStarted as PollingStarted,
    ProgressEvent as ProgressEvent,
    ServerErrorEvent as ServerErrorEvent,
    StatusEvent as StatusEvent,
    StreamingResumed as StreamingResumed,
    StreamLost as StreamLost,
    UnknownEvent as UnknownEvent,
)
from ._exchange import Reply as Reply
from ._group import MergedEvents as MergedEvents, Outcome as Outcome, Submission as Submission
from ._handle import TaskHandle as TaskHandle
from ._models import (
    Agent as Agent,
    ArtifactLink as ArtifactLink,
    GpuDevice as GpuDevice,
    ParameterDef as ParameterDef,
    ResultRecord as ResultRecord,
    ResumeToken as ResumeToken,
    TaskSnapshot as TaskSnapshot,
    TaskStatus as TaskStatus,
)
from ._observer import Observer as Observer
from ._options import (
    Limits as Limits,
    RetryPolicy as RetryPolicy,
    Timeouts as Timeouts,
    WatchPolicy as WatchPolicy,
)
from ._progress import ProgressUpdate as ProgressUpdate
from ._progress_view import ProgressView as ProgressView
from ._resources import Listing as Listing
from ._results import Artifact as Artifact, TaskResult as TaskResult
from ._statistics import ClientStatistics as ClientStatistics
from ._stream import EventStream as EventStream
from ._upload_models import Upload as Upload, UploadedFile as UploadedFile
from ._webhook_models import CreatedWebhook as CreatedWebhook, Webhook as Webhook
from ._workflow import Workflow as Workflow, validate as validate
