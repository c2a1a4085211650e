"""What all endpoints share: records, faults, credentials and error bodies."""

from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

import anyio
import attrs
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..faults import Drop, Garble, HangUp, Hold, Refuse
from .errors import ConnectionCutError, ServiceError
from .faults import Claim, corrupted
from .keys import Caller
from .records import RecordedRequest
from .state import State


ABORT = "cyberun.abort"
"""The ASGI extension with which a server lets its application cut the connection."""


async def _cut(scope: Scope, receive: Receive, *, reset: bool) -> None:
    """
    Cut the connection of a request.

    In process there is none: an application that returns without having ended its
    answer is what a cut looks like there.
    """
    abort = scope.get("extensions", {}).get(ABORT)
    if abort is None:
        return
    abort(reset)
    while (await receive())["type"] != "http.disconnect":
        pass


Access: TypeAlias = Literal["public", "runtime", "management"]


@attrs.frozen
class Call:
    """A request that was recorded and authenticated."""

    request: Request
    body: bytes = attrs.field(repr=False)
    caller: Caller
    claim: Claim

    @property
    def path(self) -> dict[str, str]:
        """The named parts of the path."""
        return {name: str(value) for name, value in self.request.path_params.items()}


Handler: TypeAlias = Callable[[Call], Awaitable[Response]]

_ANYONE = Caller("sk", "")


class Endpoint:
    """The ASGI application of one endpoint."""

    def __init__(self, state: State, endpoint: str, access: Access, handler: Handler) -> None:
        self._state = state
        self._endpoint = endpoint
        self._access = access
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            record = await self._record(request)
        except ClientDisconnect:
            return  # gone before the whole request was there
        claim = self._state.faults.claim(record)
        try:
            await self._answer(request, record.body, claim, send)
        except ConnectionCutError as cut:
            await _cut(scope, receive, reset=cut.reset)
        finally:
            claim.release()

    async def _record(self, request: Request) -> RecordedRequest:
        record = RecordedRequest(
            self._endpoint,
            request.method,
            request.url.path,
            request.url.query,
            dict(request.headers),
            await request.body(),
            request.path_params.get("task_id"),
            self._state.clock.now(),
        )
        self._state.records.requests.append(record)
        return record

    async def _answer(self, request: Request, body: bytes, claim: Claim, send: Send) -> None:
        for action in claim.actions:
            if isinstance(action, Drop) and action.bytes is not None:
                send = _cut_after(send, action.bytes, claim, action)
        response = await self._refusal(claim)
        if response is None:
            response = await self._process(request, body, claim)
            response = await self._corrupt(response, claim)
        await response(request.scope, request.receive, send)

    async def _refusal(self, claim: Claim) -> Response | None:
        for action in claim.actions:
            match action:
                case Refuse(status=status, headers=headers, body=body):
                    claim.fire(action)
                    return Response(body, status, dict(headers))
                case Hold(before=seconds) if seconds:
                    claim.fire(action)
                    await anyio.sleep(seconds)
                case HangUp(processed=False):
                    claim.fire(action)
                    raise ConnectionCutError(reset=action.reset)
                case _:
                    pass
        return None

    async def _process(self, request: Request, body: bytes, claim: Claim) -> Response:
        try:
            return await self._handler(Call(request, body, self._admit(request), claim))
        except ServiceError as error:
            return error.response()

    def _admit(self, request: Request) -> Caller:
        if self._access == "public":
            return _ANYONE
        headers = request.headers
        caller = self._state.keys.caller(headers.get("authorization"), headers.get("x-team-id"))
        takes_all = self._state.behaviour.management_takes_integration_keys
        if self._access == "management" and caller.kind == "sk" and not takes_all:
            raise ServiceError(403, "integration keys are not accepted here")
        return caller

    async def _corrupt(self, response: Response, claim: Claim) -> Response:
        for action in claim.actions:
            match action:
                case Hold(after=seconds) if seconds:
                    claim.fire(action)
                    await anyio.sleep(seconds)
                case HangUp(processed=True):
                    claim.fire(action)
                    raise ConnectionCutError(reset=action.reset)
                case Garble(how=how):
                    claim.fire(action)
                    kind = "text/html" if how == "html" else "application/json"
                    body = corrupted(bytes(response.body), how)
                    response = Response(body, response.status_code, media_type=kind)
                case _:
                    pass
        return response


def _cut_after(send: Send, limit: int, claim: Claim, drop: Drop) -> Send:
    """Return a *send* that raises :class:`ConnectionCutError` after *limit* bytes of the body."""
    left = limit

    async def limited(message: Message) -> None:
        nonlocal left
        body: bytes = message.get("body", b"")
        if message["type"] != "http.response.body" or len(body) < left:
            left -= len(body)
            await send(message)
            return
        # Headers are sent with the first body message at the latest.
        await send({**message, "body": body[:left], "more_body": True})
        claim.fire(drop)
        raise ConnectionCutError(reset=drop.reset)

    return limited
