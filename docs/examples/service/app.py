"""
A service of its own around Cyberun Cloud: submit a picture, see it grow, look at it.

``uvicorn --app-dir docs/examples/service --timeout-graceful-shutdown 5 --factory
app:create_app`` serves it, with ``CYBERUN_API_KEY`` (and ``CYBERUN_BASE_URL``) in the
environment. One client serves the process, and the relay in front of it every browser; the
key stays here.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from cyberun_async import CyberunClient, TaskFailedError, TaskHandle
from cyberun_async.relay import TaskRelay


PAGES = Path(__file__).parent


class Order(BaseModel):
    """What a visitor asks for."""

    prompt: str = Field(min_length=1, max_length=500)
    steps: int = Field(default=20, ge=1, le=100)


def create_app(client: CyberunClient | None = None) -> FastAPI:
    """Return the application; the client is opened and closed with it."""
    cyberun = client or CyberunClient()
    # Whose task it is. In earnest this is a table of your database.
    owners: dict[str, str] = {}

    def is_theirs(request: Request, task_id: str) -> bool:
        visitor = request.cookies.get("visitor")
        return visitor is not None and owners.get(task_id) == visitor

    relay = TaskRelay(cyberun, authorize=is_theirs)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with cyberun, relay:
            yield

    app = FastAPI(title="Pictures", lifespan=lifespan)
    app.add_route("/tasks/{task_id}/events", relay)

    def their_task(request: Request, task_id: str) -> TaskHandle:
        if not is_theirs(request, task_id):
            raise HTTPException(404, "no such task")
        return cyberun.handle(task_id)

    @app.get("/")
    async def front() -> FileResponse:
        return FileResponse(PAGES / "front.html")

    @app.post("/tasks", status_code=202)
    async def submit(
        order: Order, response: Response, visitor: Annotated[str | None, Cookie()] = None
    ) -> dict[str, str]:
        task = await cyberun.submit("text-to-image", order.model_dump())
        owners[task.id] = visitor or secrets.token_urlsafe()
        response.set_cookie("visitor", owners[task.id], httponly=True, samesite="lax")
        return {"page": f"/tasks/{task.id}"}

    @app.get("/tasks/{task_id}")
    async def progress(_task: Annotated[TaskHandle, Depends(their_task)]) -> FileResponse:
        return FileResponse(PAGES / "progress.html")

    @app.get("/tasks/{task_id}/picture")
    async def picture(task: Annotated[TaskHandle, Depends(their_task)]) -> Response:
        try:
            result = await task.result(timeout=30)
        except TaskFailedError as error:
            raise HTTPException(409, "the picture could not be made") from error
        return Response(await result[0].read(), media_type="image/png")

    return app
