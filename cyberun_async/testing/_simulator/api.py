"""The runtime endpoints: workflows, runs, tasks, results, agents."""

import json
from collections.abc import Mapping
from typing import cast

import anyio
from starlette.responses import JSONResponse, Response

from .agents import agents
from .behaviour import Behaviour
from .errors import ServiceError
from .gate import Call
from .stream import EventStream
from .tasks import SimTask
from .timeline import STATUSES, Mark
from .views import file_keys, page_view, result_view, task_view, workflow_view
from .workflows import Workflow, fault_of_parameters
from .world import World, run_request


_MAX_PAGE_SIZE = 100


class RuntimeApi:
    """Handlers of the runtime surface."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def list_workflows(self, call: Call) -> Response:
        """Answer with one page of the workflows."""
        page, size = paging(call)
        rows = [self._workflow_view(one) for one in self._world.workflows.current()]
        return _page("workflow_list", rows, page, size)

    async def get_workflow(self, call: Call) -> Response:
        """Answer with a workflow's parameters and more."""
        return JSONResponse(self._workflow_view(self._workflow(call)))

    async def run(self, call: Call) -> Response:
        """Make a task of a run and accept it."""
        workflow = self._workflow(call)
        body = json_object(call.body)
        parameters = _parameters(body)
        self._check(workflow, parameters)
        task = self._accept(workflow, parameters, body, call)
        await anyio.sleep(self._world.behaviour_towards(task).accept_delay)
        return JSONResponse({"task_id": task.id}, 202)

    async def list_tasks(self, call: Call) -> Response:
        """Answer with one page of the tasks."""
        page, size = paging(call)
        behaviour = self._world.behaviour
        now = self._world.clock.now()
        rows = self._world.tasks.rows(now, behaviour.list_order, _status_filter(call, behaviour))
        start = max((page - 1) * size - (page - 1) * behaviour.row_shift, 0)
        total = max(len(rows) + behaviour.total_count_error, 0)
        items = [self._task_view(task, now, in_list=True) for task in rows[start : start + size]]
        return JSONResponse(page_view("task_list", items, page, size, total))

    async def get_task(self, call: Call) -> Response:
        """Answer with a task's state."""
        return JSONResponse(self._task_view(self._task(call), self._world.clock.now()))

    async def events(self, call: Call) -> Response:
        """Answer with a task's events."""
        task = self._task(call)
        if task.mark(self._world.clock.now()).is_terminal:
            match self._world.behaviour_towards(task).finished_stream:
                case "not_found":
                    raise ServiceError(404, "the task has no events any more")
                case "no_content":
                    return Response(status_code=204)
                case _:
                    pass
        resume_after = call.request.headers.get("last-event-id")
        return EventStream(self._world, task, call.caller, call.claim, resume_after)

    async def result(self, call: Call) -> Response:
        """Answer with a task's output and links minted for this answer."""
        task = self._task(call)
        now = self._world.clock.now()
        behaviour = self._world.behaviour_towards(task)
        mark = task.mark(now - behaviour.result_lag)
        _check_result(task, mark, now, behaviour)
        links = self._links(task, behaviour) if mark.status == "completed" else {}
        expires_at = now + behaviour.link_lifetime
        view = result_view(task, mark, behaviour, self._world.clock, links, expires_at)
        return JSONResponse(view)

    async def cancel(self, call: Call) -> Response:
        """Stop a task, or do nothing if it has ended."""
        self._world.cancel(self._task(call))
        return JSONResponse({"is_success": True})

    async def list_agents(self, call: Call) -> Response:
        """Answer with one page of the connected agents."""
        page, size = paging(call)
        busy = [task.id for task in self._world.tasks.rows(self._now(), "oldest", "running")]
        return _page("agent_list", agents(busy, self._world.clock), page, size)

    def _now(self) -> float:
        return self._world.clock.now()

    def _workflow(self, call: Call) -> Workflow:
        if "slug" in call.path:
            workflow = self._world.workflows.by_slug(call.path["slug"])
        else:
            workflow = self._world.workflows.by_id(call.path["workflow_id"])
        if workflow is None:
            raise ServiceError(404, "workflow not found")
        return workflow

    def _workflow_view(self, workflow: Workflow) -> dict[str, object]:
        return workflow_view(workflow, self._world.clock.stamp(0.0))

    def _check(self, workflow: Workflow, parameters: Mapping[str, object]) -> None:
        if workflow.status != "active":
            raise ServiceError(409, "workflow is disabled")
        if not self._world.behaviour.validates:
            return
        fault = fault_of_parameters(workflow, parameters, self._world.files.uploads)
        if fault is not None:
            raise ServiceError(400, fault)

    def _accept(
        self,
        workflow: Workflow,
        parameters: Mapping[str, object],
        body: Mapping[str, object],
        call: Call,
    ) -> SimTask:
        world = self._world
        run = run_request(workflow, parameters, body)
        plan = world.next_plan(run)
        lag = (plan.behaviour or world.behaviour).replica_lag
        task = world.create(run, plan, call.caller.source, lag=lag)
        world.remember(task, run)
        return task

    def _task(self, call: Call) -> SimTask:
        task = self._world.tasks.get(call.path["task_id"])
        if task is None or self._world.clock.now() < task.visible_from:
            raise ServiceError(404, "task not found")
        return task

    def _task_view(self, task: SimTask, now: float, *, in_list: bool = False) -> dict[str, object]:
        behaviour = self._world.behaviour_towards(task)
        return task_view(task, now, behaviour, self._world.clock, in_list=in_list)

    def _links(self, task: SimTask, behaviour: Behaviour) -> dict[str, str]:
        world = self._world
        return {
            name: world.signer.link(world.store_base, "GET", key, behaviour.link_lifetime, {})
            for name, key in file_keys(task).items()
        }


def paging(call: Call) -> tuple[int, int]:
    """
    Return the page and its size that a request asks for.

    Raises:
        ServiceError: They are out of bounds.
    """
    query = call.request.query_params
    try:
        page, size = int(query.get("current_page", 1)), int(query.get("per_page", 20))
    except ValueError:
        raise ServiceError(400, "current_page and per_page must be integers") from None
    if page < 1:
        raise ServiceError(400, "current_page must be at least 1")
    if not 1 <= size <= _MAX_PAGE_SIZE:
        raise ServiceError(400, "per_page must be between 1 and 100")
    return page, size


def json_object(body: bytes) -> dict[str, object]:
    """
    Return the object that a request's body holds.

    Raises:
        ServiceError: It holds none.
    """
    try:
        value: object = json.loads(body)
    except ValueError:
        raise ServiceError(400, "the body is no JSON") from None
    if not isinstance(value, dict):
        raise ServiceError(400, "the body is no JSON object")
    return cast("dict[str, object]", value)


def _parameters(body: Mapping[str, object]) -> dict[str, object]:
    parameters = body.get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise ServiceError(400, "parameters must be an object")
    return cast("dict[str, object]", parameters or {})


def _page(name: str, rows: list[dict[str, object]], page: int, size: int) -> Response:
    start = (page - 1) * size
    return JSONResponse(page_view(name, rows[start : start + size], page, size, len(rows)))


def _status_filter(call: Call, behaviour: Behaviour) -> str | None:
    status = call.request.query_params.get("status")
    if status is None:
        return None
    if status not in STATUSES or status in behaviour.refused_filters:
        raise ServiceError(400, "status is not a task state")
    return None if behaviour.filter_ignored else status


def _check_result(task: SimTask, mark: Mark, now: float, behaviour: Behaviour) -> None:
    if not mark.is_terminal and behaviour.early_result == "conflict":
        raise ServiceError(409, "the task has not ended")
    kept = behaviour.result_retention
    if mark.is_terminal and kept is not None and now >= task.created + mark.at + kept:
        raise ServiceError(behaviour.result_gone_status, "the result is kept no longer")
