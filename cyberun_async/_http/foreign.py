"""An answer from an address that is not the API's: presigned links, other people's files."""

from collections.abc import Callable, Mapping
from typing import Self

import anyio
import httpx

from .._protocol import ExchangeFailedError, FailureKind
from .body import Body, read_start
from .connections import Connection
from .failures import RAISED_BY_TRANSPORTS, cause_of, failure


class ForeignResponse:
    """
    The headers of an answer, and its body to be read once.

    Attributes:
        status: The HTTP status.
        headers: Names in lower case.
    """

    __slots__ = (
        "_answer_timeout",
        "_body",
        "_connection",
        "_host",
        "_on_close",
        "headers",
        "status",
    )

    def __init__(
        self,
        response: httpx.Response,
        connection: Connection,
        *,
        host: str,
        answer_timeout: float,
        on_close: Callable[["ForeignResponse"], None],
    ) -> None:
        self._body = Body(response)
        self._connection = connection
        self._host = host
        self._answer_timeout = answer_timeout
        self._on_close = on_close
        self.status = response.status_code
        self.headers: Mapping[str, str] = dict(response.headers.items())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """
        Return the next bytes of the body as sent: nothing is decompressed.

        Raises:
            ExchangeFailedError: The connection was lost before the end.
        """
        try:
            chunk = await self._body.read()
        except RAISED_BY_TRANSPORTS as error:
            raise failure(error, host=self._host, is_sent=True) from cause_of(error)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aread(self, limit: int) -> bytes:
        """
        Return the first *limit* bytes of the body.

        Raises:
            ExchangeFailedError: The connection was lost before, or they took too long.
        """
        try:
            with anyio.fail_after(self._answer_timeout):
                return await read_start(self._body, limit)
        except TimeoutError as error:
            reason = f"{self._host} did not end its answer within {self._answer_timeout:g} s"
            raise ExchangeFailedError(
                FailureKind.TIMEOUT, maybe_sent=True, reason=reason
            ) from error
        except RAISED_BY_TRANSPORTS as error:
            raise failure(error, host=self._host, is_sent=True) from cause_of(error)

    async def aclose(self) -> None:
        """Close the connection. Idempotent, and permitted from any task."""
        self._on_close(self)
        try:
            await self._body.aclose()
        finally:
            await self._connection.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
