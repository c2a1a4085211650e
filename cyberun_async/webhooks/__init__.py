"""
Webhooks of the service, on the receiving side.

:func:`verify` checks one delivery, whatever the web framework; :class:`WebhookEndpoint` is
a whole ASGI application. The service knows ``task.completed`` and ``task.failed``; of a
cancellation and of what happens before the end it sends nothing.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from .._http import sealed
from .._model import CreatedWebhook, Webhook, WebhookEvent, WebhookVerificationError
from .._names import publish
from .._protocol import without_locals
from ._endpoint import AsyncDedupStore, WebhookEndpoint
from ._verify import (
    DEFAULT_TOLERANCE,
    SIGNATURE_HEADER,
    DedupStore,
    RecentDeliveries,
    RepeatedDeliveryError,
    check_delivery,
    check_new,
    keys_of,
    sign,
)


__all__ = [
    "SIGNATURE_HEADER",
    "AsyncDedupStore",
    "CreatedWebhook",
    "DedupStore",
    "RecentDeliveries",
    "RepeatedDeliveryError",
    "Webhook",
    "WebhookEndpoint",
    "WebhookEvent",
    "WebhookVerificationError",
    "sign",
    "verify",
]

publish("cyberun_async", globals(), ["CreatedWebhook", "Webhook", "WebhookVerificationError"])
publish(__name__, globals(), [name for name in __all__ if name != "verify"])


def verify(
    raw_body: bytes,
    header: str | bytes | None,
    secret: str | Sequence[str],
    *,
    now: datetime | None = None,
    tolerance: float | None = DEFAULT_TOLERANCE,
    seen: DedupStore | None = None,
) -> WebhookEvent:
    """
    Check a webhook delivery and return what it says.

    The signature is the HMAC-SHA256 of the body as received, keyed with the whole secret
    (``whsec_`` included), and compared in constant time. Parse nothing before: a body that
    was decoded and written again has another signature.

    A delivery can be repeated, by the service as by whoever recorded it. Against records
    its own time stamp must be near *now*; against repetitions give *seen*, and take the
    event out of it again if handling it fails.

    Args:
        raw_body: The body, byte for byte.

        header: The value of ``X-Webhook-Signature-256``, or None if there was none.

        secret: The secret, or several while one replaces another; each is tried.

        now: Aware moment to judge the age by. None is the present.

        tolerance:
            Seconds by which the delivery's time stamp may differ from *now*, both ways.
            The service's last attempt comes some 155 s after the first. None turns the
            check off.

        seen: Remembers deliveries by task and event; a new one is added. None checks nothing.

    Returns:
        The event. Its ``task_output`` has no links; ask for the result.

    Raises:
        WebhookVerificationError:
            It is not to be trusted: answer 400. The message is for your log.

        RepeatedDeliveryError:
            It is authentic, but was seen before: answer 2xx, or it comes again.

        ConfigurationError: *secret* is empty or malformed.

        InvalidInputError: *now* or *tolerance* is malformed.
    """
    # What error reporters show of this frame.
    secret = [*map(sealed, secret)] if isinstance(secret, list | tuple) else sealed(secret)
    present = datetime.now(UTC) if now is None else now
    with without_locals():
        event = check_delivery(raw_body, header, keys_of(secret), now=present, tolerance=tolerance)
    if seen is not None:
        check_new(event, seen)
    return event
