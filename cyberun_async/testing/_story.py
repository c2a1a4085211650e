"""The life of a task as a story, for tests that are easy to read."""

from collections.abc import Mapping
from typing import Any, Self

import attrs

from . import faults
from ._simulator.checks import check
from ._simulator.plan import Attempt, TaskPlan
from .faults import Action, Fault


@attrs.frozen
class Story:
    """
    What happens to one task, step by step.

    Each method returns a longer story; :func:`story` begins one. A story is a value: give it
    to a simulator as often as you like, with
    :meth:`Simulator.tell <cyberun_async.testing.Simulator.tell>`.

    .. code-block:: python

        simulator.tell(
            story().waits(30).runs(steps=20, seconds=60).loses_its_stream(after=5).completes(),
            story().waits(5).runs(steps=3).fails("node 3: CUDA out of memory"),
        )
    """

    plan: TaskPlan = attrs.field(factory=TaskPlan)

    def waits(self, seconds: float) -> Self:
        """It waits *seconds* for an agent."""
        return self._with(waiting=seconds)

    def waits_forever(self) -> Self:
        """No agent ever takes it."""
        return self._with(forever_waiting=True)

    def queues(self, seconds: float) -> Self:
        """It stands *seconds* in an agent's queue."""
        return self._with(queued=seconds)

    def runs(self, *, steps: int = 20, seconds: float = 1.0) -> Self:
        """It runs for *seconds*, with *steps* progress events, at least one."""
        check("steps", steps, int, is_positive=True)
        check("seconds", seconds, float)
        return self._with(steps=steps, step_seconds=seconds / steps)

    def is_lost(self, after: int) -> Self:
        """Its agent is lost *after* so many steps, and the service dispatches it again."""
        return self._with(attempts=(*self.plan.attempts, Attempt(steps=after)))

    def loses_its_stream(self, after: int, *, times: int | None = 1) -> Self:
        """The connection of its stream is cut *after* so many events; None cuts every one."""
        return self.meets(faults.on("events", faults.drop_after(events=after), times=times))

    def has_no_stream(self, status: int = 403) -> Self:
        """Its event stream is always refused with *status*."""
        return self.meets(faults.on("events", faults.refuse(status), times=None))

    def goes_silent(self, after: int, seconds: float | None = None) -> Self:
        """Its stream is silent *after* so many events, for *seconds* or forever."""
        return self.meets(faults.on("events", faults.stall_after(events=after, seconds=seconds)))

    def meets(self, *trouble: Fault | Action) -> Self:
        """It has any other :mod:`fault <cyberun_async.testing.faults>`."""
        return self._with(faults=(*self.plan.faults, *trouble))

    def completes(self, *file_names: str, output: Mapping[str, object] | None = None) -> Self:
        """It completes, with files of these names or one of a name of the service's choice."""
        names = file_names or self.plan.file_names
        return self._with(
            outcome="completed",
            file_names=names,
            outputs=max(1, len(names)),
            # One link is all that a single download URL can be.
            links="many" if len(names) > 1 else self.plan.links,
            output=output,
        )

    def fails(self, error: str = "node 3: CUDA out of memory", *, at: int | None = None) -> Self:
        """It fails with *error*, after step *at* or its last one."""
        return self._with(outcome="failed", error=error, stop_at_step=at)

    def is_cancelled(self, *, at: int | None = None) -> Self:
        """Somebody else cancels it, after step *at* or its last one."""
        return self._with(outcome="cancelled", stop_at_step=at)

    def _with(self, **changes: Any) -> Self:
        return attrs.evolve(self, plan=attrs.evolve(self.plan, **changes))


def story() -> Story:
    """Begin the story of a task: it is accepted, and completes if the story says nothing else."""
    return Story()
