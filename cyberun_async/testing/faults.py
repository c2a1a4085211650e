"""
Faults that a simulated service can have.

An action says what goes wrong; :meth:`~cyberun_async.testing.FaultBook.add`
says where and how often::

    sim.faults.add("events", faults.drop_after(events=3), times=2)
    sim.faults.add("task", faults.refuse(503, retry_after=2))
    sim.plan(TaskPlan(faults=(faults.stall_after(events=1),)))

Events are counted per connection, comments and ``retry:`` lines excluded.
Durations are real seconds, whatever the simulator's speed. A value that makes no sense
raises a ``ValueError`` that names it.
"""

import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import attrs

from ._simulator.checks import Checked, as_tuple, check
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
class Drop(Checked):
    """Cut the TCP connection after so many events or bytes of the body."""

    kind = "drop_after"
    events: int | None
    bytes: int | None
    reset: bool


@attrs.frozen
class Close(Checked):
    """End the stream in good order after so many events or bytes."""

    kind = "close_after"
    events: int | None
    bytes: int | None


@attrs.frozen
class Stall(Checked):
    """Send nothing for a while, or with *heartbeat* only comments."""

    _positive = frozenset({"heartbeat"})
    events: int
    seconds: float | None
    heartbeat: float | None

    @property
    def kind(self) -> str:
        """Return the name of the constructor."""
        return "stall_after" if self.heartbeat is None else "heartbeats_after"


@attrs.frozen
class Drip(Checked):
    """Send one byte at a time from so many events on."""

    kind = "drip_after"
    _positive = frozenset({"every"})
    events: int
    every: float


@attrs.frozen
class Repeat(Checked):
    """Send every event several times."""

    kind = "repeat"
    _positive = frozenset({"copies"})
    copies: int


@attrs.frozen
class Replay(Checked):
    """Send all events of the connection once more after so many."""

    kind = "replay_after"
    events: int


@attrs.frozen
class Corrupt(Checked):
    """Corrupt the payload of the event that follows so many."""

    kind = "corrupt_after"
    events: int
    how: Spoiling


@attrs.frozen
class Foreign(Checked):
    """Insert an event of another task after so many."""

    kind = "foreign_after"
    events: int
    name: str


@attrs.frozen
class Raw(Checked):
    """Insert raw bytes after so many events."""

    kind = "raw_after"
    events: int
    data: bytes


@attrs.frozen
class Refuse(Checked):
    """Answer something else instead of processing the request."""

    kind = "refuse"
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if not 100 <= self.status <= 599:
            raise ValueError(f"refuse: the status must be from 100 to 599, not {self.status}")


@attrs.frozen
class Hold(Checked):
    """Wait before processing, and again before answering."""

    kind = "hold"
    before: float
    after: float


@attrs.frozen
class HangUp(Checked):
    """Cut the connection without an answer, with or without processing."""

    processed: bool
    reset: bool

    @property
    def kind(self) -> str:
        """Return the name of the constructor."""
        return "abandon" if self.processed else "hang_up"


@attrs.frozen
class Garble(Checked):
    """Process the request and answer with a corrupted body."""

    kind = "garble"
    how: Spoiling


StreamAction: TypeAlias = Drop | Close | Stall | Drip | Repeat | Replay | Corrupt | Foreign | Raw
Action: TypeAlias = StreamAction | Refuse | Hold | HangUp | Garble


@attrs.frozen(kw_only=True)
class Fault(Checked):
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
        super().__attrs_post_init__()
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
        raise ValueError("give either a number of events or a number of bytes")


def stall_after(*, events: int, seconds: float | None = None) -> Stall:
    """
    Send nothing more on an open connection.

    Args:
        events: Send nothing once so many events were sent.
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
    Corrupt the event that follows the first *events*, so that it is lost.

    Args:
        events: How many events are sent intact.

        how:
            `json` and `truncated` are no JSON, `types` has values of wrong types,
            `scalar` is JSON but no object, `utf8` holds invalid bytes, `empty` and
            `html` are what their names say.
    """
    return Corrupt(events, how)


def foreign_after(*, events: int, name: str = "completed") -> Foreign:
    """Insert an event called *name* that belongs to another task."""
    return Foreign(events, name)


def raw_after(data: bytes, *, events: int) -> Raw:
    """Insert *data* as it is once *events* were sent."""
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
        message: The text of `error_message`; None names the status.
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
    """Let the request take effect and corrupt the body of the answer."""
    return Garble(how)


def message_body(message: str) -> bytes:
    """Write the service's error object."""
    return json.dumps({"error_message": message}).encode()


_PROXY_PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"

TROUBLES: Final = MappingProxyType(
    {
        "no-streams": (on("events", refuse(403), times=None),),
        "streams-drop": (on("events", drop_after(events=5), times=None),),
        "streams-end-early": (on("events", close_after(events=3), times=None),),
        "streams-go-silent": (on("events", stall_after(events=3), times=None),),
        "heartbeats-only": (on("events", heartbeats_after(events=1), times=None),),
        "events-repeat": (on("events", repeat(copies=2), times=None),),
        "events-garbled": (on("events", corrupt_after(events=2), times=None),),
        "status-slow": (on("task", hold(before=2.0), times=None),),
        "status-fails": (on("task", refuse(503), times=5),),
        "rate-limited": (on("*", refuse(429, retry_after=1), times=3),),
        "proxy-errors": (on("*", refuse(502, body=_PROXY_PAGE), times=3),),
        "submission-lost": (on("run", abandon()),),
        "submission-refused": (on("run", refuse(503, "try again later")),),
        "no-result": (on("result", refuse(404), times=None),),
        "downloads-break": (on("download", drop_after(bytes=100), times=2),),
        "uploads-break": (on("upload", hang_up(), times=1),),
        "cancel-fails": (on("cancel", refuse(503), times=1),),
    }
)
"""What each name stands for; :meth:`Simulator.trouble` switches it on."""
