"""A refusing reply to the error of the tree that says what the caller can do."""

from collections.abc import Mapping
from typing import Any

from .._model import (
    AuthenticationError,
    CyberunError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RequestRejectedError,
    ServiceUnavailableError,
    TaskNotFoundError,
    redacted,
)
from .exchange import Response
from .fields import is_object, parse_json, unexpected
from .status import parse_retry_after, speaks_for_service


MAX_MESSAGE_CHARACTERS = 500
_MAX_ERROR_BODY = 256 * 1024
_MESSAGE_NAMES = ("error_message", "message", "error", "detail")

_KINDS: Mapping[int, type[RequestRejectedError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    410: NotFoundError,
    429: RateLimitedError,
}
_FIRST_REFUSAL, _NOT_FOUND, _REQUEST_TIMEOUT, _FIRST_FAILURE = 400, 404, 408, 500


def decode_error_message(reply: Response) -> str | None:
    """Return the service's own words in an error reply, on one line, or None."""
    if len(reply.body) > _MAX_ERROR_BODY:
        return None
    try:
        said = _message_in(parse_json(reply.body))
    except ValueError:
        said = _plain_text(reply)
    return None if said is None else _printable(said)


def _printable(said: str) -> str | None:
    letters = "".join(letter if letter.isprintable() else " " for letter in redacted(said))
    return " ".join(letters.split())[:MAX_MESSAGE_CHARACTERS] or None


def _plain_text(reply: Response) -> str | None:
    # A proxy's page is markup for a browser; its plain text was written to be read.
    kind = (reply.content_type or "").partition(";")[0].strip().lower()
    return reply.body.decode("utf-8", "replace") if kind == "text/plain" else None


def _message_in(value: Any, *, depth: int = 0) -> str | None:
    if isinstance(value, str):
        return value if value.strip() else None
    if not is_object(value) or depth > 1:
        return None
    found = (_message_in(value.get(name), depth=depth + 1) for name in _MESSAGE_NAMES)
    return next((said for said in found if said is not None), None)


def rejection(reply: Response, *, task: bool = False, suspicion: str | None = None) -> CyberunError:
    """
    Return the typed error for a reply that is no success.

    With *task*, what is not found is a task; *suspicion* is what to say of a 404. A status
    that is neither success nor refusal is a reply that is not the protocol.
    """
    status = reply.status
    retry_after = parse_retry_after(reply.headers.get("retry-after"), reply.headers.get("date"))
    if status >= _FIRST_FAILURE or status == _REQUEST_TIMEOUT:
        return ServiceUnavailableError(
            f"{reply.method} {reply.path} was answered with HTTP {status}".strip(),
            status=status,
            error_message=decode_error_message(reply),
            retry_after=retry_after,
        )
    if status < _FIRST_REFUSAL:
        return unexpected(reply, f"{reply.method} {reply.path} was neither done nor refused")
    return _kind_of(status, task=task)(
        status=status,
        error_message=decode_error_message(reply),
        method=reply.method,
        path=reply.path,
        retry_after=retry_after,
        from_service=speaks_for_service(reply),
        suspicion=suspicion if status == _NOT_FOUND else None,
    )


def _kind_of(status: int, *, task: bool) -> type[RequestRejectedError]:
    kind = _KINDS.get(status, RequestRejectedError)
    return TaskNotFoundError if task and kind is NotFoundError else kind
