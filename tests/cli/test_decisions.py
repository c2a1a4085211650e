"""What the command line decides without a terminal, a clock or a network."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cyberun_async import (
    AuthenticationError,
    ConfigurationError,
    CyberunError,
    FailedEvent,
    InvalidInputError,
    NotFoundError,
    ParameterError,
    PermissionDeniedError,
    PollingStarted,
    ProgressEvent,
    ProgressUpdate,
    RateLimitedError,
    ServiceUnavailableError,
    StatusEvent,
    StreamLost,
    TaskCancelledError,
    TaskFailedError,
    TransferError,
    WaitTimeoutError,
)
from cyberun_async.batch import BatchPolicy
from cyberun_async.cli._batch import Plan
from cyberun_async.cli._exit_codes import Ending, ExitCode, exit_code_of, overall
from cyberun_async.cli._format import (
    as_line,
    clean,
    error_line,
    error_record,
    harmless,
    line_of,
    record_of,
)
from cyberun_async.cli._live_table import LiveTable, clock
from cyberun_async.cli._values import object_of, parameter_of, parameters_of


ID = "0f6c5ed0-0b65-4d5c-9d6a-0a1f6c0e7d11"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("prompt=a fox", ("prompt", "a fox"), id="text"),
        pytest.param("steps=20", ("steps", 20), id="number"),
        pytest.param("upscale=true", ("upscale", True), id="truth"),
        pytest.param('prompt="20"', ("prompt", "20"), id="quoted"),
        pytest.param("a=b=c", ("a", "b=c"), id="equals-in-value"),
        pytest.param("image=@in.png", ("image", Path("in.png")), id="file"),
        pytest.param("prompt=@@home", ("prompt", "@home"), id="at-sign"),
        pytest.param("prompt=NaN", ("prompt", "NaN"), id="no-json-number"),
        pytest.param("prompt=", ("prompt", ""), id="empty"),
    ],
)
def test_a_parameter_is_json_a_file_or_text(text: str, expected: tuple[str, Any]) -> None:
    """What is typed behind the sign is JSON where it is JSON, a file behind @, or else text."""
    assert parameter_of(text) == expected


@pytest.mark.parametrize("pairs", [["steps"], ["=20"], ["a=1", "a=2"]])
def test_a_malformed_parameter_is_refused(pairs: list[str]) -> None:
    """A parameter without key or sign, or given twice, is the caller's mistake."""
    with pytest.raises(InvalidInputError):
        parameters_of(pairs, {})


@pytest.mark.parametrize("text", ["[1]", "{", '"x"'])
def test_a_file_of_parameters_holds_an_object(text: str) -> None:
    """Parameters from a file are one JSON object; what is typed beside them wins."""
    with pytest.raises(InvalidInputError, match=r"run\.json"):
        object_of(text, "run.json")

    assert parameters_of(["a=2"], object_of('{"a": 1, "b": 3}', "run.json")) == {"a": 2, "b": 3}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TaskFailedError(task_id=ID), ExitCode.FAILED),
        (TaskCancelledError(task_id=ID), ExitCode.CANCELLED),
        (WaitTimeoutError(task_id=ID, timeout=1.0), ExitCode.TIMED_OUT),
        (ConfigurationError("no key"), ExitCode.KEY),
        (AuthenticationError(status=401), ExitCode.KEY),
        (PermissionDeniedError(status=403), ExitCode.KEY),
        (NotFoundError(status=404), ExitCode.NOT_FOUND),
        (RateLimitedError(status=429), ExitCode.REFUSED),
        (ParameterError(["no"]), ExitCode.USAGE),
        (ServiceUnavailableError("gone"), ExitCode.UNREACHABLE),
        (TransferError("cut"), ExitCode.TRANSFER),
        (CyberunError("other"), ExitCode.UNREACHABLE),
    ],
    ids=lambda value: value.name if isinstance(value, ExitCode) else type(value).__name__,
)
def test_each_error_has_its_exit_code(error: CyberunError, code: ExitCode) -> None:
    """A script learns from the exit code what it could do."""
    assert exit_code_of(error) is code
    assert error_record(error)["exit_code"] == code


def test_every_exit_code_has_a_meaning() -> None:
    """No code is left unexplained."""
    assert all(code.meaning for code in ExitCode)
    assert [int(code) for code in ExitCode] == sorted({int(code) for code in ExitCode})


def test_the_worst_ending_decides() -> None:
    """A task that could not be followed comes before one that failed, and that before success."""
    done = Ending(task_id="a", status="completed")
    failed = Ending(task_id="b", status="failed")
    lost = Ending(task_id="c", error=ServiceUnavailableError("gone"))

    assert overall([done, done]) is ExitCode.DONE
    assert overall([done, failed]) is ExitCode.FAILED
    assert overall([failed, done, lost]) is ExitCode.UNREACHABLE


def test_a_terminal_obeys_nothing_that_a_task_said() -> None:
    """Escape sequences in a server's words never reach the terminal."""
    event = FailedEvent(task_id=ID, error="boom \x1b[2J\r\x07 again\nline")

    assert line_of(event) == "failed: boom [2J again line"
    assert clean("x" * 400) == "x" * 299 + "…"
    assert harmless("a  b\n\x1b[2Jc") == "a  b\n\ufffd[2Jc"


def test_a_record_holds_all_fields_but_the_raw() -> None:
    """A JSON line has the event's own names and nothing that is empty."""
    event = ProgressEvent(task_id=ID, progress=0.5, step_current=1, step_total=2, raw={"x": 1})
    lost = StreamLost(task_id=ID, cause="reset", delay=1.5)

    assert as_line(record_of(event)) == (
        f'{{"type": "progress", "task_id": "{ID}", "attempt": 1, "origin": "stream", '
        '"progress": 0.5, "step_current": 1, "step_total": 2}'
    )
    assert record_of(lost) == {"type": "stream_lost", "task_id": ID, "cause": "reset", "delay": 1.5}


def table_of(*statuses: str) -> LiveTable:
    table = LiveTable(0.0, total=len(statuses))
    for index, status in enumerate(statuses):
        task_id = f"task-{index:08}"
        table.begin(task_id, float(index))
        table.apply(StatusEvent(task_id=task_id, status=status), float(index))
    return table


def test_what_runs_is_shown_first() -> None:
    """Where a screen is too low, waiting tasks give way to running ones, in a steady order."""
    table = table_of("queued", "running", "queued", "running")

    rows, hidden = table.visible(3)

    assert [row.name for row in rows] == ["…00000001", "…00000003"]
    assert hidden == 2
    assert [row.name for row in table.visible(4)[0]] == [f"…{i:08}" for i in range(4)]


def test_the_summary_counts_every_task() -> None:
    """Running, waiting and ended tasks are counted, the shown and the hidden alike."""
    table = table_of("queued", "running", "running")
    table.apply(FailedEvent(task_id="task-00000002", error="boom"), 9.0)

    assert table.summary(65.0) == "1 running · 1 waiting · 1 of 3 ended (1 failed) · 1:05"
    assert table.ends == Counter(failed=1)


def test_a_batch_forgets_the_lines_of_what_has_ended() -> None:
    """A table that keeps no ended tasks stays as small as what is under way."""
    table = LiveTable(0.0, keeps_ended=False)
    table.begin(ID, 0.0)
    table.apply(FailedEvent(task_id=ID), 1.0)
    table.apply(StatusEvent(task_id=ID, status="running"), 2.0)

    assert table.rows == {}
    assert table.ends == Counter(failed=1)


def test_trouble_is_shown_until_it_is_over() -> None:
    """A lost stream stands on the task's line until it streams again."""
    table = table_of("running")
    table.apply(StreamLost(task_id="task-00000000", cause="reset", delay=1.0), 1.0)
    lost = table.rows["task-00000000"].note
    table.apply(PollingStarted(task_id="task-00000000", cause="refused"), 2.0)
    polling = table.rows["task-00000000"].note
    table.apply_update(ProgressUpdate(task_id="task-00000000", status="running", is_live=True), 3.0)

    assert (lost, polling) == ("stream lost, reconnecting (reset)", "polling, no live progress")
    assert table.rows["task-00000000"].note == ""


def test_time_reads_as_a_clock() -> None:
    """Seconds are shown as minutes and, where need be, hours."""
    assert [clock(s) for s in (0.0, 59.9, 61.0, 3723.0)] == ["0:00", "0:59", "1:01", "1:02:03"]


def test_the_way_on_has_no_decision_that_was_taken() -> None:
    """What is run again decides only what is not decided yet, however it was written."""
    arguments = ("batch", "a=skip", "--decide", "a=skip", "--decide=b=skip", "--decide", "c=skip")
    plan = Plan(
        ledger="a.ledger",
        durable=False,
        decisions=("a=skip", "b=skip", "c=skip"),
        policy=BatchPolicy(),
        again=(*arguments, "--json"),
    )

    assert plan.resume_command({"a=skip", "b=skip"}) == (
        "go on with: cyberun-async batch a=skip --decide c=skip --json"
    )


def test_what_was_noted_on_an_error_is_reported() -> None:
    """What went wrong besides, as the cancellation of the rest, is not kept from anybody."""
    error = CyberunError("the batch was stopped")
    bare = error_record(error)
    error.add_note("a task could not be cancelled: \x1b[2J")

    assert error_line(error) == (
        "error: the batch was stopped\n  a task could not be cancelled: \ufffd[2J"
    )
    assert "notes" not in bare
    assert error_record(error)["notes"] == ["a task could not be cancelled: \x1b[2J"]
