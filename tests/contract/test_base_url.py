"""A base URL without its path is suspected where the service knows nothing that is asked."""

from collections.abc import Iterator
from typing import Any, Final

import pytest

from cyberun_async import CyberunClient, NotFoundError, WatchLostError, WatchPolicy

from ..whole.kit import follow
from ..wire.server import Answer, Send, WireServer, reply, serving
from .test_tls_handshakes import listed


TASK: Final = "6a2c1e0e-6f4b-4c57-9a53-0a4ff4f20b53"
PAGE: Final = reply(b"<h1>404</h1>", "404 Not Found", Content_Type="text/html")
WORDS: Final = reply(
    b'{"error_message": "no such route"}', "404 Not Found", Content_Type="application/json"
)


@pytest.fixture(name="nowhere", params=[PAGE, WORDS], ids=["page", "json"])
def _nowhere(request: pytest.FixtureRequest) -> Iterator[WireServer]:
    """A server that knows no path."""
    answer = Answer([[Send(request.param)]], lambda _: request.param)
    with serving([answer]) as server:
        yield server


def suspected(url: str) -> str:
    return f"the base URL {url} does not end in /api/v1; it may have to be {url}/api/v1"


async def test_a_request_names_the_path_that_may_be_missing(nowhere: WireServer) -> None:
    """Whatever the 404 looks like, as long as nothing else was ever answered."""
    async with CyberunClient("sk-x", base_url=nowhere.url) as client:
        with pytest.raises(NotFoundError) as caught:
            await listed(client)
    assert suspected(nowhere.url) in str(caught.value)


async def test_a_watch_names_it_when_it_gives_up(nowhere: WireServer) -> None:
    """Its error is another one, but says the same."""
    policy = WatchPolicy(connect_within=0.5, backoff_base=0.05, backoff_cap=0.05)
    async with CyberunClient("sk-x", base_url=nowhere.url, watch_policy=policy) as client:
        watched = await follow(client.watch(TASK))
    assert isinstance(watched.error, WatchLostError | NotFoundError)
    assert suspected(nowhere.url) in str(watched.error)


async def test_nothing_is_suspected_of_a_base_url_that_has_its_path(nowhere: WireServer) -> None:
    """Then a 404 is a 404."""
    async with CyberunClient("sk-x", base_url=f"{nowhere.url}/api/v1") as client:
        with pytest.raises(NotFoundError) as caught:
            await listed(client)
    assert "base URL" not in str(caught.value).replace("or the base URL is wrong", "")


async def test_nothing_is_suspected_once_anything_was_found() -> None:
    """A service may live under another path: its 404 are about what was asked."""

    def plain(line: str) -> bytes:
        return reply(b'{"agent_list": []}') if "agents" in line else WORDS

    with serving([Answer([], plain)]) as server:
        settings: dict[str, Any] = {"base_url": f"{server.url}/cyberun"}
        async with CyberunClient("sk-x", **settings) as client:
            assert await listed(client) == []
            with pytest.raises(NotFoundError) as caught:
                await client.submit("text-to-image", {"prompt": "a fox"})
    assert "base URL" not in str(caught.value)
