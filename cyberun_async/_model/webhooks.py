"""Values of webhooks: what is configured, and what is delivered."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

import attrs

from .redaction import Described, FromReply, words
from .tasks import parse_status


@attrs.frozen(kw_only=True, repr=False)
class Webhook(FromReply):
    """
    A webhook as the service keeps it.

    Attributes:
        id: Of the webhook.
        display_name: As given.
        url: Where deliveries go.
        secret: What they are signed with, prefix included; never in ``repr``.
        events: Which are delivered.
        status: ``active`` or what else the service says.
        created_at, last_delivered_at: Aware datetimes.
        raw: The reply this was read from.
    """

    _whole: ClassVar[frozenset[str]] = frozenset({"url", "secret"})

    id: str
    display_name: str | None = None
    url: str | None = None
    secret: str | None = attrs.field(default=None, repr=False)
    events: tuple[str, ...] = ()
    status: str | None = None
    created_at: datetime | None = None
    last_delivered_at: datetime | None = None


@attrs.frozen(kw_only=True, repr=False)
class CreatedWebhook(Described):
    """
    A new webhook.

    Attributes:
        id: Of the webhook.
        secret: What its deliveries are signed with; never in ``repr``.
        raw: The reply to its creation.
    """

    _whole: ClassVar[frozenset[str]] = frozenset({"secret"})

    id: str
    secret: str | None = attrs.field(default=None, repr=False)
    raw: bytes = attrs.field(default=b"", repr=False, eq=False)


def _status(value: str | None) -> str | None:
    return None if value is None else parse_status(value)


@attrs.frozen(kw_only=True, repr=False)
class WebhookEvent(Described):
    """
    What a verified delivery says.

    Attributes:
        event_type: ``task.completed``, ``task.failed``, or one not known yet.
        task_id: The task.
        task_status: Its state at the time.
        task_output: The output object, or None.
        task_error: The service's words, or None.
        timestamp: Aware datetime of emission, or None where it is missing or malformed.
        raw: The body as received.
    """

    event_type: str
    task_id: str
    task_status: str | None = attrs.field(default=None, converter=_status)
    task_output: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    task_error: str | None = attrs.field(default=None, converter=words)
    timestamp: datetime | None = None
    raw: bytes = attrs.field(default=b"", repr=False, eq=False)

    @property
    def key(self) -> tuple[str, str]:
        """What makes a delivery the same as another, namely the task and the event."""
        return (self.task_id, self.event_type)
