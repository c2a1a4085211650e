"""The Airflow example, unmodified: its DAG's test run, and its trigger, against the simulator."""

import asyncio
import json
import os
import platform
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs
import pytest

from cyberun_async.testing import Simulator, TaskPlan, faults, story

from .kit import named


try:
    version("apache-airflow-core")
except PackageNotFoundError:
    pytest.skip("Airflow is installed by `nox -s airflow`", allow_module_level=True)


PAGE = Path(__file__).parents[2] / "docs" / "howto" / "airflow.md"

pytestmark = [
    pytest.mark.timeout(300),  # Airflow takes half a minute to be imported
    # Airflow's own are not ours to fix; that a watch was left open is.
    pytest.mark.filterwarnings("default"),
    pytest.mark.filterwarnings("error:.*left without being closed:ResourceWarning"),
]


@attrs.frozen
class Ran:
    """What Airflow remembers of a run of the DAG."""

    run: Any
    state: str
    tries: dict[str, tuple[str, int]]
    returned: dict[str, Any]
    kept: dict[str, Any]
    rendered: dict[str, Any]


@pytest.fixture
def run_dag(
    airflow_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Ran]:
    """Run the example's DAG as `airflow dags test` does, and return what came of it."""
    monkeypatch.chdir(tmp_path)

    def run() -> Ran:
        dag = the_dag()
        return remembered(dag.test(run_conf={"prompt": "a hare"}))

    return run


def the_dag() -> Any:
    """Return the example's DAG as Airflow reads it, with tries that follow at once."""
    dags = named("airflow.dag_processing.dagbag").DagBag(dag_folder=None)
    assert dags.import_errors == {}
    dag = dags.dags["pictures"]
    for task in dag.tasks:
        task.retry_delay = timedelta(0)
    return dag


def cleared_and_run(ran: Ran) -> Ran:
    """Clear `draw` as a person does, and let Airflow run it again."""
    with named("airflow.utils.session").create_session() as session:
        [draw] = [
            one for one in ran.run.get_task_instances(session=session) if one.task_id == "draw"
        ]
        named("airflow.models.taskinstance").clear_task_instances([draw], session)
        draw.try_number += 1
    named("airflow.sdk.definitions.dag")._run_task(
        ti=draw, task=the_dag().task_dict["draw"], run_triggerer=True
    )
    return remembered(ran.run)


def remembered(run: Any) -> Ran:
    with named("airflow.utils.session").create_session() as session:

        def rows(module: str, name: str) -> Any:
            model = getattr(named(f"airflow.models.{module}"), name)
            return session.query(model).filter(model.run_id == run.run_id)

        return Ran(
            run=run,
            state=str(run.state),
            tries={
                one.task_id: (str(one.state), one.try_number)
                for one in run.get_task_instances(session=session)
            },
            returned={one.task_id: one.value for one in rows("xcom", "XComModel")},
            kept={
                one.key: json.loads(one.value)
                for one in rows("task_state_store", "TaskStateStoreModel")
            },
            rendered={
                one.task_id: one.rendered_fields
                for one in rows("renderedtifields", "RenderedTaskInstanceFields")
            },
        )


def test_a_run_completes_and_its_picture_is_saved(
    service: Simulator, run_dag: Callable[[], Ran]
) -> None:
    """Submitted once, followed by the trigger, collected, and handed to the next task."""
    service.tell(story().runs(steps=20, seconds=2).completes("hare.png"))
    ran = run_dag()

    [submission] = service.submissions
    made = ran.returned["draw"]
    [artifact] = made["artifacts"]
    assert ran.state == "success"
    assert ran.tries == {"draw": ("success", 1), "save": ("success", 1)}
    assert submission.parameters == {"prompt": "a hare", "steps": 20}
    assert made["task_id"] == submission.task_id
    assert (artifact["name"], artifact["url"].startswith(service.store_url)) == ("hare.png", True)
    assert ran.returned["save"] == ["pictures/hare.png"]
    assert Path("pictures", "hare.png").read_bytes().startswith(b"\x89PNG")


def test_the_log_tells_what_the_run_does(
    service: Simulator, run_dag: Callable[[], Ran], capfd: pytest.CaptureFixture[str]
) -> None:
    """States and progress stand in the log of the Airflow task; the how-to page shows it."""
    service.tell(story().waits(2).runs(steps=20, seconds=10).completes("hare.png"))
    run_dag()
    [submission] = service.submissions
    lines = list(reported(capfd.readouterr().out))
    words = [line.split("  ", 1)[1].replace(submission.task_id, "ID") for line in lines]

    assert words[:4] == [
        "submitted text-to-image as task ID",
        "task ID is waiting (attempt 1)",
        "task ID is queued (attempt 1)",
        "task ID is running (attempt 1)",
    ]
    assert words[-2:] == ["task ID: 100 %", "Done. Returned value was: ['pictures/hare.png']"]
    if os.environ.get("CYBERUN_RECORD"):
        write_into(PAGE, "\n".join(lines))


def reported(log: str) -> Iterator[str]:
    """Return, of Airflow's log, the lines of the example and what its last task returned."""
    for line in log.splitlines():
        found = re.match(r"\S+T(\d\d:\d\d:\d\d)\S+ \[info +\] (.+?) +\[([\w.]+)\]", line)
        if found and ("cyberun_airflow." in found[3] or found[2].startswith("Done.")):
            yield f"{found[1]}  {found[2]}"


def write_into(page: Path, lines: str) -> None:
    begin, end = "<!-- log: begin -->", "<!-- log: end -->"
    head, _, rest = page.read_text(encoding="utf-8").partition(begin)
    tail = rest.partition(end)[2]
    versions = f"Airflow {version('apache-airflow-core')}, Python {platform.python_version()}"
    shown = f"\n\nRecorded with {versions}:\n\n```text\n{lines}\n```\n\n"
    page.write_text(head + begin + shown + end + tail, encoding="utf-8")


def test_a_failed_run_fails_the_task_with_the_service_s_words(
    service: Simulator, run_dag: Callable[[], Ran], capfd: pytest.CaptureFixture[str]
) -> None:
    """Each try that failed has been paid for; the last one's error ends the Airflow task."""
    service.tell(*[story().runs(steps=2, seconds=0.1).fails("CUDA out of memory")] * 2)
    ran = run_dag()

    assert ran.state == "failed"
    assert ran.tries == {"draw": ("failed", 2), "save": ("upstream_failed", 0)}
    assert ran.returned == {}
    assert ran.kept == {}
    assert len(service.submissions) == 2
    assert "AirflowException: the run failed: CUDA out of memory" in capfd.readouterr().out


def test_a_failed_run_is_tried_anew(service: Simulator, run_dag: Callable[[], Ran]) -> None:
    """After a failure of the run itself, the next try submits another."""
    service.tell(story().runs(steps=2, seconds=0.1).fails(), story().runs(steps=2, seconds=0.1))
    ran = run_dag()

    first, second = service.submissions
    assert ran.tries == {"draw": ("success", 2), "save": ("success", 1)}
    assert ran.returned["draw"]["task_id"] == second.task_id != first.task_id


def test_a_try_that_lost_sight_is_followed_by_one_that_goes_on(
    service: Simulator, run_dag: Callable[[], Ran]
) -> None:
    """The second try finds the run of the first, and pays for nothing."""
    service.tell(story().runs(steps=20, seconds=2))
    for endpoint in ("events", "task"):
        service.faults.add(endpoint, faults.refuse(401), times=1)
    ran = run_dag()

    [submission] = service.submissions
    assert ran.tries == {"draw": ("success", 2), "save": ("success", 1)}
    assert ran.returned["draw"]["task_id"] == submission.task_id


def test_a_try_that_could_not_collect_is_followed_by_one_that_does(
    service: Simulator, run_dag: Callable[[], Ran]
) -> None:
    """The run has completed and is paid for: the next try asks for its result alone."""
    service.tell(story().runs(steps=2, seconds=0.1))
    service.faults.add("result", faults.refuse(500), times=4)
    ran = run_dag()

    assert ran.tries["draw"] == ("success", 2)
    assert len(service.submissions) == 1


def test_a_submission_without_an_answer_is_not_repeated(
    service: Simulator, run_dag: Callable[[], Ran], capfd: pytest.CaptureFixture[str]
) -> None:
    """The task fails at its first try, though there are more, and says where to look."""
    service.faults.add("run", faults.abandon())
    ran = run_dag()

    assert ran.tries["draw"] == ("failed", 1)
    assert len(service.submissions) == 1
    assert ran.kept.keys() == {"cyberun_sent_at"}
    assert "Look for it among the tasks created since" in capfd.readouterr().out


@pytest.fixture
def api(airflow_home: Path) -> Iterator[Any]:
    """Airflow's API, as a person calls it who may do everything."""
    app = named("airflow.api_fastapi.app").create_app(apps="core")
    with named("starlette.testclient").TestClient(app) as client:
        token = client.get("/auth/token").json()["access_token"]
        client.headers["authorization"] = f"Bearer {token}"
        yield client


@pytest.mark.parametrize("is_found", [True, False], ids=["found", "not-found"])
def test_a_person_who_has_looked_lets_the_task_go_on(
    service: Simulator, run_dag: Callable[[], Ran], api: Any, is_found: bool
) -> None:
    """What the how-to page says to do through Airflow's API does what it says."""
    service.plan(*[TaskPlan(steps=2, step_seconds=0.1)] * 2)
    service.faults.add("run", faults.abandon())
    ran = run_dag()
    state = f"/api/v2/dags/pictures/dagRuns/{ran.run.run_id}/taskInstances/draw/state-store"
    if is_found:
        found = {"value": service.tasks[0].id, "expires_at": None}
        answer = api.put(f"{state}/cyberun_task", json=found)
    else:
        answer = api.delete(f"{state}/cyberun_sent_at")
    again = cleared_and_run(ran)

    assert answer.is_success
    assert again.tries["draw"][0] == "success"
    assert again.returned["draw"]["task_id"] == service.tasks[-1].id
    assert len(service.submissions) == (1 if is_found else 2)


def test_a_task_that_has_succeeded_shows_the_same_run_when_it_is_cleared(
    service: Simulator, run_dag: Callable[[], Ran]
) -> None:
    """To look again costs nothing."""
    service.tell(story().runs(steps=2, seconds=0.1))
    ran = run_dag()
    again = cleared_and_run(ran)

    assert again.tries["draw"] == ("success", 2)
    assert again.returned["draw"]["task_id"] == ran.returned["draw"]["task_id"]
    assert len(service.submissions) == 1


def test_a_submission_that_was_declined_is_repeated_by_the_next_try(
    service: Simulator, run_dag: Callable[[], Ran]
) -> None:
    """What certainly was not accepted may be sent again."""
    service.faults.add("run", faults.refuse(503, "no capacity"), times=4)
    service.plan(TaskPlan(steps=2, step_seconds=0.1))
    ran = run_dag()

    assert ran.tries["draw"] == ("success", 2)
    assert len(service.submissions) == 1


def test_what_the_service_refuses_for_good_is_not_tried_again(
    service: Simulator, run_dag: Callable[[], Ran]
) -> None:
    """A refusal that stays the same costs no tries, and leaves nothing to go on with."""
    service.faults.add("run", faults.refuse(400, "no such parameter"), times=None)
    ran = run_dag()

    assert ran.tries["draw"] == ("failed", 1)
    assert ran.kept == {}


def test_the_key_is_nowhere(
    service: Simulator,
    run_dag: Callable[[], Ran],
    airflow_home: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It stands in no log line, in nothing Airflow has stored, in no template."""
    service.tell(story().runs(steps=2, seconds=0.1))
    ran = run_dag()
    written = capfd.readouterr()

    assert ran.rendered["draw"] == {
        "workflow": "text-to-image",
        "parameters": {"prompt": "a hare", "steps": 20},
    }
    assert "submitted text-to-image" in written.out
    assert service.key not in written.out + written.err
    stored = [path for path in airflow_home.rglob("*") if path.is_file()]
    assert airflow_home / "airflow.db" in stored
    assert [path for path in stored if service.key.encode() in path.read_bytes()] == []


# The trigger by itself, as the triggerer has it


def stored(trigger: Any) -> dict[str, Any]:
    """Return what the database would hold of *trigger*, read back."""
    serde = named("airflow.sdk.serde")
    path, state = trigger.serialize()
    row = json.dumps({"classpath": path, "kwargs": serde.serialize(state)})
    read: dict[str, Any] = json.loads(row)
    return {"row": row, "classpath": read["classpath"], "kwargs": serde.deserialize(read["kwargs"])}


def made_again(held: dict[str, Any]) -> Any:
    module_loading = named("airflow.sdk._shared.module_loading")
    return module_loading.import_string(held["classpath"])(**held["kwargs"])


async def payload_of(trigger: Any) -> Any:
    return (await anext(trigger.run())).payload


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


def test_a_trigger_made_again_in_mid_run_goes_on(
    service: Simulator, plugin: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """From its stored token: nothing is submitted, and no state is reported twice."""
    live = service.create_task(manual=True)

    async def lives() -> Any:
        first = plugin.CyberunTrigger(json.dumps({"task_id": live.id}), "cyberun")
        following = asyncio.create_task(payload_of(first))
        live.status("running")
        await until(lambda: "running" in first.token)
        held = stored(first)
        following.cancel()  # the triggerer stops
        await asyncio.wait([following])
        second = made_again(held)
        following = asyncio.create_task(payload_of(second))
        await until(lambda: len(service.requests_to("events")) == 2)
        live.complete()
        end = await following
        await until(lambda: service.open_streams == 0)  # neither watch left its own open
        return held, end

    held, end = asyncio.run(lives())

    assert end == {"status": "completed", "error": None}
    assert held["kwargs"].keys() == {"token", "conn_id", "cancel_on_kill"}
    assert '"status":"running"' in held["kwargs"]["token"]
    assert service.key not in held["row"]
    assert capfd.readouterr().out.count("is running (attempt 1)") == 1
    assert service.requests_to("run") == []


@pytest.mark.parametrize("asked", [True, False])
def test_a_person_who_ends_the_task_cancels_the_run_only_where_asked(
    service: Simulator, plugin: Any, asked: bool
) -> None:
    """Runs are paid for: to end them is a choice."""
    live = service.create_task(TaskPlan(steps=1000, step_seconds=1))
    trigger = plugin.CyberunTrigger(live.id, "cyberun", cancel_on_kill=asked)
    asyncio.run(trigger.on_kill())

    assert len(service.requests_to("cancel", live.id)) == int(asked)


class Store(dict[str, str]):
    """What Airflow keeps across the tries of a task."""

    def set(self, name: str, value: str, retention: object) -> None:
        self[name] = value

    def delete(self, name: str) -> None:
        self.pop(name, None)


def killed_amid_its_submission(plugin: Any, store: Store, *, cancel_on_kill: bool) -> Any:
    """Run the operator, killed before its answer came; return the trigger it hands over to."""
    draw = plugin.CyberunOperator(
        task_id="draw",
        workflow="text-to-image",
        parameters={"prompt": "a fox"},
        conn_id="cyberun",
        cancel_on_kill=cancel_on_kill,
    )
    draw.on_kill()
    with pytest.raises(named("airflow.sdk.exceptions").TaskDeferred) as deferred:
        type(draw).execute.__wrapped__(draw, {"task_state_store": store})
    return vars(deferred.value)["trigger"]


@pytest.mark.parametrize("asked", [True, False])
def test_a_kill_amid_the_submission_cancels_the_run_only_where_asked(
    service: Simulator, plugin: Any, asked: bool
) -> None:
    """What to cancel is known with the answer."""
    store = Store()
    trigger = killed_amid_its_submission(plugin, store, cancel_on_kill=asked)

    [live] = service.tasks
    assert json.loads(trigger.token)["task_id"] == live.id
    assert store["cyberun_task"] == trigger.token
    assert len(service.requests_to("cancel", live.id)) == int(asked)


def test_a_cancelling_that_fails_forgets_no_run(
    service: Simulator, plugin: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """The run was accepted and is paid for, so that every further try goes on with it."""
    service.faults.add("cancel", faults.refuse(401), times=None)
    store = Store()
    trigger = killed_amid_its_submission(plugin, store, cancel_on_kill=True)

    [live] = service.tasks
    assert json.loads(store["cyberun_task"])["task_id"] == live.id
    assert trigger.token == store["cyberun_task"]
    assert "it could not be cancelled" in capfd.readouterr().out
    killed_amid_its_submission(plugin, store, cancel_on_kill=True)
    assert len(service.submissions) == 1


def test_triggers_share_one_client(service: Simulator, plugin: Any) -> None:
    """However many there are in a triggerer, and it is closed with the last."""
    tasks = [service.create_task(TaskPlan(steps=2, step_seconds=0.3)) for _ in range(5)]

    async def follow() -> Any:
        triggers = [plugin.CyberunTrigger(live.id, "cyberun") for live in tasks]
        following = asyncio.gather(*map(payload_of, triggers))
        await until(lambda: service.open_streams == 5)
        clients = plugin.CLIENTS[asyncio.get_running_loop()]._clients
        [(_, users)] = clients.values()
        return users, await following, clients

    users, ends, left = asyncio.run(follow())
    assert users == 5
    assert [end["status"] for end in ends] == ["completed"] * 5
    assert left == {}


def test_an_unconfirmed_submission_is_a_matter_for_a_person(
    service: Simulator, plugin: Any
) -> None:
    """A try that was killed amid its submission leaves a mark; what a person stores is used."""
    store = {"cyberun_sent_at": "2026-03-01T10:00:00+00:00"}
    context = {"task_state_store": store}
    draw = plugin.CyberunOperator(task_id="draw", workflow="text-to-image", conn_id="cyberun")
    with pytest.raises(plugin.AirflowFailException, match="sent at 2026-03-01T10:00:00"):
        type(draw).execute.__wrapped__(draw, context)
    service.sent.assert_nothing_run()

    found = service.create_task()
    store["cyberun_task"] = found.id
    with pytest.raises(named("airflow.sdk.exceptions").TaskDeferred) as deferred:
        type(draw).execute.__wrapped__(draw, context)
    trigger: Any = vars(deferred.value)["trigger"]

    assert trigger.token == found.id
    service.sent.assert_nothing_run()
