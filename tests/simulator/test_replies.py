"""The simulator's replies against samples written by hand from the documentation."""

from typing import Any

import httpx
import pytest

from cyberun_async.testing import Simulator, TaskPlan

from . import samples
from .conftest import Reader
from .samples import shape


def test_an_accepted_run_is_answered_as_documented(http: httpx.Client) -> None:
    """Both ways of running a workflow answer 202 with a task id."""
    listed = http.get("/r/workflows").json()["workflow_list"][0]
    by_id = http.post(f"/r/workflows/{listed['id']}/run", json={"parameters": {"prompt": "a"}})
    by_slug = http.post("/r/workflows/slug/text-to-image/run", json={"parameters": {"prompt": "a"}})

    assert [by_id.status_code, by_slug.status_code] == [202, 202]
    assert shape(samples.RUN_ACCEPTED) == shape(by_id.json()) == shape(by_slug.json())


@pytest.mark.parametrize(
    ("steer", "sample"),
    [
        pytest.param([], samples.PENDING_TASK, id="pending"),
        pytest.param(["running"], samples.RUNNING_TASK, id="running"),
        pytest.param(["running", "complete"], samples.COMPLETED_TASK, id="completed"),
        pytest.param(["running", "fail"], samples.FAILED_TASK, id="failed"),
    ],
)
def test_a_task_is_written_as_documented(
    sim: Simulator, reader: Reader, steer: list[str], sample: dict[str, object]
) -> None:
    """A task has the documented fields in every state, the unset ones being null."""
    live = sim.create_task(manual=True)
    for step in steer:
        match step:
            case "complete":
                live.complete()
            case "fail":
                live.fail()
            case _:
                live.status(step)

    assert shape(sample) == shape(reader.get(f"/r/tasks/{live.id}"))


def test_a_list_item_lacks_the_error(sim: Simulator, reader: Reader) -> None:
    """List items carry the fields of a task except `task_error`."""
    sim.create_task(manual=True)
    page = reader.get("/r/tasks")

    assert shape([samples.PENDING_ITEM]) == shape(page["task_list"])
    assert shape(samples.PAGE_META) == shape(page["page_meta"])


@pytest.mark.parametrize(
    ("plan", "sample"),
    [
        pytest.param(TaskPlan(forever_waiting=True), samples.PENDING_RESULT, id="waiting"),
        pytest.param(TaskPlan(), samples.LOCAL_RESULT, id="local"),
        pytest.param(TaskPlan(links="many", outputs=2), samples.CLOUD_RESULT, id="cloud"),
        pytest.param(TaskPlan(outcome="failed"), samples.FAILED_RESULT, id="failed"),
        pytest.param(TaskPlan(outcome="cancelled"), samples.CANCELLED_RESULT, id="cancelled"),
    ],
)
def test_a_result_is_written_as_documented(
    sim: Simulator, reader: Reader, plan: TaskPlan, sample: dict[str, object]
) -> None:
    """A result has the documented fields for every outcome and both link styles."""
    live = sim.create_task(plan)
    sim.advance(10)

    assert shape(sample) == shape(reader.get(f"/r/tasks/{live.id}/result"))


def test_cancelling_is_answered_as_documented(sim: Simulator, http: httpx.Client) -> None:
    """Cancelling answers `is_success`."""
    answer = http.post(f"/r/tasks/{sim.create_task().id}/cancel")

    assert answer.json() == samples.CANCELLED


@pytest.mark.parametrize(
    "path", ["/r/tasks/none", "/r/workflows/none", "/r/workflows/slug/none", "/nothing"]
)
def test_what_does_not_exist_is_404_with_a_message(http: httpx.Client, path: str) -> None:
    """Errors are objects with `error_message`."""
    answer = http.get(path)

    assert (404, shape(samples.ERROR)) == (answer.status_code, shape(answer.json()))


def test_workflows_are_written_as_documented(reader: Reader) -> None:
    """A workflow has its documented fields and its parameters with their types."""
    detail = reader.get("/r/workflows/slug/text-to-image")
    parameters: list[dict[str, object]] = detail.pop("parameters")

    assert shape(samples.WORKFLOW) == shape(detail)
    assert shape(samples.PARAMETER) == shape(parameters[0])
    assert {"string", "number", "select", "boolean"} == {one["type"] for one in parameters}


def test_a_pinned_slug_names_a_version(http: httpx.Client) -> None:
    """`slug@version` works plain and percent-encoded; an unknown version is 404."""
    plain = http.get("/r/workflows/slug/text-to-image@1").json()
    encoded = http.get("/r/workflows/slug/text-to-image%402").json()

    assert [plain["version"], encoded["version"]] == [1, 2]
    assert plain["id"] == encoded["id"]
    assert http.get("/r/workflows/slug/text-to-image@3").status_code == 404


@pytest.mark.parametrize("path", ["/r/agents", "/agents"])
def test_agents_are_written_as_documented(sim: Simulator, path: str) -> None:
    """Both agent lists show the connected agents to a device key."""
    headers = {"Authorization": f"Bearer {sim.device_key}"}
    page = httpx.get(sim.url + path, headers=headers, trust_env=False).json()

    assert shape([samples.AGENT, samples.AGENT]) == shape(page["agent_list"])
    assert shape(samples.PAGE_META) == shape(page["page_meta"])


def test_events_are_written_as_documented(sim: Simulator, reader: Reader) -> None:
    """Each documented event has its documented fields, the end no timestamp."""
    plan = TaskPlan(pending=20, steps=2)
    events = dict(reader.read(sim.create_task(plan).id))

    assert shape(samples.STATUS_EVENT) == shape(events["status"])
    assert shape(samples.PROGRESS_EVENT) == shape({**events["progress"], "progress": 0.5})
    assert shape(samples.COMPLETED_EVENT) == shape(events["completed"])


@pytest.mark.parametrize(
    ("plan", "name", "sample"),
    [
        pytest.param(TaskPlan(outcome="failed"), "failed", samples.FAILED_EVENT, id="failed"),
        pytest.param(
            TaskPlan(outcome="cancelled"), "cancelled", samples.CANCELLED_EVENT, id="cancelled"
        ),
    ],
)
def test_the_other_ends_are_written_as_documented(
    sim: Simulator, reader: Reader, plan: TaskPlan, name: str, sample: dict[str, Any]
) -> None:
    """A failed task tells its error, a cancelled one nothing more."""
    events = reader.read(sim.create_task(plan).id)

    assert (name, shape(sample)) == (events[-1][0], shape(events[-1][1]))


def test_a_nerfstudio_task_tells_its_stages(sim: Simulator, reader: Reader) -> None:
    """Nerfstudio progress has stage and message and goes through the stages in order."""
    live = sim.create_task(TaskPlan(pending=10, steps=10), workflow="scene-reconstruction")
    progress = [payload for name, payload in reader.read(live.id) if name == "progress"]

    assert shape(samples.NERFSTUDIO_EVENT) == shape({**progress[0], "progress": 0.5})
    stages = list(dict.fromkeys(event["stage"] for event in progress))
    assert stages == ["download", "process_data", "train", "export", "upload"]


def test_a_presigned_upload_is_written_as_documented(http: httpx.Client) -> None:
    """Presigning answers a key, a link, and headers to send verbatim."""
    body = {"file_name": "fox.png", "file_size": 3, "content_type": "image/png"}
    answer = http.post("/r/files/presign", json=body).json()

    assert shape(samples.PRESIGNED) == shape(answer)
    assert answer["upload_headers"] == samples.PRESIGNED["upload_headers"]
