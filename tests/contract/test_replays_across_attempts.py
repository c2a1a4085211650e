"""A stream that replays the whole life on connect, across a retry by the service."""

import anyio
import pytest

from cyberun_async import Event, ProgressEvent, ResumeToken, StatusEvent, WatchPolicy
from cyberun_async.testing import Attempt, Behaviour, RecordedRequest, Simulator, TaskPlan, faults

from ..whole.kit import VIRTUAL, virtual_backend, virtual_client


# Attempt 1 runs from 7 to 16 and is lost at 90 %; attempt 2 waits until 22, then runs.
PLAN = TaskPlan(
    pending=1,
    waiting=1,
    queued=5,
    steps=10,
    step_seconds=1,
    attempts=(Attempt(steps=9),),
    output={"a": 1},
)
SECOND_RUNS_AT, STEP = 22.0, 0.1
RANKS = {name: rank for rank, name in enumerate(("pending", "waiting", "queued", "running"))}


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


def assert_true_then(event: Event, state: str, attempt: int, now: float) -> None:
    """What is said of the present attempt holds at this moment, or is marked as doubtful."""
    assert event.attempt <= attempt, event
    if event.attempt < attempt:
        return
    if isinstance(event, StatusEvent) and not event.unconfirmed:
        assert RANKS[event.status] <= RANKS.get(state, 9), (event, state)
    if isinstance(event, ProgressEvent) and attempt == 2:
        assert state not in {"waiting", "queued"}, (event, state)
        assert event.progress is not None
        assert event.progress <= (now - SECOND_RUNS_AT + 0.5) * STEP, (event, now)


@pytest.mark.parametrize(
    "begin, cut",
    [
        pytest.param(18.2, None, id="late-while-it-is-queued-again"),
        pytest.param(24.2, None, id="late-while-it-runs-again"),
        pytest.param(10.2, (14.1, 18.2), id="reconnected-while-it-is-queued-again"),
        pytest.param(10.2, (14.1, 24.2), id="reconnected-while-it-runs-again"),
        pytest.param(10.2, (16.5, 18.2), id="cut-while-it-is-queued-again"),
        pytest.param(18.2, (19.1, 20.2), id="late-and-cut"),
    ],
)
@pytest.mark.parametrize("known", [None, "running"])
@pytest.mark.parametrize("chunk", [None, 7])
async def test_a_replay_does_not_dress_an_earlier_attempt_up_as_the_present_one(
    begin: float,
    cut: tuple[float, float] | None,
    known: str | None,
    chunk: int | None,
) -> None:
    """While attempt 2 is queued, nothing says that it runs, and no progress is its own."""
    sim = Simulator(seed=7, behaviour=Behaviour(on_connect="history", chunk_bytes=chunk))
    live = sim.create_task(PLAN)
    token = ResumeToken(task_id=live.id, status=known, retry_count=None if known is None else 0)
    if cut is not None:
        first, last = cut

        def is_cut(request: RecordedRequest) -> bool:
            return first <= request.at < last

        sim.faults.add("events", faults.hang_up(), times=None, when=is_cut)
    events: list[Event] = []
    policy = WatchPolicy(climb_base=0.5, climb_cap=1.0)
    async with virtual_client(sim, watch_policy=policy) as client:
        await anyio.sleep(begin)
        async with anyio.create_task_group() as group:
            if cut is not None:
                group.start_soon(drop, sim, cut[0])
            async with client.watch(token) as stream:
                async for event in stream:
                    events.append(event)
                    assert_true_then(event, live.state, live.attempt + 1, sim.now)

    assert events[-1].is_terminal
    assert events[-1].attempt == 2
    attempts = [event.attempt for event in events]
    assert attempts == sorted(attempts)
    statuses = [(one.attempt, one.status) for one in events if isinstance(one, StatusEvent)]
    assert len(set(statuses)) == len(statuses), statuses
    assert (2, "running") in statuses
    progress = [one for one in events if isinstance(one, ProgressEvent) and one.attempt == 2]
    assert len(progress) >= 6


async def drop(sim: Simulator, at: float) -> None:
    await anyio.sleep(at - anyio.current_time())
    sim.drop_streams()
