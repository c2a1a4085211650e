"""
The rows: this library and its peers, each reading streams as its documentation shows.

A row is a coroutine function that reads every stream of a load to its end, and counts.
"""

import asyncio
import importlib
import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

import httpx
from httpx_sse import aconnect_sse

from cyberun_async import CompletedEvent, ProgressEvent, StatusEvent

from .load import Load


Row = Callable[[Load], Awaitable[None]]

KEY = "sk-" + "0" * 32


async def ours(load: Load, **settings: Any) -> None:
    """Read typed, ordered, de-duplicated events, with the watchdog on."""
    from cyberun_async import CyberunClient, Limits

    limits = Limits(max_streams=load.at_once or len(load.task_ids))
    async with CyberunClient(
        KEY, base_url=load.base_url, limits=limits, verify=load.tls, **settings
    ) as client:

        async def one(task_id: str) -> None:
            count = 0
            async with client.watch(task_id) as events:
                async for event in events:
                    count += 1
                    if load.steady and isinstance(event, ProgressEvent):
                        load.seen(event.raw["sent"])
            load.received += count
            load.dropped_progress += events.dropped_progress

        await load.for_each(one)


async def ours_fast(load: Load) -> None:
    """Read the same over the transport of aiohttp."""
    await ours(load, transport="aiohttp")


async def _httpx_sse(load: Load, client: httpx.AsyncClient) -> None:
    async def one(task_id: str) -> None:
        count = 0
        async with aconnect_sse(client, "GET", load.url(task_id)) as source:
            async for sse in source.aiter_sse():
                event = json.loads(sse.data)
                count += 1
                if load.steady and "sent" in event:
                    load.seen(event["sent"])
        load.received += count

    async with client:
        await load.for_each(one)


_TIMEOUT = httpx.Timeout(60.0, pool=None)


async def plain(load: Load) -> None:
    """Read untyped dictionaries with httpx and httpx-sse."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    await _httpx_sse(load, httpx.AsyncClient(limits=limits, timeout=_TIMEOUT, verify=load.tls))


async def httpx_aiohttp(load: Load) -> None:
    """Read untyped dictionaries with httpx-sse over httpx-aiohttp."""
    from httpx_aiohttp import AiohttpTransport

    limits = httpx.Limits(max_connections=100_000, max_keepalive_connections=20)
    transport = AiohttpTransport(verify=load.tls, limits=limits)
    await _httpx_sse(load, httpx.AsyncClient(transport=transport, timeout=_TIMEOUT))


async def aiohttp_lines(load: Load) -> None:
    """Read untyped dictionaries with aiohttp and a parser written by hand."""
    import aiohttp

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
    ) as session:

        async def one(task_id: str) -> None:
            count = 0
            data = ""
            async with session.get(load.url(task_id)) as response:
                async for line in response.content:
                    text = line.decode().rstrip("\n")
                    if text.startswith("data: "):
                        data += text[6:]
                    elif not text and data:
                        event = json.loads(data)
                        data = ""
                        count += 1
                        if load.steady and "sent" in event:
                            load.seen(event["sent"])
            load.received += count

        await load.for_each(one)


async def openai_decoder(load: Load) -> None:
    """Read untyped dictionaries with httpx and the decoder of the openai package."""
    from openai._streaming import SSEDecoder

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    async with httpx.AsyncClient(limits=limits, timeout=_TIMEOUT, verify=load.tls) as client:

        async def one(task_id: str) -> None:
            count = 0
            async with client.stream("GET", load.url(task_id)) as response:
                async for sse in SSEDecoder().aiter_bytes(response.aiter_bytes()):
                    event = cast("dict[str, Any]", sse.json())
                    count += 1
                    if load.steady and "sent" in event:
                        load.seen(event["sent"])
            load.received += count

        await load.for_each(one)


async def launchdarkly(load: Load) -> None:
    """Read untyped dictionaries with launchdarkly-eventsource."""
    import aiohttp

    reader: Any = importlib.import_module("ld_eventsource.async_client")
    connecting: Any = importlib.import_module("ld_eventsource.config.async_connect_strategy")

    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
    ) as session:

        async def one(task_id: str) -> None:
            count = 0
            strategy = connecting.AsyncConnectStrategy.http(load.url(task_id), session=session)
            async with reader.AsyncSSEClient(strategy) as client:
                async for message in client.events:
                    event = json.loads(message.data)
                    count += 1
                    if load.steady and "sent" in event:
                        load.seen(event["sent"])
                    if message.event == "completed":
                        break
            load.received += count

        await load.for_each(one)


class _RawStream(asyncio.Protocol):
    """Nothing but the bytes, a fast JSON decoder, and the values that are promised."""

    def __init__(self, load: Load, task_id: str) -> None:
        import msgspec.json

        self._load = load
        self._task_id = task_id
        self._loads: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder().decode
        self._rest = b""
        self._is_body = False
        self.ended = asyncio.get_running_loop().create_future()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        target = f"/api/v1/r/tasks/{self._task_id}/events"
        transport.write(f"GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self._is_body:
            _, end_of_head, data = data.partition(b"\r\n\r\n")
            self._is_body = bool(end_of_head)
        # Sizes of chunks, which hold no blank, and chunks in turn.
        pieces = data.split(b"\r\n")
        self._rest = pieces.pop()
        for piece in pieces:
            name, found, event_data = piece.partition(b"\ndata: ")
            if found:
                self._make(name, self._loads(event_data))

    def _make(self, name: bytes, payload: dict[str, Any]) -> None:
        load = self._load
        if name == b"event: progress":
            get = payload.get
            ProgressEvent(
                task_id=payload["task_id"],
                raw=payload,
                progress=get("progress"),
                step_current=get("step_current"),
                step_total=get("step_total"),
                current_node=get("current_node"),
                stage=get("stage"),
                message=get("message"),
            )
            if load.steady:
                load.seen(payload["sent"])
        elif name == b"event: status":
            StatusEvent(task_id=payload["task_id"], raw=payload, status=payload["status"])
        else:
            CompletedEvent(task_id=payload["task_id"], raw=payload, output=payload["output"])
            self.ended.set_result(None)
        load.received += 1


async def raw_protocol(load: Load) -> None:
    """Make the same values in the callback of an asyncio protocol: the limit."""
    loop = asyncio.get_running_loop()

    async def one(task_id: str) -> None:
        transport, stream = await loop.create_connection(
            lambda: _RawStream(load, task_id), "127.0.0.1", load.port
        )
        await stream.ended
        transport.close()

    await load.for_each(one)


ROWS: dict[str, Row] = {
    "ours": ours,
    "ours, fast": ours_fast,
    "httpx + httpx-sse": plain,
    "httpx-sse over httpx-aiohttp": httpx_aiohttp,
    "aiohttp, lines by hand": aiohttp_lines,
    "httpx + openai's decoder": openai_decoder,
    "launchdarkly-eventsource": launchdarkly,
    "raw protocol (the limit)": raw_protocol,
}
