"""The state of a simulated service, shared by its endpoints and the test that drives it."""

import random
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping

import attrs

from ..faults import Fault
from .behaviour import Behaviour
from .checks import check
from .clock import ServiceClock
from .faults import FaultBook
from .files import Signer, StoredFile
from .keys import KeyRing
from .open_streams import Streams
from .plan import NERFSTUDIO_STAGES, TaskPlan
from .records import Records, Submission
from .tasks import SimTask, TaskStore
from .timeline import Mark, born, cancelled, timeline
from .webhooks import Webhook
from .workflows import Catalogue, Workflow, defaults


_DEFAULT_STEPS = 20


@attrs.frozen
class RunRequest:
    """A requested run, before it becomes a task."""

    workflow_id: str
    workflow_slug: str
    version: int
    tool_type: str
    parameters: Mapping[str, object]
    body: Mapping[str, object]


Planner = Callable[[RunRequest], TaskPlan | None]


@attrs.define(eq=False)
class State:
    """Everything that outlives a request: tasks, keys, files, faults and records."""

    clock: ServiceClock
    chance: random.Random
    behaviour: Behaviour
    default_plan: TaskPlan
    speed: float
    max_file_size: int
    allow_http_webhooks: bool
    api_base: str
    store_base: str
    records: Records
    keys: KeyRing
    signer: Signer
    uploads: dict[str, StoredFile] = attrs.field(factory=dict[str, StoredFile])
    faults: FaultBook = attrs.field(factory=FaultBook)
    streams: Streams = attrs.field(factory=Streams)
    workflows: Catalogue = attrs.field(factory=Catalogue)
    webhooks: dict[str, Webhook] = attrs.field(factory=dict[str, Webhook])
    lock: threading.RLock = attrs.field(factory=threading.RLock)
    plans: deque[TaskPlan] = attrs.field(factory=deque[TaskPlan])
    planner: Planner | None = None
    tasks: TaskStore = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tasks = TaskStore(self.lock)
        for workflow in defaults([self.new_id() for _ in range(3)]):
            self.workflows.add(workflow)

    def new_id(self) -> str:
        """Return a new UUID of version 7, as the service's ids look."""
        milliseconds = int(self.clock.datetime_at(self.clock.now()).timestamp() * 1000)
        with self.lock:
            noise = self.chance.getrandbits(74)
        value = milliseconds << 80 | 0x7 << 76 | (noise >> 62) << 64 | 0b10 << 62
        return str(uuid.UUID(int=value | noise & ((1 << 62) - 1)))

    def behaviour_towards(self, task: SimTask) -> Behaviour:
        """Return the behaviour that applies to a task."""
        return task.plan.behaviour or self.behaviour

    def next_plan(self, run: RunRequest) -> TaskPlan:
        """Return the plan of the task that *run* becomes."""
        with self.lock:
            if self.plans:
                return self.plans.popleft()
            planned = self.planner(run) if self.planner is not None else None
            check("what the planner returns", planned, TaskPlan | None)
            return planned or self.default_plan

    def create(
        self,
        run: RunRequest,
        plan: TaskPlan,
        source: str,
        *,
        manual: bool = False,
        lag: float = 0.0,
    ) -> SimTask:
        """Create a task; its life is known from here on unless it is driven by hand."""
        with self.lock:
            now = self.clock.now()
            workflow = self.workflows.by_id(run.workflow_id)
            assert workflow is not None
            task = SimTask(
                id=self.new_id(),
                workflow=attrs.evolve(workflow, version=run.version),
                plan=plan,
                created=now,
                visible_from=now + lag,
                source=source,
                parameters=run.parameters,
                dispatch=_dispatch(run),
                agent_id=f"gpu-node-{len(self.tasks) % 2 + 1:02}",
                marks=(born(),) if manual else self._life(run, plan),
                lock=self.lock,
            )
            self.tasks.add(task)
        self._add_faults(task)
        return task

    def remember(self, task: SimTask, run: RunRequest) -> None:
        """Record an accepted run."""
        self.records.submissions.append(
            Submission(
                task.id,
                run.workflow_id,
                run.workflow_slug,
                run.version,
                run.parameters,
                run.body,
                task.created,
            )
        )

    def cancel(self, task: SimTask) -> None:
        """Stop a task as the cancel endpoint does."""
        with self.lock:
            elapsed = self.clock.now() - task.created
            stop = task.plan.cancel_seconds / self.speed
            task.rewrite(cancelled(task.marks, elapsed, stop))
        self.streams.wake(task.id)

    def extend(self, task: SimTask, follow: Callable[[Mark, float], Mark]) -> None:
        """
        Replace a task's future with one mark, made from the present one and the time.

        Raises:
            ValueError: The task has ended.
        """
        with self.lock:
            now = self.clock.now()
            past = task.past(now)
            if past[-1].is_terminal:
                raise ValueError(f"task {task.id} is {past[-1].status} already")
            task.rewrite((*past, follow(past[-1], now - task.created)))
        self.streams.wake(task.id)

    def _life(self, run: RunRequest, plan: TaskPlan) -> tuple[Mark, ...]:
        nerf = NERFSTUDIO_STAGES if run.tool_type == "nerfstudio" else ()
        return timeline(
            plan,
            plan.behaviour or self.behaviour,
            steps=plan.steps or _requested_steps(run),
            stages=nerf if plan.stages is None else plan.stages,
            speed=self.speed,
        )

    def _add_faults(self, task: SimTask) -> None:
        for fault in task.plan.faults:
            if not isinstance(fault, Fault):
                fault = Fault(endpoint="events", actions=(fault,))  # noqa: PLW2901
            self.faults.add_fault(attrs.evolve(fault, task=task.id))


def run_request(
    workflow: Workflow, parameters: Mapping[str, object], body: Mapping[str, object]
) -> RunRequest:
    """Return the run of a workflow with these parameters."""
    return RunRequest(
        workflow.id, workflow.slug, workflow.version, workflow.tool_type, parameters, body
    )


def _requested_steps(run: RunRequest) -> int:
    steps = run.parameters.get("steps")
    return steps if isinstance(steps, int) and steps > 0 else _DEFAULT_STEPS


def _dispatch(run: RunRequest) -> dict[str, object]:
    return {
        "dispatch_target": run.body.get("dispatch_target") or "agent",
        "target_pool": run.body.get("target_pool") or "team",
        "tool_type": run.tool_type,
    }
