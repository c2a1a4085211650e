"""What a person sees: the program on a real pseudo-terminal."""

import json
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest

from cyberun_async.testing import Simulator, TaskPlan, faults

from .conftest import QUICK
from .terminal import Terminal


NOBODY = "00000000-0000-4000-8000-000000000000"
SLOW = TaskPlan(pending=0.0, waiting=0.0, queued=0.0, steps=600, step_seconds=0.1)


def test_a_terminal_shows_a_line_per_task_and_a_summary(
    sim: Simulator, env: Mapping[str, str]
) -> None:
    """Each task has its line, redrawn in place, under what went wrong and above the counts."""
    refused = faults.on("events", faults.refuse(403), times=None)
    plans = (SLOW, SLOW, attrs.evolve(SLOW, faults=(refused,)))
    tasks = [sim.create_task(plan).id for plan in plans]
    with Terminal("watch", *tasks, NOBODY, env=env) as terminal:
        text = terminal.wait_for(
            lambda text: (
                "3 running" in text
                and text.count("step ") == 2
                and "no live" in text
                and "error: " in text
                and "not followed" in text
            )
        )
        lines = [line for line in text.splitlines() if line]
        terminal.type("\x03")

        assert lines[0].startswith("error: GET /r/tasks/")
        rows = [line for line in lines if line.startswith("…")]
        assert [row[:9] for row in rows] == [f"…{task[-8:]}" for task in [*tasks, NOBODY]]
        assert "no live progress" in rows[2]
        assert "not followed any more" in rows[3]
        assert "3 running · 0 of 4 ended" in lines[-1]
        assert lines[-5:-1] == rows
        assert terminal.wait() == 130


def test_a_screen_is_never_overrun(sim: Simulator, env: Mapping[str, str]) -> None:
    """More tasks than fit are counted instead of shown, and nothing scrolls."""
    tasks = [sim.create_task(SLOW).id for _ in range(12)]
    with Terminal("watch", *tasks, env=env, rows=7, columns=60) as terminal:
        for text in ("12 running", " step ", "… and 8 more"):
            terminal.wait_for(text)

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
        assert f"task {task.id} keeps running and will be billed" in terminal.text
        assert f"cyberun-async watch {task.id}" in terminal.text
        assert task.state == "running"


def test_the_key_is_asked_for_and_never_shown(sim: Simulator, env: Mapping[str, str]) -> None:
    """Without a key in the environment a person types it, unseen."""
    keyless = {name: value for name, value in env.items() if name != "CYBERUN_API_KEY"}
    with Terminal("workflows", env=keyless) as terminal:
        terminal.wait_for("API key:")
        terminal.wait_until_unseen()
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


@pytest.mark.parametrize(
    ("arguments", "echo"),
    [
        pytest.param(("run", "text-to-image", "--parameters", "-"), '{"prompt":', id="run"),
        pytest.param(("batch", "/dev/stdin", "--ledger", "a.ledger"), '{"key":', id="batch"),
    ],
)
def test_ctrl_c_ends_what_reads_from_the_terminal(
    arguments: tuple[str, ...], echo: str, env: Mapping[str, str], tmp_path: Path
) -> None:
    """Whoever is typing what is to be sent gets out with one Ctrl-C, and nothing is left."""
    with Terminal(*arguments, env=env, cwd=tmp_path) as terminal:
        # A whole line: the terminal throws an unfinished one away at Ctrl-C.
        terminal.type(f"{echo}\n")
        terminal.wait_for(echo)
        terminal.wait_until_read()
        terminal.type("\x03")

        assert terminal.wait() == 130
        assert "Traceback" not in terminal.text
        assert terminal.is_as_before()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_batch_goes_on_where_it_was(
    sim: Simulator, env: Mapping[str, str], tmp_path: Path
) -> None:
    """Ctrl-C leaves the ledger sound: the same command submits no job again and ends well."""
    jobs = [
        {"key": f"fox-{n}", "workflow": "text-to-image", "parameters": {"prompt": f"fox {n}"}}
        for n in range(6)
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)), encoding="utf-8")
    sim.default_plan = SLOW
    command = ("batch", "jobs.jsonl", "--concurrency", "4", "--out", "pictures")
    with Terminal(*command, env=env, cwd=tmp_path) as terminal:
        text = terminal.wait_for(lambda text: text.count("step ") == 4 and "2 planned" in text)
        shown = [line.split()[0] for line in text.splitlines() if "step " in line]
        assert sorted(shown) == [f"fox-{n}" for n in range(4)]
        terminal.type("\x03")
        code = terminal.wait()

        assert code == 130
        assert terminal.is_as_before()
        assert "go on with: cyberun-async batch jobs.jsonl --concurrency 4" in terminal.text
    sim.default_plan = QUICK
    sim.advance(120.0)
    with Terminal(*command, env=env, cwd=tmp_path) as terminal:
        assert terminal.wait() == 0, terminal.text
        assert "6 of 6 jobs have an outcome (6 completed)" in terminal.text
    assert len(sim.submissions) == len(jobs)
    assert len(list((tmp_path / "pictures").rglob("*.png"))) == len(jobs)
