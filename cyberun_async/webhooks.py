"""
Webhooks of the service, on the receiving side.

:func:`verify` checks one delivery, whatever the web framework; :class:`WebhookEndpoint` is
a whole ASGI application. The service knows ``task.completed`` and ``task.failed``; of a
cancellation and of what happens before the end it sends nothing.
"""

from ._errors import WebhookVerificationError
from ._webhook_asgi import AsyncDedupStore, WebhookEndpoint
from ._webhook_models import CreatedWebhook, Webhook, WebhookEvent
from ._webhook_verify import (
    SIGNATURE_HEADER,
    DedupStore,
    RecentDeliveries,
    RepeatedDeliveryError,
    sign,
    verify,
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
