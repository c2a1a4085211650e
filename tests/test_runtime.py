"""The tasks of a client: begun, cancelled, and awaited."""

import anyio
import pytest

from cyberun_async import ClientClosedError
from cyberun_async._runtime import Runtime


async def test_a_task_is_entered_however_soon_it_is_cancelled() -> None:
    """What it does at its end is done, though all is closed before it took a step."""
    runtime = Runtime()
    await runtime.open()
    steps: list[str] = []

    async def work() -> None:
        try:
            steps.append("begun")
            await anyio.sleep(3600)
            steps.append("never")
        finally:
            steps.append("ended")

    runtime.spawn(work)
    await runtime.aclose()

    assert steps == ["begun", "ended"]


async def test_a_task_that_a_dying_one_starts_is_ended_too() -> None:
    """Whatever is started up to the end is cancelled and awaited."""
    runtime = Runtime()
    await runtime.open()
    steps: list[str] = []

    async def last() -> None:
        try:
            await anyio.sleep(3600)
        finally:
            steps.append("last")

    async def work() -> None:
        try:
            await anyio.sleep(3600)
        finally:
            steps.append("first")
            runtime.spawn(last)

    runtime.spawn(work)
    await runtime.aclose()

    assert steps == ["first", "last"]


async def test_nothing_is_started_after_the_end() -> None:
    """What nobody would cancel any more is refused."""
    runtime = Runtime()
    await runtime.open()
    await runtime.aclose()
    with pytest.raises(ClientClosedError):
        runtime.spawn(anyio.sleep_forever)
