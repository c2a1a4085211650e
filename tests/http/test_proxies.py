"""What a forward proxy's refusal means, and how its trouble is named."""

import httpx
import pytest

from cyberun_async._http import Connection, Progress, Stage, Via, refusal, trouble
from cyberun_async._protocol import ExchangeFailedError, FailureKind


HOST = "https://api.example"
VIA = Via("http://user:pa55@10.0.0.1:3128", "HTTPS_PROXY")
OPEN = Via("http://10.0.0.1:3128", "proxy=")
NAMED = "the proxy 10.0.0.1:3128 (from HTTPS_PROXY)"


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        ("407 Proxy Authentication Required", FailureKind.PROXY, "does not accept the user name"),
        ("401 Unauthorized", FailureKind.PROXY, "does not accept the user name"),
        ("403 Forbidden", FailureKind.PROXY, f"does not allow connections to {HOST} (HTTP 403)"),
        ("404 Not Found", FailureKind.PROXY_FAILED, f"could not connect to {HOST} (HTTP 404)"),
        ("503 ClientHttpProxyError", FailureKind.PROXY_FAILED, "could not connect"),
        ("Invalid username/password", FailureKind.PROXY, "does not accept the user name"),
        (
            "Requested NO AUTHENTICATION REQUIRED from proxy server, but got USERNAME/PASSWORD.",
            FailureKind.PROXY,
            "does not accept the user name",
        ),
        (
            "Requested USERNAME/PASSWORD from proxy server, but got NO ACCEPTABLE METHODS.",
            FailureKind.PROXY,
            "does not accept the user name",
        ),
        (
            "Proxy Server could not connect: Connection not allowed by ruleset.",
            FailureKind.PROXY,
            f"does not allow connections to {HOST}",
        ),
        (
            "Proxy Server could not connect: Connection refused.",
            FailureKind.PROXY_FAILED,
            f"could not connect to {HOST}: connection refused",
        ),
        ("", FailureKind.PROXY_FAILED, "could not connect"),
    ],
)
def test_only_what_the_operator_decides_is_final(words: str, kind: FailureKind, said: str) -> None:
    """The same for a tunnel and for SOCKS; neither password nor foreign words are repeated."""
    found, reason = refusal(VIA, HOST, words)
    assert found is kind
    assert reason.startswith(f"{NAMED} {said}")
    assert "pa55" not in reason + repr(VIA)


def test_a_proxy_without_a_password_is_said_to_want_one() -> None:
    """With what is to be done; of a proxy that nobody knows of, only that it is there."""
    assert refusal(OPEN, HOST, "407 X")[1] == (
        "the proxy 10.0.0.1:3128 (from proxy=) wants a user name and password (HTTP 407);"
        " write them into its URL"
    )
    assert refusal(None, HOST, "407 X")[1].startswith(f"a proxy before {HOST} wants")


@pytest.mark.parametrize(
    ("stage", "is_refused", "is_late", "said"),
    [
        (Stage.START, True, False, f"{NAMED} refused the connection"),
        (Stage.START, False, False, f"could not connect to {NAMED}: why"),
        (Stage.START, False, True, f"no connection to {HOST} through {NAMED} in time"),
        (Stage.PROXY, False, False, f"{NAMED} was lost before it had connected to {HOST}: why"),
        (Stage.TUNNEL, True, False, f"could not connect to {HOST} through {NAMED}: why"),
    ],
)
def test_trouble_is_the_proxys_until_there_is_a_tunnel(
    stage: Stage, is_refused: bool, is_late: bool, said: str
) -> None:
    """A refused connection behind the tunnel would be the service's."""
    reason = trouble(VIA, stage, HOST, is_refused=is_refused, is_late=is_late, because=": why")
    assert reason == said


class HangingUp(httpx.AsyncBaseTransport):
    """Fails as httpcore does where a SOCKS proxy hangs up: with an assertion, or socksio's own."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.extensions["trace"]("socks.connect_tcp.complete", {"return_value": None})
        raise AssertionError


@pytest.mark.parametrize("scheme", ["socks5", "http"])
async def test_a_socks_proxy_that_hangs_up_is_an_outage(scheme: str) -> None:
    """Of a proxy of HTTP the same is a fault in the code, and shown as one."""
    connection = Connection(HangingUp(), Via(f"{scheme}://10.0.0.1:1080", "ALL_PROXY"))
    request = httpx.Request("GET", HOST)
    if scheme == "http":
        with pytest.raises(AssertionError):
            await connection.send(request, Progress())
        return
    with pytest.raises(ExchangeFailedError) as caught:
        await connection.send(request, Progress())
    assert (caught.value.kind, caught.value.maybe_sent) == (FailureKind.PROXY_FAILED, False)
    assert "the proxy 10.0.0.1:1080 (from ALL_PROXY)" in caught.value.reason
