"""A download is left as a watch is: its connection goes with its block, or says that it stayed."""

import gc
import warnings
from typing import Final

import anyio
import pytest

from cyberun_async import Artifact, ClientStateError, CyberunClient, TransferError
from cyberun_async.testing import Simulator, TaskPlan, faults

from ..whole.kit import until


CONTENT: Final = bytes(range(256)) * 8000
PLAN: Final = TaskPlan(
    pending=0, waiting=0, queued=0, steps=1, step_seconds=0, file_content=CONTENT
)


@pytest.fixture
async def artifact(sim: Simulator, client: CyberunClient) -> Artifact:
    """A file of two megabytes, to be fetched."""
    live = sim.create_task(PLAN)
    sim.advance(60)
    return (await client.result(live.id))[0]


async def test_a_download_that_is_left_gives_its_connection_back(
    client: CyberunClient, artifact: Artifact
) -> None:
    """By `break`, an exception or a deadline: after the block nothing is open."""
    async with artifact.aiter_bytes() as pieces:
        async for _ in pieces:
            assert client.statistics().open_transfers == 1
            break
    assert client.statistics().open_transfers == 0
    with pytest.raises(LookupError):
        async with artifact.aiter_bytes() as pieces:
            async for _ in pieces:
                raise LookupError
    assert client.statistics().open_transfers == 0
    with anyio.move_on_after(0.2):
        async with artifact.aiter_bytes() as pieces:
            await anext(pieces)
            await anyio.sleep_forever()
    assert client.statistics().open_transfers == 0


async def test_downloads_that_are_forgotten_warn_and_are_closed(
    client: CyberunClient, artifact: Artifact
) -> None:
    """Thirty that were left without a block hold thirty connections until they are collected."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        held = [artifact.aiter_bytes() for _ in range(30)]
        for pieces in held:
            await anext(pieces)
        assert client.statistics().open_transfers == 30
        held.clear()
        del pieces
        gc.collect()
        await until(lambda: client.statistics().open_transfers == 0)

    assert [each.category for each in caught] == [ResourceWarning] * 30
    assert all("async with artifact.aiter_bytes(" in str(each.message) for each in caught)


async def test_a_download_that_was_closed_says_so(artifact: Artifact) -> None:
    """It does not seem to be whole."""
    async with artifact.aiter_bytes() as pieces:
        await anext(pieces)
    with pytest.raises(ClientStateError, match="closed"):
        await anext(pieces)


async def test_closing_a_download_in_another_task_is_no_end(
    sim: Simulator, client: CyberunClient, artifact: Artifact
) -> None:
    """Who waits for bytes is notified, and no connection is opened in place of the closed one."""
    sim.faults.add("download", faults.hold(before=60), times=None)
    pieces = artifact.aiter_bytes()

    async def close() -> None:
        await until(lambda: len(sim.requests_to("download")) == 1)
        await pieces.aclose()

    async with anyio.create_task_group() as group:
        group.start_soon(close)
        with anyio.fail_after(60), pytest.raises(ClientStateError, match="closed"):
            await anext(pieces)

    assert client.statistics().open_transfers == 0
    assert len(sim.requests_to("download")) == 1


async def test_a_download_is_read_on_after_a_read_that_timed_out(
    sim: Simulator, artifact: Artifact
) -> None:
    """Given up inside its block while the store is silent, it still comes whole."""
    sim.faults.add("download", faults.hold(before=60))
    sim.faults.add("download", faults.drop_after(bytes=300_000))
    sim.faults.add("download", faults.hold(before=60))
    found, given_up = bytearray(), 0
    async with artifact.aiter_bytes() as pieces:
        is_over = False
        while not is_over:
            with anyio.move_on_after(2) as scope:
                try:
                    found += await anext(pieces)
                except StopAsyncIteration:
                    is_over = True
            given_up += scope.cancelled_caught

    assert bytes(found) == CONTENT
    assert given_up == 2
    with pytest.raises(StopAsyncIteration):
        await anext(pieces)


async def test_a_download_that_failed_is_closed(sim: Simulator, artifact: Artifact) -> None:
    """Its error is raised once; read on, it is neither at its end nor tries again."""
    sim.faults.add("download", faults.refuse(418), times=None)
    async with artifact.aiter_bytes() as pieces:
        with pytest.raises(TransferError):
            await anext(pieces)
        with pytest.raises(ClientStateError, match="TransferError"):
            await anext(pieces)
