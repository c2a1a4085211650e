"""TLS and proxies over real sockets."""

import contextlib
import ssl
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from cyberun_async._http import Transport, TransportSettings, context_for, shared_context
from cyberun_async._model import ConfigurationError
from cyberun_async._protocol import ExchangeFailedError, FailureKind

from .proxy import proxying
from .reading import read_batches
from .server import LAST_CHUNK, STREAM_HEAD, Expect, Send, Stall, reply, serving


SECRET = "sk-very-secret"
HEADERS = {"Authorization": f"Bearer {SECRET}"}
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(scope="module", name="authority")
def _authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(name="trusting")
def _trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(name="environment", autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


def certified(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@contextlib.asynccontextmanager
async def connected(base: str, **settings: Any) -> AsyncGenerator[Transport]:
    transport = Transport(TransportSettings(base_url=f"{base}/api/v1", **settings))
    try:
        yield transport
    finally:
        await transport.aclose()


async def get(transport: Transport) -> Any:
    return await transport.exchange("GET", "/x", headers=HEADERS)


async def refused(transport: Transport) -> ExchangeFailedError:
    with pytest.raises(ExchangeFailedError) as caught:
        await get(transport)
    assert SECRET not in repr(caught.value)
    return caught.value


# TLS


async def test_requests_streams_and_files_work_over_tls(
    authority: trustme.CA, trusting: ssl.SSLContext
):
    """All three ways use the context they are given."""
    events = STREAM_HEAD + b"b\r\ndata: x\n\n\r\n\r\n"[:0] + LAST_CHUNK
    scripts = ([Expect(), Send(reply())], [Expect(), Send(events)], [Expect(), Send(reply())])
    with serving(*scripts, tls=certified(authority)) as server:
        base = f"https://127.0.0.1:{server.port}"
        async with connected(base, verify=trusting) as transport:
            assert (await get(transport)).status == 200
            connection = await transport.open_stream("/e", headers=HEADERS, open_timeout=5)
            assert await read_batches(connection) == []
            await connection.aclose()
            async with await transport.fetch("GET", base, headers={}) as answer:
                assert await answer.aread(10) == b"{}"


@pytest.mark.parametrize("kind", ["plain", "stream"])
async def test_an_unknown_authority_is_a_tls_failure(authority: trustme.CA, kind: str):
    """Nothing is sent to a peer that cannot be verified, and the host is named."""
    with serving([Expect(), Send(reply())], tls=certified(authority)) as server:
        base = f"https://127.0.0.1:{server.port}"
        async with connected(base) as transport:
            if kind == "plain":
                failure = await refused(transport)
            else:
                with pytest.raises(ExchangeFailedError) as caught:
                    await transport.open_stream("/e", headers=HEADERS, open_timeout=5)
                failure = caught.value

    assert (failure.kind, failure.maybe_sent) == (FailureKind.TLS, False)
    assert base in failure.reason
    assert "certificate" in failure.reason
    assert server.requests == []


async def test_a_certificate_of_another_name_is_a_tls_failure(
    authority: trustme.CA, trusting: ssl.SSLContext
):
    """The reason says what the certificate is not valid for."""
    with serving([Expect()], tls=certified(authority, "other.example")) as server:
        async with connected(f"https://127.0.0.1:{server.port}", verify=trusting) as transport:
            failure = await refused(transport)

    assert failure.kind is FailureKind.TLS
    assert "not valid for '127.0.0.1'" in failure.reason


async def test_a_server_without_tls_is_no_question_of_trust(trusting: ssl.SSLContext):
    """Plain HTTP on the port of HTTPS is a handshake that failed, which a restart may fix."""
    with serving([Send(reply()), Stall()], tls=None) as server:
        async with connected(f"https://127.0.0.1:{server.port}", verify=trusting) as transport:
            failure = await refused(transport)

    assert (failure.kind, failure.maybe_sent) == (FailureKind.CONNECT, False)
    assert "the TLS handshake failed" in failure.reason


async def test_verification_can_be_given_a_file_or_turned_off(
    authority: trustme.CA, tmp_path: Path
):
    """A path names the authorities to trust; False trusts everybody."""
    bundle = tmp_path / "authorities.pem"
    authority.cert_pem.write_to_path(str(bundle))
    for verify in (str(bundle), False):
        with serving([Expect(), Send(reply())], tls=certified(authority)) as server:
            base = f"https://127.0.0.1:{server.port}"
            async with connected(base, verify=verify) as transport:
                assert (await get(transport)).status == 200


async def test_authorities_named_by_the_environment_are_trusted(
    authority: trustme.CA, tmp_path: Path, environment: pytest.MonkeyPatch
):
    """SSL_CERT_FILE works as everywhere."""
    bundle = tmp_path / "authorities.pem"
    authority.cert_pem.write_to_path(str(bundle))
    environment.setenv("SSL_CERT_FILE", str(bundle))
    shared_context.cache_clear()
    try:
        with serving([Expect(), Send(reply())], tls=certified(authority)) as server:
            async with connected(f"https://127.0.0.1:{server.port}") as transport:
                assert (await get(transport)).status == 200
    finally:
        shared_context.cache_clear()


def test_all_clients_of_a_process_share_one_context(tmp_path: Path):
    """Loading the authorities is done once; a folder can be named, too."""
    assert context_for(verify=True) is context_for(verify=True)
    assert context_for(verify=False).verify_mode is ssl.CERT_NONE
    assert context_for(str(tmp_path)).verify_mode is ssl.CERT_REQUIRED


# Proxies


@pytest.fixture(name="through", params=["http", "https"])
def _through(
    request: pytest.FixtureRequest, authority: trustme.CA, environment: pytest.MonkeyPatch
) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield base URL, settings and server of an API behind one scheme."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    is_tls = request.param == "https"
    tls = certified(authority) if is_tls else None
    answers = [Expect(), Send(reply())], [Expect(), Send(STREAM_HEAD + LAST_CHUNK)]
    with serving(*answers, tls=tls) as server:
        yield f"{request.param}://127.0.0.1:{server.port}", {"verify": context}, server


@pytest.mark.parametrize("source", ["setting", "HTTP(S)_PROXY", "ALL_PROXY"])
async def test_requests_and_streams_go_through_the_proxy(
    through: Any, source: str, environment: pytest.MonkeyPatch
):
    """A proxy may be set, or be known from the environment, also without its scheme."""
    base, settings, server = through
    with proxying() as proxy:
        if source == "setting":
            settings["proxy"] = proxy.url
        elif source == "ALL_PROXY":
            environment.setenv("ALL_PROXY", proxy.url)
        else:
            environment.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.port}")
            environment.setenv("HTTPS_PROXY", proxy.url)
        async with connected(base, **settings) as transport:
            assert (await get(transport)).status == 200
            connection = await transport.open_stream("/e", headers=HEADERS, open_timeout=5)
            await connection.aclose()

    way = f"GET {base}/api/v1/x" if base.startswith("http:") else f"CONNECT {base[8:]}"
    assert proxy.requests[0].line == f"{way} HTTP/1.1"
    assert len(proxy.requests) == len(server.requests) == 2
    if base.startswith("https:"):
        assert SECRET not in repr(proxy.requests)


@pytest.mark.parametrize("exempt", ["*", "127.0.0.1", "127.0.0.0/8", "other, 127.0.0.1"])
async def test_hosts_in_no_proxy_are_reached_directly(
    through: Any, exempt: str, environment: pytest.MonkeyPatch
):
    """NO_PROXY has the last word over the other variables."""
    base, settings, _ = through
    with proxying() as proxy:
        environment.setenv("ALL_PROXY", proxy.url)
        environment.setenv("NO_PROXY", exempt)
        async with connected(base, **settings) as transport:
            assert (await get(transport)).status == 200

    assert proxy.requests == []


async def test_the_password_of_a_proxy_goes_to_the_proxy_only(through: Any):
    """It is in its URL, and in no representation of the settings."""
    base, settings, server = through
    with proxying() as proxy:
        url = proxy.url.replace("//", "//user:pa55@")
        async with connected(base, proxy=url, **settings) as transport:
            assert (await get(transport)).status == 200
            assert "pa55" not in repr(TransportSettings(base_url=base, proxy=url))

    assert proxy.requests[0].headers["proxy-authorization"].startswith("Basic ")
    if base.startswith("https:"):
        assert "proxy-authorization" not in server.requests[0].headers


@pytest.mark.parametrize("kind", ["plain", "stream", "file"])
async def test_a_proxy_that_refuses_is_distinguished(through: Any, kind: str):
    """407, or a refused tunnel, is the proxy's refusal, and the service saw nothing."""
    base, settings, server = through
    refusal = reply(b"", "407 Proxy Authentication Required")
    with proxying(refusal) as proxy:
        async with connected(base, proxy=proxy.url, **settings) as transport:
            with pytest.raises(ExchangeFailedError) as caught:
                if kind == "plain":
                    await get(transport)
                elif kind == "stream":
                    await transport.open_stream("/e", headers=HEADERS, open_timeout=5)
                else:
                    await transport.fetch("GET", base, headers={})

    assert (caught.value.kind, caught.value.maybe_sent) == (FailureKind.PROXY, False)
    assert "407" in caught.value.reason
    assert server.requests == []


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        pytest.param("gopher://user:pa55@host", "these work: http://", id="scheme"),
        pytest.param("http://user:pa55@[::1", "not a valid URL", id="address"),
        pytest.param("socks5://user:pa55@host:1", "httpx\\[socks\\]", id="package"),
    ],
)
async def test_a_proxy_that_cannot_be_used_is_a_configuration_error(proxy: str, words: str):
    """It is reported when it is set, without its password."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        Transport(TransportSettings(base_url="http://api.invalid", proxy=proxy))
    assert "pa55" not in repr(caught.value)
