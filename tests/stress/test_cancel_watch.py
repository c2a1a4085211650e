"""A whole watch is cancelled at its first suspension, at its second, and so on to its last."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import attrs
import pytest

from cyberun_async import (
    ClientClosedError,
    CompletedEvent,
    CyberunClient,
    CyberunError,
    Event,
    Notice,
    PollingStarted,
    ProgressEvent,
    StatusEvent,
    WatchPolicy,
)
from cyberun_async.testing import Simulator, VirtualClockLoop, faults

from ..whole.kit import OUTPUT, SLOW, library_tasks, virtual_client
from .leaks import nothing_left
from .steps import Steps


pytestmark = [
    pytest.mark.asyncio_only("Task.cancel is asyncio's"),
    pytest.mark.usefixtures("unmeasured"),
]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": VirtualClockLoop}


PLAN: Final = attrs.evolve(SLOW, steps=12, output=OUTPUT)
POLICY: Final = WatchPolicy(linger=0.5)


def end_of(setting: "Setting") -> CompletedEvent:
    return CompletedEvent(task_id=setting.task_id, origin="poll", output=OUTPUT)


@attrs.define
class Setting:
    """A service whose first stream is cut, and which gives no other while the task lives."""

    client: CyberunClient
    sim: Simulator
    task_id: str
    found: list[Event | Notice] = attrs.field(factory=list[Event | Notice])


Work = Callable[[Setting], Awaitable[None]]


async def read_all(setting: Setting) -> None:
    """Open, read, switch to polling, fetch the output, close."""
    async with setting.client.watch(setting.task_id, notices=True) as events:
        async for event in events:
            setting.found.append(event)


async def read_and_cancel_the_task(setting: Setting) -> None:
    async with setting.client.watch(setting.task_id, notices=True, cancel_on_exit=True) as events:
        async for event in events:
            setting.found.append(event)
            if isinstance(event, PollingStarted):
                break


async def read_without_a_block(setting: Setting) -> None:
    async for event in setting.client.watch(setting.task_id, notices=True):
        setting.found.append(event)


async def read_beside_another(setting: Setting) -> None:
    async with setting.client.watch(setting.task_id):
        await read_all(setting)


async def run(setting: Setting) -> None:
    await setting.client.run("text-to-image", {"prompt": "a fox"}, on_progress=lambda _: None)


async def wait(setting: Setting) -> None:
    await setting.client.wait(setting.task_id, timeout=3600)


@pytest.mark.parametrize(
    ("work", "times"),
    [
        (read_all, 1),
        (read_all, 2),
        (read_and_cancel_the_task, 2),
        (read_without_a_block, 1),
        (read_beside_another, 2),
        (run, 1),
        (wait, 1),
    ],
)
async def test_a_cancellation_at_any_step_of_a_watch_leaves_the_client_usable(
    work: Work, times: int
) -> None:
    """Wherever it is cancelled, the client serves on, and nothing of the watch stays behind."""
    at, reached = 0, True
    while reached:
        at += 1
        reached = await cancelled_at(at, times, work)

    assert at > 1


@pytest.mark.parametrize("work", [read_all, read_beside_another, run, wait])
async def test_a_client_closed_at_any_step_of_a_watch_ends_it(work: Work) -> None:
    """Another task closes the client: what was begun ends with the error, and leaves nothing."""
    at, reached = 0, True
    while reached:
        at += 1
        async with life() as setting:
            reached = await closed_in(setting, at, work)

    assert at > 1


async def test_the_watch_that_is_cancelled_has_a_whole_life() -> None:
    """Uncancelled it streams, is cut, polls, and ends with its output."""
    async with life() as setting:
        await read_all(setting)
    kinds = [type(item) for item in setting.found]

    assert kinds.index(ProgressEvent) < kinds.index(PollingStarted)
    assert setting.found[-1] == end_of(setting)


@asynccontextmanager
async def life() -> AsyncIterator[Setting]:
    sim = Simulator(seed=7, default_plan=PLAN)
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.drop_after(events=8), task=live.id)
    sim.faults.add("events", faults.refuse(403), task=live.id, times=None)
    async with nothing_left(counting_sockets=False):
        async with virtual_client(sim, watch_policy=POLICY) as client:
            yield Setting(client, sim, live.id)
        assert (sim.open_streams, library_tasks()) == (0, [])


async def cancelled_at(at: int, times: int, work: Work) -> bool:
    """Return whether there was such a step."""
    async with life() as setting:
        reached = await cancelled_in(setting, Steps(at, times), work)
        if reached:
            await assert_left(setting)
        await assert_usable(setting)
    return reached


async def cancelled_in(setting: Setting, steps: Steps, work: Work) -> bool:
    task = asyncio.create_task(steps.run(work(setting)))
    await asyncio.wait([task])
    assert task.cancelled() or task.exception() is None
    return steps.reached


async def closed_in(setting: Setting, at: int, work: Work) -> bool:
    closing: list[asyncio.Task[None]] = []

    def close() -> None:
        closing.append(asyncio.create_task(setting.client.aclose()))

    steps = Steps(at, instead=close)
    error: CyberunError | None = None
    try:
        await steps.run(work(setting))
    except ClientClosedError as raised:
        error = raised
    if steps.reached:
        await asyncio.wait(closing)
        # What had come before is still reported; without an error that is the end.
        assert error is not None or not setting.found or setting.found[-1] == end_of(setting)
    return steps.reached


async def assert_left(setting: Setting) -> None:
    """Nobody follows anything any more, but for a stream that lingers."""
    await anyio.sleep(2 * POLICY.linger)
    statistics = setting.client.statistics()
    assert (statistics.open_streams, statistics.followed_tasks) == (0, 0)
    slots = setting.client._session.tenant.economy.slots
    assert (slots.held, slots.wanted) == (0, 0)
    assert set(library_tasks()) <= {"cyberun_async._following.poller.Poller._run"}


async def assert_usable(setting: Setting) -> None:
    """A plain request and a stream are served, as if nothing had been."""
    fresh = setting.sim.create_task(manual=True)
    with anyio.fail_after(5):
        assert (await setting.client.tasks.get(fresh.id)).status == "pending"
        async with setting.client.watch(fresh.id) as events:
            async for event in events:
                assert isinstance(event, StatusEvent)
                assert setting.client.statistics().open_streams == 1
                break
