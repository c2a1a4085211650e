"""What the tests of handshakes rest on: the cutter passes bytes on, and cuts where it is set."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterator

import pytest

from ..wire.server import Expect, Send, reply, serving
from .tls import HANDSHAKE_CUTS, Authority, Cut, Cutter, over_tls


GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module", name="authority")
def _authority() -> Authority:
    return Authority()


@pytest.fixture(name="cutter")
def _cutter(authority: Authority) -> Iterator[Cutter]:
    with (
        serving([Expect(), Send(reply())], tls=None) as server,
        over_tls(server.port, authority) as cutter,
    ):
        yield cutter


async def asked(cutter: Cutter, context: ssl.SSLContext) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", cutter.port, ssl=context)
    with contextlib.closing(writer):
        writer.write(GET)
        return await reader.read()


@pytest.mark.asyncio_only("the helper's own client is one of asyncio")
async def test_bytes_pass_unless_a_cut_is_set(cutter: Cutter, authority: Authority) -> None:
    """Only as many connections are cut as were set; a service that is down refuses."""
    context = authority.client_context()
    assert b"200 OK" in await asked(cutter, context)
    cutter.cut_next(Cut("hello", "reset"))
    with pytest.raises(ConnectionResetError):
        await asked(cutter, context)
    assert b"200 OK" in await asked(cutter, context)
    cutter.go_down()
    with pytest.raises(ConnectionRefusedError):
        await asked(cutter, context)
    cutter.come_up()
    assert b"200 OK" in await asked(cutter, context)
    assert cutter.cuts_made == 1


@pytest.mark.asyncio_only("the helper's own client is one of asyncio")
@pytest.mark.parametrize("cut", HANDSHAKE_CUTS.values(), ids=HANDSHAKE_CUTS)
async def test_no_handshake_is_done_under_any_cut(
    cutter: Cutter, authority: Authority, cut: Cut
) -> None:
    """Each of them ends without an answer, and without a word about a certificate."""
    cutter.cut_all(cut)
    ended: Exception | None = None
    try:
        await asked(cutter, authority.client_context())
    except OSError as error:
        ended = error
    assert ended is not None
    assert not isinstance(ended, ssl.SSLCertVerificationError | TimeoutError)
