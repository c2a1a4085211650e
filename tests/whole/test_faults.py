"""
Every fault the simulator knows, under a watch, a wait and a result.

A table of faults; whatever strikes, the statuses come in order and once, the end once and
last with its output, or exactly the typed error the table names. All in virtual time.
"""

import inspect
from collections.abc import Mapping
from typing import Any, Final

import anyio
import attrs
import pytest

from cyberun_async import (
    AuthenticationError,
    CompletedEvent,
    CyberunError,
    PermissionDeniedError,
    TaskNotFoundError,
    WatchPolicy,
)
from cyberun_async.testing import Behaviour, Simulator, TaskPlan, faults

from .kit import (
    OUTPUT,
    SLOW,
    VIRTUAL,
    assert_in_order,
    ended_watch,
    library_tasks,
    virtual_backend,
    virtual_client,
)


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


PLAN: Final = attrs.evolve(SLOW, output=OUTPUT)
HOWS: Final[tuple[faults.Spoiling, ...]] = (
    *("json", "types", "scalar", "utf8", "empty", "html", "truncated"),
)
PAGE: Final = "<html>Bad gateway</html>"


def stream_faults() -> dict[str, tuple[faults.Action, ...]]:
    """Every way in which a stream goes wrong; the life has nine events."""
    table: dict[str, tuple[faults.Action, ...]] = {
        "repeat": (faults.repeat(copies=3),),
        "repeat-and-drop": (faults.repeat(), faults.drop_after(events=7)),
        "stall-then-drop": (
            faults.stall_after(events=1, seconds=2),
            faults.drop_after(events=4),
        ),
    }
    for n in (0, 1, 4, 8):
        table |= {
            f"drop-{n}": (faults.drop_after(events=n),),
            f"reset-{n}": (faults.drop_after(events=n, reset=True),),
            f"close-{n}": (faults.close_after(events=n),),
            f"stall-{n}": (faults.stall_after(events=n),),
            f"stall-a-while-{n}": (faults.stall_after(events=n, seconds=90),),
            f"heartbeats-{n}": (faults.heartbeats_after(events=n, every=5.0),),
            f"heartbeats-a-while-{n}": (faults.heartbeats_after(events=n, seconds=90),),
            f"drip-{n}": (faults.drip_after(events=n, every=0.5),),
            f"replay-{n}": (faults.replay_after(events=n),),
            f"foreign-{n}": (faults.foreign_after(events=n),),
            f"foreign-status-{n}": (faults.foreign_after(events=n, name="status"),),
            f"comment-{n}": (faults.raw_after(b": hello\n\n", events=n),),
            f"junk-{n}": (faults.raw_after(b"\xff\x00junk\n\n", events=n),),
            f"half-an-event-{n}": (faults.raw_after(b"event: completed\ndata: {", events=n),),
            f"silly-retry-{n}": (faults.raw_after(b"retry: 99999999999\n\n", events=n),),
        }
        table |= {f"{how}-{n}": (faults.corrupt_after(events=n, how=how),) for how in HOWS}
    table |= {f"bytes-{n}": (faults.drop_after(bytes=n),) for n in (0, 5, 60, 400, 1000)}
    table |= {f"ends-in-byte-{n}": (faults.close_after(bytes=n),) for n in (0, 5, 60, 400, 1000)}
    return table


def reply_faults() -> dict[str, tuple[faults.Action, ...]]:
    """Every way in which an answer goes wrong for a while."""
    return {
        "503": (faults.refuse(503),),
        "503-retry-after": (faults.refuse(503, retry_after=4),),
        "502-page": (faults.refuse(502, body=PAGE),),
        "500-empty": (faults.refuse(500, body=""),),
        "429": (faults.refuse(429),),
        "429-retry-after": (faults.refuse(429, retry_after=7),),
        "429-silly": (faults.refuse(429, retry_after="soon"),),
        "408": (faults.refuse(408),),
        "held": (faults.hold(after=3),),
        "held-long": (faults.hold(before=100),),
        "abandoned": (faults.abandon(),),
        "abandoned-by-reset": (faults.abandon(reset=True),),
        "hung-up": (faults.hang_up(),),
        "hung-up-by-reset": (faults.hang_up(reset=True),),
        "cut": (faults.drop_after(bytes=10),),
    }


GARBLED: Final[dict[str, tuple[faults.Action, ...]]] = {
    f"garbled-{how}": (faults.garble(how),) for how in HOWS
}
REFUSALS: Final[Mapping[str, tuple[faults.Action, ...]]] = {
    f"refused-{status}": (faults.refuse(status),)
    for status in (200, 204, 400, 401, 403, 404, 405, 406, 410, 418, 501)
} | {
    "refused-200-page": (faults.refuse(200, body=PAGE),),
    "refused-200-json": (
        faults.refuse(200, body='{"status": "ok"}', content_type="application/json"),
    ),
}

STREAM: Final = stream_faults()
REPLY: Final = reply_faults()


def cases(table: Mapping[str, tuple[faults.Action, ...]]) -> list[Any]:
    return [pytest.param(actions, id=name) for name, actions in table.items()]


def kinds(*tables: Mapping[str, tuple[faults.Action, ...]]) -> set[str]:
    return {action.kind for table in tables for actions in table.values() for action in actions}


def test_every_fault_is_in_the_tables() -> None:
    """No constructor of a fault is left out of what strikes here."""
    made = {
        name
        for name, function in inspect.getmembers(faults, inspect.isfunction)
        if function.__module__ == faults.__name__ and not name.startswith("_")
    }

    assert kinds(STREAM, REPLY, GARBLED, REFUSALS) == made - {"on", "message_body"}


async def assert_ends_well(sim: Simulator, plan: TaskPlan = PLAN, **settings: Any) -> None:
    """A watch of a task tells its statuses in order, and its end with the output."""
    live = sim.create_task(plan)
    async with virtual_client(sim, **settings) as client:
        watched = await ended_watch(client, live.id)
    assert isinstance(watched.end, CompletedEvent)
    assert (watched.end.output, watched.end.output_error) == (OUTPUT, None)
    assert_in_order(watched)
    progress = [event.progress or 0.0 for event in watched.progress]
    assert set(progress) <= {0.25, 0.5, 0.75, 1.0}
    assert sim.open_streams == 0
    assert library_tasks() == []


# What a fault that leaves the stream open does is the same however often it may strike, and
# whatever a next stream says first: there is none. Behind the eighth event, or a thousand
# bytes, one that ends it strikes once, as the next stream is shorter.
ENDING: Final = {
    name: actions
    for name, actions in STREAM.items()
    if name.startswith(("drop-", "reset-", "close-", "bytes-", "ends-in-byte-"))
    or name in {"repeat-and-drop", "stall-then-drop"}
    or name in {"heartbeats-0", "heartbeats-a-while-0", "drip-0"}
}
RECURRING: Final = {
    name: actions for name, actions in ENDING.items() if not name.endswith(("-8", "-1000"))
}
# These are not followed by another stream before the task is over.
LASTING: Final = {"held", "held-long", "429-retry-after"}
PASSING: Final = {name: actions for name, actions in REPLY.items() if name not in LASTING}


def crossed(
    once: Mapping[str, tuple[faults.Action, ...]],
    again: Mapping[str, tuple[faults.Action, ...]],
    often: int,
) -> list[Any]:
    """Return each fault of *once* for one time, and those of *again* for more."""
    return [
        pytest.param(actions, times, id=f"{word}-{name}")
        for word, times, table in (
            ("once", 1, once),
            ("often", often, again),
            ("always", None, again),
        )
        for name, actions in table.items()
    ]


@pytest.mark.parametrize(("actions", "times"), crossed(STREAM, RECURRING, 4))
async def test_a_watch_survives_a_bad_stream(
    actions: tuple[faults.Action, ...], times: int | None
) -> None:
    """However its stream goes wrong, and how often, a watch ends right."""
    sim = Simulator(seed=7)
    rule = sim.faults.add("events", *actions, times=times)
    await assert_ends_well(sim)

    # How often depends on the pauses, which are drawn: the task may end before the second.
    assert rule.fired >= 1


@pytest.mark.parametrize("behaviour", ["current", "history", "nothing"])
@pytest.mark.parametrize("actions", cases(ENDING))
async def test_a_watch_survives_a_bad_stream_of_any_habit(
    actions: tuple[faults.Action, ...], behaviour: Any
) -> None:
    """The same where a new stream tells all, the present or nothing, and events carry ids."""
    sim = Simulator(seed=7, behaviour=Behaviour(on_connect=behaviour, event_ids=True))
    sim.faults.add("events", *actions, times=2)
    await assert_ends_well(sim)


@pytest.mark.parametrize(("actions", "times"), crossed({**REPLY, **REFUSALS}, PASSING, 5))
async def test_a_watch_survives_a_refused_stream(
    actions: tuple[faults.Action, ...], times: int | None
) -> None:
    """Whatever answers the request for the stream, a watch goes on by asking."""
    sim = Simulator(seed=7)
    rule = sim.faults.add("events", *actions, times=times)
    await assert_ends_well(sim)

    assert rule.fired >= 1


@pytest.mark.parametrize("actions", cases(REPLY | GARBLED))
@pytest.mark.parametrize(
    ("endpoint", "streaming"),
    # A stream that lives brings the output itself.
    [("task", True), ("task", False), ("result", False)],
    ids=["task-streaming", "task-polling", "result-polling"],
)
async def test_a_watch_survives_bad_answers(
    actions: tuple[faults.Action, ...], endpoint: Any, streaming: bool
) -> None:
    """Asks and the fetching of the output may fail for a while, with a stream and without."""
    sim = Simulator(seed=7)
    rule = sim.faults.add(endpoint, *actions, times=2)
    if not streaming:
        sim.faults.add("events", faults.refuse(403), times=None)
    live = sim.create_task(PLAN)
    async with virtual_client(sim) as client:
        watched = await ended_watch(client, live.id)

    assert rule.fired >= 1
    assert isinstance(watched.end, CompletedEvent)
    assert_in_order(watched)
    if endpoint == "result" and kinds({"": actions}) == {"garble"}:
        assert watched.end.output == OUTPUT or watched.end.output_error
    else:
        assert watched.end.output == OUTPUT


@pytest.mark.parametrize("actions", cases(REPLY | GARBLED))
async def test_waiting_survives_bad_answers(actions: tuple[faults.Action, ...]) -> None:
    """`wait` and `result` go on when asks fail for a while."""
    sim = Simulator(seed=7)
    rule = sim.faults.add("task", *actions, times=3)
    live = sim.create_task(PLAN)
    async with virtual_client(sim, watch_policy=WatchPolicy(connect_within=600)) as client:
        with anyio.fail_after(7200):
            snapshot = await client.wait(live.id)
            result = await client.result(live.id)

    assert (snapshot.status, result.output) == ("completed", OUTPUT)
    assert rule.fired == 3


@pytest.mark.parametrize("actions", cases(REPLY))
async def test_a_result_survives_bad_answers(actions: tuple[faults.Action, ...]) -> None:
    """`/result` is asked again where that may help."""
    sim = Simulator(seed=7)
    rule = sim.faults.add("result", *actions, times=2)
    live = sim.create_task(PLAN)
    async with virtual_client(sim) as client:
        with anyio.fail_after(7200):
            result = await client.result(live.id)

    assert result.output == OUTPUT
    assert rule.fired >= 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, TaskNotFoundError),
        (410, TaskNotFoundError),
    ],
)
@pytest.mark.parametrize("events_too", [True, False], ids=["events-too", "task-only"])
async def test_a_final_refusal_is_a_typed_error(
    status: int, error: type[CyberunError], events_too: bool
) -> None:
    """What the ask is refused for good ends the watch and the wait, with a resume token."""
    sim = Simulator(seed=7)
    live = sim.create_task(manual=True)
    sim.faults.add("task", faults.refuse(status), times=None)
    if events_too:
        sim.faults.add("events", faults.refuse(status), times=None)
    async with virtual_client(sim) as client:
        watched = await ended_watch(client, live.id)
        with pytest.raises(error) as caught:
            await client.wait(live.id)

    for found in (watched.error, caught.value):
        assert isinstance(found, error)
        assert found.resume_token is not None
        assert found.resume_token.task_id == live.id


async def test_a_result_that_is_gone_still_ends_the_watch() -> None:
    """A completed task whose output cannot be read ends with `output=None` and the reason."""
    sim = Simulator(seed=7)
    live = sim.create_task(PLAN)
    sim.faults.add("events", faults.refuse(403), times=None)
    sim.faults.add("result", faults.refuse(410, "removed after 7 days"), times=None)
    async with virtual_client(sim) as client:
        watched = await ended_watch(client, live.id)

    assert isinstance(watched.end, CompletedEvent)
    assert watched.end.output is None
    assert "removed after 7 days" in (watched.end.output_error or "")
