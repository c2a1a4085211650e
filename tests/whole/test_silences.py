"""
Where the documentation is silent the service may do either: the client is right on every side.

Each switch of the simulator's :class:`Behaviour` is set to each of its sides, and a task is
watched to its end in several situations, in virtual time.
"""

from pathlib import Path
from typing import Any, Final, Literal

import anyio
import attrs
import pytest

from cyberun_async import CompletedEvent, FailedEvent, StatusEvent, WatchPolicy
from cyberun_async.testing import Attempt, Behaviour, LiveTask, Simulator, TaskPlan, faults

from .kit import (
    COURSE,
    OUTPUT,
    SLOW,
    VIRTUAL,
    Watched,
    assert_in_order,
    ended_watch,
    library_tasks,
    virtual_backend,
    virtual_client,
)


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


# Every switch with its sides; the test below holds the table to be complete.
SIDES: Final[dict[str, tuple[Any, ...]]] = {
    "on_connect": ("current", "history", "nothing"),
    "finished_stream": ("terminal", "close", "not_found", "no_content"),
    "provisioning": (True, False),
    "heartbeat": (None, 0.4, 20.0),
    "event_ids": (True, False),
    "retry_hint": (None, 0, 2500),
    "multiline_data": (True, False),
    "line_end": ("\n", "\r\n", "\r"),
    "chunk_bytes": (None, 1, 7),
    "unknown_events": (True, False),
    "error_event": (None, "continue", "drop"),
    "terminal_timestamp": (True, False),
    "progress_steps": (True, False),
    "final_status": (True, False),
    "repeat_terminal": (True, False),
    "late_progress": (True, False),
    "stream_lifetime": (None, 0.7, 3.0),
    "revoke_ends_streams": (True, False),
    "vocabulary": ("documented", "both", "swapped"),
    "empties": ("documented", "null", "absent", "blank"),
    "reports_retry_count": (True, False),
    "early_result": ("nulls", "conflict"),
    "result_lag": (0.0, 1.5),
    "result_retention": (None, 60.0),
    "result_gone_status": (404, 410),
    "link_lifetime": (3600.0, 0.5),
    "list_order": ("newest", "oldest", "shuffled"),
    "total_count_error": (0, 5, -5),
    "refused_filters": (frozenset[str](), frozenset({"waiting", "queued"})),
    "filter_ignored": (True, False),
    "row_shift": (0, 3, -3),
    "validates": (True, False),
    "accept_delay": (0.0, 0.5),
    "replica_lag": (0.0, 2.5),
    "upload_headers": ("documented", "none"),
    "webhook_attempts": (4, 5),
    "webhook_secret_on_create": (True, False),
    "management_takes_integration_keys": (True, False),
}

# Sides that hide the beginning of a task's life from everybody.
HIDES_THE_BEGINNING: Final = {"replica_lag"}

# A situation is crossed only with the switches that change a byte of what the service says in
# it. These change a stream that is read, and what a late one says of the end.
STREAM: Final = (
    *("on_connect", "event_ids", "retry_hint", "multiline_data", "line_end", "chunk_bytes"),
    *("terminal_timestamp", "final_status", "repeat_terminal", "late_progress", "vocabulary"),
    *("empties", "reports_retry_count", "accept_delay"),
)
LIVE: Final = (
    *STREAM,
    *("provisioning", "heartbeat", "unknown_events", "error_event", "progress_steps"),
    *("stream_lifetime", "replica_lag"),
)
LATE: Final = (*STREAM, "finished_stream")
POLLED: Final = (
    *("provisioning", "vocabulary", "empties", "reports_retry_count", "accept_delay"),
    *("replica_lag", "link_lifetime"),
)
RESULTS: Final = ("early_result", "result_lag", "result_retention", "result_gone_status")
ONCE: Final = ("revoke_ends_streams",)

# The switches that change nothing for who follows one task, and the tests that set them.
ELSEWHERE: Final = {
    "list_order": "whole/test_lists.py",
    "total_count_error": "whole/test_lists.py",
    "refused_filters": "whole/test_lists.py",
    "filter_ignored": "whole/test_lists.py",
    "row_shift": "whole/test_lists.py",
    "validates": "whole/test_submission.py",
    "upload_headers": "whole/test_surface.py",
    "webhook_attempts": "simulator/test_webhooks.py",
    "webhook_secret_on_create": "whole/test_surface.py",
    "management_takes_integration_keys": "whole/test_surface.py",
}

TOGETHER: Final = [
    pytest.param({"on_connect": "history", "event_ids": True}, id="history-with-ids"),
    pytest.param({"on_connect": "nothing", "event_ids": True}, id="nothing-with-ids"),
    pytest.param({"on_connect": "history", "stream_lifetime": 0.7}, id="history-on-short-streams"),
    pytest.param({"on_connect": "nothing", "stream_lifetime": 0.7}, id="nothing-on-short-streams"),
    pytest.param({"finished_stream": "close", "vocabulary": "swapped"}, id="close-swapped"),
    pytest.param(
        {"final_status": True, "repeat_terminal": True, "late_progress": True}, id="much-ado"
    ),
]


def cases(switches: tuple[str, ...], *more: Any) -> list[Any]:
    """Return the documented behaviour, each other side of *switches* alone, and *more*."""
    documented = Behaviour()
    sides = [
        pytest.param({name: side}, id=f"{name}={side}")
        for name in switches
        for side in SIDES[name]
        if side != getattr(documented, name)
    ]
    return [pytest.param({}, id="documented"), *sides, *more]


def test_every_switch_is_in_the_table() -> None:
    """No switch of the simulator is left out, and each has more than one side."""
    assert set(SIDES) == {field.name for field in attrs.fields(Behaviour)}
    assert all(len(sides) > 1 for sides in SIDES.values())
    for field in attrs.fields(Behaviour):
        assert field.default in SIDES[field.name], field.name


def test_every_switch_is_tested_where_it_changes_something() -> None:
    """Each switch is crossed with a situation here, or set by a test elsewhere."""
    here = {*LIVE, *LATE, *POLLED, *RESULTS, *ONCE}

    assert set(SIDES) - here == set(ELSEWHERE)
    for name, path in ELSEWHERE.items():
        assert name in (TESTS / path).read_text(encoding="utf-8"), name


TESTS: Final = Path(__file__).parents[1]


async def watched_with(
    behaviour: dict[str, Any], plan: TaskPlan, *, late: bool = False
) -> tuple[Watched, Simulator]:
    sim = Simulator(seed=7, behaviour=Behaviour(**behaviour))
    sim.plan(plan)
    async with virtual_client(sim) as client:
        task = await client.submit("text-to-image", {"prompt": "a fox"})
        if late:
            await anyio.sleep(3600)
        watched = await ended_watch(client, task)
    assert sim.open_streams == 0
    assert library_tasks() == []
    return watched, sim


def course(behaviour: dict[str, Any]) -> list[tuple[int, str]]:
    states = list(COURSE)
    if behaviour.get("provisioning"):
        states.insert(2, "provisioning")
    return [(1, state) for state in states]


def assert_life(watched: Watched, behaviour: dict[str, Any]) -> None:
    """The life of `SLOW`: all statuses, where they could be seen, in order."""
    assert_in_order(watched)
    expected = course(behaviour)
    if HIDES_THE_BEGINNING & behaviour.keys():
        assert watched.statuses == expected[-len(watched.statuses) :]
    else:
        assert watched.statuses == expected


@pytest.mark.parametrize("behaviour", cases(LIVE, *TOGETHER))
async def test_a_whole_life_is_delivered(behaviour: dict[str, Any]) -> None:
    """Watched from the beginning: each status once and in order, the end once and last."""
    watched, _ = await watched_with(behaviour, attrs.evolve(SLOW, output=OUTPUT))

    assert isinstance(watched.end, CompletedEvent)
    assert (watched.end.output, watched.end.output_error) == (OUTPUT, None)
    assert_life(watched, behaviour)


@pytest.mark.parametrize("behaviour", cases(LIVE, *TOGETHER))
async def test_a_life_is_delivered_across_cuts(behaviour: dict[str, Any]) -> None:
    """Cut again and again, the watch tells each status once and the end with its output."""
    cuts = (faults.drop_after(events=1), faults.drop_after(events=2), faults.close_after(events=1))
    plan = attrs.evolve(SLOW, steps=40, output=OUTPUT, faults=cuts)
    watched, sim = await watched_with(behaviour, plan)

    assert isinstance(watched.end, CompletedEvent)
    assert watched.end.output == OUTPUT
    assert_in_order(watched)
    assert watched.statuses[-1] == (1, "running")
    # Streams that end by themselves that soon may bring nothing to be cut behind.
    assert sim.faults.fired["drop_after"] >= ("stream_lifetime" not in behaviour)


@pytest.mark.parametrize("behaviour", cases(LATE, *TOGETHER))
async def test_a_task_that_ended_before_is_delivered(behaviour: dict[str, Any]) -> None:
    """Watched an hour after its end, the end is reported; gone output is said to be gone."""
    watched, _ = await watched_with(behaviour, attrs.evolve(SLOW, output=OUTPUT), late=True)

    assert isinstance(watched.end, CompletedEvent)
    assert watched.end.output == OUTPUT or watched.end.output_error
    if not behaviour.get("result_retention"):
        assert watched.end.output == OUTPUT
    assert_in_order(watched)


@pytest.mark.parametrize(
    ("behaviour", "late"),
    [
        pytest.param(case.values[0], late, id=f"{'late' if late else 'live'}-{case.id}")
        for late, switches in ((False, LIVE), (True, LATE))
        for case in cases(switches, *TOGETHER)
    ],
)
async def test_a_failure_is_delivered(behaviour: dict[str, Any], late: bool) -> None:
    """A failed task ends with the service's words, however unset fields are written."""
    plan = attrs.evolve(SLOW, outcome="failed", stop_at_step=2, error="node 3: out of memory")
    watched, _ = await watched_with(behaviour, plan, late=late)

    assert isinstance(watched.end, FailedEvent)
    assert watched.end.error == "node 3: out of memory"
    assert_in_order(watched)


@pytest.mark.parametrize("behaviour", cases(LIVE, *TOGETHER))
async def test_a_second_attempt_is_delivered(behaviour: dict[str, Any]) -> None:
    """A task dispatched again: attempts rise, and each one's statuses come in order."""
    plan = attrs.evolve(SLOW, output=OUTPUT, attempts=(Attempt(steps=2),))
    watched, _ = await watched_with(behaviour, plan)

    assert isinstance(watched.end, CompletedEvent)
    assert watched.end.output == OUTPUT
    assert watched.events[-1].is_terminal
    if behaviour.get("reports_retry_count", True):
        assert_in_order(watched)
        assert watched.end.attempt == 2
        assert (2, "running") in watched.statuses
    else:
        back = [e for e in watched.events if isinstance(e, StatusEvent) and e.unconfirmed]
        assert back, "a step back that cannot be explained is delivered and marked"


GETS: Final[dict[str, tuple[faults.Action, ...]]] = {
    "fine": (),
    "slow": (faults.hold(after=12),),
    "failing": (faults.refuse(503),),
    "unreachable": (faults.hang_up(),),
    "a-page": (faults.refuse(502, body="<html>Bad gateway</html>"),),
}


async def lose_and_retry(live: LiveTask, rest: float) -> None:
    """Lose the stream in the first attempt, and begin the second while nobody is connected."""
    for status in ("waiting", "queued", "running"):
        await anyio.sleep(1)
        live.status(status)
    live.progress(0.5, step=2, total=4)
    await anyio.sleep(1)
    live.drop_streams()
    live.retry()
    await anyio.sleep(rest)
    live.status("queued")
    live.status("running")
    live.progress(0.25, step=1, total=4)
    await anyio.sleep(30)
    live.progress(0.5, step=2, total=4)
    await anyio.sleep(30)
    live.complete(OUTPUT)


@pytest.mark.parametrize("get", GETS)
@pytest.mark.parametrize("on_connect", ["current", "history", "nothing"])
@pytest.mark.parametrize("event_ids", [False, True], ids=["no-ids", "ids"])
@pytest.mark.parametrize("rest", [0.0, 4.0], ids=["at-once", "later"])
async def test_an_attempt_lost_during_a_disconnect(
    get: str, on_connect: Literal["current", "history", "nothing"], event_ids: bool, rest: float
) -> None:
    """A retry that happened while disconnected shows, also with the status GET slow or failing."""
    sim = Simulator(seed=7, behaviour=Behaviour(on_connect=on_connect, event_ids=event_ids))
    live = sim.create_task(manual=True)
    found: list[Watched] = []
    async with virtual_client(sim) as client, anyio.create_task_group() as group:

        async def read() -> None:
            found.append(await ended_watch(client, live.id))

        group.start_soon(read)
        await anyio.sleep(0.5)
        if GETS[get]:
            # So few that one is answered before the end, whatever the pauses between them.
            sim.faults.add("task", *GETS[get], task=live.id, times=4)
        await lose_and_retry(live, rest)

    [watched] = found
    confirmed = [
        (event.attempt, event.status)
        for event in watched.events
        if isinstance(event, StatusEvent) and not event.unconfirmed
    ]
    assert isinstance(watched.end, CompletedEvent)
    assert watched.end.output == OUTPUT
    assert watched.end.attempt == 2
    assert len(set(confirmed)) == len(confirmed), confirmed
    attempts = [event.attempt for event in watched.events]
    assert attempts == sorted(attempts)


async def test_a_revoked_key_ends_the_watch_with_its_error() -> None:
    """Streams that end with their key lead to the authentication error, at once."""
    sim = Simulator(seed=7, behaviour=Behaviour(revoke_ends_streams=True))
    live = sim.create_task(manual=True)
    key = sim.issue_key("sk")
    found: list[Watched] = []
    async with virtual_client(sim, key) as client, anyio.create_task_group() as group:

        async def read() -> None:
            found.append(await ended_watch(client, live.id))

        group.start_soon(read)
        await anyio.sleep(1)
        sim.revoke(key)

    assert type(found[0].error).__name__ == "AuthenticationError"


@pytest.mark.parametrize("behaviour", cases(POLLED, TOGETHER[4]))
async def test_waiting_is_right_on_every_side(behaviour: dict[str, Any]) -> None:
    """`result` waits by polling and gives the output, whatever the service's habits."""
    sim = Simulator(seed=7, behaviour=Behaviour(**behaviour))
    sim.plan(attrs.evolve(SLOW, output=OUTPUT))
    async with virtual_client(sim) as client:
        task = await client.submit("text-to-image", {"prompt": "a fox"})
        with anyio.fail_after(600):
            result = await client.result(task)
        bytes_made = await result[0].read()

    assert result.output == OUTPUT
    assert bytes_made.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "behaviour", cases(RESULTS, pytest.param({"early_result": "conflict", "result_lag": 1.5}))
)
@pytest.mark.parametrize("late", [False, True], ids=["live", "late"])
async def test_an_output_that_is_fetched_is_there_or_the_reason_is(
    behaviour: dict[str, Any], late: bool
) -> None:
    """Without a stream the output comes from `/result`; once it is gone, the event says so."""
    sim = Simulator(seed=7, behaviour=Behaviour(**behaviour))
    sim.plan(attrs.evolve(SLOW, output=OUTPUT))
    sim.faults.add("events", faults.refuse(403), times=None)
    async with virtual_client(sim, watch_policy=WatchPolicy(poll_interval=0.2)) as client:
        task = await client.submit("text-to-image", {"prompt": "a fox"})
        if late:
            await anyio.sleep(3600)
        watched = await ended_watch(client, task)

    assert sim.requests_to("result")
    assert isinstance(watched.end, CompletedEvent)
    if late and "result_retention" in behaviour:
        assert watched.end.output is None
        assert watched.end.output_error
    elif len(behaviour) > 1:
        # A 409 is a refusal, which is not read again.
        assert watched.end.output == OUTPUT or watched.end.output_error
    else:
        assert watched.end.output == OUTPUT
