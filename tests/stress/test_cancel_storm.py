"""
Thousands of requests and streams are cancelled at every moment, and nothing is lost.

The ordinary run is seeded and short; ``CYBERUN_STRESS_CANCELS`` gives the number of
cancellations of a longer one, ``CYBERUN_STRESS_SEED`` another seed.
"""

import asyncio
import contextlib
import os
import random
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

from cyberun_async import CyberunClient, StatusEvent, WaitTimeoutError, WatchPolicy
from cyberun_async._http import Transport, TransportSettings
from cyberun_async._model import Limits, Timeouts

from ..wire.reading import read_batches
from .leaks import nothing_left
from .service import service


CANCELS = int(os.environ.get("CYBERUN_STRESS_CANCELS", "10000"))
SEED = int(os.environ.get("CYBERUN_STRESS_SEED", "1"))
HEADERS = {"authorization": "Bearer sk-x"}
KEY = "sk-0123456789abcdefghij"
POLICY = WatchPolicy(linger=0.01, poll_interval=0.05)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(max(600, CANCELS // 100)),
    pytest.mark.usefixtures("unmeasured"),
]


async def request(transport: Transport) -> None:
    assert (await transport.exchange("POST", "/x", headers=HEADERS, content=b"{}")).status == 200


async def stream(transport: Transport) -> None:
    connection = await transport.open_stream("/events", headers=HEADERS, open_timeout=30)
    try:
        assert len(await read_batches(connection, at_most=1)) == 1
    finally:
        await connection.aclose()


async def fetch(transport: Transport) -> None:
    url = transport._settings.base_url
    async with await transport.fetch("PUT", url, headers={}, content=b"abc") as answer:
        assert await answer.aread(10) == b'{"task_id"'


async def pause(dice: random.Random) -> None:
    """Wait for some turns of the loop, or for a time about as long as an answer takes."""
    if dice.random() < 0.6:
        for _ in range(dice.randrange(25)):
            await asyncio.sleep(0)
    else:
        await anyio.sleep(dice.random() * 0.014)


async def cancel(task: "asyncio.Task[None]", dice: random.Random) -> None:
    """Cancel *task* at some moment, once or several times; only that may end it early."""
    await pause(dice)
    for _ in range(dice.choice([1, 1, 2, 2, 3])):
        task.cancel()
        await asyncio.sleep(0)
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def storm(
    begin: Callable[[random.Random], Coroutine[Any, Any, None]], *, workers: int, cancels: int
) -> int:
    """Cancel what *begin* begins, so many at once; return how many were ended by it."""
    cancelled = 0

    async def worker(number: int) -> None:
        nonlocal cancelled
        dice = random.Random(f"{SEED}/{number}")
        for _ in range(cancels // workers):
            task = asyncio.create_task(begin(dice))
            await cancel(task, dice)
            cancelled += task.cancelled()

    await asyncio.gather(*(worker(number) for number in range(workers)))
    return cancelled


def on_transport(transport: Transport) -> Callable[[random.Random], Coroutine[Any, Any, None]]:
    return lambda dice: dice.choices([request, stream, fetch], [5, 4, 1])[0](transport)


def task_id(number: int) -> str:
    return f"0197a000-0000-7000-8000-{number:012}"


async def get(client: CyberunClient, number: int) -> None:
    assert (await client.tasks.get(task_id(number))).status == "running"


async def watch(client: CyberunClient, number: int) -> None:
    async with client.watch(task_id(number)) as events:
        assert isinstance(await anext(events), StatusEvent)


async def wait(client: CyberunClient, number: int) -> None:
    with contextlib.suppress(WaitTimeoutError):
        await client.wait(task_id(number), timeout=0.02)


def on_client(client: CyberunClient) -> Callable[[random.Random], Coroutine[Any, Any, None]]:
    # Some tasks are followed by several at once.
    return lambda dice: dice.choices([get, watch, wait], [4, 5, 1])[0](client, dice.randrange(100))


async def assert_usable(transport: Transport) -> None:
    """Everything at once works, and within a time that no lost slot would allow."""
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(request, transport)
                tasks.start_soon(stream, transport)
        # A watch that was left may have been asked about just then.
        while transport.statistics().busy_connections:
            await anyio.sleep(0.005)
    statistics = transport.statistics()
    assert (statistics.open_streams, statistics.open_fetches) == (0, 0)
    assert (statistics.busy_connections, statistics.waiting) == (0, 0)


async def assert_all_served(client: CyberunClient) -> None:
    """A hundred requests and a hundred watches at once are served; nothing stays taken."""
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(get, client, number)
                tasks.start_soon(watch, client, number)
    statistics = client.statistics()
    assert (statistics.open_streams, statistics.followed_tasks) == (0, 0)


@pytest.mark.asyncio_only("Task.cancel is asyncio's")
@pytest.mark.parametrize(
    ("workers", "share", "max_streams"),
    [pytest.param(30, 0.7, 8, id="contended"), pytest.param(6, 0.3, 100, id="not contended")],
)
async def test_a_storm_of_native_cancellations_loses_nothing(
    workers: int, share: float, max_streams: int
):
    """After thousands of cancelled requests, watches and waits, all connections can be had."""
    with service() as url:
        async with nothing_left():
            limits = Limits(max_connections=10, max_streams=max_streams, poll_rate=1000)
            async with CyberunClient(
                KEY, base_url=url, limits=limits, timeouts=Timeouts(pool=0.5), watch_policy=POLICY
            ) as client:
                cancels = int(CANCELS * share) + workers
                cancelled = await storm(on_client(client), workers=workers, cancels=cancels)
                assert cancelled > cancels / 2
                await assert_all_served(client)
                transport = client._session.opened.transport
                await assert_usable(transport)


@pytest.mark.asyncio_only("Task.cancel is asyncio's")
async def test_cancelled_handshakes_leave_no_socket(tmp_path: Path):
    """During a TLS handshake the socket belongs to nobody; it is closed all the same."""
    authority = trustme.CA()
    certificate = tmp_path / "service.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with service(str(certificate)) as url:
        async with nothing_left():
            transport = Transport(TransportSettings(base_url=url, verify=trusting))
            await storm(on_transport(transport), workers=10, cancels=CANCELS // 20)
            await assert_usable(transport)
            await transport.aclose()


async def test_a_storm_of_cancel_scopes_loses_nothing():
    """Deadlines of anyio, on any back end, leave nothing behind either."""
    dice = random.Random(SEED)

    async def give_up(transport: Transport) -> None:
        work = dice.choices([request, stream, fetch], [5, 4, 1])[0]
        with anyio.move_on_after(dice.random() * 0.014):
            await work(transport)

    async def worker(transport: Transport, rounds: int) -> None:
        for _ in range(rounds):
            await give_up(transport)

    with service() as url:
        async with nothing_left():
            limits = Limits(max_connections=10)
            transport = Transport(TransportSettings(base_url=url, limits=limits))
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(worker, transport, CANCELS // 200)
            await assert_usable(transport)
            await transport.aclose()


@pytest.mark.asyncio_only("Task.cancel is asyncio's")
async def test_closing_in_the_middle_of_a_storm_leaves_nothing():
    """A client that is closed under load, and is cancelled twice at that, closes everything."""
    with service() as url:
        async with nothing_left():
            for seed in range(20):
                await close_under_load(url, random.Random(seed))


async def close_under_load(url: str, dice: random.Random) -> None:
    transport = Transport(TransportSettings(base_url=url, limits=Limits(max_connections=5)))
    works = [asyncio.create_task(dice.choice([request, stream])(transport)) for _ in range(20)]
    await pause(dice)
    closing = asyncio.create_task(transport.aclose())
    for _ in range(2):
        await asyncio.sleep(0)
        closing.cancel()
    await asyncio.gather(closing, *works, return_exceptions=True)
    await transport.aclose()
    assert transport.statistics().open_streams == 0
