"""Submissions: what is refused, what is recorded, which life a task gets."""

import httpx
import pytest

from cyberun_async.testing import Behaviour, RunRequest, Simulator, TaskPlan

from .conftest import Reader


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"prompt": 3},
        {"prompt": "a", "steps": 0},
        {"prompt": "a", "steps": 151},
        {"prompt": "a", "steps": "20"},
        {"prompt": "a", "steps": True},
        {"prompt": "a", "style": "oil"},
        {"prompt": "a", "upscale": "yes"},
    ],
)
def test_parameters_are_checked(
    sim: Simulator, http: httpx.Client, parameters: dict[str, object]
) -> None:
    """Missing, mistyped and out-of-range values are refused with a message, if so switched."""
    path, body = "/r/workflows/slug/text-to-image/run", {"parameters": parameters}
    refused = http.post(path, json=body)
    sim.behaviour = Behaviour(validates=False)

    assert (refused.status_code, "error_message" in refused.json()) == (400, True)
    assert http.post(path, json=body).status_code == 202


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"parameters": []}'])
def test_a_body_must_be_an_object(http: httpx.Client, body: bytes) -> None:
    """A run's body is a JSON object whose parameters are one, too."""
    answer = http.post("/r/workflows/slug/text-to-image/run", content=body)

    assert answer.status_code == 400


def test_a_disabled_workflow_refuses_runs(sim: Simulator, http: httpx.Client) -> None:
    """A disabled workflow can be read but not run."""
    workflow_id = sim.add_workflow("old-one", status="disabled")

    assert http.get(f"/r/workflows/{workflow_id}").json()["workflow_status"] == "disabled"
    assert http.post(f"/r/workflows/{workflow_id}/run", json={}).status_code == 409


def test_a_submission_is_recorded(sim: Simulator, reader: Reader) -> None:
    """What was asked for, and the task it became, can be asserted on."""
    task_id = reader.run("text-to-image@1", steps=7)
    submission = sim.submissions[0]

    assert (task_id, "text-to-image", 1) == (
        submission.task_id,
        submission.workflow_slug,
        submission.version,
    )
    assert submission.parameters == {"prompt": "a fox", "steps": 7}
    assert sim.workflow_id("text-to-image") == submission.workflow_id


def test_requests_are_recorded(sim: Simulator, reader: Reader) -> None:
    """Requests are kept with endpoint, path, query, headers, body, task and time."""
    task_id = reader.run()
    reader.get(f"/r/tasks/{task_id}")
    reader.get("/r/tasks", per_page=5)
    run, task, tasks = sim.requests

    assert [run.endpoint, task.endpoint, tasks.endpoint] == ["run", "task", "tasks"]
    assert (task_id, "per_page=5") == (task.task_id, tasks.query)
    assert (run.method, b"a fox" in run.body) == ("POST", True)
    assert run.headers["authorization"] == f"Bearer {sim.key}"
    assert run.at <= task.at <= tasks.at
    assert [task] == sim.requests_to("task", task_id)
    assert sim.key not in repr(run)


def test_plans_are_used_up_in_order(sim: Simulator, reader: Reader) -> None:
    """Queued plans come first, one each, then the planner, then the default."""

    def planner(run: RunRequest) -> TaskPlan | None:
        return TaskPlan(outcome="cancelled") if run.parameters["prompt"] == "b" else None

    sim.plan(TaskPlan(outcome="failed"))
    sim.plan_by(planner)
    tasks = [reader.run(prompt=prompt) for prompt in "abc"]
    sim.advance(60)

    assert [sim.task(one).state for one in tasks] == ["failed", "cancelled", "completed"]


def test_steps_come_from_the_run(sim: Simulator, reader: Reader) -> None:
    """A plan without steps takes the run's parameter."""
    sim.default_plan = TaskPlan(pending=5)
    events = reader.read(reader.run(steps=4))

    assert [p["step_total"] for name, p in events if name == "progress"] == [4, 4, 4, 4]


def test_the_accepted_answer_may_be_slow(sim: Simulator, reader: Reader) -> None:
    """With a delay set, the task exists before its 202 arrives."""
    sim.behaviour = Behaviour(accept_delay=0.2)
    task_id = reader.run()

    assert sim.now - sim.submissions[0].at >= 0.2
    assert sim.task(task_id).id == task_id


def test_how_a_task_was_created_is_reported(sim: Simulator, http: httpx.Client) -> None:
    """Tasks of a JWT caller and of a key are distinguished."""
    headers = {"Authorization": f"Bearer {sim.jwt}", "X-Team-ID": sim.team_id}
    path, body = "/r/workflows/slug/text-to-image/run", {"parameters": {"prompt": "a"}}
    made = [http.post(path, json=body, headers=h).json()["task_id"] for h in ({}, headers)]
    sources = [http.get(f"/r/tasks/{one}").json()["creation_source"] for one in made]

    assert sources == ["api_key", "jwt"]


def test_unknown_names_are_refused(sim: Simulator) -> None:
    """The script is reported about workflows and tasks that do not exist."""
    with pytest.raises(ValueError, match="no-such"):
        sim.create_task(workflow="no-such")
    with pytest.raises(KeyError):
        sim.task("no-such")
    with pytest.raises(KeyError):
        sim.workflow_id("no-such")
