"""
Any script of faults leaves the truth unharmed.

Hypothesis writes a task's life, the service's habits and a script of faults; the real client
follows the task through them in virtual time. Whatever happens, it gets what a single GET
would tell at the end, in order and once, or gets the one error that the policy names.
``CYBERUN_SCRIPTS`` gives the number of scripts of a longer run.
"""

import os
import random
from collections.abc import Mapping
from typing import Any, Final

import anyio
import attrs
from hypothesis import HealthCheck, given, settings, strategies as st

from cyberun_async import (
    AuthenticationError,
    CompletedEvent,
    CyberunError,
    Limits,
    PermissionDeniedError,
    StatusEvent,
    TaskNotFoundError,
    WatchLostError,
    WatchPolicy,
)
from cyberun_async.testing import Attempt, Behaviour, Simulator, TaskPlan, VirtualClockLoop, faults

from ..soak.weather import ASK, REFUSED_STREAM, RESULT, STREAM, SWITCHES, Make
from .kit import OUTPUT, Watched, assert_in_order, follow, library_tasks, virtual_client


SCRIPTS: Final = int(os.environ.get("CYBERUN_SCRIPTS", "25"))

# How a task is refused, or cannot be asked about, from some request on and forever.
ENDINGS: Final[dict[str, tuple[faults.Action, type[CyberunError]]]] = {
    "401": (faults.refuse(401), AuthenticationError),
    "403": (faults.refuse(403), PermissionDeniedError),
    "404": (faults.refuse(404), TaskNotFoundError),
    "503": (faults.refuse(503), WatchLostError),
    "no answer": (faults.hang_up(), WatchLostError),
}
POLICY: Final = WatchPolicy(max_outage=900)


@attrs.frozen
class Script:
    """What a task lives through and what goes wrong meanwhile."""

    plan: TaskPlan
    behaviour: Behaviour
    faults: tuple[faults.Fault, ...]
    ending: tuple[str, int] | None


def _actions(table: Mapping[str, Make]) -> st.SearchStrategy[tuple[faults.Action, ...]]:
    make = st.sampled_from(list(table.values()))
    return st.builds(lambda one, seed: one(random.Random(seed)), make, st.integers(0, 1000))


def _faults(endpoint: faults.Endpoint, *tables: Mapping[str, Make]) -> Any:
    every = {name: make for table in tables for name, make in table.items()}
    fault = st.builds(
        lambda actions, times, skip: faults.on(endpoint, *actions, times=times, skip=skip),
        _actions(every),
        st.integers(1, 4),
        st.integers(0, 2),
    )
    return st.lists(fault, max_size=4)


PLANS: Final = st.builds(
    TaskPlan,
    pending=st.floats(0, 20),
    waiting=st.floats(0, 200),
    queued=st.floats(0, 20),
    steps=st.integers(1, 12),
    step_seconds=st.floats(0.01, 90),
    outcome=st.sampled_from(["completed", "failed", "cancelled"]),
    attempts=st.lists(
        st.builds(Attempt, st.integers(0, 5), st.sampled_from(["queued", "running"])), max_size=2
    ).map(tuple),
    output=st.just(OUTPUT),
)
HABITS: Final[st.SearchStrategy[dict[str, Any]]] = st.fixed_dictionaries(
    {name: st.sampled_from(values) for name, values in SWITCHES.items() if name != "chunk_bytes"}
)
FAULTS: Final = st.tuples(
    _faults("events", STREAM, REFUSED_STREAM), _faults("task", ASK), _faults("result", RESULT)
).map(lambda lists: tuple(fault for faults_ in lists for fault in faults_))
SCRIPT: Final = st.builds(
    Script,
    PLANS,
    HABITS.map(lambda habits: Behaviour(**habits)),
    FAULTS,
    st.none() | st.tuples(st.sampled_from(list(ENDINGS)), st.integers(0, 12)),
)


@settings(
    max_examples=SCRIPTS,
    deadline=None,
    derandomize=SCRIPTS == 25,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(script=SCRIPT)
def test_any_script_ends_in_the_truth_or_in_the_error_of_the_policy(script: Script) -> None:
    """The end that a GET shows, once and last; or exactly the error that the script demands."""
    VirtualClockLoop.run(played(script))


async def played(script: Script) -> None:
    sim = Simulator(seed=7, behaviour=script.behaviour)
    live = sim.create_task(script.plan)
    for fault in script.faults:
        sim.faults.add_fault(fault)
    if script.ending is not None:
        name, skip = script.ending
        sim.faults.add("*", ENDINGS[name][0], times=None, skip=skip, task=live.id)
    async with virtual_client(
        sim, watch_policy=POLICY, limits=Limits(max_line_bytes=8192, max_event_bytes=8192)
    ) as client:
        with anyio.fail_after(20_000):
            watched = await follow(client.watch(live.id))
    assert_as_promised(watched, script, live.state)
    assert sim.open_streams == 0
    assert library_tasks() == []


def assert_as_promised(watched: Watched, script: Script, state: str) -> None:
    if watched.error is None:
        assert watched.end.status == state
        if isinstance(watched.end, CompletedEvent):
            assert watched.end.output == OUTPUT or watched.end.output_error
    else:
        assert script.ending is not None, repr(watched.error)
        assert isinstance(watched.error, ENDINGS[script.ending[0]][1])
        assert watched.error.resume_token is not None
        assert not any(event.is_terminal for event in watched.events)
    if not any(isinstance(e, StatusEvent) and e.unconfirmed for e in watched.events):
        assert_in_order(attrs.evolve(watched, items=[e for e in watched.items if not _is_odd(e)]))


def _is_odd(item: object) -> bool:
    return isinstance(item, StatusEvent) and item.status not in {
        *("pending", "waiting", "provisioning", "queued", "running"),
    }
