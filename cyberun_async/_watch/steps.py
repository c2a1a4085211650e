"""What a watch orders: its phases, and the steps that the shell obeys."""

import enum

import attrs

from .._model import CyberunError


class Phase(enum.Enum):
    """Where a watch stands; the table in ``machine`` is about these."""

    CONNECTING = "connecting"
    READING = "reading"
    RESTING = "resting"
    CHECKING = "checking"
    POLLING = "polling"
    FETCHING = "fetching the result"
    DONE = "done"


@attrs.frozen
class Connect:
    """Open the event stream."""

    last_event_id: str | None


@attrs.frozen
class Read:
    """Keep the stream open, and report whatever it brings."""


@attrs.frozen
class Wait:
    """Close the stream; nothing is opened before *until* (None: before another fact comes)."""

    until: float | None


@attrs.frozen
class FetchResult:
    """Read the output of the completed task."""


@attrs.frozen
class Finish:
    """End the watch: the terminal event is delivered."""


@attrs.frozen
class Fail:
    """End the watch with *error*."""

    error: CyberunError


Step = Connect | Read | Wait | FetchResult | Finish | Fail
