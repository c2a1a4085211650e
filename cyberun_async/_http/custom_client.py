"""
Transports and a client of httpx that the user gave, whose hooks may do what they like.

A hook may raise for a status, as httpx itself advises, or read the answer; neither
changes what the answer says.
"""

from inspect import iscoroutine
from typing import cast

import httpx

from .._model import ClientStateError, ConfigurationError, quoted
from .connections import Progress, send_over
from .requests import BytesBody
from .settings import TransportFactory


def made_by(factory: TransportFactory) -> httpx.AsyncBaseTransport:
    """
    Return a transport of the user's.

    Raises:
        ConfigurationError: What was made is of another kind.
    """
    # What a user's function returns need not be what it says.
    made = cast("object", factory())
    if isinstance(made, httpx.AsyncBaseTransport):
        return made
    if iscoroutine(made):
        made.close()
        hint = "; it is asynchronous, and must not be"
    elif isinstance(made, httpx.BaseTransport):
        hint = "; that one is synchronous"
    else:
        hint = ""
    raise ConfigurationError(
        "transport_factory must return an httpx.AsyncBaseTransport, such as "
        f"httpx.AsyncHTTPTransport(), of the installed httpx, not {quoted(made)}{hint}"
    )


async def send_by_client(client: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """
    Send a request and return the answer, its body still to be read.

    Raises:
        ExchangeFailedError: There were no headers.
        ClientStateError: The client has been closed.
    """

    def handle(request: httpx.Request) -> object:
        return client.send(request, stream=True, auth=None, follow_redirects=False)

    if client.is_closed:
        raise ClientStateError(
            "the http_client that was given has been closed; "
            "keep it open for as long as this client"
        )
    try:
        response = await send_over(handle, request, Progress())
    except httpx.HTTPStatusError as error:
        response = error.response
    return _as_read(response) if response.is_closed else response


def _as_read(response: httpx.Response) -> httpx.Response:
    """Return an answer that a hook has read, or closed, so that it can be read again."""
    try:
        content = response.content
    except httpx.ResponseNotRead:
        content = b""
    # What a hook has read is unpacked.
    headers = [one for one in response.headers.raw if one[0].lower() != b"content-encoding"]
    return httpx.Response(response.status_code, headers=headers, stream=BytesBody(content))
