"""The task list: paging bounds, the filter, and what may be wrong with both."""

from typing import Any

import attrs
import httpx
import pytest

from cyberun_async.testing import Behaviour, Simulator, TaskPlan

from .conftest import Reader


def ids(reader: Reader, **params: str | int) -> list[str]:
    return [task["id"] for task in reader.get("/r/tasks", **params)["task_list"]]


@pytest.mark.parametrize(
    "params",
    [{"current_page": 0}, {"per_page": 0}, {"per_page": 101}, {"per_page": "x"}, {"status": "odd"}],
)
def test_paging_has_bounds(http: httpx.Client, params: dict[str, str | int]) -> None:
    """Pages begin at 1, hold 1 to 100 rows, and the filter takes states only."""
    assert http.get("/r/tasks", params=params).status_code == 400


def test_pages_cover_the_list_newest_first(sim: Simulator, reader: Reader) -> None:
    """Pages follow each other without gap, twenty rows by default, and then end."""
    made = [sim.create_task().id for _ in range(25)]
    pages = [ids(reader, current_page=number) for number in (1, 2, 3)]

    assert [len(page) for page in pages] == [20, 5, 0]
    assert made[::-1] == pages[0] + pages[1]
    assert reader.get("/r/tasks")["page_meta"]["total_count"] == 25


def test_the_filter_keeps_one_state(sim: Simulator, reader: Reader) -> None:
    """Only tasks in the state asked for are listed and counted."""
    running, done = sim.create_task(manual=True), sim.create_task(manual=True)
    sim.create_task(manual=True)
    running.status("running")
    done.complete()

    assert [running.id] == ids(reader, status="running")
    assert [done.id] == ids(reader, status="completed")
    assert reader.get("/r/tasks", status="pending")["page_meta"]["total_count"] == 1


def test_tasks_move_from_filter_to_filter(sim: Simulator, reader: Reader) -> None:
    """A planned task is listed under the state it is in at that moment."""
    live = sim.create_task(TaskPlan(pending=10**4, waiting=10**4))
    seen = [ids(reader, status="pending")]
    sim.advance(300)
    seen += [ids(reader, status="pending"), ids(reader, status="waiting")]

    assert seen == [[live.id], [], [live.id]]


def test_the_order_is_a_switch(sim: Simulator, reader: Reader) -> None:
    """Oldest first and shuffled orders can be had; the shuffle is the same each time."""
    made = [sim.create_task().id for _ in range(30)]
    sim.behaviour = Behaviour(list_order="oldest")
    oldest = ids(reader, per_page=100)
    sim.behaviour = Behaviour(list_order="shuffled")
    shuffled = ids(reader, per_page=100)

    assert oldest == made
    assert shuffled not in (made, made[::-1])
    assert sorted(shuffled) == sorted(made)
    assert shuffled == ids(reader, per_page=100)


def test_the_total_may_lie(sim: Simulator, reader: Reader) -> None:
    """The total can be reported too high or too low, though never below none."""
    sim.create_task()
    totals: list[int] = []
    for error in (5, -5):
        sim.behaviour = Behaviour(total_count_error=error)
        totals.append(reader.get("/r/tasks")["page_meta"]["total_count"])

    assert totals == [6, 0]


def test_some_filters_may_be_refused(sim: Simulator, http: httpx.Client) -> None:
    """The states named are refused as a filter, the others are not."""
    sim.behaviour = Behaviour(refused_filters=frozenset({"queued"}))
    codes = [http.get("/r/tasks", params={"status": s}).status_code for s in ("queued", "running")]

    assert codes == [400, 200]


def test_the_filter_may_be_ignored(sim: Simulator, reader: Reader) -> None:
    """With the switch on, the filter has no effect."""
    live = sim.create_task(manual=True)
    sim.behaviour = Behaviour(filter_ignored=True)

    assert [live.id] == ids(reader, status="completed")


@pytest.mark.parametrize(
    ("shift", "start"), [pytest.param(2, 8, id="repeats"), pytest.param(-2, 12, id="skips")]
)
def test_rows_may_shift_between_pages(
    sim: Simulator, reader: Reader, shift: int, start: int
) -> None:
    """Rows that appear or vanish in front make the next page repeat or skip some."""
    made = [sim.create_task().id for _ in range(30)][::-1]
    sim.behaviour = Behaviour(row_shift=shift)

    assert made[start : start + 10] == ids(reader, current_page=2, per_page=10)


def test_a_replica_may_lag(sim: Simulator, reader: Reader) -> None:
    """For a while a submitted task is unknown to every endpoint and the list."""
    sim.behaviour = Behaviour(replica_lag=60.0)
    task_id = reader.run()
    paths = [f"/r/tasks/{task_id}{end}" for end in ("", "/events", "/result")]
    codes = [reader.http.get(path).status_code for path in paths]
    listed = ids(reader)
    sim.advance(60)

    assert (codes, listed) == ([404, 404, 404], [])
    assert [reader.http.get(path).status_code for path in paths] == [200, 200, 200]
    assert [task_id] == ids(reader)


@pytest.mark.parametrize(
    ("empties", "error"),
    [
        pytest.param("documented", "", id="documented"),
        pytest.param("null", None, id="null"),
        pytest.param("absent", "absent", id="absent"),
        pytest.param("blank", "", id="blank"),
    ],
)
def test_how_nothing_is_written_is_a_switch(
    sim: Simulator, reader: Reader, empties: Any, error: object
) -> None:
    """An unset field is null, absent or empty, and so is the error of a sound task."""
    sim.behaviour = attrs.evolve(sim.behaviour, empties=empties)
    task = reader.get(f"/r/tasks/{sim.create_task(manual=True).id}")
    unset = {"documented": None, "null": None, "absent": "absent", "blank": ""}[empties]

    assert error == task.get("task_error", "absent")
    assert unset == task.get("started_at", "absent") == task.get("agent_id", "absent")


@pytest.mark.parametrize(
    ("vocabulary", "names"),
    [("documented", {"task_status"}), ("swapped", {"status"}), ("both", {"status", "task_status"})],
)
def test_the_names_in_rest_are_a_switch(
    sim: Simulator, reader: Reader, vocabulary: Any, names: set[str]
) -> None:
    """REST uses its own names, those of events, or both."""
    sim.behaviour = attrs.evolve(sim.behaviour, vocabulary=vocabulary)
    task = reader.get(f"/r/tasks/{sim.create_task().id}")

    assert names == {"status", "task_status"} & set(task)


def test_the_retry_count_may_be_absent(sim: Simulator, reader: Reader) -> None:
    """With the switch off, a task has no `retry_count`."""
    sim.behaviour = Behaviour(reports_retry_count=False)

    assert "retry_count" not in reader.get(f"/r/tasks/{sim.create_task().id}")
