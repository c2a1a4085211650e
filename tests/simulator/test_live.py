"""Tasks driven by hand, cancelling, and the timeline behind both."""

import pytest

from cyberun_async.testing import Simulator, TaskPlan

from .conftest import Reader
from .test_stream import COURSE, PLAN, later


def test_a_task_can_be_driven_by_hand(sim: Simulator, reader: Reader) -> None:
    """A manual task moves only when reported to, and its streams show each move."""
    live = sim.create_task(manual=True)

    def drive() -> None:
        live.status("running")
        live.progress(0.3, step=3, total=10, node="3")
        live.emit("log", {"line": "hello"})
        live.error()
        live.retry()
        live.status("running")
        live.complete({"storage_key": "x"})

    later(drive)
    events = reader.read(live.id)

    assert reader.names == [
        "pending", "running", "progress", "log", "error", "waiting", "running", "completed",
    ]  # fmt: skip
    assert events[-1][1]["output"] == {"storage_key": "x"}
    assert (live.state, live.attempt) == ("completed", 1)


def test_a_planned_task_can_be_taken_over(sim: Simulator) -> None:
    """Steering replaces what was planned from that moment on."""
    live = sim.create_task(PLAN)
    live.fail("pulled the plug")
    sim.advance(60)

    assert live.state == "failed"


def test_what_has_ended_cannot_be_steered(sim: Simulator) -> None:
    """The end is final for the script, too."""
    live = sim.create_task(manual=True)
    live.complete()

    with pytest.raises(ValueError, match="completed already"):
        live.status("running")


def test_any_state_can_be_entered(sim: Simulator, reader: Reader) -> None:
    """States that no page names can be had."""
    live = sim.create_task(manual=True)
    live.status("defrosting")

    assert reader.get(f"/r/tasks/{live.id}")["task_status"] == "defrosting"


def test_streams_can_be_cut_from_the_script(sim: Simulator, reader: Reader) -> None:
    """Cutting and closing end a task's open streams, the one broken, the other clean."""
    live = sim.create_task(manual=True)
    outcomes: list[bool] = []
    for action in (live.drop_streams, live.close_streams, sim.drop_streams):
        later(action)
        reader.read(live.id)
        outcomes.append(reader.error is not None)

    assert outcomes == [True, False, True]


def test_cancelling_stops_a_waiting_task(sim: Simulator, reader: Reader) -> None:
    """A cancelled task ends at once, tells its streams, and stays cancelled."""
    live = sim.create_task(TaskPlan(forever_waiting=True))
    cancelling = later(lambda: reader.http.post(f"/r/tasks/{live.id}/cancel"))
    reader.read(live.id)
    cancelling.join()
    sim.advance(60)

    assert (reader.names[-1], live.state) == ("cancelled", "cancelled")


def test_cancelling_a_finished_task_does_nothing(sim: Simulator, reader: Reader) -> None:
    """Cancelling after the end succeeds and changes nothing."""
    live = sim.create_task(manual=True)
    live.complete()
    answer = reader.http.post(f"/r/tasks/{live.id}/cancel")

    assert (answer.status_code, live.state) == (200, "completed")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [pytest.param(1, "completed", id="loses the race"), pytest.param(1000, "cancelled", id="wins")],
)
def test_a_running_task_needs_time_to_stop(sim: Simulator, steps: int, expected: str) -> None:
    """A running task goes on for a while after cancel, and may complete in it."""
    plan = TaskPlan(
        pending=0, waiting=0, queued=0, step_seconds=50, cancel_seconds=100, steps=steps
    )
    live = sim.create_task(plan)
    sim.advance(0.1)
    live.cancel()
    just_after = live.state
    sim.advance(2.0)

    assert (just_after, live.state) == ("running", expected)


def test_advancing_wakes_streams(sim: Simulator, reader: Reader) -> None:
    """Moving the clock makes open streams tell what has become due."""
    live = sim.create_task(TaskPlan(pending=10**6, steps=2))
    later(lambda: sim.advance(10**5))
    reader.read(live.id)

    assert reader.names == COURSE


def test_ten_thousand_tasks_are_cheap(sim: Simulator, reader: Reader) -> None:
    """Many tasks cost no more than their timelines, and lists of them stay quick."""
    for _ in range(10_000):
        sim.create_task(TaskPlan(pending=10**6))
    before = sim.now
    for page in range(1, 11):
        reader.get("/r/tasks", status="pending", per_page=100, current_page=page)

    assert sim.now - before < 5
