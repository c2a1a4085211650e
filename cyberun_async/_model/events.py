"""
What a watch delivers: the events of a task, and notices about the watch itself.

Event classes are made for ``match``. Each names its task, its attempt (counted
from 1; the service may dispatch a task again after a failure) and its origin:
``"stream"`` for the event stream, ``"poll"`` for what a status check brought.
``raw`` is the decoded payload with every field the service sent.

:data:`Event` and :data:`Notice` are closed unions of the classes, so that a type checker
accepts ``assert_never`` after the last of them, and ``isinstance`` takes them, too.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal

import attrs

from .redaction import Described, words
from .tasks import ResumeToken, TaskSnapshot


Origin = Literal["stream", "poll"]


def parse_timestamp(value: object) -> datetime | None:
    """Return an aware datetime for an ISO 8601 text, or None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


@attrs.frozen(kw_only=True, repr=False)
class BaseEvent(Described):
    """
    What every event has.

    Attributes:
        task_id: The task.
        attempt: Counted from 1; higher after the service dispatched the task again.
        origin: ``"stream"`` or ``"poll"``.
        raw: The decoded payload as it was sent, unknown fields included; not part of
            equality. All other texts, ``repr`` and pickles are without the keys and
            signed links that the service's words may hold.
    """

    task_id: str
    attempt: int = 1
    origin: Origin = "stream"
    raw: Mapping[str, Any] = attrs.field(factory=dict[str, Any], repr=False, eq=False)

    is_terminal: ClassVar[bool] = False
    """Whether the task has ended with this event."""

    @property
    def sent_at(self) -> datetime | None:
        """The service's own timestamp, or None where it sent none."""
        return parse_timestamp(self.raw.get("timestamp"))


@attrs.frozen(kw_only=True, repr=False)
class StatusEvent(BaseEvent):
    """
    The task entered a state.

    ``unconfirmed`` marks an apparent step back that the service could not be
    asked about: it is a new attempt or a repetition.
    """

    status: str
    unconfirmed: bool = False


@attrs.frozen(kw_only=True, repr=False)
class ProgressEvent(BaseEvent):
    """
    How far a running task has come, as the service sent it.

    Attributes:
        progress: 0.0 to 1.0, or None where the service sent none.
        step_current, step_total: Present when the runtime reports steps.
        current_node: A ComfyUI node id.
        stage: Nerfstudio: download, process_data, train, export or upload.
        message: Nerfstudio: free text.
    """

    progress: float | None = None
    step_current: int | None = None
    step_total: int | None = None
    current_node: str | None = None
    stage: str | None = None
    message: str | None = attrs.field(default=None, converter=words)


@attrs.frozen(kw_only=True, repr=False)
class CompletedEvent(BaseEvent):
    """
    The task completed; always the last event of its watch.

    Attributes:
        output: What the runtime reported, or None when it could not be read.
        output_error: Why the output could not be read, or None.
    """

    output: Mapping[str, Any] | None = attrs.field(default=None, hash=False)
    output_error: str | None = attrs.field(default=None, converter=words)

    is_terminal: ClassVar[bool] = True
    status: ClassVar[str] = "completed"


@attrs.frozen(kw_only=True, repr=False)
class FailedEvent(BaseEvent):
    """The task failed; always the last event of its watch. ``error`` is the service's text."""

    error: str | None = attrs.field(default=None, converter=words)

    is_terminal: ClassVar[bool] = True
    status: ClassVar[str] = "failed"


@attrs.frozen(kw_only=True, repr=False)
class CancelledEvent(BaseEvent):
    """The task was cancelled; always the last event of its watch."""

    is_terminal: ClassVar[bool] = True
    status: ClassVar[str] = "cancelled"


@attrs.frozen(kw_only=True, repr=False)
class ServerErrorEvent(BaseEvent):
    """
    The service reported trouble of its own on the stream (its ``error`` event).

    It is no failure of the task, does not end the watch and may repeat after a
    reconnection.
    """

    message: str | None = attrs.field(default=None, converter=words)


@attrs.frozen(kw_only=True, repr=False)
class UnknownEvent(BaseEvent):
    """
    An event whose name this version does not know, delivered rather than dropped.

    It may repeat after a reconnection. ``data`` is the text as sent, with whatever keys
    and signed links are in it; ``repr`` and pickles leave them out.
    """

    name: str
    data: str = ""


TerminalEvent = CompletedEvent | FailedEvent | CancelledEvent

# Closed: a new class of event is a change of the interface, `UnknownEvent` is for those of
# the service.
Event = StatusEvent | ProgressEvent | TerminalEvent | ServerErrorEvent | UnknownEvent
"""Something that happened to a task."""


@attrs.frozen(kw_only=True, repr=False)
class BaseNotice(Described):
    """What every notice has: the task whose watch it is about."""

    task_id: str


@attrs.frozen(kw_only=True, repr=False)
class Connected(BaseNotice):
    """The event stream is open."""


@attrs.frozen(kw_only=True, repr=False)
class StreamLost(BaseNotice):
    """The event stream broke or ended early; it is opened again after *delay* seconds."""

    cause: str
    delay: float


@attrs.frozen(kw_only=True, repr=False)
class PollingStarted(BaseNotice):
    """
    The watch continues by polling; there is no live progress until it streams again.

    Said again where a stream that was opened meanwhile, to try, has brought nothing new.
    A reader that joins a watch that polls gets it first.
    """

    cause: str


@attrs.frozen(kw_only=True, repr=False)
class StreamingResumed(BaseNotice):
    """Events come from the stream again after a time of polling."""


@attrs.frozen(kw_only=True, repr=False)
class Gap(BaseNotice):
    """Progress of *seconds* without a stream was not seen and cannot be had again."""

    seconds: float


@attrs.frozen(kw_only=True, repr=False)
class GaveUp(BaseNotice):
    """
    The watch ends with an error; *token* resumes it.

    The callback and the observer get it; a reader gets the error itself.
    """

    cause: str
    token: ResumeToken
    snapshot: TaskSnapshot | None = None


Notice = Connected | StreamLost | PollingStarted | StreamingResumed | Gap | GaveUp
"""Something that happened to a watch rather than to its task."""
