"""What the page on observing says about the loggers of the HTTP library."""

import logging
from collections.abc import Iterator

import pytest

from cyberun_async import CyberunClient
from cyberun_async.testing import Simulator


@pytest.fixture
def lines() -> Iterator[list[tuple[str, str]]]:
    """What httpx and httpcore log at DEBUG: logger and message."""
    found: list[tuple[str, str]] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append((record.name, record.getMessage()))

    handler, loggers = Keeping(), [logging.getLogger(name) for name in ("httpcore", "httpx")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
    yield found
    for logger, level in zip(loggers, before, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


async def test_httpcore_logs_no_key_and_no_address_that_is_asked(
    sim: Simulator, lines: list[tuple[str, str]]
) -> None:
    """At DEBUG it logs host, method and the headers of answers; httpx itself logs nothing."""
    async with CyberunClient(sim.key, base_url=sim.url) as client:
        result = await client.run("text-to-image", {"prompt": "a fox"})
        await result[0].read()
    text = "\n".join(message for _, message in lines)

    if not lines:
        pytest.skip("plain requests and streams did not go over httpcore here")
    assert sim.key not in text
    assert "X-Amz" not in text
    assert not [name for name, _ in lines if name.startswith("httpx")]
    assert "receive_response_headers.complete" in text
    assert "content-type" in text
