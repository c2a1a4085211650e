"""
Every public name of the package, imported where it is made.

The package itself loads this module when the first of them is asked for, so that what only
names the package (the pytest plugin, a console script) does not load the network.
"""

from ._client import (
    ClientOptions as ClientOptions,
    CyberunClient as CyberunClient,
    EventStream as EventStream,
    MergedEvents as MergedEvents,
    Outcome as Outcome,
    Outcomes as Outcomes,
    Pager as Pager,
    ProgressView as ProgressView,
    RunOptions as RunOptions,
    Submission as Submission,
    Submissions as Submissions,
    TaskHandle as TaskHandle,
)
from ._model import (
    Agent as Agent,
    ArtifactLink as ArtifactLink,
    AuthenticationError as AuthenticationError,
    CancelledEvent as CancelledEvent,
    ClientClosedError as ClientClosedError,
    ClientStateError as ClientStateError,
    ClientStatistics as ClientStatistics,
    CompletedEvent as CompletedEvent,
    ConfigurationError as ConfigurationError,
    Connected as Connected,
    CreatedWebhook as CreatedWebhook,
    CyberunError as CyberunError,
    DetachedHandleError as DetachedHandleError,
    Event as Event,
    FailedEvent as FailedEvent,
    Gap as Gap,
    GaveUp as GaveUp,
    GpuDevice as GpuDevice,
    InvalidInputError as InvalidInputError,
    Limits as Limits,
    NotFoundError as NotFoundError,
    Notice as Notice,
    Observer as Observer,
    ParameterDef as ParameterDef,
    ParameterError as ParameterError,
    PermissionDeniedError as PermissionDeniedError,
    PollingStarted as PollingStarted,
    ProgressEvent as ProgressEvent,
    RateLimitedError as RateLimitedError,
    RawResult as RawResult,
    RequestRejectedError as RequestRejectedError,
    ResultExpiredError as ResultExpiredError,
    ResumeToken as ResumeToken,
    RetryPolicy as RetryPolicy,
    ServerErrorEvent as ServerErrorEvent,
    ServiceUnavailableError as ServiceUnavailableError,
    SlowReaderError as SlowReaderError,
    StatusEvent as StatusEvent,
    StreamingResumed as StreamingResumed,
    StreamLost as StreamLost,
    SubmissionTimeoutError as SubmissionTimeoutError,
    SubmissionUncertainError as SubmissionUncertainError,
    TaskCancelledError as TaskCancelledError,
    TaskEndedError as TaskEndedError,
    TaskFailedError as TaskFailedError,
    TaskNotFoundError as TaskNotFoundError,
    TaskSnapshot as TaskSnapshot,
    TaskStatus as TaskStatus,
    Timeouts as Timeouts,
    TransferError as TransferError,
    UnexpectedResponseError as UnexpectedResponseError,
    UnknownEndError as UnknownEndError,
    UnknownEvent as UnknownEvent,
    Upload as Upload,
    UploadedFile as UploadedFile,
    WaitTimeoutError as WaitTimeoutError,
    WatchLostError as WatchLostError,
    WatchPolicy as WatchPolicy,
    Webhook as Webhook,
    WebhookVerificationError as WebhookVerificationError,
    Workflow as Workflow,
    WrongEventLoopError as WrongEventLoopError,
    validate as validate,
)
from ._names import publish as _publish
from ._protocol import Response as Response
from ._transfer import Artifact as Artifact, TaskResult as TaskResult
from ._watch import ProgressUpdate as ProgressUpdate


_publish("cyberun_async", globals(), [_name for _name in globals() if not _name.startswith("_")])
