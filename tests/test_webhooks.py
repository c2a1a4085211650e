"""Webhook deliveries: what is authentic, recent and new is handed on, once; nothing else is."""

import hashlib
import hmac
import json
import logging
import pickle
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import anyio
import pytest
from hypothesis import example, given, strategies as st

from cyberun_async import ConfigurationError, CyberunError, InvalidInputError, TaskStatus, webhooks
from cyberun_async._model import WebhookEvent, WebhookVerificationError
from cyberun_async.webhooks import verify
from cyberun_async.webhooks._endpoint import WebhookEndpoint
from cyberun_async.webhooks._verify import (
    MAX_BODY_BYTES,
    RecentDeliveries,
    RepeatedDeliveryError,
    sign,
)


SECRET = "whsec_0123456789abcdef"
OTHER = "whsec_fedcba9876543210"
TASK = "0197a1b2-0000-7000-8000-00000000abcd"
NOW = datetime(2026, 3, 1, 10, 0, 0, tzinfo=UTC)
SAMPLE: dict[str, object] = {
    "event_type": "task.completed",
    "task_id": TASK,
    "task_status": "completed",
    "task_output": {"storage_key": "tasks/0197/out.png", "image_count": 1},
    "task_error": "",
    "timestamp": "2026-03-01T10:00:00Z",
}


def body_of(**changes: object) -> bytes:
    return json.dumps({**SAMPLE, **changes}).encode()


def without(name: str) -> bytes:
    return json.dumps({key: value for key, value in SAMPLE.items() if key != name}).encode()


def checked(body: bytes, **settings: Any) -> WebhookEvent:
    chosen: dict[str, Any] = {"now": NOW, **settings}
    return verify(body, sign(body, SECRET), SECRET, **chosen)


def test_a_genuine_delivery_is_read() -> None:
    """The documented payload gives a typed event; the empty error is no error."""
    body = body_of()

    event = checked(body)

    assert event == WebhookEvent(
        event_type="task.completed",
        task_id=TASK,
        task_status=TaskStatus.COMPLETED,
        task_output={"storage_key": "tasks/0197/out.png", "image_count": 1},
        task_error=None,
        timestamp=NOW,
    )
    assert event.raw == body
    assert event.key == (TASK, "task.completed")


def test_a_failure_has_words_and_no_output() -> None:
    """A failed task's output is null, its error a text."""
    event = checked(
        body_of(
            event_type="task.failed", task_status="failed", task_output=None, task_error="no VRAM"
        )
    )

    assert (event.event_type, event.task_output, event.task_error) == (
        "task.failed", None, "no VRAM",
    )  # fmt: skip


def test_an_unknown_event_is_handed_on() -> None:
    """What the service may add one day is delivered with what it brings."""
    event = checked(body_of(event_type="task.paused", task_status="paused", more={"a": 1}))

    assert (event.event_type, event.task_status) == ("task.paused", "paused")
    assert json.loads(event.raw)["more"] == {"a": 1}


@pytest.mark.parametrize("name", ["task_status", "task_output", "task_error", "timestamp"])
@pytest.mark.parametrize("value", [None, 5, True, [1], "", {"a": {}}, 1e300], ids=repr)
def test_what_is_not_essential_may_be_odd(name: str, value: object) -> None:
    """A field of another type is as good as none, where the age is not checked."""
    assert checked(body_of(**{name: value}), tolerance=None).task_id == TASK
    assert checked(without(name), tolerance=None).task_id == TASK


@pytest.mark.parametrize("name", ["event_type", "task_id"])
@pytest.mark.parametrize("value", [None, 5, True, [1], "", {"a": {}}], ids=repr)
def test_what_is_essential_must_be_there(name: str, value: object) -> None:
    """Without an event or a task there is nothing to act on."""
    for body in (body_of(**{name: value}), without(name)):
        with pytest.raises(WebhookVerificationError, match=name):
            checked(body)


@pytest.mark.parametrize("task_id", ["../../admin", "a b", "a\r\nb", "x" * 300, "tâche", "\ud800"])
def test_a_task_id_cannot_change_a_later_request(task_id: str) -> None:
    """Even an authentic body names its task by an id that is safe in a path."""
    with pytest.raises(WebhookVerificationError, match="task_id"):
        checked(body_of(task_id=task_id))


def test_the_signature_is_the_documented_one() -> None:
    """Hex of HMAC-SHA256 over the raw body, keyed with the whole secret."""
    body = body_of()
    expected = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()

    assert sign(body, SECRET) == f"sha256={expected}"


def test_a_signature_is_taken_as_text_or_bytes_in_any_case() -> None:
    """Frameworks give headers as text or bytes; hexadecimal digits have two cases."""
    body = body_of()
    digits = sign(body, SECRET).removeprefix("sha256=")

    for header in (f"sha256={digits}", f"sha256={digits.upper()}", f"sha256={digits}".encode()):
        assert verify(body, header, SECRET, now=NOW).task_id == TASK
    buffer: Any = bytearray(body)
    assert verify(buffer, f"sha256={digits}", SECRET, now=NOW).raw == body


GOOD = sign(body_of(), SECRET)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="missing"),
        pytest.param("", id="empty"),
        pytest.param("sha256=", id="no-digits"),
        pytest.param(GOOD[:-1], id="short"),
        pytest.param(GOOD + "0", id="long"),
        pytest.param(GOOD + "\n", id="line-end"),
        pytest.param(" " + GOOD, id="blank"),
        pytest.param(GOOD.removeprefix("sha256="), id="no-prefix"),
        pytest.param(GOOD.replace("sha256", "sha1"), id="other-algorithm"),
        pytest.param(GOOD.replace("sha256", "SHA256"), id="prefix-in-capitals"),
        pytest.param("sha256=" + "g" * 64, id="no-hexadecimal"),
        pytest.param("sha256=" + "0" * 64, id="zeros"),
        pytest.param("sha256=" + "\u0660" * 64, id="arabic-digits"),
        pytest.param("sha256=\ud800", id="half-a-surrogate-pair"),
        pytest.param("x" * 1_000_000, id="a-million"),
        pytest.param(f"{GOOD}, {GOOD}", id="two"),
        pytest.param(b"\xff\xfe", id="bytes"),
        pytest.param(5, id="number"),
        pytest.param([GOOD], id="list"),
        pytest.param(sign(body_of(), OTHER), id="other-secret"),
        pytest.param(sign(body_of() + b" ", SECRET), id="other-body"),
    ],
)
def test_what_is_no_signature_of_the_body_is_refused(header: Any) -> None:
    """Whatever the header holds, it is one type of error, which never repeats the secret."""
    with pytest.raises(WebhookVerificationError) as caught:
        verify(body_of(), header, SECRET, now=NOW)

    assert SECRET[6:] not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("place", [0, 10, -1])
def test_one_changed_bit_is_seen(place: int) -> None:
    """The signature covers every byte of the body as it was received."""
    body = bytearray(body_of())
    body[place] ^= 1

    with pytest.raises(WebhookVerificationError, match="does not fit"):
        verify(bytes(body), GOOD, SECRET, now=NOW)


def test_signatures_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every secret is compared by ``compare_digest``, on bytes, also after one has fitted."""
    compared: list[tuple[object, object]] = []
    genuine = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return genuine(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    verify(body_of(), GOOD, [SECRET, OTHER, "whsec_third"], now=NOW)

    assert len(compared) == 3
    assert {type(side) for pair in compared for side in pair} == {bytes}


@pytest.mark.parametrize("secrets", [[SECRET], [OTHER, SECRET], (SECRET, OTHER)])
def test_several_secrets_are_tried_while_one_replaces_another(secrets: Any) -> None:
    """A rotation loses no delivery: the old and the new secret are both good."""
    assert verify(body_of(), GOOD, secrets, now=NOW).task_id == TASK


def test_several_wrong_secrets_are_as_wrong_as_one() -> None:
    """None of them has to fit for a delivery to be refused."""
    with pytest.raises(WebhookVerificationError):
        verify(body_of(), GOOD, [OTHER, SECRET[:-1]], now=NOW)


@pytest.mark.parametrize(
    "secret",
    ["", " ", "whsec_a b", "whsec_a\n", "whsec_ä", "\x00", [], (), [""], [SECRET, ""], [5], None,
     5, b"whsec_abc", [b"whsec_abc"], {SECRET}, iter([SECRET]), "\ud800"],
    ids=lambda value: ascii(value)[:20],
)  # fmt: skip
def test_a_bad_secret_is_a_matter_of_configuration(secret: Any) -> None:
    """A missing or malformed secret is reported at once, and never makes a delivery good."""
    with pytest.raises(ConfigurationError, match="secret"):
        verify(body_of(), GOOD, secret, now=NOW)
    with pytest.raises(ConfigurationError, match="secret"):
        WebhookEndpoint(secret, swallow)


@pytest.mark.parametrize("secret", ["", "whsec_a b", None, [SECRET], b"x"], ids=repr)
def test_signing_takes_one_good_secret(secret: Any) -> None:
    """A test of a receiver signs with one secret; anything else is reported."""
    with pytest.raises(ConfigurationError, match="secret"):
        sign(b"{}", secret)


@pytest.mark.parametrize(
    ("seconds", "accepted"), [(0, True), (300, True), (-300, True), (301, False), (-301, False)]
)
def test_old_and_early_deliveries_are_refused(seconds: float, accepted: bool) -> None:
    """By default a delivery's own time may differ by 300 s from the present, both ways."""
    now = NOW + timedelta(seconds=seconds)
    if accepted:
        assert checked(body_of(), now=now).timestamp == NOW
        return
    with pytest.raises(WebhookVerificationError, match="300 s are allowed"):
        checked(body_of(), now=now)


def test_the_present_is_the_default() -> None:
    """Without *now* the clock decides."""
    recent = body_of(timestamp=datetime.now(UTC).isoformat())

    assert verify(recent, sign(recent, SECRET), SECRET).task_id == TASK
    with pytest.raises(WebhookVerificationError, match="before the present"):
        verify(body_of(), GOOD, SECRET)


@pytest.mark.parametrize(
    "stamp",
    [None, 5, "", "yesterday", "2026-03-01", "2026-03-01T10:00:00", "0001-01-01T00:00:00Z",
     "9999-12-31T23:59:59-23:59", "0002-01-01T00:00:00+23:59", "2026-03-01T10:00:00+25:00",
     "\ud800", "٢٠٢٦-03-01T10:00:00Z", "9" * 5000, {}],
    ids=lambda value: ascii(value)[:30],
)  # fmt: skip
def test_a_delivery_that_does_not_say_when_is_refused(stamp: object) -> None:
    """Without an aware moment near the present, the age cannot be good."""
    with pytest.raises(WebhookVerificationError):
        checked(body_of(timestamp=stamp))
    with pytest.raises(WebhookVerificationError):
        checked(without("timestamp"))


def test_time_zones_do_not_matter() -> None:
    """A moment is a moment, in whichever zone it is written."""
    tokyo = timezone(timedelta(hours=9))

    body = body_of(timestamp="2026-03-01T11:00:00+01:00")

    assert checked(body, now=NOW.astimezone(tokyo)).timestamp == NOW


class NoZone(tzinfo):
    """A zone that does not know its offset: Python calls such a moment naive."""

    def utcoffset(self, dt: datetime | None, /) -> None:
        return None

    def dst(self, dt: datetime | None, /) -> None:
        return None

    def tzname(self, dt: datetime | None, /) -> None:
        return None

    def __repr__(self) -> str:
        return "NoZone()"


@pytest.mark.parametrize(
    "settings",
    [{"now": datetime(2026, 3, 1)}, {"now": datetime(2026, 3, 1, tzinfo=NoZone())},  # noqa: DTZ001
     {"now": 5}, {"tolerance": 0}, {"tolerance": -1}, {"tolerance": "5"}, {"tolerance": True},
     {"tolerance": float("nan")}, {"tolerance": float("inf")}],
    ids=repr,
)  # fmt: skip
def test_a_bad_window_is_refused_before_anything_is_checked(settings: dict[str, Any]) -> None:
    """A naive moment or a bad tolerance shows with the first delivery, good or not."""
    with pytest.raises(InvalidInputError):
        verify(b"junk", None, SECRET, **settings)


def test_a_repetition_is_distinguished() -> None:
    """The same event of the same task is new once; the error says what it was."""
    seen: set[object] = set()
    first = checked(body_of(), seen=seen)

    with pytest.raises(RepeatedDeliveryError) as caught:
        checked(body_of(timestamp="2026-03-01T10:00:05Z"), seen=seen)

    assert caught.value.event.key == first.key
    assert checked(body_of(event_type="task.failed"), seen=seen).event_type == "task.failed"
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.event) == (str(caught.value), caught.value.event)


def test_what_is_refused_is_not_remembered() -> None:
    """A forged or old delivery cannot make the genuine one look like a repetition."""
    seen = RecentDeliveries()
    for body, header, now in (
        (body_of(), "sha256=" + "0" * 64, NOW),
        (body_of(), GOOD, NOW + timedelta(hours=1)),
    ):
        with pytest.raises(WebhookVerificationError):
            verify(body, header, SECRET, now=now, seen=seen)

    assert len(seen) == 0
    assert checked(body_of(), seen=seen).task_id == TASK


def test_the_memory_is_bounded() -> None:
    """The oldest deliveries are forgotten first, one noted again is the newest."""
    seen = RecentDeliveries(2)
    for name in ("a", "b", "a", "c"):
        seen.add((name, "x"))

    assert [name for name in "abc" if (name, "x") in seen] == ["a", "c"]
    assert len(seen) == 2
    seen.discard(("a", "x"))
    seen.discard(("never", "x"))
    assert len(seen) == 1


@pytest.mark.parametrize("limit", [0, -1, 1.5, "5", None, True], ids=repr)
def test_a_memory_has_room_for_at_least_one(limit: Any) -> None:
    """A limit that is no whole number from 1 on is reported."""
    with pytest.raises(ConfigurationError, match="limit"):
        RecentDeliveries(limit)


HOSTILE = [
    pytest.param(b"", id="empty"),
    pytest.param(b" ", id="blank"),
    pytest.param(b"<html>", id="html"),
    pytest.param(body_of()[:-1], id="truncated"),
    pytest.param(b"[]", id="list"),
    pytest.param(b"null", id="null"),
    pytest.param(b'"text"', id="text"),
    pytest.param(b"5", id="number"),
    pytest.param(b"NaN", id="nan"),
    pytest.param(b"{}", id="nothing"),
    pytest.param(b"\xff\xfe\x00", id="no-utf-8"),
    pytest.param(b"[" * 100_000, id="open-lists"),
    pytest.param(b"[" * 100_000 + b"]" * 100_000, id="deep-lists"),
    pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="deep-objects"),
    pytest.param(b'{"task_id":' + b"9" * 100_000 + b"}", id="endless-integer"),
    pytest.param(b'{"event_type":"a","task_id":"\\ud800"}', id="half-a-surrogate-pair"),
    pytest.param(body_of().decode().encode("utf-16"), id="utf-16"),
    pytest.param(b"x" * (MAX_BODY_BYTES + 1), id="too-large"),
]


@pytest.mark.parametrize("body", HOSTILE)
def test_a_signed_body_that_is_no_delivery_is_refused(body: bytes) -> None:
    """Whoever signed it: what is no delivery gives the one type of error."""
    with pytest.raises(WebhookVerificationError):
        checked(body)


@pytest.mark.parametrize(
    "body",
    [None, "text", 5, ["a"], memoryview(b"{}")],
    ids=["None", "text", "number", "list", "memoryview"],
)
def test_a_body_is_bytes(body: Any) -> None:
    """A decoded body has lost what was signed."""
    with pytest.raises(WebhookVerificationError, match="bytes as received"):
        verify(body, GOOD, SECRET, now=NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*SAMPLE, "status", "output", "error"]), JSON))
@example({"event_type": "a", "task_id": "a", "timestamp": "2026-03-01T10:00:00Z", "output": []})
def test_any_signed_object_is_an_event_or_refused(fields: dict[str, object]) -> None:
    """Whatever types the fields have, there is an event or the one type of error."""
    body = json.dumps(fields).encode()
    try:
        event = checked(body, tolerance=None)
    except WebhookVerificationError:
        return
    assert event.event_type == fields["event_type"]
    hash(event)


@given(st.binary(), st.text() | st.binary() | st.none())
def test_no_stranger_gets_in(body: bytes, header: str | bytes | None) -> None:
    """Without the secret there is no event, whatever is sent."""
    with pytest.raises(WebhookVerificationError):
        verify(body, header, SECRET, now=NOW)


def test_the_module_offers_what_it_lists() -> None:
    """Every name of the public list is there, in order."""
    assert sorted(webhooks.__all__) == sorted(set(webhooks.__all__))
    assert all(hasattr(webhooks, name) for name in webhooks.__all__)
    assert issubclass(RepeatedDeliveryError, CyberunError)


# --- the ASGI application -------------------------------------------------------------

Message = MutableMapping[str, Any]


async def swallow(_: WebhookEvent) -> None:
    """Take an event and do nothing."""


class Taker:
    """A callback that records events and does what it is reported to."""

    def __init__(self, *outcomes: BaseException | anyio.Event | None) -> None:
        self.events: list[WebhookEvent] = []
        self.started = anyio.Event()
        self._outcomes = list(outcomes)

    async def __call__(self, event: WebhookEvent) -> None:
        self.events.append(event)
        self.started.set()
        match self._outcomes.pop(0) if self._outcomes else None:
            case anyio.Event() as gate:
                await gate.wait()
            case BaseException() as error:
                raise error
            case None:
                pass


class Exchange:
    """One plain ASGI call: what the server says, and what the application answered."""

    def __init__(
        self,
        *parts: bytes,
        method: str = "POST",
        headers: list[tuple[bytes, bytes]] | None = None,
        leaves: bool = False,
    ) -> None:
        body = b"".join(parts)
        if headers is None:
            headers = [(b"x-webhook-signature-256", sign(body, SECRET).encode())]
        self.scope: Message = {"type": "http", "method": method, "headers": headers}
        self.sent: list[Message] = []
        self.reads = 0
        self._messages = self._incoming(parts, leaves=leaves)

    @staticmethod
    def _incoming(parts: tuple[bytes, ...], *, leaves: bool) -> Iterator[Message]:
        for index, part in enumerate(parts):
            is_last = index == len(parts) - 1 and not leaves
            yield {"type": "http.request", "body": part, "more_body": not is_last}
        if not parts and not leaves:
            yield {"type": "http.request"}
        yield {"type": "http.disconnect"}

    async def receive(self) -> Message:
        self.reads += 1
        await anyio.lowlevel.checkpoint()
        return next(self._messages)

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None


def endpoint_for(
    callback: Callable[[WebhookEvent], Awaitable[object]], **settings: Any
) -> WebhookEndpoint:
    chosen: dict[str, Any] = {"now": lambda: NOW, **settings}
    return WebhookEndpoint(SECRET, callback, **chosen)


async def served(endpoint: WebhookEndpoint, exchange: Exchange) -> Exchange:
    await endpoint(exchange.scope, exchange.receive, exchange.send)
    return exchange


async def test_a_delivery_is_taken_and_answered(anyio_backend_name: str) -> None:
    """A body in parts is put together, verified, handed on typed, and answered 200."""
    taker, body = Taker(), body_of()

    exchange = await served(endpoint_for(taker), Exchange(body[:10], body[10:20], body[20:]))

    assert [event.task_output for event in taker.events] == [SAMPLE["task_output"]]
    assert exchange.sent == [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]},
        {"type": "http.response.body", "body": b""},
    ]


async def test_the_answer_waits_for_the_callback() -> None:
    """2xx is said only after the callback has returned."""
    gate = anyio.Event()
    taker = Taker(gate)
    exchange = Exchange(body_of())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(served, endpoint_for(taker), exchange)
        await taker.started.wait()
        await anyio.wait_all_tasks_blocked()
        assert exchange.status is None
        gate.set()

    assert exchange.status == 200


async def test_a_failing_callback_asks_for_another_attempt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An exception is answered 500 and logged; the next attempt is not a repetition."""
    taker = Taker(ValueError("no room"))
    endpoint = endpoint_for(taker)

    first = await served(endpoint, Exchange(body_of()))
    second = await served(endpoint, Exchange(body_of()))

    assert (first.status, second.status, len(taker.events)) == (500, 200, 2)
    assert "no room" in caplog.text


async def test_a_repetition_is_answered_without_a_call() -> None:
    """What was taken is not taken again, but the service learns that all is well."""
    taker = Taker()
    endpoint = endpoint_for(taker)

    statuses = [(await served(endpoint, Exchange(body_of()))).status for _ in range(3)]

    assert (statuses, len(taker.events)) == ([200, 200, 200], 1)


async def test_without_memory_each_attempt_is_handed_on() -> None:
    """``seen=False`` remembers nothing, for callbacks that do so themselves."""
    taker = Taker()
    endpoint = endpoint_for(taker, seen=False)

    for _ in range(2):
        assert (await served(endpoint, Exchange(body_of()))).status == 200

    assert len(taker.events) == 2


@pytest.mark.parametrize(
    ("outcome", "status", "calls"), [(None, 200, 1), (ValueError("no room"), 500, 1)]
)
async def test_attempts_at_the_same_time_share_one_call(
    outcome: BaseException | None, status: int, calls: int
) -> None:
    """The second attempt waits for the first one's outcome, and is answered with it."""
    gate = anyio.Event()
    taken: list[WebhookEvent] = []

    async def take(event: WebhookEvent) -> None:
        taken.append(event)
        await gate.wait()
        if outcome is not None:
            raise outcome

    endpoint = endpoint_for(take)
    exchanges = [Exchange(body_of()) for _ in range(3)]
    async with anyio.create_task_group() as tasks:
        for exchange in exchanges:
            tasks.start_soon(served, endpoint, exchange)
        await anyio.wait_all_tasks_blocked()
        gate.set()

    assert [exchange.status for exchange in exchanges] == [status] * 3
    assert len(taken) == calls


async def test_a_cancelled_callback_has_not_taken_its_event() -> None:
    """Cancellation passes through, a waiting attempt gets a 500, a later one is new."""
    taker = Taker(anyio.Event())
    endpoint = endpoint_for(taker)
    first, second = Exchange(body_of()), Exchange(body_of())
    async with anyio.create_task_group() as tasks, anyio.create_task_group() as cancelled:
        cancelled.start_soon(served, endpoint, first)
        await taker.started.wait()
        tasks.start_soon(served, endpoint, second)
        await anyio.wait_all_tasks_blocked()
        cancelled.cancel_scope.cancel()

    assert (first.status, second.status) == (None, 500)
    assert (await served(endpoint, Exchange(body_of()))).status == 200
    assert len(taker.events) == 2


class RemoteStore:
    """A store as over a network, which may fail."""

    def __init__(self, *, fails: str = "") -> None:
        self.keys: set[tuple[str, str]] = set()
        self._fails = fails

    async def contains(self, key: tuple[str, str], /) -> bool:
        await anyio.lowlevel.checkpoint()
        if self._fails == "contains":
            raise OSError("store is away")
        return key in self.keys

    async def add(self, key: tuple[str, str], /) -> None:
        await anyio.lowlevel.checkpoint()
        if self._fails == "add":
            raise OSError("store is away")
        self.keys.add(key)


async def test_a_store_over_the_network_is_awaited() -> None:
    """Several processes may share what they remember."""
    store = RemoteStore()
    takers = Taker(), Taker()

    for taker in takers:
        assert (await served(endpoint_for(taker, seen=store), Exchange(body_of()))).status == 200

    assert [len(taker.events) for taker in takers] == [1, 0]
    assert store.keys == {(TASK, "task.completed")}


@pytest.mark.parametrize(("fails", "calls"), [("contains", 0), ("add", 1)])
async def test_a_store_that_fails_asks_for_another_attempt(fails: str, calls: int) -> None:
    """What could not be remembered is not called taken."""
    taker = Taker()

    exchange = await served(endpoint_for(taker, seen=RemoteStore(fails=fails)), Exchange(body_of()))

    assert (exchange.status, len(taker.events)) == (500, calls)


async def test_a_plain_set_is_a_store() -> None:
    """Anything that knows ``in`` and ``add`` will do."""
    seen: set[object] = set()

    await served(endpoint_for(swallow, seen=seen), Exchange(body_of()))

    assert seen == {(TASK, "task.completed")}


@pytest.mark.parametrize("body", [*HOSTILE[:-1], b"x" * 1_000_000])
async def test_a_bad_delivery_is_answered_400_without_a_reason(
    body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason goes to the log; a stranger learns nothing, and no callback runs."""
    taker = Taker()

    with caplog.at_level(logging.WARNING, "cyberun_async"):
        exchange = await served(endpoint_for(taker), Exchange(body))

    assert (exchange.status, exchange.sent[1]["body"], taker.events) == (400, b"", [])
    assert "refused" in caplog.text
    assert SECRET[6:] not in caplog.text


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param([], id="none"),
        pytest.param([(b"x-webhook-signature-256", b"")], id="empty"),
        pytest.param([(b"x-webhook-signature-256", b"\xff")], id="no-ascii"),
        pytest.param([(b"x-webhook-signature-256", GOOD.encode())] * 2, id="twice"),
        pytest.param([(b"x-webhook-signature", GOOD.encode())], id="other-name"),
        pytest.param(
            [(b"x-webhook-signature-256", GOOD.encode()), (b"X-Webhook-Signature-256", b"a")],
            id="two",
        ),
    ],
)
async def test_a_delivery_needs_one_signature(headers: list[tuple[bytes, bytes]]) -> None:
    """None, a malformed one, or more than one is refused."""
    exchange = await served(endpoint_for(swallow), Exchange(body_of(), headers=headers))

    assert exchange.status == 400


async def test_header_names_have_no_case() -> None:
    """Servers should send them in lower case, and some do not."""
    headers = [(b"X-Webhook-Signature-256", GOOD.encode())]

    assert (await served(endpoint_for(swallow), Exchange(body_of(), headers=headers))).status == 200


async def test_an_old_delivery_is_refused() -> None:
    """The window of time holds for the endpoint as for the function, and can be turned off."""
    late = NOW + timedelta(seconds=301)

    for tolerance, status in ((300.0, 400), (None, 200), (302.0, 200)):
        endpoint = endpoint_for(swallow, now=lambda: late, tolerance=tolerance)
        assert (await served(endpoint, Exchange(body_of()))).status == status


async def test_the_endpoint_knows_the_present() -> None:
    """Without a clock of one's own, the system's decides."""
    recent = body_of(timestamp=datetime.now(UTC).isoformat())
    endpoint = WebhookEndpoint([OTHER, SECRET], swallow)

    assert (await served(endpoint, Exchange(recent))).status == 200
    assert (await served(endpoint, Exchange(body_of()))).status == 400


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_only_a_post_is_taken(method: str) -> None:
    """Another method is answered 405, with the one that is possible, unread."""
    exchange = await served(endpoint_for(swallow), Exchange(body_of(), method=method))

    assert (exchange.status, exchange.reads) == (405, 0)
    assert (b"allow", b"POST") in exchange.sent[0]["headers"]


async def test_a_large_body_is_not_read_to_its_end() -> None:
    """A body above the limit is answered 413, an announced one before any of it is read."""
    announced = Exchange(b"x" * 10, headers=[(b"content-length", b"100000000")])
    sent = Exchange(*[b"x" * 100] * 10, headers=[])
    endpoint = endpoint_for(swallow, max_body_bytes=250)

    assert (await served(endpoint, announced)).status == 413
    assert (await served(endpoint, sent)).status == 413
    assert (announced.reads, sent.reads) == (0, 3)


@pytest.mark.parametrize("length", [b"", b"-5", b"abc", b"9" * 50, b"\xff", b"1_0"], ids=repr)
async def test_an_odd_announcement_is_not_believed(length: bytes) -> None:
    """What counts is what is sent."""
    headers = [(b"x-webhook-signature-256", GOOD.encode()), (b"content-length", length)]

    exchange = await served(endpoint_for(swallow), Exchange(body_of(), headers=headers))

    assert exchange.status == 200


async def test_a_larger_limit_is_possible() -> None:
    """The limit of the endpoint is the only one."""
    body = body_of(task_output={"text": "x" * MAX_BODY_BYTES})

    default = await served(endpoint_for(swallow), Exchange(body))
    larger = await served(endpoint_for(swallow, max_body_bytes=2 * len(body)), Exchange(body))

    assert (default.status, larger.status) == (413, 200)


@pytest.mark.parametrize("parts", [(), (b"{",)])
async def test_a_sender_that_leaves_is_not_answered(parts: tuple[bytes, ...]) -> None:
    """Half a body is no delivery, and nobody is there to hear so."""
    taker = Taker()

    exchange = await served(endpoint_for(taker), Exchange(*parts, headers=[], leaves=True))

    assert (exchange.sent, taker.events) == ([], [])


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"tolerance": 0}, InvalidInputError),
        ({"tolerance": "5"}, InvalidInputError),
        ({"max_body_bytes": 0}, ConfigurationError),
        ({"max_body_bytes": "5"}, ConfigurationError),
        ({"max_body_bytes": None}, ConfigurationError),
    ],
    ids=repr,
)
def test_bad_settings_are_refused_at_once(
    settings: dict[str, object], error: type[CyberunError]
) -> None:
    """What is wrong with the endpoint shows when it is made, not with the first delivery."""
    with pytest.raises(error):
        endpoint_for(swallow, **settings)


async def test_it_can_be_served_alone() -> None:
    """Start and end of the server are acknowledged, so that it needs no framework."""
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[Message] = []

    async def receive() -> Message:
        return dict(next(messages))

    async def send(message: Message) -> None:
        sent.append(message)

    await endpoint_for(swallow)({"type": "lifespan"}, receive, send)

    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete", "lifespan.shutdown.complete",
    ]  # fmt: skip


async def test_a_web_socket_is_closed() -> None:
    """Deliveries come by POST only."""
    exchange = Exchange()

    await endpoint_for(swallow)({"type": "websocket"}, exchange.receive, exchange.send)

    assert exchange.sent == [{"type": "websocket.close", "code": 1003}]
