"""Being told of everything a client's watches do: the base of tracing and metrics."""

from collections.abc import Mapping

from ._errors import CyberunError
from ._events import Event, Notice, TerminalEvent


class Observer:
    """
    Told of what the watches of a client do. Override what is of interest.

    All of it is called in the event loop, so nothing may block. What raises is logged
    and otherwise ignored: an observer never disturbs a watch. Watches and waits of one
    task at the same time are one watch here, as they share one stream.
    """

    def watch_began(self, task_id: str) -> None:
        """The first reader or waiter of the task came. Runs in the context of its caller."""

    def received(self, event: Event) -> None:
        """The watch delivers *event*, to however many readers."""

    def noticed(self, notice: Notice) -> None:
        """Something happened to the watch."""

    def watch_ended(self, task_id: str, outcome: TerminalEvent | CyberunError | None) -> None:
        """The watch ended with its task, with an error, or (None) was left by its last reader."""

    def headers(self, task_id: str | None) -> Mapping[str, str]:
        """Return headers for a request to the API, made for one task's watch or (None) not."""
        del task_id
        return {}
