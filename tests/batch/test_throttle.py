"""How many jobs may be in flight: the rule, without a service."""

import anyio
import pytest

from cyberun_async.batch._throttle import Throttle

from ..whole.kit import VIRTUAL, virtual_backend


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


def test_a_refusal_halves_the_concurrency() -> None:
    """Each refusal of a request that left after the last halving halves again, down to one."""
    throttle = Throttle(100)

    limits: list[int] = []
    for moment in range(8):
        throttle.declined(moment, moment + 0.5)
        limits.append(throttle.limit)

    assert limits == [50, 25, 12, 6, 3, 1, 1, 1]


def test_refusals_of_one_crowd_count_once() -> None:
    """Requests that left before the last halving tell nothing new."""
    throttle = Throttle(100)

    for _ in range(60):
        throttle.declined(1.0, 2.0)

    assert throttle.limit == 50


def test_concurrency_climbs_by_one_for_each_round() -> None:
    """Ten acceptances at ten make eleven; it never passes what the policy allows."""
    throttle = Throttle(20)
    throttle.declined(0.0, 1.0)

    climb: list[int] = []
    for _ in range(3):
        for _ in range(throttle.limit + 1):
            throttle.accepted()
        climb.append(throttle.limit)
    for _ in range(1000):
        throttle.accepted()

    assert climb == [11, 12, 13]
    assert throttle.limit == 20


async def test_room_is_given_in_the_order_asked_for() -> None:
    """Who asked first gets the room that frees first."""
    throttle = Throttle(1)
    order: list[int] = []

    async def take(number: int) -> None:
        await throttle.acquire()
        order.append(number)
        await anyio.sleep(1)
        throttle.release()

    async with anyio.create_task_group() as group:
        for number in range(5):
            group.start_soon(take, number)
            await anyio.sleep(0.1)

    assert order == [0, 1, 2, 3, 4]


async def test_a_job_put_off_comes_before_new_ones() -> None:
    """Room that frees goes to the job that stood aside, though others waited longer."""
    throttle = Throttle(1)
    order: list[str] = []
    await throttle.acquire()

    async def new() -> None:
        await throttle.acquire()
        order.append("new")

    async def put_off() -> None:
        await throttle.stand_aside(1.0, is_declined=False)
        order.append("put off")
        throttle.release()

    async with anyio.create_task_group() as group:
        group.start_soon(new)
        group.start_soon(put_off)

    assert order == ["put off", "new"]


async def test_nobody_new_is_let_in_while_the_service_asks_for_less() -> None:
    """As long as a declined job waits for its moment, no other is begun in its room."""
    throttle = Throttle(2)
    moments: dict[str, float] = {}
    began = anyio.current_time()
    await throttle.acquire()

    async def new() -> None:
        await throttle.acquire()
        moments["new"] = anyio.current_time() - began
        throttle.release()

    async def declined() -> None:
        await throttle.stand_aside(30.0, is_declined=True)
        moments["declined"] = anyio.current_time() - began
        throttle.release()

    async with anyio.create_task_group() as group:
        group.start_soon(declined)
        await anyio.sleep(1.0)
        group.start_soon(new)

    assert moments == {"declined": 30.0, "new": 30.0}


async def test_jobs_that_stand_aside_are_bounded() -> None:
    """However many are put off, no more are begun than the limit has room for."""
    throttle = Throttle(4)
    begun = 0

    async def job() -> None:
        await throttle.stand_aside(3600, is_declined=False)

    async with anyio.create_task_group() as group:
        with anyio.move_on_after(60):
            while True:
                await throttle.acquire()
                begun += 1
                group.start_soon(job)
        group.cancel_scope.cancel()

    assert begun == 4


async def test_cancelled_everywhere_the_room_is_given_back() -> None:
    """Whoever is cancelled, waiting or aside, leaves the room for others as it was."""
    throttle = Throttle(2)

    async def job() -> None:
        await throttle.acquire()
        try:
            await throttle.stand_aside(5.0, is_declined=True)
            await anyio.sleep(5.0)
        finally:
            throttle.release()

    for moment in (0.5, 5.0, 7.0, 11.0):
        with anyio.move_on_after(moment):
            async with anyio.create_task_group() as group:
                for _ in range(6):
                    group.start_soon(job)

    assert throttle.in_use == 0
    with anyio.fail_after(1):
        await throttle.acquire()
        await throttle.acquire()
