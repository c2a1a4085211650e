"""A request is cancelled at its first suspension, at its second, and so on to its last."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from cyberun_async._http import Transport, TransportSettings
from cyberun_async._model import Limits

from ..wire.reading import read_batches
from ..wire.server import STREAM_HEAD, Expect, Send, Stall, chunk, reply, serving
from .leaks import nothing_left
from .steps import Steps


pytestmark = pytest.mark.asyncio_only("Task.cancel is asyncio's")

HEADERS = {"authorization": "Bearer sk-x"}


async def request(transport: Transport) -> None:
    await transport.exchange("POST", "/x", headers=HEADERS, content=b"{}")


async def stream(transport: Transport) -> None:
    connection = await transport.open_stream("/x", headers=HEADERS, open_timeout=30)
    try:
        await read_batches(connection, at_most=1)
    finally:
        await connection.aclose()


async def fetch(transport: Transport) -> None:
    url = transport._settings.base_url
    async with await transport.fetch("PUT", url, headers={}, content=b"abc") as answer:
        await answer.aread(10)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("work", [request, stream, fetch])
async def test_a_cancellation_at_any_step_leaves_the_transport_usable(
    work: Callable[[Transport], Awaitable[None]], times: int
):
    """Whatever was awaited, and however often it is cancelled, nothing stays behind."""
    answer = STREAM_HEAD + chunk(b"data: x\n\n") if work is stream else reply()
    with serving([Expect(), Send(answer), Expect(), Send(answer), Stall()]) as server:
        at, reached = 0, True
        while reached:
            at += 1
            reached = await cancelled_at(at, times, server.url, work)
        server.wait_until_all_ended()

    assert at > 3  # aiohttp suspends no oftener


async def cancelled_at(
    at: int, times: int, url: str, work: Callable[[Transport], Awaitable[None]]
) -> bool:
    async with nothing_left(counting_sockets=False):
        limits = Limits(max_connections=1)
        transport = Transport(TransportSettings(base_url=url, limits=limits))
        reached = await cancelled_in(transport, Steps(at, times), work)
        await work(transport)
        statistics = transport.statistics()
        assert (statistics.busy_connections, statistics.open_streams) == (0, 0)
        await transport.aclose()
    return reached


async def cancelled_in(
    transport: Transport, steps: Steps, work: Callable[[Transport], Awaitable[None]]
) -> bool:
    task = asyncio.create_task(steps.run(work(transport)))
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None
    return steps.reached
