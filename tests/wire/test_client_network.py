"""Proxy, certificates and environment, each through a whole job of a client."""

import contextlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trustme

from cyberun_async import (
    CompletedEvent,
    CyberunClient,
    RetryPolicy,
    ServiceUnavailableError,
    Upload,
)
from cyberun_async._http import shared_context

from .proxy import Proxy, proxying
from .server import LAST_CHUNK, STREAM_HEAD, Answer, Fin, Send, WireServer, chunk, reply, serving


TASK = "0197a000-0000-7000-8000-000000000001"
KEY = "sk-0123456789abcdefghij"
OTHER_KEY = "sk-9876543210abcdefghij"
FILE = b"\x89PNG"
# A host that nobody but the proxy finds.
FAR = "service.test"
# Where nobody listens, and nobody may ask.
NOWHERE = "http://127.0.0.1:9"
VARIABLES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("CYBERUN_API_KEY", "CYBERUN_KEY", "CYBERUN_BASE_URL", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)


@pytest.fixture(name="environment", autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    shared_context.cache_clear()
    yield monkeypatch
    shared_context.cache_clear()


@attrs.define
class Place:
    """A service behind TLS, the file that names its authority, and where it says it is."""

    server: WireServer
    authorities: str
    host: str = "127.0.0.1"

    @property
    def origin(self) -> str:
        return f"https://{self.host}:{self.server.port}"

    @property
    def base_url(self) -> str:
        return f"{self.origin}/api/v1"

    def keys(self) -> set[str | None]:
        """Return the credentials that came, those of the store's requests as well."""
        return {request.headers.get("authorization") for request in self.server.requests}


@pytest.fixture(scope="module", name="authority")
def _authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(name="place")
def _place(authority: trustme.CA, tmp_path: Path) -> Iterator[Place]:
    bundle = tmp_path / "authorities.pem"
    authority.cert_pem.write_to_path(str(bundle))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", FAR).configure_cert(context)
    done = {"task_id": TASK, "status": "completed", "output": {}}
    events = f"event: completed\ndata: {json.dumps(done)}\n\n".encode()
    stream = [Send(STREAM_HEAD + chunk(events) + LAST_CHUNK), Fin()]
    found: list[Place] = []
    script = [Answer([stream], lambda line: _answer(line, found[0].origin))]
    with serving(script, tls=context) as server:
        found.append(Place(server, str(bundle)))
        yield found[0]


@pytest.fixture(name="far")
def _far(place: Place) -> Iterator[tuple[Place, Proxy]]:
    """Yield a service that can be reached only through a proxy, and this proxy."""
    place.host = FAR
    with proxying(hosts={FAR: "127.0.0.1"}) as proxy:
        yield place, proxy


def _answer(line: str, origin: str) -> bytes:
    method, path, _ = line.split(" ")
    if path.startswith("/store/"):
        return reply(FILE if method == "GET" else b"")
    task = {"id": TASK, "task_id": TASK, "task_status": "completed", "retry_count": 0}
    more: dict[str, object] = {}
    if path.endswith("/result"):
        more = {"task_output": {"a": 1}, "download_url": f"{origin}/store/a.png"}
    elif path.endswith("/presign"):
        more = {"file_key": "inputs/a", "upload_url": f"{origin}/store/b", "upload_headers": {}}
    status = "202 Accepted" if path.endswith("/run") else "200 OK"
    body = json.dumps({**task, **more}).encode()
    return reply(body, status, Content_Type="application/json")


async def job_done(client: CyberunClient) -> None:
    """Upload, submit, follow, and fetch what was made."""
    async with client:
        task = await client.submit("image-to-image", {"image": Upload(b"abc", name="a.png")})
        async with client.watch(task) as events:
            kinds = [type(event) async for event in events]
        result = await task.result()

        assert kinds[-1] is CompletedEvent
        assert await result[0].read() == FILE


def assert_all_went_through(proxy: Proxy, place: Place) -> None:
    assert {one.line for one in proxy.requests} == {f"CONNECT {place.origin[8:]} HTTP/1.1"}
    assert KEY not in repr(proxy.requests)
    # The store is sent no credential.
    assert place.keys() == {f"Bearer {KEY}", None}


async def test_everything_goes_by_the_settings(
    far: tuple[Place, Proxy], environment: pytest.MonkeyPatch
) -> None:
    """Proxy, authorities, key and address that are given count, whatever the environment says."""
    place, proxy = far
    environment.setenv("CYBERUN_API_KEY", OTHER_KEY)
    environment.setenv("CYBERUN_BASE_URL", NOWHERE)
    environment.setenv("ALL_PROXY", NOWHERE)

    await job_done(
        CyberunClient(KEY, base_url=place.base_url, proxy=proxy.url, verify=place.authorities)
    )

    assert_all_went_through(proxy, place)


async def test_everything_goes_by_the_environment(
    far: tuple[Place, Proxy], environment: pytest.MonkeyPatch
) -> None:
    """A client without any argument takes proxy, authorities, key and address from there."""
    place, proxy = far
    environment.setenv("CYBERUN_API_KEY", KEY)
    environment.setenv("CYBERUN_BASE_URL", place.base_url)
    environment.setenv("SSL_CERT_FILE", place.authorities)
    environment.setenv("HTTPS_PROXY", proxy.url)

    await job_done(CyberunClient())

    assert_all_went_through(proxy, place)


@pytest.mark.asyncio_only(reason="aiohttp is built on asyncio")
async def test_the_fast_transport_goes_by_the_settings_too(far: tuple[Place, Proxy]) -> None:
    """The transport of the extra `fast` uses the same proxy and authorities."""
    place, proxy = far
    settings: dict[str, Any] = {"proxy": proxy.url, "verify": place.authorities}

    await job_done(CyberunClient(KEY, base_url=place.base_url, transport="aiohttp", **settings))

    assert_all_went_through(proxy, place)


async def test_a_host_in_no_proxy_is_reached_directly(
    place: Place, environment: pytest.MonkeyPatch
) -> None:
    """Requests, streams and files all pass the proxy by; a file's host may be exempt as well."""
    environment.setenv("ALL_PROXY", NOWHERE)
    environment.setenv("NO_PROXY", "127.0.0.0/8")

    await job_done(CyberunClient(KEY, base_url=place.base_url, verify=place.authorities))

    assert place.keys() == {f"Bearer {KEY}", None}


@pytest.mark.parametrize("way", ["nothing", "context"])
async def test_what_is_verified_can_be_chosen(
    place: Place, authority: trustme.CA, way: str
) -> None:
    """False verifies nothing, and a context of one's own counts, for files as well."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    verify = False if way == "nothing" else context

    await job_done(CyberunClient(KEY, base_url=place.base_url, verify=verify))


REFUSAL = reply(b"", "407 Proxy Authentication Required")


@contextlib.contextmanager
def _trouble(kind: str, place: Place) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield settings that cannot work, and the words that say why."""
    if kind == "authority":
        yield {}, "check the certificate"
        return
    with proxying(REFUSAL) as proxy:
        yield {"proxy": proxy.url, "verify": place.authorities}, "check the proxy"


@pytest.mark.parametrize("kind", ["authority", "proxy"])
async def test_what_stands_before_the_service_is_distinguished(place: Place, kind: str) -> None:
    """An unknown authority and a proxy's refusal say so; no run may have been accepted."""
    with _trouble(kind, place) as (settings, words):
        retries = RetryPolicy(max_attempts=2, backoff_base=0.001)
        client = CyberunClient(KEY, base_url=place.base_url, retries=retries, **settings)
        async with client:
            with pytest.raises(ServiceUnavailableError, match=words) as submitted:
                await client.submit("text-to-image", {})
            with pytest.raises(ServiceUnavailableError, match=words) as asked:
                await client.tasks.get(TASK)

    assert not submitted.value.maybe_sent
    assert asked.value.is_final
    assert place.server.requests == []
