"""What a simulated task is going to live through, as data."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

from ..faults import Action, Fault
from .behaviour import Behaviour
from .checks import Checked, as_tuple


Outcome: TypeAlias = Literal["completed", "failed", "cancelled"]
Links: TypeAlias = Literal["single", "many"]

NERFSTUDIO_STAGES = ("download", "process_data", "train", "export", "upload")


@attrs.frozen
class Attempt(Checked):
    """
    An attempt that the service lost and dispatched again.

    Args:
        steps: Steps made before the loss.
        lost_in: The state in which it was lost; `queued` never runs.

    Raises:
        ValueError: A field is of the wrong type or out of range.
    """

    steps: int = 5
    lost_in: Literal["queued", "running"] = "running"


@attrs.frozen(kw_only=True)
class TaskPlan(Checked):
    """
    The life of one task: how long each state lasts and how it ends.

    Durations are service seconds, divided by the simulator's speed. Nothing
    runs while a planned task lives; its state at any time is computed.

    Raises:
        ValueError: A field is of the wrong type or out of range; the message names it.
    """

    pending: float = 0.05
    """Seconds in `pending`."""

    waiting: float = 0.05
    """Seconds in `waiting`."""

    provisioning: float = 0.05
    """Seconds in `provisioning`, where the behaviour has that state."""

    queued: float = 0.1
    """Seconds in `queued`."""

    steps: int | None = None
    """Progress events; None takes the run's parameter `steps`, else 20."""

    step_seconds: float = 0.1
    """Seconds per step."""

    outcome: Outcome = "completed"
    """How the task ends."""

    unknown_end: str | None = None
    """A state that no page documents, in which the task ends instead of by its outcome."""

    stop_at_step: int | None = None
    """The step after which a failed or cancelled task ends; None is the last."""

    error: str = "node 3: CUDA out of memory"
    """The error of a failed task."""

    attempts: tuple[Attempt, ...] = attrs.field(default=(), converter=as_tuple)
    """Attempts that are lost before the one that ends the task."""

    forever_waiting: bool = False
    """Whether the task stays in `waiting`, as without a fitting agent."""

    cancel_seconds: float = 0.0
    """Seconds a running task takes to stop; its own end may come first."""

    stages: tuple[str, ...] | None = attrs.field(default=None, converter=as_tuple)
    """Nerfstudio stages; None takes them from the workflow's tool."""

    outputs: int = 1
    """Files the task makes."""

    links: Links = "single"
    """Whether the result has `download_url` or `download_urls`."""

    output: Mapping[str, object] | None = attrs.field(default=None, hash=False)
    """The task's output object; None computes one from the files."""

    file_names: tuple[str, ...] = attrs.field(default=(), converter=as_tuple)
    """Names of the files made; missing ones are called `out_00001_.png` and so on."""

    file_content: bytes | None = None
    """What every file holds; None draws a picture from the prompt."""

    behaviour: Behaviour | None = None
    """The service's behaviour towards this task; None is the simulator's."""

    faults: tuple[Fault | Action, ...] = attrs.field(default=(), converter=as_tuple)
    """Faults of this task; a bare action means its event stream, once."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        if self.unknown_end == "":
            raise ValueError("TaskPlan.unknown_end must name a state, or be None")
