"""Reading an event stream as a whole, or up to its first events."""

import math
from collections.abc import Sequence

import anyio
from httpx_sse import ServerSentEvent

from cyberun_async._http import EventConnection
from cyberun_async._protocol import ExchangeFailedError


async def read_into(
    found: list[list[ServerSentEvent]],
    connection: EventConnection,
    *,
    at_most: float = math.inf,
) -> None:
    """Add to *found* what comes together, to the end; with *at_most* deliveries cancel then."""
    failures: list[ExchangeFailedError] = []
    with anyio.CancelScope() as scope:

        def deliver(
            messages: Sequence[ServerSentEvent], failure: ExchangeFailedError | None
        ) -> None:
            if messages:
                found.append([*messages])
            if failure is not None:
                failures.append(failure)
            if failures or len(found) >= at_most:
                scope.cancel()

        await connection.read(deliver)
    if failures:
        raise failures[0]


async def read_batches(
    connection: EventConnection, *, at_most: float = math.inf
) -> list[list[ServerSentEvent]]:
    """Return what came together, up to the end or to *at_most* deliveries."""
    found: list[list[ServerSentEvent]] = []
    await read_into(found, connection, at_most=at_most)
    return found
