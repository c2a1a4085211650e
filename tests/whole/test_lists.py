"""What may be wrong with the list of tasks costs requests, never a wrong answer; virtual time."""

from typing import Final

import anyio
import attrs
import pytest

from cyberun_async.testing import Behaviour, Simulator, faults

from .kit import SLOW, VIRTUAL, virtual_backend, virtual_client


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


PLAN: Final = attrs.evolve(SLOW, waiting=5, queued=5, steps=10)
STATES: Final = ("pending", "waiting", "queued", "running")


async def all_waited(sim: Simulator, *, foreign: int = 0, count: int = 30) -> list[str]:
    """Wait for *count* tasks among foreign ones; return how they ended, in their order."""
    for _ in range(foreign):
        sim.create_task(attrs.evolve(PLAN, steps=40))
    ids = [sim.create_task(PLAN).id for _ in range(count)]
    async with virtual_client(sim) as client:
        with anyio.fail_after(300):
            finals = await client.wait_many(ids)
    assert [final.id for final in finals if not isinstance(final, Exception)] == ids
    return [final.status for final in finals if not isinstance(final, Exception)]


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(Behaviour(row_shift=3), id="rows-appear-between-pages"),
        pytest.param(Behaviour(row_shift=-3), id="rows-vanish-between-pages"),
        pytest.param(Behaviour(total_count_error=-1000), id="the-count-is-too-low"),
        pytest.param(Behaviour(total_count_error=1000), id="the-count-is-too-high"),
        pytest.param(Behaviour(list_order="shuffled"), id="in-no-order"),
        pytest.param(Behaviour(filter_ignored=True), id="the-filter-has-no-effect"),
        pytest.param(Behaviour(provisioning=True), id="a-state-that-is-not-documented"),
        pytest.param(Behaviour(refused_filters=frozenset(STATES)), id="no-filter-is-taken"),
    ],
)
async def test_no_list_leads_to_a_wrong_answer(behaviour: Behaviour) -> None:
    """Every task is reported as it ended, and none before it had."""
    sim = Simulator(seed=7, behaviour=behaviour)

    assert await all_waited(sim, foreign=150) == ["completed"] * 30


async def test_a_refused_filter_is_remembered() -> None:
    """A state that cannot be listed is tried once."""
    sim = Simulator(seed=7, behaviour=Behaviour(refused_filters=frozenset(STATES)))
    await all_waited(sim)

    assert len(sim.requests_to("tasks")) == len(STATES)


async def test_a_429_slows_all_polling() -> None:
    """One task is asked to wait; none of the others is asked about meanwhile."""
    sim = Simulator(seed=7)
    sim.faults.add("tasks", faults.refuse(429, retry_after=20), skip=4)
    ids = [sim.create_task(attrs.evolve(PLAN, steps=100)).id for _ in range(30)]
    async with virtual_client(sim) as client:
        with anyio.move_on_after(60):
            await client.wait_many(ids)
        times = sorted(request.at for request in sim.requests)

    refused = sim.requests_to("tasks")[4].at
    assert not [at for at in times if refused < at < refused + 20]
    assert [at for at in times if at >= refused + 20]
