"""The webhooks of a team: creating, reading, changing them."""

from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import urlsplit

import attrs

from .._model import (
    AuthenticationError,
    CreatedWebhook,
    InvalidInputError,
    PermissionDeniedError,
    Webhook,
    shown,
)
from .._protocol import (
    Response,
    decode_created_webhook,
    decode_id,
    decode_webhook,
    decode_webhook_secret,
)
from .._validation import identifier_of, management_path
from .session import Session


EVENTS = ("task.completed", "task.failed")
_LONGEST_NAME = 255
_LONGEST_URL = 2048
_LONGEST_EVENT = 100
_WHO_MAY = (
    "webhooks are managed with a user token (JWT and team_id) or a device key (dk-) of an admin, "
    "in a deployment that is licensed for them; integration keys (sk-) are not documented to do"
)


class Webhooks:
    """
    The team's webhooks: ``client.webhooks``.

    Needs a user token with ``team_id`` or a device key; whether the service also takes
    an integration key is tried, and a refusal says what is needed. :mod:`cyberun_async.webhooks`
    verifies deliveries.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._allow_http = session.core.settings.base_url.startswith("http://")

    async def create(
        self, display_name: str, url: str, *, events: Iterable[str] = EVENTS
    ) -> CreatedWebhook:
        """
        Create a webhook and return its id and secret.

        Not sent again when the answer is lost, since two webhooks would deliver twice.
        Cancelled while the answer is awaited, the webhook may exist.

        Args:
            display_name: 1 to 255 characters.
            url: Where deliveries go; https, or http where the base URL is http.
            events: Which to deliver; at least one.

        Raises:
            PermissionDeniedError: The key may not, or webhooks are not licensed.
            AuthenticationError: The key is not accepted here.
            ServiceUnavailableError: No answer was read; the webhook may exist.
            InvalidInputError: An argument is malformed.
        """
        body = {
            "display_name": _name(display_name),
            "webhook_url": self._url(url),
            "webhook_events": _events(events),
        }
        reply = await self._call("POST", "webhooks", json_body=body, repeatable=False)
        created = decode_created_webhook(reply)
        if created.secret is not None:
            return created
        # Whether creating answers the secret is documented in two ways; reading always does.
        return attrs.evolve(created, secret=(await self.get(created.id)).secret)

    async def get(self, webhook_id: str) -> Webhook:
        """
        Return a webhook, its secret included. Cancelled, nothing has changed.

        Args:
            webhook_id: Of the webhook.

        Raises:
            NotFoundError: No such webhook, or not yours.
            ServiceUnavailableError: The service could not be reached or kept failing.
            InvalidInputError: *webhook_id* is no id.
        """
        return decode_webhook(await self._call("GET", "webhooks", _id(webhook_id)))

    async def update(
        self,
        webhook_id: str,
        *,
        display_name: str | None = None,
        url: str | None = None,
        events: Iterable[str] | None = None,
        status: str | None = None,
    ) -> str:
        """
        Change what is given, leave the rest, and return the webhook's id.

        Cancelled while the answer is awaited, the change may have been made.

        Args:
            webhook_id: Of the webhook.
            display_name, url, events: As for :meth:`create`; None leaves them.
            status: Such as ``active``; None leaves it.

        Raises:
            NotFoundError: No such webhook, or not yours.
            ServiceUnavailableError: The service could not be reached or kept failing.
            InvalidInputError: An argument is malformed, or none is given.
        """
        changes: dict[str, Any] = {}
        if display_name is not None:
            changes["display_name"] = _name(display_name)
        if url is not None:
            changes["webhook_url"] = self._url(url)
        if events is not None:
            changes["webhook_events"] = _events(events)
        if status is not None:
            changes["webhook_status"] = _word("status", status)
        if not changes:
            raise InvalidInputError("nothing to change was given")
        return decode_id(await self._call("PUT", "webhooks", _id(webhook_id), json_body=changes))

    async def rotate_secret(self, webhook_id: str) -> str:
        """
        Replace the secret and return the new one.

        The service documents that the old one dies at once. Not sent again when the
        answer is lost or the call is cancelled; :meth:`get` then returns the secret.

        Args:
            webhook_id: Of the webhook.

        Raises:
            NotFoundError: No such webhook, or not yours.
            ServiceUnavailableError: No answer was read; the secret may have been replaced.
            InvalidInputError: *webhook_id* is no id.
        """
        segments = ("webhooks", _id(webhook_id), "rotate-secret")
        return decode_webhook_secret(await self._call("POST", *segments, repeatable=False))

    async def _call(self, method: str, *segments: str, **options: Any) -> Response:
        try:
            return await self._session.caller.call(method, management_path(*segments), **options)
        except (AuthenticationError, PermissionDeniedError) as error:
            error.args = (f"{error}; {_WHO_MAY}",)
            raise

    def _url(self, url: object) -> str:
        if not isinstance(url, str):
            raise InvalidInputError(f"url must be a string, not {type(url).__name__}")
        if len(url) > _LONGEST_URL:
            raise InvalidInputError(f"url has more than {_LONGEST_URL} characters")
        if not url.isascii() or any(letter <= " " or letter == "\x7f" for letter in url):
            raise InvalidInputError("url has blanks, line ends or characters outside ASCII in it")
        if not _is_target(url, allow_http=self._allow_http):
            raise InvalidInputError(f"url must begin with https:// and name a host: {shown(url)}")
        return url


def _is_target(url: str, *, allow_http: bool) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (allow_http and parts.scheme == "http"))


def _id(webhook_id: object) -> str:
    return identifier_of("webhook id", webhook_id)


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidInputError(f"display_name must be a string, not {type(name).__name__}")
    if not 1 <= len(name) <= _LONGEST_NAME:
        raise InvalidInputError(f"display_name must have 1 to {_LONGEST_NAME} characters")
    if not name.isprintable():
        raise InvalidInputError("display_name has line ends or other characters not printable")
    return name


def _events(events: object) -> list[str]:
    if isinstance(events, str) or not isinstance(events, Iterable):
        raise InvalidInputError("events must be a list of event names, as task.completed")
    named = [_word("event", event) for event in cast("Iterable[object]", events)]
    if not named:
        raise InvalidInputError("events must name at least one event")
    return list(dict.fromkeys(named))


def _word(what: str, text: object) -> str:
    if not isinstance(text, str):
        raise InvalidInputError(f"the {what} must be a string, not {type(text).__name__}")
    is_word = text.isascii() and text.replace(".", "_").replace("-", "_").isidentifier()
    if not is_word or len(text) > _LONGEST_EVENT:
        raise InvalidInputError(f"the {what} is no name: {shown(text)}")
    return text
