"""A peer that sends a byte now and then holds no request for longer than its total."""

import time
from collections.abc import Sequence
from typing import Final

import pytest

from cyberun_async import (
    CyberunClient,
    RetryPolicy,
    ServiceUnavailableError,
    SubmissionUncertainError,
    Timeouts,
)

from ..wire.server import Expect, Send, Step, Wait, serving


TASK: Final = "0198c0de-0000-7000-8000-00000000dead"
HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n"
TIMES: Final = Timeouts(read=0.4, total=0.8)


def dripping(start: bytes, drop: bytes) -> Sequence[Step]:
    """Return the script of a peer that sends *drop* each fifth of a second."""
    return [Expect(), Send(start), *[Wait(0.2), Send(drop)] * 100]


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(dripping(HEAD, b"X-Drop: 1\r\n"), id="headers"),
        pytest.param(dripping(HEAD + b"\r\n", b" "), id="body"),
        pytest.param(dripping(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), id="early-hints"),
    ],
)
async def test_a_plain_request_ends_within_its_total(script: Sequence[Step]) -> None:
    """However often the peer shows a sign of life, `Timeouts.total` is the limit."""
    with serving(script) as server:
        async with CyberunClient(
            "sk-test",
            base_url=f"{server.url}/api/v1",
            timeouts=TIMES,
            retries=RetryPolicy(max_attempts=1),
        ) as client:
            begun = time.monotonic()
            with pytest.raises(ServiceUnavailableError, match=r"did not answer within 0\.8 s"):
                await client.tasks.get(TASK)
            took = time.monotonic() - begun

    assert 0.8 <= took < 4


async def test_a_submission_that_is_answered_too_slowly_has_an_open_fate() -> None:
    """It has been sent, so it may have been accepted."""
    with serving(dripping(HEAD + b"\r\n", b" ")) as server:
        async with CyberunClient(
            "sk-test", base_url=f"{server.url}/api/v1", timeouts=TIMES
        ) as client:
            with pytest.raises(SubmissionUncertainError, match="did not answer within"):
                await client.submit("text-to-image", {"prompt": "a fox"})
