"""From the stream to polling and back, by the same iterator, in virtual time."""

import statistics
from itertools import pairwise
from typing import Any, Final

import anyio
import attrs
import pytest

from cyberun_async import (
    CompletedEvent,
    Connected,
    Event,
    Gap,
    Limits,
    Notice,
    PollingStarted,
    ProgressEvent,
    StatusEvent,
    StreamingResumed,
    StreamLost,
    WatchLostError,
    WatchPolicy,
)
from cyberun_async.testing import Behaviour, Simulator, faults

from .kit import (
    COURSE,
    OUTPUT,
    SLOW,
    VIRTUAL,
    assert_in_order,
    ended_watch,
    virtual_backend,
    virtual_client,
)


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


LONG: Final = attrs.evolve(SLOW, steps=200, output=OUTPUT)
PAGE: Final = "<html>Sign in to the network</html>"


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(faults.refuse(403), id="forbidden"),
        pytest.param(faults.refuse(404), id="no-such-route"),
        pytest.param(faults.refuse(501), id="not-implemented"),
        pytest.param(faults.refuse(200, body=PAGE), id="page"),
        pytest.param(faults.drop_after(events=0), id="drops"),
        pytest.param(faults.hang_up(), id="hangs-up"),
        pytest.param(faults.close_after(events=0), id="closes"),
    ],
)
async def test_without_streams_a_watch_polls(refusal: faults.Action) -> None:
    """Where no stream works, statuses and end come by polling, no progress is invented."""
    sim = Simulator(seed=7)
    sim.faults.add("events", refusal, times=None)
    plan = attrs.evolve(SLOW, waiting=30, queued=30, steps=60, output=OUTPUT)
    found: list[Event | Notice] = []
    live: list[bool] = []
    task = sim.create_task(plan)
    async with virtual_client(sim) as client, client.watch(task.id, notices=True) as events:
        async for event in events:
            found.append(event)
            live.append(events.progress_is_live)
    polling = [type(event) for event in found].index(PollingStarted)

    assert [e.status for e in found if isinstance(e, StatusEvent)][-3:] == COURSE[-3:]
    assert all(e.origin == "poll" for e in found if isinstance(e, StatusEvent | CompletedEvent))
    assert not any(isinstance(e, ProgressEvent) for e in found)
    tries = [type(e) for e in found[polling + 1 :] if isinstance(e, Connected | PollingStarted)]
    assert tries == [Connected, PollingStarted] * (len(tries) // 2)
    assert not any(live[polling:])
    assert isinstance(found[-1], CompletedEvent)
    assert found[-1].output == OUTPUT


async def test_polling_asks_every_three_seconds() -> None:
    """A running task that is polled is asked about once in three seconds."""
    sim = Simulator(seed=7)
    sim.faults.add("events", faults.refuse(403), times=None)
    task = sim.create_task(attrs.evolve(SLOW, steps=60))
    async with virtual_client(sim) as client:
        await ended_watch(client, task.id)

    times = [request.at for request in sim.requests_to("task", task.id)]
    pauses = [later - sooner for sooner, later in pairwise(times)]
    tries = len(sim.requests_to("events"))
    assert statistics.median(pauses) == pytest.approx(3.0)
    assert max(pauses) < 3.1
    assert len(times) <= 63 / 3 + 2 * tries + 2


async def test_streaming_comes_back() -> None:
    """When streams work again the same iterator streams again, and progress come back."""
    sim = Simulator(seed=7)
    sim.faults.add("events", faults.refuse(403), times=2)
    task = sim.create_task(LONG)
    async with virtual_client(sim) as client, client.watch(task.id, notices=True) as events:
        live = [(type(event).__name__, events.progress_is_live) async for event in events]

    names = [name for name, _ in live]
    resumed = names.index("StreamingResumed")
    assert names.index("PollingStarted") < min(resumed, names.index("ProgressEvent"))
    # The first may be a repetition, which proves nothing, and the last come with the end.
    progress = [is_live for name, is_live in live if name == "ProgressEvent"]
    assert len(progress) > 100
    assert all(progress[2:-2])
    assert names[-1] == "CompletedEvent"
    assert len(sim.requests_to("events")) == 3


async def test_the_way_back_is_tried_with_growing_pauses() -> None:
    """Streaming is tried again ever more rarely, and never given up."""
    sim = Simulator(seed=7)
    sim.faults.add("events", faults.refuse(403), times=None)
    task = sim.create_task(attrs.evolve(SLOW, steps=10_000))
    async with virtual_client(sim) as client:
        await ended_watch(client, task.id, within=20_000)

    times = [request.at for request in sim.requests_to("events")]
    pauses = [later - sooner for sooner, later in pairwise(times)]
    assert 10 <= pauses[0] * 2 <= 40
    assert all(pause <= 605 for pause in pauses)
    assert all(pause >= 295 for pause in pauses[7:])
    assert len(pauses) > 15


async def test_one_loss_is_no_reason_to_poll() -> None:
    """A stream lost once is opened again within a second, and the loss is reported."""
    sim = Simulator(seed=7)
    sim.faults.add("events", faults.drop_after(events=6))
    task = sim.create_task(LONG)
    async with virtual_client(sim) as client:
        watched = await ended_watch(client, task.id, notices=True)

    notices = [type(notice) for notice in watched.notices]
    assert notices.count(StreamLost) == 1
    assert notices.count(Gap) == 1
    assert PollingStarted not in notices
    [first, second] = sim.requests_to("events")
    assert second.at - first.at < 10


async def test_heartbeats_do_not_hide_a_task_that_moves_on() -> None:
    """A stream that only beats is asked beside, and given up when it hides what happens."""
    sim = Simulator(seed=7)
    sim.faults.add("events", faults.heartbeats_after(events=5, every=10.0), times=None)
    task = sim.create_task(attrs.evolve(SLOW, steps=100, output=OUTPUT))
    async with virtual_client(sim) as client:
        began = anyio.current_time()
        watched = await ended_watch(client, task.id)
        took = anyio.current_time() - began

    assert isinstance(watched.end, CompletedEvent)
    assert watched.end.origin == "poll"
    assert took < 103 + 65
    assert_in_order(watched)


async def test_a_buffering_proxy_is_found_out() -> None:
    """A stream that is open but brings not a byte leads to polling, and the task is followed."""
    sim = Simulator(seed=7)
    sim.faults.add("events", faults.stall_after(events=0), times=None)
    task = sim.create_task(attrs.evolve(SLOW, waiting=100, queued=100, steps=200, output=OUTPUT))
    async with virtual_client(sim) as client:
        watched = await ended_watch(client, task.id, notices=True)

    assert [status for _, status in watched.statuses] == COURSE
    assert isinstance(watched.end, CompletedEvent)


@pytest.mark.parametrize("seconds", [5.0, 300.0, 1500.0])
async def test_an_outage_within_the_policy_is_survived(seconds: float) -> None:
    """Nothing answers for a while, then the watch goes on and ends."""
    sim = Simulator(seed=7)
    task = sim.create_task(LONG)
    found: list[Any] = []
    async with virtual_client(sim) as client, anyio.create_task_group() as group:

        async def read() -> None:
            found.append(await ended_watch(client, task.id))

        group.start_soon(read)
        await anyio.sleep(20)
        rule = sim.faults.add("*", faults.hang_up(), times=None)
        task.drop_streams()
        await anyio.sleep(seconds)
        sim.faults.clear()

    assert rule.fired >= 1
    assert isinstance(found[0].end, CompletedEvent)
    assert_in_order(found[0])


async def test_an_outage_beyond_the_policy_is_given_up() -> None:
    """After half an hour without a word the watch ends, saying what it knows and how to go on."""
    sim = Simulator(seed=7)
    task = sim.create_task(attrs.evolve(SLOW, steps=100_000))
    found: list[Any] = []
    notices: list[Notice] = []
    async with (
        virtual_client(sim, on_notice=notices.append) as client,
        anyio.create_task_group() as group,
    ):

        async def read() -> None:
            found.append(await ended_watch(client, task.id))

        group.start_soon(read)
        await anyio.sleep(20)
        sim.faults.add("*", faults.hang_up(), times=None)
        task.drop_streams()
        began = anyio.current_time()
        while not found:
            await anyio.sleep(10)
        took = anyio.current_time() - began
        sim.faults.clear()
        error = found[0].error
        assert error.resume_token is not None
        async with client.watch(error.resume_token) as events:
            async for event in events:
                if isinstance(event, ProgressEvent):
                    break

    assert isinstance(error, WatchLostError)
    assert error.resume_token is not None
    assert 1790 <= took <= 1900
    assert error.resume_token.status == "running"
    assert type(notices[-1]).__name__ in {"GaveUp", "Connected"}


async def test_a_service_never_reached_is_given_up_soon() -> None:
    """A wrong address is reported within a minute, not within half an hour."""
    sim = Simulator(seed=7)
    sim.faults.add("*", faults.hang_up(), times=None)
    async with virtual_client(sim) as client:
        began = anyio.current_time()
        watched = await ended_watch(client, sim.create_task(LONG).id)
        took = anyio.current_time() - began

    assert isinstance(watched.error, WatchLostError)
    assert 55 <= took <= 70


async def test_a_stream_of_short_life_is_no_failure() -> None:
    """A proxy that ends streams every minute does not lead to polling."""
    sim = Simulator(seed=7, behaviour=Behaviour(stream_lifetime=60.0))
    task = sim.create_task(attrs.evolve(SLOW, steps=10, step_seconds=100, output=OUTPUT))
    async with virtual_client(sim) as client:
        watched = await ended_watch(client, task.id, notices=True)

    assert not any(
        isinstance(notice, PollingStarted | StreamingResumed) for notice in watched.notices
    )
    assert isinstance(watched.end, CompletedEvent)


async def test_tasks_without_a_slot_are_polled() -> None:
    """With one stream slot five watches end all the same, over one stream at a time."""
    sim = Simulator(seed=7)
    tasks = [sim.create_task(attrs.evolve(SLOW, steps=20, output=OUTPUT)) for _ in range(5)]
    found: list[Any] = []
    async with (
        virtual_client(sim, limits=Limits(max_streams=1)) as client,
        anyio.create_task_group() as group,
    ):

        async def read(task_id: str) -> None:
            found.append(await ended_watch(client, task_id))

        for task in tasks:
            group.start_soon(read, task.id)

    assert sim.peak_streams == 1
    for watched in found:
        assert isinstance(watched.end, CompletedEvent)
        assert_in_order(watched)


async def test_the_policy_sets_the_pace() -> None:
    """The interval of polling is the policy's."""
    sim = Simulator(seed=7)
    sim.faults.add("events", faults.refuse(403), times=None)
    task = sim.create_task(attrs.evolve(SLOW, steps=60))
    async with virtual_client(sim, watch_policy=WatchPolicy(poll_interval=10)) as client:
        await ended_watch(client, task.id)

    assert len(sim.requests_to("task", task.id)) <= 8 + 2 * len(sim.requests_to("events"))


async def test_asks_are_paced_and_take_nothing_from_the_retry_quota() -> None:
    """An ask is one request: its repetition is the watch's, so an outage costs no tokens."""
    sim = Simulator(seed=7)
    sim.faults.add("events", faults.refuse(403), times=None)
    sim.faults.add("task", faults.refuse(503), times=8, skip=2)
    task = sim.create_task(attrs.evolve(SLOW, steps=60, output=OUTPUT))
    async with virtual_client(sim) as client:
        watched = await ended_watch(client, task.id)
        retries = client.statistics().retries

    assert isinstance(watched.end, CompletedEvent)
    assert retries == 0


async def test_a_watch_logs_its_steps_and_none_of_its_payloads(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Steps are for debugging, reconnections and switches are information; payloads are neither."""
    sim = Simulator(seed=7)
    sim.faults.add("events", faults.drop_after(events=3), times=4)
    task = sim.create_task(attrs.evolve(SLOW, steps=60, output={"secret": "in the output"}))
    with caplog.at_level("DEBUG", logger="cyberun_async"):
        async with virtual_client(sim) as client:
            await ended_watch(client, task.id)
    said = {(record.levelname, record.getMessage()) for record in caplog.records}

    assert {("DEBUG", f"task {task.id}: {phase}") for phase in ("connecting", "reading")} <= said
    assert any(level == "INFO" and "stream lost" in words for level, words in said)
    assert any(level == "INFO" and "reconnected after" in words for level, words in said)
    assert not any("in the output" in words or sim.key in words for _, words in said)


async def test_retry_after_slows_polling_down() -> None:
    """Polling is never faster than `Retry-After` allows."""
    sim = Simulator(seed=7)
    sim.faults.add("events", faults.refuse(403), times=None)
    sim.faults.add("task", faults.refuse(429, retry_after=40), times=5, skip=3)
    task = sim.create_task(attrs.evolve(SLOW, steps=200, output=OUTPUT))
    async with virtual_client(sim) as client:
        watched = await ended_watch(client, task.id)

    times = [request.at for request in sim.requests_to("task", task.id)]
    refused = times[3:9]
    assert all(later - sooner >= 40 for sooner, later in pairwise(refused))
    assert isinstance(watched.end, CompletedEvent)
