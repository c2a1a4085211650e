"""What following a task brought, whatever the reader did, and whether it was as promised."""

from collections.abc import Iterator
from typing import Final

import attrs

from cyberun_async import (
    AuthenticationError,
    CompletedEvent,
    CyberunError,
    Event,
    PermissionDeniedError,
    StatusEvent,
    TaskNotFoundError,
    TaskSnapshot,
    UnknownEndError,
)

from .service import Truth
from .weather import UNKNOWN_STATE


_RANKS: Final = {
    name: rank
    for rank, name in enumerate(("pending", "waiting", "provisioning", "queued", "running"))
}
_ERRORS: Final[dict[int, type[CyberunError]]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: TaskNotFoundError,
}


@attrs.define
class Story:
    """All that one follower of a task was reported, over several watches if it left in between."""

    task_id: str
    way: str
    events: list[Event] = attrs.field(factory=list[Event])
    snapshot: TaskSnapshot | None = None
    error: CyberunError | None = None
    is_complete: bool = True

    @property
    def end(self) -> str | None:
        """The state in which it was reported to have ended."""
        if self.snapshot is not None:
            return self.snapshot.status
        last = self.events[-1] if self.events else None
        return str(getattr(last, "status", None)) if last is not None else None

    @property
    def output_unread(self) -> bool:
        """Whether it completed without an output."""
        last = self.events[-1] if self.events else None
        return isinstance(last, CompletedEvent) and last.output is None

    def problems(self, truth: Truth) -> Iterator[str]:
        """Say in what this is not what is promised."""
        if self.error is not None:
            yield from self._problems_of_error(truth)
            return
        if self.end != truth.state:
            yield f"reported to have ended {self.end}, it really is {truth.state}"
        if self.snapshot is None:
            yield from self._problems_of_end(truth)
        yield from self._problems_of_order()

    def _problems_of_error(self, truth: Truth) -> Iterator[str]:
        if truth.state == UNKNOWN_STATE and isinstance(self.error, UnknownEndError):
            if self.error.status != truth.state:
                yield f"an end in another unknown state: {self.error!r}"
            return
        expected = _ERRORS.get(truth.doom or 0)
        if expected is None or not isinstance(self.error, expected):
            yield f"an error that no policy allows: {self.error!r}"
        elif self.error.resume_token is None and self.way != "result":
            yield f"an error without a token: {self.error!r}"

    def _problems_of_end(self, truth: Truth) -> Iterator[str]:
        ends = [event for event in self.events if event.is_terminal]
        if len(ends) != 1 or ends[0] is not self.events[-1]:
            yield f"terminal events: {ends}, in all {len(self.events)} events"
            return
        end = ends[0]
        if isinstance(end, CompletedEvent) and end.output != truth.output and not end.output_error:
            yield f"another output: {end.output}"
        if not self._has_unconfirmed and end.attempt > truth.attempts + 1:
            yield f"attempt {end.attempt} of {truth.attempts + 1}"

    def _problems_of_order(self) -> Iterator[str]:
        if any(event.task_id != self.task_id for event in self.events):
            yield "an event of another task"
        attempts = [event.attempt for event in self.events]
        if attempts != sorted(attempts):
            yield f"attempts fall: {attempts}"
        statuses = [
            (event.attempt, _RANKS[event.status])
            for event in self.events
            if isinstance(event, StatusEvent) and event.status in _RANKS
        ]
        if not self._has_unconfirmed and statuses != sorted(set(statuses)):
            yield f"statuses out of order or repeated: {statuses}"

    @property
    def _has_unconfirmed(self) -> bool:
        return any(isinstance(event, StatusEvent) and event.unconfirmed for event in self.events)
