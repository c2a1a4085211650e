"""What tenants share: the turns of each, whoever else wants how much."""

import anyio
import pytest

from cyberun_async._http import FairQueue, FairSemaphore, Rate, Usage

from ..whole.kit import VIRTUAL, virtual_backend


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


def test_tenants_are_served_in_turn() -> None:
    """Those of one tenant come in their order, and behind each of them one of the others."""
    one, two = Usage(), Usage()
    queue: FairQueue[str] = FairQueue()
    for item in ("a", "b", "c", "d"):
        queue.push(one, item)
    queue.push(two, "x")
    queue.push(two, "y")
    queue.discard(one, "b")

    assert [queue.pop() for _ in range(len(queue))] == ["a", "x", "c", "y", "d"]
    assert queue.pop() is None


async def test_one_tenant_alone_may_have_all_turns() -> None:
    """Nothing is kept free for others where there are none."""
    turns, one = FairSemaphore(3, lambda: False), Usage()
    with anyio.move_on_after(1):
        for _ in range(4):
            await turns.acquire(one)

    assert turns.waiting == 0
    with anyio.fail_after(1):
        turns.release(one)
        await turns.acquire(one)


async def test_each_of_many_greedy_tenants_leaves_room_for_the_next() -> None:
    """However many take all they can get, one that has nothing finds a turn."""
    turns = FairSemaphore(27, lambda: True)
    held: list[int] = []
    for _ in range(4):
        tenant = Usage()
        held.append(0)
        with anyio.move_on_after(1):
            while True:
                await turns.acquire(tenant)
                held[-1] += 1

    assert held == [18, 6, 2, 1]


async def test_a_turn_that_is_given_up_is_passed_on() -> None:
    """A cancelled wait keeps its place from nobody, also one that was just admitted."""
    turns, one, two = FairSemaphore(1, lambda: True), Usage(), Usage()
    await turns.acquire(one)

    async def hold() -> None:
        async with turns.held_by(two):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(hold)
        await anyio.wait_all_tasks_blocked()
        turns.release(one)
        group.cancel_scope.cancel()
    with anyio.fail_after(1):
        await turns.acquire(one)

    assert turns.waiting == 0


async def test_who_leads_may_be_cancelled() -> None:
    """The others are admitted at their moments, whoever of them leaves."""
    rate, one, two = Rate(anyio.current_time, 1.0), Usage(), Usage()
    moments: list[float] = []
    began = anyio.current_time()

    async def turn(tenant: Usage, patience: float) -> None:
        with anyio.move_on_after(patience):
            await rate.turn(tenant)
            moments.append(anyio.current_time() - began)

    async with anyio.create_task_group() as group:
        for patience in (100, 0.5, 100, 0.7, 1.5, 100):
            group.start_soon(turn, one, patience)
        group.start_soon(turn, two, 100)
        await anyio.wait_all_tasks_blocked()

    assert len(moments) >= 4
    assert sorted(moments) == pytest.approx(list(range(len(moments))))
