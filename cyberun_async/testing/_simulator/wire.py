"""What lies below HTTP: cutting a connection, and sending only so much of a body."""

from collections.abc import Callable

from starlette.types import Message, Receive, Scope, Send


ABORT = "cyberun.abort"
"""The ASGI extension with which a server lets its application cut the connection."""


class ConnectionCutError(Exception):
    """The connection is to be cut here."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__("the service cut the connection")
        self.reset = reset


class StreamEndError(Exception):
    """The stream is to be ended in good order here."""


async def sever(scope: Scope, receive: Receive, *, reset: bool = False) -> None:
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


def cut_after(send: Send, limit: int, fired: Callable[[], None], *, reset: bool) -> Send:
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
        fired()
        raise ConnectionCutError(reset=reset)

    return limited
