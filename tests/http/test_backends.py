"""The choice of what speaks HTTP: explicit, named, and refused where it cannot work."""

import asyncio
import json
import socket
import subprocess
import sys

import httpx
import pytest

from cyberun_async import ConfigurationError, CyberunClient
from cyberun_async._http import Loads, backend_for, context_for, transport_kind
from cyberun_async._http.aiohttp_backend import AiohttpConnection, load_json_fast
from cyberun_async._protocol import load_json

from ..conftest import TRANSPORT


KEY = "sk-" + "0" * 32

TEXTS = (
    *('{"a": 1}', ' {"a": [1.5, null, true]} ', '{"a": 1, "a": 2}', "NaN", "1e400", "-0"),
    *('"\\ud800"', "123456789012345678901234567890", "18446744073709551616"),
)
NO_JSON = ('{"a": 1}x', '"\x01"', "\ufeff{}", "", "{", "'a'", "[1,]")


@pytest.mark.httpx_only(reason="says what is chosen where nothing was said")
async def test_the_default_transport_is_httpx_whatever_is_installed():
    """An aiohttp that is installed for something else changes nothing."""
    async with CyberunClient(KEY, base_url="http://127.0.0.1:9") as client:
        assert client.statistics().transport == "httpx"
    assert backend_for("httpx").loads is load_json


@pytest.mark.asyncio_only(reason="aiohttp knows no other event loop")
async def test_statistics_name_the_transport_that_was_chosen():
    """A client made for aiohttp says so."""
    async with CyberunClient(KEY, base_url="http://127.0.0.1:9", transport="aiohttp") as client:
        assert client.statistics().transport == "aiohttp"


def test_a_transport_of_another_name_is_refused():
    """A typing error is reported when the client is made."""
    with pytest.raises(ConfigurationError, match="'httpx' or 'aiohttp', not 'http2'"):
        CyberunClient(KEY, transport="http2")  # type: ignore[arg-type]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    """What to install is reported when the client is made, and not at its first request."""
    monkeypatch.setattr("cyberun_async._http.settings.find_spec", lambda _: None)

    with pytest.raises(ConfigurationError, match=r"pip install 'cyberun_async\[fast\]'"):
        CyberunClient(KEY, transport="aiohttp")


async def test_a_client_on_trio_refuses_aiohttp(anyio_backend_name: str):
    """Where asyncio does not run, the choice is refused as the client opens."""
    client = CyberunClient(KEY, base_url="http://127.0.0.1:9", transport="aiohttp")
    if anyio_backend_name == "trio":
        with pytest.raises(ConfigurationError, match="asyncio only"):
            await client.__aenter__()
        return
    async with client:
        assert client.statistics().open_streams == 0


@pytest.mark.asyncio_only(reason="aiohttp knows no other event loop")
@pytest.mark.parametrize("proxy", ["socks5://host:1", "socks5h://host:1"])
async def test_aiohttp_refuses_a_socks_proxy(proxy: str):
    """It is reported as the client opens: aiohttp speaks to proxies of HTTP only."""
    client = CyberunClient(KEY, transport="aiohttp", proxy=proxy)

    with pytest.raises(ConfigurationError, match="SOCKS"):
        await client.__aenter__()


def test_nothing_of_aiohttp_is_imported_by_default():
    """Only a client that asks for it loads it."""
    code = (
        "import sys, cyberun_async; cyberun_async.CyberunClient('sk-' + '0' * 32);"
        "print([n for n in ('aiohttp', 'httpx_aiohttp', 'msgspec') if n in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout == "[]\n"


@pytest.mark.parametrize("loads", [load_json, load_json_fast])
@pytest.mark.parametrize("text", TEXTS)
def test_every_decoder_reads_what_json_reads(loads: Loads, text: str):
    """Numbers of any size, NaN and half surrogates are the same with each of them."""
    assert repr(loads(text)) == repr(json.loads(text))


@pytest.mark.parametrize("loads", [load_json, load_json_fast])
@pytest.mark.parametrize("text", NO_JSON)
def test_every_decoder_refuses_what_json_refuses(loads: Loads, text: str):
    """What is no JSON is a ValueError with each of them."""
    with pytest.raises(ValueError, match=r".+"):
        loads(text)


@pytest.mark.asyncio_only(reason="aiohttp knows no other event loop")
async def test_sockets_of_aiohttp_have_the_options_that_were_asked_for():
    """TCP keep-alive is on, so that the kernel finds half-open connections."""
    connection = AiohttpConnection(
        verify=context_for(verify=False),
        proxy=None,
        socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)],
    )
    made = connection._requester._make_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("", 0)))
    with made:
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert not made.getblocking()
    await connection.aclose()


@pytest.mark.asyncio_only(reason="aiohttp knows no other event loop")
async def test_aiohttp_never_sends_a_request_again():
    """A connection that ends without an answer is an error, and one request is all there was."""
    requests: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = AiohttpConnection(verify=context_for(verify=False), proxy=None, socket_options=[])
    async with server:
        with pytest.raises(httpx.RemoteProtocolError):
            await connection.handle_async_request(httpx.Request("GET", f"http://127.0.0.1:{port}/"))
        await connection.aclose()

    assert len(requests) == 1


def test_the_transport_under_test_is_a_known_one():
    """The environment's choice for this run of the suite is one that exists."""
    assert transport_kind(TRANSPORT) == TRANSPORT
