"""The endpoints with which a team manages its webhooks."""

from starlette.responses import JSONResponse, Response

from .api import json_object, paging
from .errors import ServiceError
from .gate import Call
from .views import page_view
from .webhooks import Webhook
from .world import World


_REQUIRED = ("display_name", "webhook_url", "webhook_events")


class WebhookApi:
    """Handlers of the webhook endpoints."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def create(self, call: Call) -> Response:
        """Create a webhook."""
        fields = json_object(call.body)
        for name in _REQUIRED:
            if name not in fields:
                raise ServiceError(400, f"{name} is required")
        world = self._world
        hook = Webhook(world.new_id(), self._secret(), world.clock.now())
        hook.change(fields, allow_http=world.allow_http_webhooks)
        world.webhooks.hooks[hook.id] = hook
        answer = {"id": hook.id}
        if world.behaviour.webhook_secret_on_create:
            answer["webhook_secret"] = hook.secret
        return JSONResponse(answer)

    async def list(self, call: Call) -> Response:
        """Answer with one page of the webhooks."""
        page, size = paging(call)
        hooks = list(self._world.webhooks.hooks.values())
        rows = [hook.view(self._world.clock) for hook in hooks[(page - 1) * size : page * size]]
        return JSONResponse(page_view("webhook_list", rows, page, size, len(hooks)))

    async def get(self, call: Call) -> Response:
        """Answer with a webhook, its secret included."""
        return JSONResponse(self._hook(call).view(self._world.clock))

    async def update(self, call: Call) -> Response:
        """Change some fields of a webhook."""
        hook = self._hook(call)
        hook.change(json_object(call.body), allow_http=self._world.allow_http_webhooks)
        return JSONResponse({"id": hook.id})

    async def rotate(self, call: Call) -> Response:
        """Replace a webhook's secret at once."""
        hook = self._hook(call)
        hook.secret = self._secret()
        return JSONResponse({"webhook_secret": hook.secret})

    async def delete(self, call: Call) -> Response:
        """Remove a webhook."""
        del self._world.webhooks.hooks[self._hook(call).id]
        return Response(status_code=204)

    def _hook(self, call: Call) -> Webhook:
        hook = self._world.webhooks.hooks.get(call.path["webhook_id"])
        if hook is None:
            raise ServiceError(404, "webhook not found")
        return hook

    def _secret(self) -> str:
        return "whsec_" + self._world.chance.randbytes(24).hex()
