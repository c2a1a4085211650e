"""Which path leads where."""

from starlette.routing import BaseRoute, Route, Router
from starlette.types import Receive, Scope, Send

from .api import RuntimeApi
from .errors import ServiceError
from .gate import Door, Gate, Handler
from .store import StoreApi
from .webhook_api import WebhookApi
from .world import World


API = "/api/v1"


def routes(world: World) -> Router:
    """Return the application of the whole service."""
    return Router([*_runtime(world), *_webhooks(world), *_store(world)], default=_not_found)


def _runtime(world: World) -> list[BaseRoute]:
    api, store = RuntimeApi(world), StoreApi(world)
    task = "/r/tasks/{task_id}"
    return [
        _route(world, "GET", "/r/workflows", "workflows", api.list_workflows),
        _route(world, "GET", "/r/workflows/slug/{slug}", "workflow", api.get_workflow),
        _route(world, "POST", "/r/workflows/slug/{slug}/run", "run", api.run),
        _route(world, "GET", "/r/workflows/{workflow_id}", "workflow", api.get_workflow),
        _route(world, "POST", "/r/workflows/{workflow_id}/run", "run", api.run),
        _route(world, "GET", "/r/tasks", "tasks", api.list_tasks),
        _route(world, "GET", task, "task", api.get_task),
        _route(world, "GET", task + "/events", "events", api.events),
        _route(world, "GET", task + "/result", "result", api.result),
        _route(world, "POST", task + "/cancel", "cancel", api.cancel),
        _route(world, "GET", "/r/agents", "agents", api.list_agents),
        _route(world, "GET", "/agents", "agents", api.list_agents, "management"),
        _route(world, "POST", "/r/files/presign", "presign", store.presign),
    ]


def _webhooks(world: World) -> list[BaseRoute]:
    api = WebhookApi(world)
    one = "/webhooks/{webhook_id}"
    table: list[tuple[str, str, Handler]] = [
        ("POST", "/webhooks", api.create),
        ("GET", "/webhooks", api.list),
        ("GET", one, api.get),
        ("PUT", one, api.update),
        ("DELETE", one, api.delete),
        ("POST", one + "/rotate-secret", api.rotate),
    ]
    return [_route(world, *row[:2], "webhooks", row[2], "management") for row in table]


def _store(world: World) -> list[BaseRoute]:
    api = StoreApi(world)
    path = "/store/{key:path}"
    return [
        Route(path, Gate(world, "upload", "public", api.upload), methods=["PUT"]),
        Route(path, Gate(world, "download", "public", api.download), methods=["GET"]),
    ]


def _route(
    world: World, method: str, path: str, name: str, handler: Handler, door: Door = "runtime"
) -> Route:
    return Route(API + path, Gate(world, name, door, handler), methods=[method])


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await ServiceError(404, "resource not found").response()(scope, receive, send)
