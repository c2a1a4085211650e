"""Verification of webhook deliveries: whether they are authentic, recent and new."""

import hmac
import inspect
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol, cast

from .._http import sealed
from .._model import (
    ConfigurationError,
    InvalidInputError,
    WebhookEvent,
    WebhookVerificationError,
    quoted,
)
from .._protocol import Fields, is_object, nested, parse_json, text, timestamp, without_locals
from .._validation import positive_seconds, task_id_of


SIGNATURE_HEADER = "X-Webhook-Signature-256"
DEFAULT_TOLERANCE = 300.0
MAX_BODY_BYTES = 4 * 1024 * 1024
DEFAULT_MEMORY = 10_000

_SIGNATURE = re.compile(rb"sha256=([0-9a-fA-F]{64})")

DeliveryKey = tuple[str, str]


class RepeatedDeliveryError(WebhookVerificationError):
    """
    An authentic delivery that was seen before: answer it with 2xx, and do nothing else.

    Attributes:
        event: What it says.
    """

    def __init__(self, event: WebhookEvent) -> None:
        self.event = event
        super().__init__(f"{event.event_type} of task {event.task_id} was delivered before")


class DedupStore(Protocol):
    """What remembers deliveries by (task id, event type). A plain ``set`` is one, unbounded."""

    def __contains__(self, key: object, /) -> bool:
        """Return whether *key* was added."""
        ...

    def add(self, key: DeliveryKey, /) -> None:
        """Remember *key*."""
        ...


def is_store(value: object) -> bool:
    """Return whether *value* has the methods of a store of either kind."""
    can_tell = any(callable(getattr(value, name, None)) for name in ("contains", "__contains__"))
    return can_tell and callable(getattr(value, "add", None))


class RecentDeliveries:
    """
    Remembers the last deliveries, in the memory of this process.

    Args:
        limit: How many; the oldest are forgotten first.
    """

    def __init__(self, limit: int = DEFAULT_MEMORY) -> None:
        if type(limit) is not int or limit < 1:
            raise ConfigurationError(f"limit must be a whole number from 1 on, not {quoted(limit)}")
        self._limit = limit
        self._keys: dict[DeliveryKey, None] = {}

    def __contains__(self, key: object, /) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: DeliveryKey, /) -> None:
        """Remember *key*, as the newest."""
        self._keys.pop(key, None)
        self._keys[key] = None
        while len(self._keys) > self._limit:
            del self._keys[next(iter(self._keys))]

    def discard(self, key: DeliveryKey, /) -> None:
        """Forget *key*, so that the service's next attempt is taken."""
        self._keys.pop(key, None)


def check_delivery(
    raw_body: bytes,
    header: str | bytes | None,
    keys: Sequence[bytes],
    *,
    now: datetime,
    tolerance: float | None,
    limit: int = MAX_BODY_BYTES,
) -> WebhookEvent:
    """
    Return what a delivery says, if it is authentic and, where *tolerance* is given, recent.

    Raises:
        WebhookVerificationError: It is not to be trusted.
        InvalidInputError: *now* is naive, or *tolerance* no positive number.
    """
    if tolerance is not None:
        positive_seconds("tolerance", tolerance)
        if not _is_aware(now):
            raise InvalidInputError("now must be an aware datetime, as datetime.now(UTC)")
    _check_signature(raw_body, header, keys, limit=limit)
    event = _read_event(raw_body)
    if tolerance is not None:
        _check_age(event, now, tolerance)
    return event


def check_new(event: WebhookEvent, seen: DedupStore) -> None:
    """
    Check that *event* was not seen before, and note it.

    Raises:
        RepeatedDeliveryError: It was.
        InvalidInputError: *seen* remembers nothing.
    """
    methods = [getattr(seen, name, None) for name in ("__contains__", "add")]
    if not all(callable(each) for each in methods):
        raise InvalidInputError(f"seen must know `in` and add(), which {quoted(seen)} does not")
    if any(inspect.iscoroutinefunction(each) for each in methods):
        # The truth of a coroutine is True: every delivery would count as seen.
        raise InvalidInputError("verify() cannot await a store; use one that is not asynchronous")
    if event.key in seen:
        raise RepeatedDeliveryError(event)
    seen.add(event.key)


def sign(raw_body: bytes, secret: str) -> str:
    """Return the signature header's value for *raw_body*, for tests of a receiver."""
    secret = sealed(secret)
    with without_locals():
        return f"sha256={hmac.digest(_key(secret), raw_body, 'sha256').hex()}"


def keys_of(secret: object) -> tuple[bytes, ...]:
    """
    Return the keys made of one secret or several.

    Raises:
        ConfigurationError: There is none, or one is empty or malformed; it is not repeated.
    """
    if isinstance(secret, bytes | bytearray) or not isinstance(secret, Sequence):
        kind = type(secret).__name__
        raise ConfigurationError(f"the webhook secret must be a string or several, not {kind}")
    if not secret and not isinstance(secret, str):
        raise ConfigurationError("no webhook secret is given")
    secrets = cast("Sequence[object]", [secret] if isinstance(secret, str) else secret)
    return tuple(_key(one) for one in secrets)


def _key(secret: object) -> bytes:
    if not isinstance(secret, str):
        raise ConfigurationError(f"a webhook secret must be a string, not {type(secret).__name__}")
    if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
        raise ConfigurationError(
            "a webhook secret is empty or has blanks, line ends or characters outside ASCII; "
            "copy it again, its whsec_ included"
        )
    return "".join(secret).encode("ascii")


def _check_signature(
    raw_body: object, header: object, keys: Sequence[bytes], *, limit: int = MAX_BODY_BYTES
) -> None:
    """
    Check that one of *keys* made the signature in *header*, of a body of up to *limit* bytes.

    Raises:
        WebhookVerificationError: None did, or there is nothing to check.
    """
    if not isinstance(raw_body, bytes | bytearray):
        kind = type(raw_body).__name__
        raise WebhookVerificationError(f"the body must be the bytes as received, not {kind}")
    if len(raw_body) > limit:
        raise WebhookVerificationError(f"the body is larger than {limit} bytes")
    signature = signature_in(header)
    matches = False
    for key in keys:
        # Every key is tried, so that the time does not reveal which one fits.
        matches |= hmac.compare_digest(hmac.digest(key, raw_body, "sha256"), signature)
    if not matches:
        raise WebhookVerificationError("the signature does not fit the body and the secret")


def signature_in(header: object) -> bytes:
    """
    Return the signature that a header holds.

    Raises:
        WebhookVerificationError: It holds none.
    """
    if header is None:
        raise WebhookVerificationError(f"the header {SIGNATURE_HEADER} is missing")
    if isinstance(header, str) and header.isascii():
        header = header.encode("ascii")
    match = _SIGNATURE.fullmatch(header) if isinstance(header, bytes) else None
    if match is None:
        raise WebhookVerificationError(
            f"the header {SIGNATURE_HEADER} is not sha256= and 64 hexadecimal digits"
        )
    return bytes.fromhex(match[1].decode("ascii"))


def _read_event(raw_body: bytes) -> WebhookEvent:
    """
    Return what a body says whose signature was found good.

    Raises:
        WebhookVerificationError: It is no JSON object, or lacks the event or the task.
    """
    raw_body = bytes(raw_body)
    try:
        fields = parse_json(raw_body)
    except ValueError:
        raise WebhookVerificationError("the body is no JSON that can be read") from None
    if not is_object(fields):
        raise WebhookVerificationError("the body is no JSON object")
    has_output = any(is_object(fields.get(name)) for name in ("task_output", "output"))
    return WebhookEvent(
        event_type=_essential(fields, "event_type"),
        task_id=_task_id(_essential(fields, "task_id")),
        task_status=text(fields, "task_status", "status"),
        task_output=(nested(fields, "task_output") or nested(fields, "output"))
        if has_output
        else None,
        task_error=text(fields, "task_error", "error"),
        timestamp=timestamp(fields, "timestamp"),
        raw=raw_body,
    )


def _essential(fields: Fields, name: str) -> str:
    value = text(fields, name)
    if value is None:
        raise WebhookVerificationError(f"the body has no {name} that is a text")
    return value


def _task_id(value: str) -> str:
    try:
        return task_id_of(value)
    except InvalidInputError:
        raise WebhookVerificationError("the body has a task_id that cannot be one") from None


def _is_aware(value: object) -> bool:
    return isinstance(value, datetime) and value.utcoffset() is not None


def _check_age(event: WebhookEvent, now: datetime, tolerance: float) -> None:
    """
    Check that *event* was emitted at most *tolerance* seconds from *now*.

    Raises:
        WebhookVerificationError: It was not, or does not say when.
    """
    if event.timestamp is None:
        raise WebhookVerificationError("the body has no timestamp that can be read")
    distance = (now - event.timestamp).total_seconds()
    if abs(distance) > tolerance:
        when = "before" if distance > 0 else "after"
        raise WebhookVerificationError(
            f"it was emitted {abs(distance):.0f} s {when} the present, {tolerance:g} s are allowed"
        )
