"""What a simulator is given is checked where it is given, not where it would fail."""

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, get_args

import attrs
import pytest

from cyberun_async.testing import Attempt, Behaviour, Simulator, Story, TaskPlan, faults, story


class Odd:
    def __repr__(self) -> str:
        return "an odd object"


# What fits no field at all, but for `object` and its like.
ODD: Mapping[str, Any] = {
    "object": Odd(),
    "nan": math.nan,
    "infinity": math.inf,
    "negative": -math.pi,
    "number-as-text": "7",
    "class": int,
    "bytes-list": [b""],
}
# Fields that take any text.
FREE = {"TaskPlan.error", "TaskPlan.unknown_end", "Foreign.name", "Fault.task"}


def made(cls: Callable[..., Any], **values: Any) -> Any:
    return cls(**values)


ACTIONS: Mapping[str, Any] = {
    type(action).__name__: action
    for action in (
        faults.drop_after(events=1),
        faults.close_after(bytes=1),
        faults.stall_after(events=1),
        faults.drip_after(events=1),
        faults.repeat(),
        faults.replay_after(events=1),
        faults.corrupt_after(events=1),
        faults.foreign_after(events=1),
        faults.raw_after(b"x", events=1),
        faults.refuse(503),
        faults.hold(),
        faults.hang_up(),
        faults.garble(),
    )
}
VALUES = [TaskPlan(), Behaviour(), Attempt(), faults.on("events", faults.repeat())]
FIELDS = [
    pytest.param(value, field.name, id=f"{type(value).__name__}.{field.name}")
    for value in [*VALUES, *ACTIONS.values()]
    for field in attrs.fields(type(value))
]


def test_every_action_is_looked_at() -> None:
    """The list of actions has all that there are."""
    assert {cls.__name__ for cls in get_args(faults.Action)} == set(ACTIONS)


@pytest.mark.parametrize("value, name", FIELDS)
@pytest.mark.parametrize("odd", ODD)
def test_a_field_that_makes_no_sense_is_named(value: Any, name: str, odd: str) -> None:
    """Whatever a field cannot be is a ValueError that names the field, and says what it may be."""
    field = f"{type(value).__name__}.{name}"
    if odd == "number-as-text" and field in FREE:
        return
    if odd == "class" and field == "Fault.when":
        return  # a class can be called
    with pytest.raises(ValueError, match=f"^{field} must be "):
        attrs.evolve(value, **{name: ODD[odd]})


@pytest.mark.parametrize(
    "cls, values, said",
    [
        (TaskPlan, {"steps": -3}, "TaskPlan.steps must be 0 or more, not -3"),
        (TaskPlan, {"steps": True}, "TaskPlan.steps must be a whole number or None, not True"),
        (TaskPlan, {"outcome": "nope"}, "'completed' or 'failed' or 'cancelled', not 'nope'"),
        (TaskPlan, {"queued": -1}, "TaskPlan.queued must be 0 or more, not -1"),
        (TaskPlan, {"attempts": [3]}, "TaskPlan.attempts must be a tuple, each of it of Attempt"),
        (TaskPlan, {"unknown_end": ""}, "must name a state"),
        (TaskPlan, {"faults": ("drop",)}, "TaskPlan.faults must be a tuple"),
        (Attempt, {"lost_in": "waiting"}, "Attempt.lost_in must be 'queued' or 'running'"),
        (Behaviour, {"heartbeat": 0}, "Behaviour.heartbeat must be more than 0, not 0"),
        (Behaviour, {"chunk_bytes": 0}, "Behaviour.chunk_bytes must be more than 0"),
        (Behaviour, {"list_order": "random"}, "'newest' or 'oldest' or 'shuffled'"),
        (Behaviour, {"result_gone_status": 200}, "from 400 to 599, not 200"),
        (Behaviour, {"provisioning": 1}, "Behaviour.provisioning must be True or False, not 1"),
        (faults.drop_after, {"events": -1}, "Drop.events must be 0 or more"),
        (faults.repeat, {"copies": 0}, "Repeat.copies must be more than 0"),
        (faults.refuse, {"status": 1000}, "from 100 to 599, not 1000"),
        (faults.refuse, {"status": 503, "retry_after": b"1"}, "refuse: retry_after must be"),
        (faults.corrupt_after, {"events": 1, "how": "xml"}, "Corrupt.how must be 'json' or"),
        (Simulator, {"speed": 0}, "speed must be more than 0, not 0"),
        (Simulator, {"speed": -1.0}, "speed must be more than 0"),
        (Simulator, {"speed": math.inf}, "speed must be a finite number"),
        (Simulator, {"port": 70_000}, "port must be 65535 or less"),
        (Simulator, {"seed": "x"}, "seed must be a whole number or None"),
        (Simulator, {"behaviour": {}}, "behaviour must be of Behaviour or None"),
        (Simulator, {"default_plan": {}}, "default_plan must be of TaskPlan or None"),
        (Simulator, {"starts_at": datetime(2026, 1, 1)}, "starts_at must have a time zone"),  # noqa: DTZ001
        (Simulator, {"record_limit": -1}, "record_limit must be 0 or more"),
        (Simulator, {"max_file_size": 1.5}, "max_file_size must be a whole number"),
        (Simulator, {"tls": True}, "tls must be of SSLContext or None"),
        (Simulator, {"webhook_sender": 3}, "webhook_sender must be something to call or None"),
    ],
)  # fmt: skip
def test_the_message_says_what_it_may_be(
    cls: Callable[..., Any], values: dict[str, Any], said: str
) -> None:
    """One line names the value that was given, and what would do."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        made(cls, **values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


ANY: Any = None  # what a caller without a type checker gives
WRONG: Any = "xk"

MISUSES: Mapping[str, Callable[[Simulator], Any]] = {
    "a plan must be": lambda sim: sim.plan(ANY),
    "a story must be": lambda sim: sim.tell(ANY),
    "planner must be": lambda sim: sim.plan_by(WRONG),
    "behaviour must be": lambda sim: setattr(sim, "behaviour", {}),
    "default_plan must be": lambda sim: setattr(sim, "default_plan", None),
    "seconds must be 0 or more": lambda sim: sim.advance(-1),
    "kind must be 'sk'": lambda sim: sim.issue_key(WRONG),
    "seconds must be more than 0": lambda sim: sim.accepts_per_window(0),
    "parameters must be": lambda sim: sim.create_task(parameters=WRONG),
    "tool_type must be": lambda sim: sim.add_workflow("a", tool_type="blender"),
    "Fault.endpoint must be": lambda sim: sim.faults.add(ANY, faults.repeat()),
    "a fault needs an action": lambda sim: sim.faults.add("events"),
    "Fault.times must be": lambda sim: sim.faults.add("events", faults.repeat(), times=-1),
    "Fault.actions must be": lambda sim: sim.faults.add("events", ANY),
    "steps must be more than 0": lambda _: story().runs(steps=0),
}


@pytest.mark.parametrize("said", MISUSES)
def test_methods_of_a_simulator_check_what_they_are_given(said: str) -> None:
    """So do the methods by which a simulator gets what happens, and stories."""
    with pytest.raises(ValueError, match=f"^{said}"):
        MISUSES[said](Simulator())


def test_lists_do_where_tuples_are_meant() -> None:
    """A list of attempts, names or faults is taken as the tuple that it stands for."""
    plan = TaskPlan(attempts=[Attempt()], file_names=["a.png"], stages=["train"])
    assert plan == TaskPlan(attempts=(Attempt(),), file_names=("a.png",), stages=("train",))


def test_edges_that_make_sense_are_taken() -> None:
    """Zero steps, no time at all, and no outputs are lives that a task may have."""
    plan = TaskPlan(steps=0, pending=0, waiting=0, queued=0, step_seconds=0, outputs=0)
    assert Story(plan).runs(steps=1, seconds=0).plan.step_seconds == 0
    assert Behaviour(total_count_error=-5, row_shift=-1).row_shift == -1
