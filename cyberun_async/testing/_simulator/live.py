"""A task seen from the script: its state, its streams, and its life when driven by hand."""

from collections.abc import Callable, Mapping

import attrs

from .errors import ConnectionCutError, StreamEndError
from .state import State
from .tasks import SimTask
from .timeline import Mark, ended, followed_by, retried


class LiveTask:
    """
    A task of the simulator, to be looked at and driven by hand.

    Steering replaces whatever was planned from now on, takes effect at
    once and wakes the task's streams. It is safe from any thread. A task that
    has ended cannot be steered: ValueError.
    """

    def __init__(self, state: State, task: SimTask) -> None:
        self._state = state
        self._task = task

    def __repr__(self) -> str:
        return f"<LiveTask {self.id} {self.state} attempt={self.attempt}>"

    @property
    def id(self) -> str:
        """The task's id."""
        return self._task.id

    @property
    def state(self) -> str:
        """The state the task is in now."""
        return self._now().status

    @property
    def attempt(self) -> int:
        """How often the service has dispatched the task again."""
        return self._now().attempt

    @property
    def parameters(self) -> Mapping[str, object]:
        """The parameters the task was submitted with."""
        return self._task.parameters

    @property
    def open_streams(self) -> int:
        """How many event streams are open on the task."""
        return sum(1 for _ in self._state.streams.of(self.id))

    def status(self, status: str) -> None:
        """Enter a state that is not the end; any text will do."""
        self._follow(lambda last, at: followed_by(last, at, "status", status=status))

    def progress(
        self,
        progress: float,
        *,
        step: int | None = None,
        total: int | None = None,
        node: str | None = None,
        stage: str | None = None,
        message: str | None = None,
    ) -> None:
        """
        Make progress.

        Args:
            progress: The share that is done, from 0 to 1.
            step: The present step; None leaves it out, as with the others.
            total: The number of steps.
            node: The node that runs.
            stage: The Nerfstudio stage.
            message: Free text.
        """
        given: dict[str, object] = {
            "progress": progress,
            "step_current": step,
            "step_total": total,
            "current_node": node,
            "stage": stage,
            "message": message,
        }
        self.emit("progress", {name: value for name, value in given.items() if value is not None})

    def emit(self, name: str, payload: Mapping[str, object] | None = None) -> None:
        """Send an event of any name; task id and timestamp are added to *payload*."""
        self._follow(lambda last, at: followed_by(last, at, name, details=dict(payload or {})))

    def error(self, text: str = "could not fetch the status") -> None:
        """Send the event `error`, which says that the service, not the task, has trouble."""
        self.emit("error", {"error": text})

    def retry(self) -> None:
        """Lose the present attempt: back to `waiting`, `retry_count` one higher."""
        self._follow(retried)

    def complete(self, output: Mapping[str, object] | None = None) -> None:
        """End well, with this output object or one computed from the files."""
        if output is not None:
            self._task.plan = attrs.evolve(self._task.plan, output=output)
        self._follow(lambda last, at: ended(last, at, "completed"))

    def fail(self, error: str = "node 3: CUDA out of memory") -> None:
        """End in failure."""
        self._follow(lambda last, at: ended(last, at, "failed", error))

    def cancel(self) -> None:
        """Stop as the cancel endpoint does; without effect after the end."""
        self._state.cancel(self._task)

    def drop_streams(self, *, reset: bool = False) -> None:
        """Cut the connections of the task's open streams now."""
        self._state.streams.end(ConnectionCutError(reset=reset), task_id=self.id)

    def close_streams(self) -> None:
        """Close the task's open streams in good order, without a terminal event."""
        self._state.streams.end(StreamEndError(), task_id=self.id)

    def _now(self) -> Mark:
        return self._task.mark(self._state.clock.now())

    def _follow(self, follow: Callable[[Mark, float], Mark]) -> None:
        self._state.extend(self._task, follow)
