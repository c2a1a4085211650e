"""A service of canned answers, for tests of plain requests without a socket."""

import json
from collections.abc import Callable
from typing import Any, cast

import httpx

from cyberun_async import CyberunClient, RetryPolicy


KEY = "sk-0123456789abcdefghij"
TASK = "0197a000-0000-7000-8000-000000000001"
BASE = "https://api.test/api/v1"
QUICK = RetryPolicy(backoff_base=0.001, backoff_cap=0.002)

Handler = Callable[[httpx.Request], httpx.Response]


class FakeService:
    """Answers by method and path, and remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.otherwise: Handler | None = None
        self.instead: Handler | None = None  # of all answers
        self._routes: dict[tuple[str, str], Handler] = {}

    def on(self, method: str, path: str, answer: Any, status: int = 200) -> None:
        """Answer *path* below the base URL with a handler, a response, or JSON."""
        self._routes[method, path] = _handler(answer, status)

    def on_url(self, method: str, url: str, answer: Any, status: int = 200) -> None:
        """Answer a whole address, query left out."""
        self._routes[method, url] = _handler(answer, status)

    def asked(self, method: str, end: str) -> list[httpx.Request]:
        return [one for one in self.requests if one.method == method and one.url.path.endswith(end)]

    def client(self, **settings: Any) -> CyberunClient:
        chosen: dict[str, Any] = {"api_key": KEY, "base_url": BASE, "retries": QUICK}
        chosen["transport_factory"] = lambda: httpx.MockTransport(self._answer)
        chosen.update(settings)
        return CyberunClient(**chosen)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        # `aread` gives what the request was made with, which an upload is not.
        assert isinstance(request.stream, httpx.AsyncByteStream)
        request._content = b"".join([piece async for piece in request.stream])
        self.requests.append(request)
        whole = f"{request.url.scheme}://{request.url.netloc.decode()}{request.url.path}"
        handler = self._routes.get((request.method, whole)) or self._routes.get(
            (request.method, whole.removeprefix(BASE))
        )
        handler = self.instead or handler or self.otherwise
        if handler is None:
            return httpx.Response(404, json={"error_message": "resource not found"})
        return handler(request)


def _handler(answer: Any, status: int) -> Handler:
    if callable(answer):
        return cast("Handler", answer)
    body = json.dumps(answer).encode() if not isinstance(answer, bytes) else answer
    return lambda request: httpx.Response(
        status, content=body, headers={"Content-Type": "application/json"}
    )
