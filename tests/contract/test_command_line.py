"""The command line where something around it is wrong: one sentence, and a code."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from cyberun_async.testing import Simulator, faults


@pytest.fixture
def env(cyberun_environment: Simulator) -> Mapping[str, str]:
    """The environment of a user of the simulator."""
    # What some machines set, and which changes when a write fails.
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


COMMAND = (sys.executable, "-m", "cyberun_async")
RUN = ("run", "text-to-image", "-p", "prompt=a fox")


def said_by(
    shell: str, env: Mapping[str, str], *arguments: str, stdin: bytes | None = None
) -> tuple[int, str, str]:
    """Run the program with *arguments* and the redirections that *shell* has."""
    words = ["/bin/sh", "-c", f'"$@" {shell}', "sh", *COMMAND, *arguments]
    done = subprocess.run(words, env=env, input=stdin, capture_output=True, timeout=50, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def assert_a_sentence(said: str, *words: str) -> None:
    assert "Traceback" not in said
    assert len(said.strip().splitlines()) == 1, said
    for word in words:
        assert word in said


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


@FULL
@pytest.mark.parametrize("how", [(), ("--detach",), ("--json",), ("--json", "--detach")])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_the_id_of_a_paid_task_survives_a_full_disk(
    how: Sequence[str], unbuffered: str, sim: Simulator, env: Mapping[str, str]
) -> None:
    """Where the id cannot be written to standard output, it is said on standard error."""
    env = {**env, "PYTHONUNBUFFERED": unbuffered}
    code, _, said = said_by(">/dev/full", env, *RUN, *how)

    [submission] = sim.submissions
    assert code == 13
    assert "Traceback" not in said
    assert "standard output cannot be written: No space left on device" in said
    assert submission.task_id in said


def test_the_id_of_a_paid_task_survives_a_reader_that_has_gone(
    sim: Simulator, env: Mapping[str, str]
) -> None:
    """Where nobody reads standard output any more, so it is; the code stays that of the pipe."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, *RUN, "--detach"],
        env=env,
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=50,
        check=False,
    )
    os.close(write)

    [submission] = sim.submissions
    assert done.returncode == 141
    assert submission.task_id in done.stderr.decode()


@FULL
@pytest.mark.parametrize("arguments", [("workflows",), ("--help",), ("--version",), ("demo",)])
def test_a_disk_that_is_full_is_said_in_a_sentence(
    arguments: Sequence[str], env: Mapping[str, str]
) -> None:
    """Every command says that its output cannot be written, and ends with the code for it."""
    code, _, said = said_by(">/dev/full", env, *arguments)

    assert code == 13
    assert_a_sentence(said, "standard output cannot be written")


@pytest.mark.parametrize("arguments", [RUN, ("workflows",), ("--help",)])
def test_without_standard_output_nothing_is_begun(
    arguments: Sequence[str], sim: Simulator, env: Mapping[str, str]
) -> None:
    """A closed standard output is said before a run is paid for."""
    code, _, said = said_by(">&-", env, *arguments)

    assert code == 13
    assert_a_sentence(said, "standard output is closed")
    assert sim.submissions == []


@pytest.mark.parametrize("shell", ["2>&-", "<&-", "<&- 2>&-"])
def test_the_other_streams_may_be_closed(shell: str, env: Mapping[str, str]) -> None:
    """Without standard input or standard error a command works."""
    code, output, _ = said_by(shell, env, *RUN, "--json")

    assert code == 0
    assert json.loads(output.splitlines()[0])["type"] == "submitted"


@pytest.mark.parametrize("module", ["cyberun_async", "cyberun_async.testing"])
def test_a_port_that_is_used_is_named(module: str) -> None:
    """To serve where something serves already is a mistake in the command."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = [sys.executable, "-m", module]
        words += ["simulate"] if module == "cyberun_async" else []
        done = subprocess.run(
            [*words, "--port", str(port)], capture_output=True, timeout=50, check=False
        )

    said = done.stderr.decode()
    assert done.returncode == 2
    assert_a_sentence(said.splitlines()[-1], str(port), "Address already in use")
    assert "Traceback" not in said


def test_a_key_file_may_begin_with_a_mark(
    sim: Simulator, env: Mapping[str, str], tmp_path: Path
) -> None:
    """A key that an editor saved with a byte order mark is the key, from a file and a pipe."""
    file = tmp_path / "key"
    file.write_bytes(b"\xef\xbb\xbf" + sim.key.encode() + b"\r\n")
    file.chmod(0o600)
    without = {name: value for name, value in env.items() if name != "CYBERUN_API_KEY"}

    assert said_by("", without, "workflows", "--key-file", str(file))[0] == 0
    assert said_by(f"<{file}", without, "workflows", "--key-file", "-")[0] == 0


@pytest.mark.parametrize(
    "content", [b"\xff\xfes\x00k\x00", b"\xff", b""], ids=["utf16", "odd", "empty"]
)
@pytest.mark.parametrize("shell", ["", "<"])
def test_a_key_file_that_holds_no_key_is_said(
    content: bytes, shell: str, env: Mapping[str, str], tmp_path: Path
) -> None:
    """What is no text, or nothing, is a key that is missing."""
    file = tmp_path / "key"
    file.write_bytes(content)
    file.chmod(0o600)
    without = {name: value for name, value in env.items() if name != "CYBERUN_API_KEY"}
    code, _, said = said_by(
        f"<{file}" if shell else "", without, "workflows", "--key-file", "-" if shell else str(file)
    )

    assert code == 5
    assert_a_sentence(said)


DEEP = b"[" * 100_000 + b"]" * 100_000
ODD: Mapping[str, bytes] = {
    "deep": b'{"prompt": ' + DEEP + b"}",
    "not-a-number": b'{"steps": NaN}',
    "no-text": b'{"prompt": "\xff"}',
    "huge-number": b'{"steps": ' + b"9" * 5000 + b"}",
    "list": b"[]",
    "nothing": b"",
    "half-a-letter": b'{"prompt": "\\ud800"}',
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("shell", ["", "<"])
def test_parameters_that_are_no_json_are_said_before_anything_is_sent(
    name: str, shell: str, sim: Simulator, env: Mapping[str, str], tmp_path: Path
) -> None:
    """Odd JSON of a file or a pipe is a mistake in the command, in one sentence."""
    file = tmp_path / "run.json"
    file.write_bytes(ODD[name])
    code, _, said = said_by(
        f"<{file}" if shell else "", env, "run", "text-to-image", "--parameters",
        "-" if shell else str(file),
    )  # fmt: skip

    assert code == 2
    assert_a_sentence(said)
    assert len(said) < 500
    assert sim.submissions == []


def test_parameters_may_begin_with_a_mark(
    sim: Simulator, env: Mapping[str, str], tmp_path: Path
) -> None:
    """JSON with a byte order mark is read, from a file and a pipe."""
    file = tmp_path / "run.json"
    file.write_bytes(b'\xef\xbb\xbf{"prompt": "a fox"}')
    for shell, source in (("", str(file)), (f"<{file}", "-")):
        words = ("run", "text-to-image", "--parameters", source, "--detach")
        assert said_by(shell, env, *words)[0] == 0
    assert len(sim.submissions) == 2


def test_deep_json_of_jobs_and_values_is_no_bug(
    sim: Simulator, env: Mapping[str, str], tmp_path: Path
) -> None:
    """A line of jobs that is nested too deeply is named by its number."""
    jobs = tmp_path / "jobs.jsonl"
    jobs.write_bytes(b'{"key": "a", "workflow": "text-to-image", "parameters": ' + DEEP + b"}")
    code, _, said = said_by("", env, "batch", str(jobs), "--ledger", str(tmp_path / "l.sqlite"))

    assert code == 2
    assert "jobs.jsonl:1" in said
    assert "nested too deeply" in said
    assert "Traceback" not in said
    assert sim.submissions == []


@pytest.mark.parametrize("value", ["[" * 50_000, "\udcff"])
def test_odd_values_of_parameters_are_no_bug(
    value: str, sim: Simulator, env: Mapping[str, str]
) -> None:
    """What an argument holds is JSON, or a text, or a mistake in the command."""
    code, _, said = said_by("", env, "run", "text-to-image", "-p", f"prompt={value}", "--detach")

    assert code in {0, 2}
    assert "Traceback" not in said


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_page_of_a_proxy_blames_neither_key_nor_workflow(
    status: int, sim: Simulator, env: Mapping[str, str]
) -> None:
    """It is not the service's own answer, so the code is that of a service not understood."""
    sim.faults.add("workflows", faults.refuse(status, body="<html>no</html>"))
    code, _, said = said_by("", env, "workflows")

    assert code == 8
    assert "proxy" in said
