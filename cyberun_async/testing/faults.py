"""
Faults that a simulated service can be told to have.

An action says what goes wrong; :meth:`~cyberun_async.testing.FaultBook.add`
says where and how often::

    sim.faults.add("events", faults.drop_after(events=3), times=2)
    sim.faults.add("task", faults.refuse(503, retry_after=2))
    sim.plan(TaskPlan(faults=(faults.stall_after(events=1),)))

Events are counted per connection, comments and ``retry:`` lines excluded.
Durations are real seconds, whatever the simulator's speed. A value that makes no sense is
a ``ValueError`` that names it.
"""

import json
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import attrs

from ._simulator.checks import as_tuple, check, check_fields
from ._simulator.records import RecordedRequest


Endpoint: TypeAlias = Literal[
    "*",
    "agents",
    "cancel",
    "download",
    "events",
    "presign",
    "result",
    "run",
    "task",
    "tasks",
    "upload",
    "webhooks",
    "workflow",
    "workflows",
]
Spoiling: TypeAlias = Literal["json", "types", "scalar", "utf8", "empty", "html", "truncated"]


@attrs.frozen
class Drop:
    """Cut the TCP connection after so many events or bytes of the body."""

    kind = "drop_after"
    events: int | None
    bytes: int | None
    reset: bool

    def __attrs_post_init__(self) -> None:
        check_fields(self)


@attrs.frozen
class Close:
    """End the stream in good order after so many events or bytes."""

    kind = "close_after"
    events: int | None
    bytes: int | None

    def __attrs_post_init__(self) -> None:
        check_fields(self)


@attrs.frozen
class Stall:
    """Say nothing for a while, or with *heartbeat* only comments."""

    events: int
    seconds: float | None
    heartbeat: float | None

    @property
    def kind(self) -> str:
        """Return the name of the constructor."""
        return "stall_after" if self.heartbeat is None else "heartbeats_after"

    def __attrs_post_init__(self) -> None:
        check_fields(self, positive={"heartbeat"})


@attrs.frozen
class Drip:
    """Send one byte at a time from so many events on."""

    kind = "drip_after"
    events: int
    every: float

    def __attrs_post_init__(self) -> None:
        check_fields(self, positive={"every"})


@attrs.frozen
class Repeat:
    """Send every event several times."""

    kind = "repeat"
    copies: int

    def __attrs_post_init__(self) -> None:
        check_fields(self, positive={"copies"})


@attrs.frozen
class Replay:
    """Send all events of the connection once more after so many."""

    kind = "replay_after"
    events: int

    def __attrs_post_init__(self) -> None:
        check_fields(self)


@attrs.frozen
class Corrupt:
    """Spoil the payload of the event that follows so many."""

    kind = "corrupt_after"
    events: int
    how: Spoiling

    def __attrs_post_init__(self) -> None:
        check_fields(self)


@attrs.frozen
class Foreign:
    """Slip in an event of another task after so many."""

    kind = "foreign_after"
    events: int
    name: str

    def __attrs_post_init__(self) -> None:
        check_fields(self)


@attrs.frozen
class Raw:
    """Slip in raw bytes after so many events."""

    kind = "raw_after"
    events: int
    data: bytes

    def __attrs_post_init__(self) -> None:
        check_fields(self)


@attrs.frozen
class Refuse:
    """Answer something else instead of processing the request."""

    kind = "refuse"
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __attrs_post_init__(self) -> None:
        check_fields(self)
        if not 100 <= self.status <= 599:
            raise ValueError(f"refuse: the status must be from 100 to 599, not {self.status}")


@attrs.frozen
class Hold:
    """Wait before processing, and again before answering."""

    kind = "hold"
    before: float
    after: float

    def __attrs_post_init__(self) -> None:
        check_fields(self)


@attrs.frozen
class HangUp:
    """Cut the connection without an answer, with or without processing."""

    processed: bool
    reset: bool

    @property
    def kind(self) -> str:
        """Return the name of the constructor."""
        return "abandon" if self.processed else "hang_up"

    def __attrs_post_init__(self) -> None:
        check_fields(self)


@attrs.frozen
class Garble:
    """Process the request and answer with a spoilt body."""

    kind = "garble"
    how: Spoiling

    def __attrs_post_init__(self) -> None:
        check_fields(self)


StreamAction: TypeAlias = Drop | Close | Stall | Drip | Repeat | Replay | Corrupt | Foreign | Raw
Action: TypeAlias = StreamAction | Refuse | Hold | HangUp | Garble


@attrs.frozen(kw_only=True)
class Fault:
    """
    One or more actions together with where and how often they apply.

    Args:
        endpoint: Which requests are hit; `*` hits all.
        actions: What happens to such a request.
        times: How many requests are hit; None hits all of them.
        skip: Matching requests that pass unharmed first.
        task: Only requests about this task's id.
        when: Only requests for which this returns True.
    """

    endpoint: Endpoint
    actions: tuple[Action, ...] = attrs.field(converter=as_tuple)
    times: int | None = 1
    skip: int = 0
    task: str | None = None
    when: Callable[[RecordedRequest], bool] | None = None

    def __attrs_post_init__(self) -> None:
        check_fields(self)
        if not self.actions:
            raise ValueError("a fault needs an action, such as faults.drop_after(events=3)")


def on(endpoint: Endpoint, *actions: Action, times: int | None = 1, skip: int = 0) -> Fault:
    """
    Bind actions to an endpoint, for :attr:`TaskPlan.faults`.

    Args:
        endpoint: Which of the task's requests are hit.
        actions: What happens to such a request.
        times: How many requests are hit; None hits all of them.
        skip: Matching requests that pass unharmed first.
    """
    return Fault(endpoint=endpoint, actions=actions, times=times, skip=skip)


def drop_after(
    *,
    events: int | None = None,
    bytes: int | None = None,  # noqa: A002 - reads well where it is called
    reset: bool = False,
) -> Drop:
    """
    Cut the connection in the middle of a body.

    Args:
        events: Cut as soon as so many events were sent; 0 cuts after the headers.

        bytes:
            Cut after so many bytes of the body, inside an event if need be. Works
            on every endpoint; the announced length stays.

        reset: Reset the connection (RST) instead of closing it.
    """
    _check_measure(events, bytes)
    return Drop(events, bytes, reset)


def close_after(
    *,
    events: int | None = None,
    bytes: int | None = None,  # noqa: A002 - reads well where it is called
) -> Close:
    """
    End the stream in good order, without a terminal event.

    Args:
        events: End once so many events were sent; 0 ends after the headers.

        bytes:
            End after so many bytes, inside an event if need be, as a body without
            a length looks when its connection is cut.
    """
    _check_measure(events, bytes)
    return Close(events, bytes)


def _check_measure(events: int | None, size: int | None) -> None:
    if (events is None) == (size is None):
        message = "say either after how many events or after how many bytes"
        raise ValueError(message)


def stall_after(*, events: int, seconds: float | None = None) -> Stall:
    """
    Fall silent on an open connection.

    Args:
        events: Be silent once so many events were sent.
        seconds: Go on after so long, with what is due then; None never does.
    """
    return Stall(events, seconds, None)


def heartbeats_after(*, events: int, seconds: float | None = None, every: float = 1.0) -> Stall:
    """
    Send comment lines but no events.

    Args:
        events: Begin once so many events were sent.
        seconds: Go on after so long, with what is due then; None never does.
        every: Seconds between two comments.
    """
    return Stall(events, seconds, every)


def drip_after(*, events: int, every: float = 1.0) -> Drip:
    """
    Send what follows one byte at a time, slower than anything can be read from it.

    Args:
        events: Begin once so many events were sent.
        every: Seconds between two bytes.
    """
    return Drip(events, every)


def repeat(*, copies: int = 2) -> Repeat:
    """Send every event *copies* times."""
    return Repeat(copies)


def replay_after(*, events: int) -> Replay:
    """Send the first *events* of the connection once more."""
    return Replay(events)


def corrupt_after(*, events: int, how: Spoiling = "json") -> Corrupt:
    """
    Spoil the event that follows the first *events*; it is lost thereby.

    Args:
        events: How many events are sent sound.

        how:
            `json` and `truncated` are no JSON, `types` has values of wrong types,
            `scalar` is JSON but no object, `utf8` holds invalid bytes, `empty` and
            `html` are what they say.
    """
    return Corrupt(events, how)


def foreign_after(*, events: int, name: str = "completed") -> Foreign:
    """Slip in an event called *name* that belongs to another task."""
    return Foreign(events, name)


def raw_after(data: bytes, *, events: int) -> Raw:
    """Slip in *data* as it is once *events* were sent."""
    return Raw(events, data)


def refuse(
    status: int,
    message: str | None = None,
    *,
    retry_after: float | str | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | str | None = None,
    content_type: str | None = None,
) -> Refuse:
    """
    Answer with *status* instead of processing the request.

    Args:
        status: The status code; 200 with a strange body is possible too.
        message: The text of `error_message`; None says the status.
        retry_after: The value of `Retry-After`, seconds or an HTTP date.
        headers: Further headers.

        body:
            The whole body instead of the service's error object, for instance a
            proxy's page, nothing, or truncated JSON.

        content_type: The body's type; None is JSON, or HTML for a *body*.
    """
    check("refuse: message", message, str | None)
    content = message_body(message or f"refused with {status}") if body is None else body
    default_type = "application/json" if body is None else "text/html"
    check("refuse: retry_after", retry_after, float | str | None)
    check("refuse: body", body, bytes | str | None)
    check("refuse: headers", headers, Mapping[str, str] | None)
    named = {"Content-Type": content_type or default_type, **(headers or {})}
    if retry_after is not None:
        named["Retry-After"] = str(retry_after)
    data = content.encode() if isinstance(content, str) else content
    return Refuse(status, tuple(named.items()), data)


def hold(*, before: float = 0.0, after: float = 0.0) -> Hold:
    """
    Hold an answer back.

    Args:
        before: Seconds before the request takes effect.
        after: Seconds between its effect and its answer.
    """
    return Hold(before, after)


def abandon(*, reset: bool = False) -> HangUp:
    """Let the request take effect, then cut the connection without an answer."""
    return HangUp(processed=True, reset=reset)


def hang_up(*, reset: bool = False) -> HangUp:
    """Cut the connection before the request takes effect."""
    return HangUp(processed=False, reset=reset)


def garble(how: Spoiling = "json") -> Garble:
    """Let the request take effect and spoil the body of the answer."""
    return Garble(how)


def message_body(message: str) -> bytes:
    """Write the service's error object."""
    return json.dumps({"error_message": message}).encode()
