"""What a watch may order: its phases and the steps that the shell has to obey."""

import enum

import attrs

from .._model import CyberunError


class Phase(enum.Enum):
    """Where a watch stands; the table in ``_watch`` is about these."""

    CONNECTING = "connecting"
    READING = "reading"
    RESTING = "resting"
    CHECKING = "asking"
    POLLING = "polling"
    FETCHING = "fetching the result"
    DONE = "done"


@attrs.frozen
class Connect:
    """Open the event stream."""

    last_event_id: str | None


@attrs.frozen
class Read:
    """Hand over whatever the stream brings."""


@attrs.frozen
class Sleep:
    """Do nothing before the moment *until*."""

    until: float


@attrs.frozen
class Check:
    """Wait for the answer to the ask that is due."""


@attrs.frozen
class Poll:
    """Go on asking; try the stream again at *climb_at* (None: when stream_granted)."""

    climb_at: float | None


@attrs.frozen
class FetchResult:
    """The task completed: read its output."""


@attrs.frozen
class Finish:
    """The terminal event has been delivered."""


@attrs.frozen
class Fail:
    """The watch ends with *error*."""

    error: CyberunError


Step = Connect | Read | Sleep | Check | Poll | FetchResult | Finish | Fail
