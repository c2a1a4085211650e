"""The commands as scripts use them: what they print into a pipe, and their exit codes."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from pathlib import Path

import click
import pytest

from cyberun_async.cli import main
from cyberun_async.cli._app import app
from cyberun_async.cli._exit_codes import ExitCode
from cyberun_async.testing import Simulator, TaskPlan, faults

from .conftest import QUICK
from .consoles import played


pytestmark = pytest.mark.usefixtures("env", "brisk")

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "cli.md"
NOBODY = "00000000-0000-4000-8000-000000000000"
# Slow enough that each state and each step is seen.
CALM = TaskPlan(pending=0.0, waiting=0.0, queued=0.2, step_seconds=0.15)
PASSING = re.compile(r'^\S+ (queued|running|\d+ % .*)$|"type": "(status|progress)"')
FOREVER = TaskPlan(forever_waiting=True)
SOON_FAILED = TaskPlan(steps=1, step_seconds=0.5, outcome="failed")
FOX = ("text-to-image", "-p", "prompt=a fox")


def records(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_run_submits_follows_and_fetches(
    sim: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command makes a picture; what it prints into a pipe is plain lines."""
    code = main(["run", *FOX, "--out", str(tmp_path / "out")])

    captured = capsys.readouterr()
    assert code == 0, captured.err
    [task] = sim.tasks
    [saved] = (tmp_path / "out").iterdir()
    lines = captured.out.splitlines()
    assert (code, captured.err) == (0, "")
    assert lines[0] == f"submitted {task.id}"
    assert lines[-2:] == [
        f"{task.id} completed",
        f"saved {saved} ({saved.stat().st_size} bytes)",
    ]
    assert "\x1b" not in captured.out


def test_json_lines_tell_the_whole_life(sim: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json every line is one object, from the submission to the result."""
    sim.default_plan = CALM
    assert main(["run", *FOX, "-p", "steps=4", "--json"]) == 0

    printed = records(capsys.readouterr().out)
    assert {one["task_id"] for one in printed} == {task.id for task in sim.tasks}
    kinds = [one["type"] for one in printed]
    assert kinds[0] == "submitted"
    assert kinds[-2:] == ["completed", "result"]
    progress = [one["progress"] for one in printed if one["type"] == "progress"]
    # Under load the first may have passed before anybody listened.
    assert progress
    assert progress == [0.25, 0.5, 0.75, 1.0][-len(progress) :]


def test_detached_only_the_id_is_printed(
    sim: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script takes the id of a run it does not wait for."""
    assert main(["run", *FOX, "--detach"]) == 0

    assert capsys.readouterr().out == f"{sim.tasks[0].id}\n"


def test_parameters_come_from_files_and_uploads(sim: Simulator, tmp_path: Path) -> None:
    """A JSON file holds parameters, an @ uploads a file, and what is typed wins."""
    (tmp_path / "run.json").write_text('{"prompt": "in oil", "steps": 3}', encoding="utf-8")
    (tmp_path / "in.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    typed = ("-p", f"input_image=@{tmp_path / 'in.png'}", "-p", "prompt=in ink")

    code = main(["run", "image-to-image", "--parameters", str(tmp_path / "run.json"), *typed])

    [submission] = sim.submissions
    assert code == 0
    assert submission.parameters["prompt"] == "in ink"
    assert len(sim.uploads) == 1


def test_wait_and_result_print_the_end(
    sim: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The final state is one line; the result names its files, or fetches them."""
    task = sim.create_task().id

    assert main(["wait", task]) == 0
    assert capsys.readouterr().out == f"{task} completed\n"
    assert main(["result", task]) == 0
    assert "made out_00001_.png\n" in capsys.readouterr().out
    assert main(["result", task, "--out", str(tmp_path), "--json"]) == 0
    [printed] = records(capsys.readouterr().out)
    assert printed["files"] == [str(tmp_path / "out_00001_.png")]


def test_cancel_says_that_it_was_asked_or_how_it_ended(
    sim: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asking is one thing, the state a task really ended in another."""
    first, second = sim.create_task(FOREVER).id, sim.create_task(FOREVER).id

    assert main(["cancel", first]) == 0
    assert main(["cancel", second, "--wait"]) == 0
    assert capsys.readouterr().out == f"{first} asked to cancel\n{second} cancelled\n"


def test_lists_are_lines(sim: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """Workflows, their parameters and tasks are listed, as many as asked for."""
    for _ in range(3):
        sim.create_task(FOREVER)

    assert main(["workflows"]) == 0
    assert capsys.readouterr().out.startswith("text-to-image@")
    assert main(["workflows", "text-to-image"]) == 0
    assert re.search(
        r"^  steps +number +default 20 1\.\.150$", capsys.readouterr().out, re.MULTILINE
    )
    assert main(["tasks", "--limit", "2", "--json"]) == 0
    assert [one["type"] for one in records(capsys.readouterr().out)] == ["task", "task"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["run"], 2, id="no-workflow"),
        pytest.param(["run", "text-to-image", "-p", "prompt"], 2, id="malformed"),
        pytest.param(["run", "text-to-image"], 2, id="missing-parameter"),
        pytest.param(["run", "text-to-image", "--parameters", "/nowhere.json"], 2, id="no-file"),
        pytest.param(["run", "image-to-image", "-p", "input_image=@/no"], 2, id="no-upload"),
        pytest.param(["run", "nothing", "-p", "a=1"], 6, id="no-workflow-of-this-name"),
        pytest.param(["wait", NOBODY], 6, id="no-task"),
        pytest.param(["watch", "no id"], 2, id="no-id"),
        pytest.param(["batch"], 2, id="no-jobs"),
        pytest.param(["batch", "/nowhere.jsonl"], 2, id="no-jobs-file"),
    ],
)
def test_a_mistake_has_its_exit_code(
    arguments: list[str],
    code: int,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the caller got wrong is said on standard error, and nothing else is printed."""
    monkeypatch.chdir(tmp_path)

    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


def test_a_task_that_does_not_complete_has_its_exit_code(
    sim: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Failed is 1, cancelled is 3, in every command that waits for the end."""
    failed = sim.create_task(TaskPlan(steps=1, step_seconds=0.01, outcome="failed")).id
    cancelled = sim.create_task(TaskPlan(steps=1, step_seconds=0.01, outcome="cancelled")).id
    done = sim.create_task().id

    assert [main([each, failed]) for each in ("watch", "wait", "result")] == [1, 1, 1]
    assert [main([each, cancelled]) for each in ("watch", "wait", "result")] == [3, 3, 3]
    assert main(["watch", done, failed]) == 1
    assert "CUDA out of memory" in capsys.readouterr().err


def test_time_that_is_up_has_its_exit_code(
    sim: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A deadline ends the waiting with 4; the task goes on, and the way to it is printed."""
    task = sim.create_task(FOREVER)

    assert main(["watch", task.id, "--timeout", "0.3"]) == 4
    assert main(["wait", task.id, "--timeout", "0.1"]) == 4
    assert main(["run", *FOX, "--timeout", "0.01"]) == 4
    assert "go on with: cyberun-async watch" in capsys.readouterr().err
    assert task.state == "waiting"


def test_a_refused_key_has_its_exit_code(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing, malformed or revoked key is 5."""
    sim.revoke(sim.key)
    assert main(["workflows"]) == 5
    monkeypatch.setenv("CYBERUN_API_KEY", "ak-1")
    assert main(["workflows"]) == 5
    monkeypatch.delenv("CYBERUN_API_KEY")
    assert main(["workflows"]) == 5


def test_a_service_that_fails_has_its_exit_code(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refusals are 7, a service that is not there 8, a run unconfirmed 9."""
    sim.faults.add("run", faults.refuse(422))
    assert main(["run", *FOX]) == 7
    sim.faults.add("run", faults.abandon())
    assert main(["run", *FOX]) == 9
    monkeypatch.setenv("CYBERUN_BASE_URL", "http://127.0.0.1:9/api/v1")
    assert main(["workflows", "--json"]) == 8
    [printed] = records(capsys.readouterr().err.splitlines()[-1])
    assert (printed["error"], printed["exit_code"]) == ("ServiceUnavailableError", 8)


def test_the_key_may_be_in_a_file(
    sim: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A file holds the key; one that others can read is warned of."""
    monkeypatch.delenv("CYBERUN_API_KEY")
    file = tmp_path / "key"
    file.write_text(f"{sim.key}\n", encoding="utf-8")
    file.chmod(0o600)

    assert main(["workflows", "--key-file", str(file)]) == 0
    assert capsys.readouterr().err == ""
    file.chmod(0o644)
    monkeypatch.setenv("CYBERUN_API_KEY_FILE", str(file))
    assert main(["workflows"]) == 0
    assert "chmod 600" in capsys.readouterr().err


def test_no_option_takes_a_secret() -> None:
    """Arguments can be read by every user of the machine, so a key is never one."""
    names = {
        option
        for command in app.commands.values()
        for parameter in command.params
        for option in parameter.opts
        if re.search("key|token|secret|password", option)
    }

    assert names == {"--key-file"}


def test_every_command_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    """Help is there for each command, with an example that names the command itself."""
    for name in app.commands:
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert f"cyberun-async {name}" in text.partition("Examples:")[2], name


def test_a_batch_from_csv_runs_and_resumes(
    sim: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A CSV file is a batch; run again, its outcomes are printed without a new submission."""
    jobs = tmp_path / "jobs.csv"
    jobs.write_text("\ufeffkey,prompt,steps\na,a fox,2\nb,two foxes,\n", encoding="utf-8")
    command = ["batch", str(jobs), "--workflow", "text-to-image"]

    assert main(command) == 0
    first = capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    printed = records(capsys.readouterr().out)

    assert sorted(first.splitlines()) == [
        "2 of 2 jobs have an outcome (2 completed)",
        "a completed",
        "b completed",
    ]
    assert [dict(one.parameters) for one in sim.submissions] == [
        {"prompt": "a fox", "steps": 2},
        {"prompt": "two foxes"},
    ]
    assert [one["is_replayed"] for one in printed if one["type"] == "outcome"] == [True, True]
    assert printed[-1]["counts"] == {"completed": 2}
    assert (tmp_path / "jobs.ledger").exists()


def test_a_killed_batch_is_taken_up_by_its_ledger(
    sim: Simulator, env: Mapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed with the ledger named, it goes on from there, with no job paid for twice."""
    keys = [f"fox-{n}" for n in range(6)]
    (tmp_path / "jobs.csv").write_text("key,prompt\n" + "".join(f"{key},a fox\n" for key in keys))
    ledger = tmp_path / "kept" / "foxes.sqlite"
    ledger.parent.mkdir()
    sim.plan(QUICK, QUICK, FOREVER, FOREVER)
    named = ("--workflow", "text-to-image", "--ledger", str(ledger), "--concurrency", "2")
    with subprocess.Popen(
        [sys.executable, "-m", "cyberun_async", "batch", "jobs.csv", *named],
        env=dict(env),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
    ) as process:
        wait_until(lambda: states_in(ledger) == {"completed": 2, "running": 2, "planned": 2})
        process.send_signal(signal.SIGKILL)
    for task in sim.tasks[2:]:
        task.complete()
    first = main(["batch", "--ledger", str(ledger), "--report"])
    report = capsys.readouterr().out
    again = main(["batch", "--ledger", str(ledger)])
    printed = capsys.readouterr().out.splitlines()

    assert (first, again) == (0, 0)
    assert report == "2 of 6 jobs have an outcome (2 planned, 2 running, 2 completed)\n"
    assert printed[-1] == "6 of 6 jobs have an outcome (6 completed)"
    replayed = [line.split()[0] for line in printed if line.endswith("(by an earlier run)")]
    assert sorted(replayed) == keys[:2]
    assert len(sim.submissions) == len(keys)
    assert states_in(ledger) == {"completed": 6}
    assert not (tmp_path / "jobs.ledger").exists()


def states_in(ledger: Path) -> dict[str, int]:
    """Return how many jobs of *ledger* are in which state, as anybody may look."""
    if not ledger.exists():
        return {}
    with (
        closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as db,
        suppress(
            sqlite3.OperationalError  # the table is not there yet
        ),
    ):
        return dict(db.execute("SELECT state, count(*) FROM jobs GROUP BY state"))
    return {}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("prompt\nx\n", "needs a column `key`", id="no-key"),
        pytest.param("key,prompt\na,x\n", "needs a column `workflow`", id="no-workflow"),
        pytest.param("key,workflow,p,p\na,w,1,2\n", "columns twice", id="twice"),
        pytest.param("key,workflow\na,w,1\n", "more cells", id="long-row"),
        pytest.param("key,workflow,p\na,w\n", "fewer cells", id="short-row"),
        pytest.param("key,workflow\n,w\n", "lacks its key", id="empty-key"),
        pytest.param('key,workflow\n"a,w\n', "no CSV", id="open-quote"),
    ],
)
def test_a_faulty_csv_file_is_refused(
    text: str, problem: str, sim: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong with a table is said before anything is sent."""
    (tmp_path / "jobs.csv").write_text(text, encoding="utf-8")

    assert main(["batch", str(tmp_path / "jobs.csv")]) == 2
    assert problem in capsys.readouterr().err
    assert sim.submissions == []


def test_a_batch_with_a_failed_job_exits_with_one(
    sim: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One job that fails makes the code 1; --max-submissions takes it up again."""
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text(
        '{"key": "a", "workflow": "text-to-image", "parameters": {"prompt": "a fox"}}\n',
        encoding="utf-8",
    )
    sim.plan(TaskPlan(steps=1, step_seconds=0.01, outcome="failed"))

    assert main(["batch", str(jobs)]) == 1
    assert "a failed node 3: CUDA out of memory" in capsys.readouterr().out
    assert main(["batch", str(jobs), "--max-submissions", "2"]) == 0
    assert main(["batch", str(jobs), "--report"]) == 0


def test_a_rest_that_cannot_be_cancelled_is_printed(
    sim: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --cancel-rest whoever pays learns what goes on."""
    jobs = tmp_path / "jobs.csv"
    jobs.write_text("key,prompt\na,a fox\nb,two foxes\n", encoding="utf-8")
    sim.plan_by(lambda run: SOON_FAILED if run.parameters["prompt"] == "a fox" else FOREVER)
    sim.faults.add("cancel", faults.refuse(403), times=None)
    stopping = ("--fail-fast", "--cancel-rest", "--json")

    assert main(["batch", str(jobs), "--workflow", "text-to-image", *stopping]) == 1
    [printed] = records(capsys.readouterr().err)
    assert "a task could not be cancelled" in str(printed["notes"])


def test_a_report_needs_no_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the ledger has is printed without a key, since nothing is sent."""
    (tmp_path / "jobs.jsonl").write_text("", encoding="utf-8")
    command = ["batch", str(tmp_path / "jobs.jsonl")]
    assert main(command) == 0
    monkeypatch.delenv("CYBERUN_API_KEY")
    capsys.readouterr()

    assert main([*command, "--report"]) == 0
    assert capsys.readouterr().out == "0 of 0 jobs have an outcome (no jobs)\n"
    assert main(command) == 5


def test_an_unconfirmed_batch_asks_for_decisions(
    sim: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lost answer is 9; a decision on the command line settles it."""
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text(
        '{"key": "a=b", "workflow": "text-to-image", "parameters": {"prompt": "a fox"}}\n',
        encoding="utf-8",
    )
    sim.faults.add("run", faults.abandon())
    assert main(["batch", str(jobs), "--json"]) == 9
    hint, error = records(capsys.readouterr().err)
    assert (hint["type"], error["type"]) == ("hint", "error")
    assert "--decide KEY=" in str(hint["message"])
    [task] = sim.tasks

    assert main(["batch", str(jobs), "--decide", "nonsense"]) == 2
    assert main(["batch", str(jobs), "--decide", f"a=b=adopt:{task.id}"]) == 0
    assert len(sim.submissions) == 1


@pytest.mark.parametrize("choice", ["resubmit", "skip", "adopt"])
def test_a_decision_may_be_given_again(
    choice: str, sim: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that is repeated with its decisions goes on; another decision is a mistake."""
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_text(
        '{"key": "a", "workflow": "text-to-image", "parameters": {"prompt": "a fox"}}\n',
        encoding="utf-8",
    )
    sim.faults.add("run", faults.abandon())
    assert main(["batch", str(jobs)]) == 9
    task = f":{sim.tasks[0].id}" if choice == "adopt" else ""
    command = ["batch", str(jobs), "--decide", f"a={choice}{task}"]
    first = main(command)
    submissions = len(sim.submissions)
    capsys.readouterr()

    assert main(command) == first
    assert f"the job 'a' was decided before: {choice}" in capsys.readouterr().err
    other = "skip" if choice == "resubmit" else "resubmit"
    assert main(["batch", str(jobs), "--decide", f"a={other}"]) == 2
    assert len(sim.submissions) == submissions


def test_a_damaged_ledger_has_its_exit_code(tmp_path: Path, env: Mapping[str, str]) -> None:
    """A file that is no ledger is 10, and is left as it is."""
    (tmp_path / "jobs.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "jobs.ledger").write_bytes(b"something else" * 100)

    assert main(["batch", str(tmp_path / "jobs.jsonl")]) == 10
    assert (tmp_path / "jobs.ledger").read_bytes() == b"something else" * 100


def signalled(sim: Simulator, number: signal.Signals, arguments: list[str]) -> int:
    """Run a command in this process, which gets a signal as soon as its task is running."""
    # The stream of an earlier command may still be open, and nobody minds signals yet.
    earlier = {task.id for task in sim.tasks}

    def send() -> None:
        deadline = time.monotonic() + 20.0
        while not any(task.open_streams for task in sim.tasks if task.id not in earlier):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        return main(arguments)
    finally:
        sender.join()


def test_an_interrupted_run_goes_on_remotely(
    sim: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C is 130, SIGTERM 143; the task goes on, and standard error says how to reach it."""
    sim.default_plan = TaskPlan(steps=600, step_seconds=0.1)

    assert signalled(sim, signal.SIGINT, ["run", *FOX]) == 130
    assert f"follow it: cyberun-async watch {sim.tasks[0].id}" in capsys.readouterr().err
    assert signalled(sim, signal.SIGTERM, ["run", *FOX]) == 143
    assert "cancelled" not in {task.state for task in sim.tasks}


def test_an_interrupted_run_is_cancelled_where_asked(sim: Simulator) -> None:
    """With --cancel-on-exit the remote task is asked to cancel before the program ends."""
    sim.default_plan = TaskPlan(steps=600, step_seconds=0.1)

    assert signalled(sim, signal.SIGINT, ["run", *FOX, "--cancel-on-exit"]) == 130
    assert [task.state for task in sim.tasks] == ["cancelled"]


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "cyberun_async", *arguments]


def test_a_reader_that_goes_away_is_no_error(sim: Simulator, env: Mapping[str, str]) -> None:
    """As in `| head -1`, the program ends quietly with the code of a broken pipe."""
    task = sim.create_task(TaskPlan(steps=6000, step_seconds=0.1)).id
    with subprocess.Popen(
        program("watch", task, "--json"), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()

        assert process.wait() == 141
        assert said == b""


def test_the_simulator_says_where_it_is_and_ends_with_ctrl_c(
    env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lines for a shell to take, then it serves until it is interrupted."""
    with subprocess.Popen(
        program("simulate", "--seed", "5"),
        env=env,
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        variables = dict(line.removeprefix("export ").strip().split("=", 1) for line in lines)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert main(["workflows"]) == 0
        process.send_signal(signal.SIGINT)

        assert process.wait() == 0
        assert list(variables) == ["CYBERUN_BASE_URL", "CYBERUN_API_KEY"]


def test_the_demo_is_that_of_the_documentation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command runs the program of docs/examples, and its pictures are there."""
    # Slow enough for a stream to be there before its task has ended, on a busy machine.
    assert main(["demo", "--speed", "4", "--out", str(tmp_path)]) == 0

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fox.png",
        "lighthouse.png",
        "robot.png",
    ]
    assert "stream cut, reconnecting" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("hidden", "arguments", "extra"),
    [
        pytest.param("rich", [], "cyberun_async[cli]", id="cli"),
        pytest.param("uvicorn", ["simulate"], "cyberun_async[cli,testing]", id="simulate"),
        pytest.param("starlette", ["demo"], "cyberun_async[cli,testing]", id="demo"),
    ],
)
def test_a_missing_extra_is_named(hidden: str, arguments: list[str], extra: str) -> None:
    """Where a package is not installed, the message says what to install, and the code is 12."""
    code = (
        f"import sys; sys.modules[{hidden!r}] = None\n"
        f"from cyberun_async.cli import main; sys.exit(main({arguments!r}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )

    assert run.returncode == 12
    assert f"pip install '{extra}'" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands_and_states(
    shell: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script is printed for each shell, and what it calls answers."""
    assert main(["completion", shell]) == 0
    assert "_CYBERUN_ASYNC_COMPLETE" in capsys.readouterr().out


def test_completion_knows_commands_and_values() -> None:
    """The program answers what a shell asks it while somebody types."""
    asked = {"COMP_WORDS": "cyberun-async tasks --status c", "COMP_CWORD": "3"}
    code = "import sys; from cyberun_async.cli import main; sys.exit(main([]))"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "_CYBERUN_ASYNC_COMPLETE": "bash_complete", **asked},
        capture_output=True,
        text=True,
        check=True,
    )

    assert run.stdout.split() == ["plain,completed", "plain,cancelled"]


def test_the_exit_codes_are_documented_as_they_are() -> None:
    """The table of the page, the program's help and the codes are one."""
    text = PAGE.read_text(encoding="utf-8")
    table = re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)
    help_text = click.Context(app).get_help()

    assert table == [(str(int(code)), code.meaning) for code in ExitCode]
    assert all(f"{int(code):>3}  {code.meaning}" in help_text for code in ExitCode)


def test_every_command_is_documented() -> None:
    """The page names each command of the program."""
    text = PAGE.read_text(encoding="utf-8")

    assert [name for name in app.commands if f"`{name}`" not in text] == []


def test_the_consoles_of_the_page_are_real(
    sim: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each command of the page prints what the page says, but for the ids of tasks."""
    monkeypatch.chdir(tmp_path)
    sim.default_plan = CALM
    [table] = re.findall(
        r"^```text\n(key,.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "jobs.csv").write_text(table, encoding="utf-8")

    def run(arguments: list[str]) -> str:
        main(arguments)
        captured = capsys.readouterr()
        return captured.out + captured.err

    for step, output in played(PAGE, run):
        shown, seen = step.output.splitlines(), output.splitlines()
        assert seen == [line for line in shown if line in seen], step.command
        # Under load a state or a progress event may have passed before anybody listened.
        missing = [line for line in shown if line not in seen]
        assert [line for line in missing if not PASSING.search(line)] == [], step.command
