"""
Open many streams, close them, and report what it cost; a process for each run.

Usage: ``python -m tests.benchmarks.opening.row ROW STREAMS PORT [frozen]``
"""

import asyncio
import gc
import importlib
import json
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import httpx
from httpx_sse import aconnect_sse

from cyberun_async import CyberunClient, Limits

from ..events.clients import KEY
from ..events.load import Load, resident_kib, stats
from ..harness import report


if TYPE_CHECKING:
    import aiohttp


ASKED = "/r/tasks/idle-0-1-0"
REQUESTS = 200
CALM_SECONDS = 1.5


@attrs.define
class Gate:
    """Where every stream waits, once it has brought its first event, to be closed."""

    streams: int
    count: int = 0
    all_open: asyncio.Event = attrs.field(factory=asyncio.Event)
    leave: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def hold(self) -> None:
        self.count += 1
        if self.count == self.streams:
            self.all_open.set()
        await self.leave.wait()


Hold = Callable[[str], Coroutine[Any, Any, None]]
Figures = dict[str, float]


async def ours(load: Load, gate: Gate, **settings: Any) -> Figures:
    """Watch all tasks, and ask for one of them before and while they are watched."""
    limits = Limits(max_streams=len(load.task_ids))
    async with CyberunClient(
        KEY, base_url=load.base_url, limits=limits, verify=load.tls, **settings
    ) as client:

        async def hold(task_id: str) -> None:
            async with client.watch(task_id) as events:
                await anext(events)
                await gate.hold()

        async def ask() -> None:
            await client.tasks.get("idle-0-1-0")

        return await measure(load, gate, hold, ask)


async def ours_fast(load: Load, gate: Gate) -> Figures:
    """Do the same over aiohttp."""
    return await ours(load, gate, transport="aiohttp")


Reading = Callable[[httpx.AsyncClient, str], AbstractAsyncContextManager[AsyncIterator[object]]]


@asynccontextmanager
async def _httpx_sse(client: httpx.AsyncClient, url: str) -> AsyncGenerator[AsyncIterator[object]]:
    async with aconnect_sse(client, "GET", url) as source:
        yield source.aiter_sse()


@asynccontextmanager
async def _openai(client: httpx.AsyncClient, url: str) -> AsyncGenerator[AsyncIterator[object]]:
    from openai._streaming import SSEDecoder

    async with client.stream("GET", url) as response:
        yield SSEDecoder().aiter_bytes(response.aiter_bytes())


async def plain(load: Load, gate: Gate, reading: Reading = _httpx_sse) -> Figures:
    """Open all streams through one pool of httpx."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    return await _through_httpx(load, gate, reading, limits=limits, verify=load.tls)


async def openai_decoder(load: Load, gate: Gate) -> Figures:
    """Do the same with the decoder of the openai package."""
    return await plain(load, gate, _openai)


async def httpx_aiohttp(load: Load, gate: Gate) -> Figures:
    """Open all streams through one session of aiohttp, with httpx in front of it."""
    from httpx_aiohttp import AiohttpTransport

    limits = httpx.Limits(max_connections=100_000, max_keepalive_connections=20)
    transport = AiohttpTransport(verify=load.tls, limits=limits)
    return await _through_httpx(load, gate, _httpx_sse, transport=transport)


async def _through_httpx(load: Load, gate: Gate, reading: Reading, **settings: Any) -> Figures:
    timeout = httpx.Timeout(120.0, pool=None)
    async with httpx.AsyncClient(timeout=timeout, **settings) as client:

        async def hold(task_id: str) -> None:
            async with reading(client, load.url(task_id)) as events:
                await anext(events)
                await gate.hold()

        async def ask() -> None:
            (await client.get(load.base_url + ASKED)).json()

        return await measure(load, gate, hold, ask)


Opening = Callable[["aiohttp.ClientSession", str, Gate], Awaitable[None]]


async def _until_blank_line(session: "aiohttp.ClientSession", url: str, gate: Gate) -> None:
    async with session.get(url) as response:
        await response.content.readuntil(b"\n\n")
        await gate.hold()


async def _launchdarkly(session: "aiohttp.ClientSession", url: str, gate: Gate) -> None:
    reader: Any = importlib.import_module("ld_eventsource.async_client")
    connecting: Any = importlib.import_module("ld_eventsource.config.async_connect_strategy")
    strategy = connecting.AsyncConnectStrategy.http(url, session=session)
    async with reader.AsyncSSEClient(strategy) as client:
        async for _ in client.events:
            await gate.hold()
            break


async def aiohttp_alone(load: Load, gate: Gate, opening: Opening = _until_blank_line) -> Figures:
    """Open all streams through one session of aiohttp."""
    import aiohttp

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
    ) as session:

        async def hold(task_id: str) -> None:
            await opening(session, load.url(task_id), gate)

        async def ask() -> None:
            async with session.get(load.base_url + ASKED) as response:
                await response.json()

        return await measure(load, gate, hold, ask)


async def launchdarkly(load: Load, gate: Gate) -> Figures:
    """Do the same with launchdarkly-eventsource."""
    return await aiohttp_alone(load, gate, _launchdarkly)


class _RawStream(asyncio.Protocol):
    """Nothing but the request, and the bytes up to the first event."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._head = b""
        self.first = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        transport.write(_raw_request(self._path))

    def data_received(self, data: bytes) -> None:
        if not self.first.done():
            self._head += data
            if b"\n\n" in self._head:
                self.first.set_result(None)


def _raw_request(path: str) -> bytes:
    return f"GET /api/v1{path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode()


async def raw_protocol(load: Load, gate: Gate) -> Figures:
    """Open all streams by an asyncio protocol without HTTP: the limit."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", load.port)

    async def hold(task_id: str) -> None:
        transport, stream = await loop.create_connection(
            lambda: _RawStream(f"/r/tasks/{task_id}/events"), "127.0.0.1", load.port
        )
        await stream.first
        await gate.hold()
        transport.close()

    async def ask() -> None:
        writer.write(_raw_request(ASKED))
        head = await reader.readuntil(b"\r\n\r\n")
        json.loads(await reader.readexactly(int(head.rpartition(b"content-length: ")[2])))

    figures = await measure(load, gate, hold, ask)
    writer.close()
    return figures


ROWS: dict[str, Callable[[Load, Gate], Awaitable[Figures]]] = {
    "ours": ours,
    "ours, fast": ours_fast,
    "one pool of httpx": plain,
    "one pool of httpx, openai's decoder": openai_decoder,
    "one session of httpx-aiohttp": httpx_aiohttp,
    "one session of aiohttp": aiohttp_alone,
    "launchdarkly-eventsource": launchdarkly,
    "raw protocol (the limit)": raw_protocol,
}
# Importing it is not what is measured.
IMPORTED = {
    "ours, fast": "cyberun_async._http.aiohttp_backend",
    "one pool of httpx, openai's decoder": "openai._streaming",
    "one session of httpx-aiohttp": "httpx_aiohttp",
    "one session of aiohttp": "aiohttp",
    "launchdarkly-eventsource": "ld_eventsource.async_client",
}


async def measure(
    load: Load, gate: Gate, hold: Hold, ask: Callable[[], Awaitable[None]]
) -> Figures:
    """Return what opening and closing cost, and requests before and in between."""
    await ask()
    before = await _request_cost(ask)
    resident, wall, cpu = resident_kib(), time.perf_counter(), time.process_time()
    holders = [asyncio.create_task(hold(task_id)) for task_id in load.task_ids]
    await gate.all_open.wait()
    open_wall, open_cpu = time.perf_counter() - wall, time.process_time() - cpu
    resident = resident_kib() - resident
    # What follows an opening, for instance asking how the tasks stand, is no part of it.
    await asyncio.sleep(CALM_SECONDS)
    between = await _request_cost(ask)
    wall, cpu = time.perf_counter(), time.process_time()
    gate.leave.set()
    await asyncio.gather(*holders)
    close_wall, close_cpu = time.perf_counter() - wall, time.process_time() - cpu
    streams = len(load.task_ids)
    return {
        "open": open_wall,
        "close": close_wall,
        "each": (open_cpu + close_cpu) / streams * 1e6,
        "memory": resident / streams,
        "request": between / before,
    }


async def _request_cost(ask: Callable[[], Awaitable[None]]) -> float:
    costs: list[float] = []
    for _ in range(REQUESTS):
        start = time.perf_counter()
        await ask()
        costs.append(time.perf_counter() - start)
    return sorted(costs)[len(costs) // 2]


def main(name: str, streams: str, port: str, collector: str = "on") -> None:
    load = Load(int(port), [f"idle-0-1-{number}" for number in range(int(streams))], 0)
    if name in IMPORTED:
        importlib.import_module(IMPORTED[name])
    load.announce()
    if collector == "frozen":
        gc.freeze()
        gc.disable()
    figures = asyncio.run(_run(name, load))
    peak = stats(load.port)["peak"]
    wrong = [] if peak == int(streams) else [f"{peak} of {streams} streams were open at once"]
    report(wrong, **figures)


async def _run(name: str, load: Load) -> Figures:
    return await ROWS[name](load, Gate(len(load.task_ids)))


if __name__ == "__main__":
    main(*sys.argv[1:])
