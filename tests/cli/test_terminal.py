"""What a person sees: the program on a real pseudo-terminal."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

from cyberun_async.testing import Simulator, TaskPlan, faults

from .terminal import Terminal


SLOW = TaskPlan(pending=0.0, waiting=0.0, queued=0.0, steps=600, step_seconds=0.1)


def test_a_terminal_shows_a_line_per_task_and_a_summary(
    sim: Simulator, env: Mapping[str, str]
) -> None:
    """Each task followed has its line, redrawn in place, above a line that counts."""
    tasks = [sim.create_task(SLOW).id for _ in range(3)]
    with Terminal("watch", *tasks, env=env) as terminal:
        text = terminal.wait_for(lambda text: "3 running" in text and text.count("step ") == 3)
        lines = [line for line in text.splitlines() if line]
        terminal.type("\x03")

        assert [line[:8] for line in lines[:3]] == [task[:8] for task in tasks]
        assert "3 running · 0 of 3 ended" in lines[3]
        assert len(lines) == 4
        assert terminal.wait() == 130


def test_a_screen_is_never_overrun(sim: Simulator, env: Mapping[str, str]) -> None:
    """More tasks than fit are counted instead of shown, and nothing scrolls."""
    tasks = [sim.create_task(SLOW).id for _ in range(12)]
    with Terminal("watch", *tasks, env=env, rows=7, columns=60) as terminal:
        text = terminal.wait_for("12 running")
        terminal.wait_for(lambda text: "step 9" in text)

        assert "… and 8 more" in text
        assert terminal.scrolled == 0
        terminal.type("\x03")
        assert terminal.wait() == 130


def test_ctrl_c_leaves_the_terminal_sound_and_says_how_to_go_on(
    sim: Simulator, env: Mapping[str, str]
) -> None:
    """Interrupted, the cursor is back, the remote task goes on, and the way to it is printed."""
    sim.plan(SLOW)
    with Terminal("run", "text-to-image", "-p", "prompt=a fox", env=env) as terminal:
        terminal.wait_for("step 2")
        assert terminal.screen.cursor.hidden
        terminal.type("\x03")
        code = terminal.wait()

        [task] = sim.tasks
        assert code == 130
        assert terminal.is_as_before()
        assert f"task {task.id} goes on, and is paid for" in terminal.text
        assert f"cyberun-async watch {task.id}" in terminal.text
        assert task.state == "running"


def test_a_run_is_cancelled_on_ctrl_c_where_asked(sim: Simulator, env: Mapping[str, str]) -> None:
    """With --cancel-on-exit the remote task is asked to cancel before the program ends."""
    sim.plan(SLOW)
    command = ("run", "text-to-image", "-p", "prompt=a fox", "--cancel-on-exit")
    with Terminal(*command, env=env) as terminal:
        terminal.wait_for("step 2")
        terminal.type("\x03")

        assert terminal.wait() == 130
        assert [task.state for task in sim.tasks] == ["cancelled"]


def test_sigterm_ends_as_ctrl_c_does(sim: Simulator, env: Mapping[str, str]) -> None:
    """A supervisor's SIGTERM leaves the terminal as sound as Ctrl-C, with a code of its own."""
    task = sim.create_task(SLOW)
    with Terminal("watch", task.id, env=env) as terminal:
        terminal.wait_for("step 2")
        os.kill(terminal.pid, signal.SIGTERM)

        assert terminal.wait() == 143
        assert terminal.is_as_before()


def test_trouble_shows_on_the_line_of_its_task(sim: Simulator, env: Mapping[str, str]) -> None:
    """A task that gets no stream says that it is polled."""
    refused = faults.on("events", faults.refuse(403), times=None)
    task = sim.create_task(TaskPlan(steps=600, step_seconds=0.1, faults=(refused,)))
    with Terminal("watch", task.id, env=env) as terminal:
        terminal.wait_for("polling, no live progress")
        terminal.type("\x03")

        assert terminal.wait() == 130


def test_the_key_is_asked_for_and_never_shown(sim: Simulator, env: Mapping[str, str]) -> None:
    """Without a key in the environment a person types it, unseen."""
    keyless = {name: value for name, value in env.items() if name != "CYBERUN_API_KEY"}
    with Terminal("workflows", env=keyless) as terminal:
        terminal.wait_for("API key:")
        terminal.type(f"{sim.key}\n")

        assert terminal.wait() == 0
        assert "text-to-image" in terminal.text
        assert sim.key.encode() not in terminal.sent
        assert terminal.is_as_before()


def test_ctrl_c_at_the_prompt_is_an_interruption(env: Mapping[str, str]) -> None:
    """Whoever has no key at hand gets out, and the terminal echoes again."""
    keyless = {name: value for name, value in env.items() if name != "CYBERUN_API_KEY"}
    with Terminal("workflows", env=keyless) as terminal:
        terminal.wait_for("API key:")
        terminal.type("\x03")

        assert terminal.wait() == 130
        assert terminal.is_as_before()


def test_an_interrupted_batch_goes_on_where_it_was(
    sim: Simulator, env: Mapping[str, str], tmp_path: Path
) -> None:
    """Ctrl-C leaves the ledger sound: the same command submits no job again and ends well."""
    jobs = [
        {"key": f"fox-{n}", "workflow": "text-to-image", "parameters": {"prompt": f"fox {n}"}}
        for n in range(6)
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)), encoding="utf-8")
    sim.default_plan = TaskPlan(queued=0.0, steps=20, step_seconds=0.1)
    command = ("batch", "jobs.jsonl", "--concurrency", "4", "--out", "pictures")
    with Terminal(*command, env=env, cwd=tmp_path) as terminal:
        terminal.wait_for(lambda text: text.count("step ") == 4)
        terminal.type("\x03")
        code = terminal.wait()

        assert code == 130
        assert terminal.is_as_before()
        assert "go on with: cyberun-async batch jobs.jsonl --concurrency 4" in terminal.text
    with Terminal(*command, env=env, cwd=tmp_path) as terminal:
        assert terminal.wait() == 0, terminal.text
        assert "6 of 6 jobs have an outcome (6 completed)" in terminal.text
    assert len(sim.submissions) == len(jobs)
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == len(jobs)
