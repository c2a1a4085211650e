"""The webhooks of a team."""

from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

import attrs

from .clock import ServiceClock
from .errors import ServiceError


EVENTS = ("task.completed", "task.failed")
_MAX_NAME = 255
_MAX_URL = 2048
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@attrs.define(eq=False)
class Webhook:
    """One webhook; it is called for tasks that end after *since*."""

    id: str
    secret: str = attrs.field(repr=False)
    since: float
    display_name: str = ""
    url: str = ""
    events: tuple[str, ...] = EVENTS
    status: str = "active"
    last_delivered: float | None = None

    def view(self, clock: ServiceClock) -> dict[str, object]:
        """Write the webhook as its endpoint does."""
        delivered = self.last_delivered
        return {
            "id": self.id,
            "display_name": self.display_name,
            "webhook_url": self.url,
            "webhook_secret": self.secret,
            "webhook_events": list(self.events),
            "webhook_status": self.status,
            "created_at": clock.stamp(self.since),
            "last_delivered_at": None if delivered is None else clock.stamp(delivered),
        }

    def change(self, fields: Mapping[str, object], *, allow_http: bool) -> None:
        """
        Take over the fields that are given.

        Raises:
            ServiceError: One of them is refused.
        """
        name, url, events = self.display_name, self.url, self.events
        if "display_name" in fields:
            name = _name(fields["display_name"])
        if "webhook_url" in fields:
            url = _url(fields["webhook_url"], allow_http=allow_http)
        if "webhook_events" in fields:
            events = _events(fields["webhook_events"])
        # All or nothing.
        self.display_name, self.url, self.events = name, url, events
        if "webhook_status" in fields:
            self.status = str(fields["webhook_status"])


def _name(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _MAX_NAME:
        raise ServiceError(400, "display_name must have 1 to 255 characters")
    return value


def _url(value: object, *, allow_http: bool) -> str:
    url = str(value)
    parts = urlsplit(url)
    local = allow_http and parts.scheme == "http" and parts.hostname in _LOOPBACK
    if len(url) > _MAX_URL or not (url.startswith("https://") or local):
        raise ServiceError(400, "webhook_url must begin with https://")
    return url


def _events(value: object) -> tuple[str, ...]:
    events = cast("list[object]", value) if isinstance(value, list) else []
    if not events or any(one not in EVENTS for one in events):
        raise ServiceError(400, "webhook_events must name at least one known event")
    return tuple(str(one) for one in events)
