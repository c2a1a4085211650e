"""A whole service over TLS: the relay and the webhooks of one site, met by careless peers."""

import asyncio
import json
import math
import random
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import attrs
import httpx
import pytest
import trustme
import uvicorn
from fastapi import FastAPI
from starlette.requests import Request

from cyberun_async import CyberunClient
from cyberun_async._model import WebhookEvent
from cyberun_async.relay import TaskRelay
from cyberun_async.testing import Simulator, TaskPlan, faults
from cyberun_async.webhooks._endpoint import WebhookEndpoint

from ..whole.kit import PATIENCE


pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)

LIFE: Final = TaskPlan(
    pending=0.1, waiting=0.1, queued=0.1, steps=10, step_seconds=0.1,
    faults=(faults.drop_after(events=7),),
)  # fmt: skip
ENDS: Final = frozenset({"completed", "failed", "cancelled"})


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@attrs.frozen
class Certificates:
    """A certificate for this machine, its file, and who trusts it."""

    pem: Path
    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture
def tls(tmp_path: Path) -> Certificates:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    pem = tmp_path / "site.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Certificates(pem, server, client)


@attrs.define
class Site:
    """A site that is served: where, and what its callback took."""

    port: int
    client: CyberunClient
    taken: Counter[str]


async def post(tls: Certificates, url: str, headers: Any, body: bytes) -> int:
    async with httpx.AsyncClient(verify=tls.client) as http:
        return (await http.post(url, headers=dict(headers), content=body)).status_code


@asynccontextmanager
async def site_of(tls: Certificates, sim: Simulator) -> AsyncIterator[Site]:
    """Serve a site with uvicorn over TLS, whose service calls it back over TLS."""
    client = CyberunClient(sim.key, base_url=sim.url, verify=tls.client)
    relay = TaskRelay(client, authorize=is_visitor, close_on_signals=False, heartbeat=0.1, keep=2.0)
    taken: Counter[str] = Counter()
    secrets: list[str] = []

    def take(event: WebhookEvent) -> None:
        taken[event.task_id] += 1

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with client, relay:
            yield

    app = FastAPI(lifespan=lifespan)
    app.add_api_route("/tasks/{task_id}/events", relay)
    app.mount("/live", relay)
    endpoint = WebhookEndpoint(lambda: secrets, take, body_timeout=0.5)
    app.add_api_route("/hooks/cyberun", endpoint, methods=["POST"])
    server = uvicorn.Server(
        uvicorn.Config(
            app, port=0, ssl_certfile=tls.pem, ssl_keyfile=tls.pem, log_config=None,
            timeout_graceful_shutdown=2,
        )
    )  # fmt: skip
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    device = sim.issue_key("dk")
    async with CyberunClient(device, base_url=sim.url, verify=tls.client) as owner:
        hook = f"https://127.0.0.1:{port}/hooks/cyberun"
        secrets.append((await owner.webhooks.create("mine", hook)).secret or "")
    try:
        yield Site(port, client, taken)
    finally:
        relay.close()
        server.should_exit = True
        await serving


def is_visitor(request: Request, task_id: str) -> bool:
    return request.cookies.get("who") == "visitor"


class Foreign:
    """A parser that dispatches at every empty line, and takes what it gets for an event."""

    def __init__(self) -> None:
        self._rest = ""
        self.events: list[dict[str, str]] = []

    def feed(self, text: str) -> None:
        *blocks, self._rest = (self._rest + text).split("\n\n")
        for block in blocks:
            lines = [line for line in block.split("\n") if not line.startswith(":")]
            self.events.append(dict(line.split(": ", 1) for line in lines))


async def browse(
    tls: Certificates, site: Site, path: str, dice: random.Random
) -> list[dict[str, str]]:
    """Read a task's events as a browser with a bad line does, until it is reported to stop."""
    seen: list[dict[str, str]] = []
    last: dict[str, str] = {}
    async with httpx.AsyncClient(
        verify=tls.client, base_url=f"https://127.0.0.1:{site.port}", timeout=PATIENCE,
        cookies={"who": "visitor"},
    ) as http:  # fmt: skip
        while True:
            parser = Foreign()
            patience = dice.choice([math.inf, dice.uniform(0.0, 0.7)])
            async with http.stream("GET", path, headers=last) as answer:
                if answer.status_code == 204:
                    return seen
                assert answer.status_code == 200
                with anyio.move_on_after(patience):
                    async for text in answer.aiter_text():
                        cut = dice.randint(0, len(text))
                        parser.feed(text[:cut])
                        parser.feed(text[cut:])
            seen += parser.events
            if seen:
                last = {"last-event-id": seen[-1]["id"]}


async def test_careless_browsers_over_tls_miss_nothing_and_hear_nothing_twice(
    tls: Certificates,
) -> None:
    """They leave at random and come back, while the service cuts its streams, too."""
    dice = random.Random(5)

    async def send(url: str, headers: Any, body: bytes) -> int:
        return await post(tls, url, headers, body)

    sim = Simulator(seed=7, tls=tls.server, webhook_sender=send, default_plan=LIFE)
    with sim:
        async with asyncio.timeout(45), site_of(tls, sim) as site:
            tasks = [await site.client.submit("text-to-image", {"prompt": "a"}) for _ in range(6)]
            paths = ["/tasks/{}/events", "/live/{}"]
            browsers = await asyncio.gather(
                *(browse(tls, site, path.format(t.id), dice) for t in tasks for path in paths)
            )
            while len(site.taken) < len(tasks):
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.1)

            assert site.taken == Counter({task.id: 1 for task in tasks})
    for seen in browsers:
        assert all({"id", "event", "data"} <= set(block) for block in seen)
        ids = [block["id"] for block in seen]
        assert len(set(ids)) == len(ids)
        assert [block["event"] in ENDS for block in seen] == [False] * (len(seen) - 1) + [True]
        statuses = [json.loads(one["data"])["status"] for one in seen if one["event"] == "status"]
        assert len(set(statuses)) == len(statuses)
    assert sim.open_streams == 0


HEAD: Final = b"POST /hooks/cyberun HTTP/1.1\r\nHost: localhost\r\n"
UNFINISHED: Final = {
    "half-a-body": HEAD + b"Content-Length: 100\r\n\r\n{",
    "chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "announced": HEAD + b"Content-Length: 999999999\r\nExpect: 100-continue\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", UNFINISHED.values(), ids=UNFINISHED)
async def test_a_delivery_that_does_not_end_is_answered_and_its_connection_closed(
    tls: Certificates, request_bytes: bytes
) -> None:
    """By a real server over TLS, within the limit, whatever else the peer sends."""
    with Simulator(seed=7, tls=tls.server) as sim:
        async with asyncio.timeout(20), site_of(tls, sim) as site:
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port, ssl=tls.client)
            writer.write(request_bytes)
            head = await reader.readuntil(b"\r\n\r\n")
            rest = await reader.read()
            writer.transport.abort()

    assert head.split()[1] in {b"408", b"413"}
    assert b"connection: close" in head.lower()
    assert rest == b""
