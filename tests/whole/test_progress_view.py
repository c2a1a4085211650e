"""One message per task: the progress view against the simulator, in virtual time."""

import itertools
from typing import Any

import anyio
import pytest

from cyberun_async import (
    ClientClosedError,
    CompletedEvent,
    CyberunClient,
    FailedEvent,
    InvalidInputError,
    ProgressUpdate,
)
from cyberun_async.testing import Simulator, TaskPlan, faults

from .kit import VIRTUAL, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


@pytest.fixture
def sim() -> Simulator:
    return Simulator(seed=7)


LIVELY = TaskPlan(pending=1, waiting=1, queued=1, steps=20, step_seconds=0.5)


async def updates_of(
    client: CyberunClient, task_id: str, **options: Any
) -> list[tuple[float, ProgressUpdate]]:
    found: list[tuple[float, ProgressUpdate]] = []
    async with client.progress(task_id, **options) as updates:
        async for update in updates:
            found.append((anyio.current_time(), update))  # noqa: PERF401 - read as they come
    return found


async def test_updates_keep_their_distance_and_the_last_one_comes(sim: Simulator) -> None:
    """At most one update per interval, the newest; the end is reported once, and last."""
    live = sim.create_task(LIVELY)
    async with virtual_client(sim) as client:
        found = await updates_of(client, live.id, min_interval=2.0)

    moments = [moment for moment, _ in found]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert min(gaps) >= 2.0
    assert [update.is_final for _, update in found] == [False] * (len(found) - 1) + [True]
    last = found[-1][1]
    assert isinstance(last.end, CompletedEvent)
    assert (last.status, last.progress, last.text) == ("completed", 1.0, "completed")


async def test_a_lively_task_has_a_time_left(sim: Simulator) -> None:
    """After some even progress the text tells how long it may still take, and is about right."""
    live = sim.create_task(LIVELY)
    async with virtual_client(sim) as client:
        found = await updates_of(client, live.id)

    ends = found[-1][0]
    reported = [(moment, u) for moment, u in found if u.seconds_left is not None]
    assert reported
    assert all(u.seconds_left == pytest.approx(ends - moment, abs=1.5) for moment, u in reported)
    assert "left" in reported[0][1].text
    assert found[0][1].seconds_left is None


async def test_while_polling_nothing_is_claimed(sim: Simulator) -> None:
    """Without a stream there is neither progress nor an estimate, and the text says so."""
    refused = faults.on("events", faults.refuse(403), times=None)
    live = sim.create_task(TaskPlan(steps=20, step_seconds=1, faults=(refused,)))
    async with virtual_client(sim) as client:
        found = [update for _, update in await updates_of(client, live.id)]

    assert {update.seconds_left for update in found} == {None}
    assert "running · no live progress" in [update.text for update in found]
    assert found[-1].is_final


async def test_a_failed_task_says_why(sim: Simulator) -> None:
    """The last update of a failed task carries the service's words."""
    live = sim.create_task(TaskPlan(steps=2, outcome="failed", error="CUDA out of memory"))
    async with virtual_client(sim) as client:
        _, last = (await updates_of(client, live.id))[-1]

    assert isinstance(last.end, FailedEvent)
    assert last.text == "failed · CUDA out of memory"


@pytest.mark.parametrize("outcome", ["completed", "failed", "cancelled"])
async def test_an_end_that_a_status_check_shows_is_delivered(sim: Simulator, outcome: Any) -> None:
    """Also where it is all there is to tell: the task had ended, and nothing can be streamed."""
    refused = faults.on("events", faults.refuse(403), times=None)
    live = sim.create_task(TaskPlan(steps=1, outcome=outcome, faults=(refused,)))
    async with virtual_client(sim) as client:
        await client.wait(live.id)
        found = [update for _, update in await updates_of(client, live.id)]

    assert [update.status for update in found][-1] == outcome
    assert found[-1].is_final


async def test_a_late_view_first_gets_the_current_state(sim: Simulator) -> None:
    """A second view of a task that waits for long does not wait until something happens."""
    live = sim.create_task(TaskPlan(waiting=3600, steps=1))
    async with virtual_client(sim) as client, client.progress(live.id) as first:
        await anext(first)
        await anyio.sleep(60)
        with anyio.fail_after(1):
            async with client.progress(live.id) as second:
                update = await anext(second)

    assert update.status == "waiting"


async def test_views_and_watches_share_one_stream(sim: Simulator) -> None:
    """A view beside a watch of the same task opens no stream of its own."""
    live = sim.create_task(LIVELY)
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        group.start_soon(updates_of, client, live.id)
        async with client.watch(live.id) as events:
            assert isinstance([event async for event in events][-1], CompletedEvent)

    assert len(sim.requests_to("events")) == 1


async def test_leaving_a_view_gives_the_stream_back(sim: Simulator) -> None:
    """After `break` nothing is open, and the remote task goes on."""
    live = sim.create_task(manual=True)
    async with virtual_client(sim) as client:
        async with client.handle(live.id).progress() as updates:
            async for _ in updates:
                break
        assert client.statistics().open_streams == 0
        assert "closed" in repr(updates)
    assert live.state == "pending"


async def test_closing_the_client_ends_a_view(sim: Simulator) -> None:
    """The client's end is an error with a token, as for any watch."""
    live = sim.create_task(manual=True)
    async with virtual_client(sim) as client:
        with pytest.raises(ClientClosedError) as caught:
            async with client.progress(live.id) as updates:
                async for _ in updates:
                    await client.aclose()
    assert caught.value.resume_token is not None
    assert caught.value.resume_token.task_id == live.id


async def test_an_interval_is_a_number_of_seconds(sim: Simulator) -> None:
    """What is no interval is refused before anything is sent."""
    async with virtual_client(sim) as client:
        with pytest.raises(InvalidInputError, match="min_interval"):
            client.progress(sim.create_task(manual=True).id, min_interval=0)
    assert sim.requests == []
