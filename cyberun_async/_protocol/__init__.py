"""What the service says: bytes and JSON in, values of the model out."""

from .decompress import Decompressor as Decompressor, decompressor_for as decompressor_for
from .events import (
    Message as Message,
    PayloadError as PayloadError,
    decode_event as decode_event,
    load_json as load_json,
    resumable_id as resumable_id,
)
from .exchange import (
    Departure as Departure,
    ExchangeFailedError as ExchangeFailedError,
    FailureKind as FailureKind,
    Response as Response,
)
from .fields import (
    Fields as Fields,
    is_object as is_object,
    nested as nested,
    parse_json as parse_json,
    text as text,
    timestamp as timestamp,
    unexpected as unexpected,
)
from .pages import Page as Page, TaskRow as TaskRow
from .refusals import (
    MAX_MESSAGE_CHARACTERS as MAX_MESSAGE_CHARACTERS,
    decode_error_message as decode_error_message,
    rejection as rejection,
)
from .rest import (
    PresignedUpload as PresignedUpload,
    decode_acknowledgement as decode_acknowledgement,
    decode_agents as decode_agents,
    decode_created_webhook as decode_created_webhook,
    decode_id as decode_id,
    decode_presign as decode_presign,
    decode_result as decode_result,
    decode_submission as decode_submission,
    decode_task as decode_task,
    decode_task_page as decode_task_page,
    decode_task_rows as decode_task_rows,
    decode_webhook as decode_webhook,
    decode_webhook_secret as decode_webhook_secret,
    decode_webhooks as decode_webhooks,
    decode_workflow as decode_workflow,
    decode_workflows as decode_workflows,
)
from .sse import Framer as Framer, FramingError as FramingError
from .status import (
    is_passing as is_passing,
    parse_retry_after as parse_retry_after,
    speaks_for_service as speaks_for_service,
)
from .tracebacks import forget_locals as forget_locals, without_locals as without_locals
