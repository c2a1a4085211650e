"""Values: what users hold, and every error they catch."""

from .errors import (
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
from .events import (
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
    TerminalEvent as TerminalEvent,
    UnknownEvent as UnknownEvent,
    parse_timestamp as parse_timestamp,
)
from .foreign_values import refusal as refusal
from .observer import (
    Observer as Observer,
    is_asynchronous as is_asynchronous,
    observer_of as observer_of,
)
from .options import (
    Limits as Limits,
    RetryPolicy as RetryPolicy,
    Timeouts as Timeouts,
    WatchPolicy as WatchPolicy,
)
from .redaction import (
    SHOWN_CHARACTERS as SHOWN_CHARACTERS,
    Described as Described,
    looks_secret as looks_secret,
    quoted as quoted,
    redacted as redacted,
    scrubbed as scrubbed,
    shown as shown,
    words as words,
)
from .statistics import ClientStatistics as ClientStatistics, Polling as Polling
from .tasks import (
    TERMINAL_STATUSES as TERMINAL_STATUSES,
    WAITING_STATUSES as WAITING_STATUSES,
    Agent as Agent,
    ArtifactLink as ArtifactLink,
    GpuDevice as GpuDevice,
    ParameterDef as ParameterDef,
    RawResult as RawResult,
    ResumeToken as ResumeToken,
    TaskSnapshot as TaskSnapshot,
    TaskStatus as TaskStatus,
    is_known as is_known,
    is_terminal as is_terminal,
    parse_status as parse_status,
)
from .uploads import (
    FILE_TYPES as FILE_TYPES,
    Source as Source,
    Upload as Upload,
    UploadedFile as UploadedFile,
)
from .webhooks import (
    CreatedWebhook as CreatedWebhook,
    Webhook as Webhook,
    WebhookEvent as WebhookEvent,
)
from .workflows import Workflow as Workflow, validate as validate
