"""The endpoints of the service: what each one answers, and which path leads to it."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import cast

import anyio
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from .behaviour import Behaviour
from .errors import ServiceError, StoreError
from .files import StoredFile, file_of, input_key
from .middleware import Access, Call, Endpoint, Handler
from .state import State, run_request
from .stream import EventStream
from .tasks import SimTask
from .timeline import STATUSES, Mark
from .views import agents, file_keys, page_view, result_view, task_view, workflow_view
from .webhooks import Webhook
from .workflows import Workflow, fault_of_parameters


_MAX_PAGE_SIZE = 100


class _Handlers:
    def __init__(self, state: State) -> None:
        self._state = state


class RuntimeApi(_Handlers):
    """Handlers of the runtime surface."""

    async def list_workflows(self, call: Call) -> Response:
        """Answer with one page of the workflows."""
        page, size = paging(call)
        rows = [self._workflow_view(one) for one in self._state.workflows.current()]
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
        await anyio.sleep(self._state.behaviour_towards(task).accept_delay)
        return JSONResponse({"task_id": task.id}, 202)

    async def list_tasks(self, call: Call) -> Response:
        """Answer with one page of the tasks."""
        page, size = paging(call)
        behaviour = self._state.behaviour
        now = self._state.clock.now()
        rows = self._state.tasks.rows(now, behaviour.list_order, _status_filter(call, behaviour))
        start = max((page - 1) * size - (page - 1) * behaviour.row_shift, 0)
        total = max(len(rows) + behaviour.total_count_error, 0)
        items = [self._task_view(task, now, in_list=True) for task in rows[start : start + size]]
        return JSONResponse(page_view("task_list", items, page, size, total))

    async def get_task(self, call: Call) -> Response:
        """Answer with a task's state."""
        return JSONResponse(self._task_view(self._task(call), self._state.clock.now()))

    async def events(self, call: Call) -> Response:
        """Answer with a task's events."""
        task = self._task(call)
        if task.mark(self._state.clock.now()).is_terminal:
            match self._state.behaviour_towards(task).finished_stream:
                case "not_found":
                    raise ServiceError(404, "the task has no events any more")
                case "no_content":
                    return Response(status_code=204)
                case _:
                    pass
        resume_after = call.request.headers.get("last-event-id")
        return EventStream(self._state, task, call.caller, call.claim, resume_after)

    async def result(self, call: Call) -> Response:
        """Answer with a task's output and links minted for this answer."""
        task = self._task(call)
        now = self._state.clock.now()
        behaviour = self._state.behaviour_towards(task)
        mark = task.mark(now - behaviour.result_lag)
        _check_result(task, mark, now, behaviour)
        links = self._links(task, behaviour) if mark.status == "completed" else {}
        expires_at = now + behaviour.link_lifetime
        view = result_view(task, mark, behaviour, self._state.clock, links, expires_at)
        return JSONResponse(view)

    async def cancel(self, call: Call) -> Response:
        """Stop a task, or do nothing if it has ended."""
        self._state.cancel(self._task(call))
        return JSONResponse({"is_success": True})

    async def list_agents(self, call: Call) -> Response:
        """Answer with one page of the connected agents."""
        page, size = paging(call)
        busy = [
            task.id for task in self._state.tasks.rows(self._state.clock.now(), "oldest", "running")
        ]
        return _page("agent_list", agents(busy, self._state.clock), page, size)

    def _workflow(self, call: Call) -> Workflow:
        if "slug" in call.path:
            workflow = self._state.workflows.by_slug(call.path["slug"])
        else:
            workflow = self._state.workflows.by_id(call.path["workflow_id"])
        if workflow is None:
            raise ServiceError(404, "workflow not found")
        return workflow

    def _workflow_view(self, workflow: Workflow) -> dict[str, object]:
        return workflow_view(workflow, self._state.clock.stamp(0.0))

    def _check(self, workflow: Workflow, parameters: Mapping[str, object]) -> None:
        if workflow.status != "active":
            raise ServiceError(409, "workflow is disabled")
        if not self._state.behaviour.validates:
            return
        fault = fault_of_parameters(workflow, parameters, self._state.uploads)
        if fault is not None:
            raise ServiceError(400, fault)

    def _accept(
        self,
        workflow: Workflow,
        parameters: Mapping[str, object],
        body: Mapping[str, object],
        call: Call,
    ) -> SimTask:
        state = self._state
        run = run_request(workflow, parameters, body)
        plan = state.next_plan(run)
        lag = (plan.behaviour or state.behaviour).replica_lag
        task = state.create(run, plan, call.caller.source, lag=lag)
        state.remember(task, run)
        return task

    def _task(self, call: Call) -> SimTask:
        task = self._state.tasks.get(call.path["task_id"])
        if task is None or self._state.clock.now() < task.visible_from:
            raise ServiceError(404, "task not found")
        return task

    def _task_view(self, task: SimTask, now: float, *, in_list: bool = False) -> dict[str, object]:
        behaviour = self._state.behaviour_towards(task)
        return task_view(task, now, behaviour, self._state.clock, in_list=in_list)

    def _links(self, task: SimTask, behaviour: Behaviour) -> dict[str, str]:
        state = self._state
        return {
            name: state.signer.link(state.store_base, "GET", key, behaviour.link_lifetime, {})
            for name, key in file_keys(task).items()
        }


def paging(call: Call) -> tuple[int, int]:
    """
    Return the page number and page size of a request.

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


class StoreApi(_Handlers):
    """Handlers of presigning, uploading and downloading."""

    async def presign(self, call: Call) -> Response:
        """Answer with a link under which a file of exactly this size can be put."""
        fields = json_object(call.body)
        name = _text(fields, "file_name")
        kind = _text(fields, "content_type")
        size = self._size(fields.get("file_size"))
        key = input_key(self._state.new_id(), kind, name)
        signs = self._state.behaviour.upload_headers == "documented"
        headers = {"Content-Length": str(size), "If-None-Match": "*"} if signs else {}
        lifetime = self._state.behaviour.link_lifetime
        link = self._state.signer.link(self._state.store_base, "PUT", key, lifetime, headers)
        return JSONResponse({"file_key": key, "upload_url": link, "upload_headers": headers})

    async def upload(self, call: Call) -> Response:
        """Store a file, once and in the size that was signed."""
        headers, key = call.request.headers, call.path["key"]
        _refuse_credentials(headers)
        if "transfer-encoding" in headers:
            message = "A header you provided implies functionality that is not implemented"
            raise StoreError(501, "NotImplemented", message)
        self._state.signer.check("PUT", key, dict(call.request.query_params), headers)
        _refuse_unsigned(headers)
        if key in self._state.uploads:
            message = "At least one of the pre-conditions you specified did not hold"
            raise StoreError(412, "PreconditionFailed", message)
        kind = headers.get("content-type", "application/octet-stream")
        self._state.uploads[key] = StoredFile(call.body, kind)
        return Response(headers={"ETag": _tag(call.body)})

    async def download(self, call: Call) -> Response:
        """Answer with a file, or with the requested range of it."""
        headers, key = call.request.headers, call.path["key"]
        _refuse_credentials(headers)
        self._state.signer.check("GET", key, dict(call.request.query_params), headers)
        file = self._find(key)
        common = {"ETag": _tag(file.content), "Accept-Ranges": "bytes"}
        span = _requested_range(headers, len(file.content), common["ETag"])
        if span is None:
            return Response(file.content, 200, common, file.content_type)
        start, stop = span
        common["Content-Range"] = f"bytes {start}-{stop - 1}/{len(file.content)}"
        return Response(file.content[start:stop], 206, common, file.content_type)

    def _size(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ServiceError(400, "file_size must be a number of bytes")
        if value > self._state.max_file_size:
            raise ServiceError(413, f"file_size exceeds {self._state.max_file_size} bytes")
        return value

    def _find(self, key: str) -> StoredFile:
        _, _, rest = key.partition("tasks/")
        task = self._state.tasks.get(rest.partition("/")[0])
        made = None if task is None else file_of(task, key)
        file = made or self._state.uploads.get(key)
        if file is None:
            raise StoreError(404, "NoSuchKey", "The specified key does not exist")
        return file


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise ServiceError(400, f"{name} is required")
    return value


def _refuse_credentials(headers: Headers) -> None:
    if "authorization" in headers:
        message = "Only one auth mechanism allowed"
        raise StoreError(400, "InvalidArgument", message)


def _refuse_unsigned(headers: Headers) -> None:
    if any(name.startswith("x-amz-") for name in headers):
        message = "There were headers present in the request which were not signed"
        raise StoreError(403, "AccessDenied", message)


def _tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _requested_range(headers: Headers, size: int, tag: str) -> tuple[int, int] | None:
    """Return the requested range as start and stop, or None for the whole file."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
    if match is None or match[0] == "bytes=-" or headers.get("if-range", tag) != tag:
        return None
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= size or stop <= start:
        raise StoreError(416, "InvalidRange", "The requested range is not satisfiable")
    return start, stop


_REQUIRED = ("display_name", "webhook_url", "webhook_events")


class WebhookApi(_Handlers):
    """Handlers of the webhook endpoints."""

    async def create(self, call: Call) -> Response:
        """Create a webhook."""
        fields = json_object(call.body)
        for name in _REQUIRED:
            if name not in fields:
                raise ServiceError(400, f"{name} is required")
        state = self._state
        hook = Webhook(state.new_id(), self._secret(), state.clock.now())
        hook.change(fields, allow_http=state.allow_http_webhooks)
        state.webhooks[hook.id] = hook
        answer = {"id": hook.id}
        if state.behaviour.webhook_secret_on_create:
            answer["webhook_secret"] = hook.secret
        return JSONResponse(answer)

    async def list(self, call: Call) -> Response:
        """Answer with one page of the webhooks."""
        page, size = paging(call)
        hooks = list(self._state.webhooks.values())
        rows = [hook.view(self._state.clock) for hook in hooks[(page - 1) * size : page * size]]
        return JSONResponse(page_view("webhook_list", rows, page, size, len(hooks)))

    async def get(self, call: Call) -> Response:
        """Answer with a webhook, its secret included."""
        return JSONResponse(self._hook(call).view(self._state.clock))

    async def update(self, call: Call) -> Response:
        """Change some fields of a webhook."""
        hook = self._hook(call)
        hook.change(json_object(call.body), allow_http=self._state.allow_http_webhooks)
        return JSONResponse({"id": hook.id})

    async def rotate(self, call: Call) -> Response:
        """Replace a webhook's secret at once."""
        hook = self._hook(call)
        hook.secret = self._secret()
        return JSONResponse({"webhook_secret": hook.secret})

    async def delete(self, call: Call) -> Response:
        """Remove a webhook."""
        del self._state.webhooks[self._hook(call).id]
        return Response(status_code=204)

    def _hook(self, call: Call) -> Webhook:
        hook = self._state.webhooks.get(call.path["webhook_id"])
        if hook is None:
            raise ServiceError(404, "webhook not found")
        return hook

    def _secret(self) -> str:
        return "whsec_" + self._state.chance.randbytes(24).hex()


API = "/api/v1"


def routes(state: State) -> Router:
    """Return the application of the whole service."""
    api, store, hooks = RuntimeApi(state), StoreApi(state), WebhookApi(state)
    task, hook, file = (
        API + "/r/tasks/{task_id}",
        API + "/webhooks/{webhook_id}",
        "/store/{key:path}",
    )
    workflow, slug = API + "/r/workflows/{workflow_id}", API + "/r/workflows/slug/{slug}"
    table: list[tuple[str, str, str, Handler, Access]] = [
        ("GET", API + "/r/workflows", "workflows", api.list_workflows, "runtime"),
        ("GET", slug, "workflow", api.get_workflow, "runtime"),
        ("POST", slug + "/run", "run", api.run, "runtime"),
        ("GET", workflow, "workflow", api.get_workflow, "runtime"),
        ("POST", workflow + "/run", "run", api.run, "runtime"),
        ("GET", API + "/r/tasks", "tasks", api.list_tasks, "runtime"),
        ("GET", task, "task", api.get_task, "runtime"),
        ("GET", task + "/events", "events", api.events, "runtime"),
        ("GET", task + "/result", "result", api.result, "runtime"),
        ("POST", task + "/cancel", "cancel", api.cancel, "runtime"),
        ("GET", API + "/r/agents", "agents", api.list_agents, "runtime"),
        ("GET", API + "/agents", "agents", api.list_agents, "management"),
        ("POST", API + "/r/files/presign", "presign", store.presign, "runtime"),
        ("POST", API + "/webhooks", "webhooks", hooks.create, "management"),
        ("GET", API + "/webhooks", "webhooks", hooks.list, "management"),
        ("GET", hook, "webhooks", hooks.get, "management"),
        ("PUT", hook, "webhooks", hooks.update, "management"),
        ("DELETE", hook, "webhooks", hooks.delete, "management"),
        ("POST", hook + "/rotate-secret", "webhooks", hooks.rotate, "management"),
        ("PUT", file, "upload", store.upload, "public"),
        ("GET", file, "download", store.download, "public"),
    ]
    endpoints = [
        Route(path, Endpoint(state, name, access, handler), methods=[method])
        for method, path, name, handler, access in table
    ]
    return Router(endpoints, default=_not_found)


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await ServiceError(404, "resource not found").response()(scope, receive, send)
