"""How fast a client sends status checks, whatever the tasks and the service do; in virtual time."""

import itertools
from collections.abc import Sequence
from typing import Final

import anyio
import pytest

from cyberun_async import CyberunClient, Limits, TaskSnapshot, WaitTimeoutError, WatchPolicy
from cyberun_async.testing import Simulator, TaskPlan, faults

from ..whole.kit import VIRTUAL, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


RATE: Final = 20.0
TOGETHER: Final = TaskPlan(pending=0.5, waiting=10, queued=0.5, steps=10, step_seconds=1)


def checks_at(sim: Simulator) -> list[float]:
    """Return when each status check and list page arrived."""
    return [each.at for each in sim.requests if each.endpoint in ("task", "tasks")]


def most_in_a_second(moments: Sequence[float]) -> int:
    """Return how many fall into one second at most, wherever that begins."""
    return max(sum(start <= moment < start + 1 for moment in moments) for start in moments)


async def ends_of(
    client: CyberunClient, ids: Sequence[str]
) -> dict[str, tuple[TaskSnapshot, float]]:
    """Wait for all tasks at once; return the final state of each, and when it was known."""
    ends: dict[str, tuple[TaskSnapshot, float]] = {}

    async def wait(task_id: str) -> None:
        ends[task_id] = await client.wait(task_id), anyio.current_time()

    async with anyio.create_task_group() as group:
        for task_id in ids:
            group.start_soon(wait, task_id)
    return ends


async def test_tasks_that_start_and_end_together_keep_the_rate() -> None:
    """No second has more status checks than the rate, though 400 tasks move at the same moment."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(TOGETHER).id for _ in range(400)]
    async with virtual_client(sim, limits=Limits(poll_rate=RATE)) as client:
        ends = await ends_of(client, ids)

    assert {end.status for end, _ in ends.values()} == {"completed"}
    assert most_in_a_second(checks_at(sim)) <= RATE + 1


async def test_tasks_that_start_together_are_found_on_pages() -> None:
    """400 tasks that leave the queue at once are looked for on the pages of running tasks first."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(TOGETHER).id for _ in range(400)]
    async with (
        virtual_client(sim, limits=Limits(poll_rate=RATE)) as client,
        anyio.create_task_group() as group,
    ):
        for task_id in ids:
            group.start_soon(client.wait, task_id)
        await anyio.sleep(19)
        group.cancel_scope.cancel()

    singly = [each for each in sim.requests if each.endpoint == "task"]
    assert len(singly) <= 40


async def test_a_task_that_is_on_no_list_is_not_held_up_by_many_that_ended() -> None:
    """While hundreds of ends are confirmed, the checks of other tasks take every other turn."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(TOGETHER).id for _ in range(400)]
    few = [sim.create_task(TaskPlan(steps=23, step_seconds=1)).id for _ in range(3)]
    async with virtual_client(sim, limits=Limits(poll_rate=RATE)) as client:
        begun = anyio.current_time()
        ends = await ends_of(client, [*ids, *few])

    assert max(at for _, at in ends.values()) - begun >= 21 + 400 / RATE - 1
    assert all(ends[task_id][1] - begun < 23.25 + 3 + 2 for task_id in few)


async def test_a_pause_does_not_end_in_a_burst() -> None:
    """What waited while the list asked for a pause leaves at the rate, not all at once."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(TOGETHER).id for _ in range(60)]
    sim.faults.add("tasks", faults.refuse(429, retry_after=2.5), skip=12)
    async with virtual_client(sim, limits=Limits(poll_rate=RATE)) as client:
        await ends_of(client, ids)

    moments = checks_at(sim)
    assert most_in_a_second(moments) <= RATE + 1
    gaps = [later - sooner for sooner, later in itertools.pairwise(moments)]
    assert any(gap >= 3.0 for gap in gaps), "2.5 s are rounded up to 3"


@pytest.mark.parametrize("status", [429, 503])
async def test_a_hint_for_one_task_delays_no_other(status: int) -> None:
    """`Retry-After` on the check of one task is its own, and never longer than `hint_cap`."""
    sim = Simulator(seed=7)
    plan = TaskPlan(steps=6, step_seconds=1)
    ids = [sim.create_task(plan).id for _ in range(5)]
    sim.faults.add("task", faults.refuse(status, retry_after=40), task=ids[0])
    async with virtual_client(sim, watch_policy=WatchPolicy(hint_cap=8)) as client:
        begun = anyio.current_time()
        ends = await ends_of(client, ids)

    took = [ends[task_id][1] - begun for task_id in ids]
    assert all(seconds < 6.25 + 4 for seconds in took[1:])
    asked = [each.at for each in sim.requests_to("task", ids[0])]
    assert 8 <= asked[1] - asked[0] <= 9
    assert took[0] < 8 + 9


async def test_checks_of_several_tasks_that_are_limited_pause_all() -> None:
    """Three different tasks in a row answered with 429 show that the account is limited."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(TaskPlan(steps=6, step_seconds=1)).id for _ in range(8)]
    sim.faults.add("task", faults.refuse(429, retry_after=4), times=3)
    async with virtual_client(sim) as client:
        await ends_of(client, ids)

    moments = checks_at(sim)
    assert max(later - sooner for sooner, later in itertools.pairwise(moments)) >= 3.5


@pytest.mark.parametrize("status", [429, 503])
async def test_a_hint_of_the_list_holds_for_all(status: int) -> None:
    """The list belongs to the team: what it asks for delays every status check, up to the cap."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(TOGETHER).id for _ in range(50)]
    sim.faults.add("tasks", faults.refuse(status, retry_after=40), skip=4)
    async with virtual_client(sim, watch_policy=WatchPolicy(hint_cap=5)) as client:
        await ends_of(client, ids)

    moments = checks_at(sim)
    gap = max(later - sooner for sooner, later in itertools.pairwise(moments))
    assert 5 <= gap <= 6


async def test_checks_that_hang_let_the_others_pass() -> None:
    """However many checks hang, tasks that end are reported within seconds."""
    sim = Simulator(seed=7)
    sim.faults.add("tasks", faults.refuse(400), times=None)
    hanging = [sim.create_task(TaskPlan(steps=1000, step_seconds=1)).id for _ in range(40)]
    for task_id in hanging:
        sim.faults.add("task", faults.hold(before=1000), task=task_id, times=None)
    ending = [sim.create_task(TaskPlan(steps=2, step_seconds=1)).id for _ in range(10)]
    ends: list[float] = []

    async def wait(client: CyberunClient, task_id: str) -> None:
        await client.wait(task_id)
        ends.append(anyio.current_time())

    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        begun = anyio.current_time()
        for task_id in [*hanging, *ending]:
            group.start_soon(wait, client, task_id)
        await anyio.sleep(60)
        group.cancel_scope.cancel()

    assert len(ends) == 10
    assert max(ends) - begun < 20


async def test_a_service_that_takes_long_for_each_check_is_heard() -> None:
    """A check that others pass is still waited for: every end is seen where each takes 8 s."""
    sim = Simulator(seed=7)
    sim.faults.add("tasks", faults.refuse(400), times=None)
    sim.faults.add("task", faults.hold(before=8), times=None)
    ids = [sim.create_task(TaskPlan(steps=2, step_seconds=1)).id for _ in range(40)]
    async with virtual_client(sim) as client:
        with anyio.fail_after(300):
            ends = await ends_of(client, ids)

    assert {end.status for end, _ in ends.values()} == {"completed"}


async def test_checks_do_not_wait_behind_submissions() -> None:
    """A fifth of the connections is kept for checks, so that a wait ends while runs are slow."""
    sim = Simulator(seed=7)
    sim.faults.add("run", faults.hold(before=25), times=None)
    task_id = sim.create_task(TaskPlan(steps=2, step_seconds=1)).id
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        for _ in range(200):
            group.start_soon(client.submit, "text-to-image", {"prompt": "a fox"})
        await anyio.sleep(0.1)
        with anyio.fail_after(8):
            end = await client.wait(task_id)
        group.cancel_scope.cancel()

    assert end.status == "completed"


@pytest.mark.parametrize("rate", [2.0, None])
async def test_submissions_keep_a_rate_of_their_own(rate: float | None) -> None:
    """`submit_rate` bounds submissions, tries again included; without it there is no rate."""
    sim = Simulator(seed=7)
    sim.faults.add("run", faults.refuse(503), times=10)
    limits = Limits(submit_rate=rate)
    async with virtual_client(sim, limits=limits) as client, anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(client.submit, "text-to-image", {"prompt": str(number)})

    moments = [each.at for each in sim.requests_to("run")]
    assert len(sim.submissions) == 20
    assert len(moments) == 30
    assert (most_in_a_second(moments) <= 3) is (rate is not None)


async def test_starts_that_are_late_together_keep_the_rate() -> None:
    """At the end of `start_timeout` the last look of 200 waits is shared, and nobody is wronged."""
    sim = Simulator(seed=7)
    plan = TaskPlan(pending=0, waiting=9.5, queued=0, steps=5, step_seconds=1)
    started = [sim.create_task(plan).id for _ in range(100)]
    late = [sim.create_task(TaskPlan(pending=0, waiting=500)).id for _ in range(100)]
    outcomes: dict[str, str] = {}

    async def wait(client: CyberunClient, task_id: str) -> None:
        try:
            outcomes[task_id] = (await client.wait(task_id, start_timeout=10)).status
        except WaitTimeoutError as error:
            outcomes[task_id] = error.what

    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        for task_id in [*started, *late]:
            group.start_soon(wait, client, task_id)

    assert {outcomes[task_id] for task_id in started} == {"completed"}
    assert {outcomes[task_id] for task_id in late} == {"start"}
    assert most_in_a_second(checks_at(sim)) <= RATE + 1
