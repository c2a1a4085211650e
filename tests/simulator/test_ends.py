"""Ends that the documentation does not describe."""

import time

from cyberun_async.testing import Behaviour, Simulator, TaskPlan

from .conftest import Reader
from .test_stream import wait_until


def test_a_task_may_end_in_a_state_that_no_page_names(sim: Simulator, reader: Reader) -> None:
    """Its record says that it is over, with an error; its stream just ends."""
    live = sim.create_task(TaskPlan(steps=200, unknown_end="evaporated", error="lost"))

    events = reader.read(live.id)
    assert events[-1][1]["status"] == "evaporated"
    assert reader.error is None
    record = reader.get(f"/r/tasks/{live.id}")
    assert record["task_status"] == "evaporated"
    assert record["completed_at"]
    assert record["task_error"] == "lost"
    assert reader.get(f"/r/tasks/{live.id}/result")["download_url"] is None
    listed = [row["id"] for row in reader.get("/r/tasks", status="running")["task_list"]]
    assert live.id not in listed


def test_a_result_may_lag_behind_its_task(sim: Simulator, reader: Reader) -> None:
    """For a while after the end the result is what it was before."""
    sim.behaviour = Behaviour(result_lag=0.3)
    live = sim.create_task(TaskPlan(steps=1))
    wait_until(lambda: live.state == "completed")
    path = f"/r/tasks/{live.id}/result"

    assert reader.get(path)["download_url"] is None
    time.sleep(0.4)
    assert reader.get(path)["download_url"] is not None
