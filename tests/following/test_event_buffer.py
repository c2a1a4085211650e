"""What waits for a slow reader is bounded, and holds all that must not be lost."""

import anyio
import pytest

from cyberun_async._following import EventBuffer
from cyberun_async._model import ClientClosedError, Event, Notice, ProgressEvent, SlowReaderError

from ..watch.kit import completed, progress, server_error, status


async def everything(reader: EventBuffer) -> list[Event | Notice]:
    reader.finish()
    found: list[Event | Notice] = []
    while (item := await reader.next()) is not None:
        found.append(item)
    return found


async def test_what_was_pushed_comes_out_in_order() -> None:
    """A reader that keeps up sees everything."""
    reader = EventBuffer(10)
    life: list[Event] = [status("queued"), progress(0.1), progress(0.2), completed()]
    for event in life:
        reader.push(event)

    assert await everything(reader) == life
    assert reader.dropped_progress == 0


async def test_a_slow_reader_loses_progress_only() -> None:
    """When full, the newest progress takes the place of older, and statuses stay."""
    reader = EventBuffer(3)
    reader.push_all([status("queued"), status("running")])
    for n in range(100):
        reader.push(progress(n / 100))
    reader.push(completed())

    assert await everything(reader) == [status("queued"), status("running"), completed()]
    assert reader.dropped_progress == 100


async def test_the_newest_progress_stays() -> None:
    """A reader that catches up sees where the task is, not where it was."""
    reader = EventBuffer(2)
    reader.push(status("running"))
    for n in range(100):
        reader.push(progress(n / 100))

    assert await everything(reader) == [status("running"), progress(0.99)]


async def test_a_reader_that_never_reads_ends_with_an_error() -> None:
    """What may come without limit is bounded: behind what was kept stands the error."""
    reader = EventBuffer(4)
    for _ in range(10_000):
        reader.push(server_error())
    kept = len(reader._buffer)
    for _ in range(kept):
        await reader.next()

    assert kept == 32
    with pytest.raises(SlowReaderError):
        await reader.next()


async def test_statuses_and_the_end_outlive_what_was_dropped() -> None:
    """A reader that lost other events still gets both, and then the end instead of an error."""
    reader = EventBuffer(4)
    troubles: list[Event] = [server_error()] * 100
    for event in (*troubles, status("running"), *troubles):
        reader.push(event)
    reader.push_all([progress(0.5), server_error(), completed()])
    found = [event for event in await everything(reader) if event != server_error()]

    assert found == [status("running"), completed()]
    assert reader.is_drained


async def test_nothing_but_statuses_and_the_end_follows_a_gap() -> None:
    """A reader that catches up does not get half of what comes then, but the error."""
    reader = EventBuffer(4)
    for _ in range(100):
        reader.push(server_error())
    while reader.take() is not None:
        pass
    reader.push_all([progress(0.5), server_error()])
    reader.push(status("running"))

    assert await reader.next() == status("running")
    with pytest.raises(SlowReaderError):
        await reader.next()


@pytest.mark.parametrize("failure", [None, ClientClosedError("closed")])
async def test_what_is_buffered_comes_before_the_end(failure: ClientClosedError | None) -> None:
    """The end, or the error in its place, stands behind everything that was received."""
    reader = EventBuffer(4)
    reader.push(status("running"))
    reader.finish(failure)
    reader.push(status("late"))

    assert await reader.next() == status("running")
    if failure is None:
        assert await reader.next() is None
    else:
        with pytest.raises(ClientClosedError):
            await reader.next()


async def test_equal_progress_is_no_special_case() -> None:
    """Coalescing looks at room, never at contents."""
    reader = EventBuffer(3)
    same: list[ProgressEvent] = [progress(0.5)] * 3
    for event in same:
        reader.push(event)

    assert await everything(reader) == same


async def test_statuses_may_exceed_the_capacity() -> None:
    """Those of several attempts are kept whole, up to sixteen times what fits."""
    reader = EventBuffer(2)
    kept = [status("queued", attempt=attempt) for attempt in range(1, 33)]
    for event in kept:
        reader.push(event)

    assert await everything(reader) == kept


async def test_a_cancelled_read_loses_nothing() -> None:
    """What comes after a read was given up waits for the next one."""
    reader = EventBuffer(4)
    with anyio.move_on_after(0.01) as scope:
        await reader.next()
    reader.push(progress(0.1))

    assert scope.cancelled_caught
    assert await reader.next() == progress(0.1)


async def test_a_reader_knows_what_it_has_read() -> None:
    """The last status taken is known, and whether others still wait."""
    reader = EventBuffer(10)
    for item in (status("queued"), progress(0.1), status("running"), progress(0.2)):
        reader.push(item)
    seen = []
    for _ in range(4):
        await reader.next()
        seen.append((reader.last_read_status, reader.is_behind))

    first, second = status("queued"), status("running")
    assert seen == [(first, True), (first, True), (second, False), (second, False)]
