"""What the screen shows for a state, without a terminal."""

import io

import pytest
from rich.console import Console

from cyberun_async import CompletedEvent, FailedEvent, PollingStarted, ProgressUpdate, StatusEvent
from cyberun_async.cli._live_table import LiveTable, render


def drawn(table: LiveTable, now: float, *, width: int, height: int) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(render(table, now, width=width, height=height))
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def some_table() -> LiveTable:
    table = LiveTable(0.0, names={"a": "fox", "b": "lighthouse", "c": "robot"}, total=5)
    for index, name in enumerate("abcde"):
        table.begin(name, 0.0 + index / 10)
    table.apply_update(
        ProgressUpdate(
            task_id="a",
            status="running",
            progress=0.5,
            step_current=10,
            step_total=20,
            seconds_left=8.0,
            is_live=True,
        ),
        5.0,
    )
    table.apply(StatusEvent(task_id="b", status="running"), 5.0)
    table.apply(PollingStarted(task_id="b", cause="refused"), 5.0)
    table.apply(FailedEvent(task_id="c", error="boom \x1b[2J"), 5.2)
    table.apply(CompletedEvent(task_id="d"), 5.3)
    return table


WIDE = """\
fox        ━━━━━━━━━━━━              50 %  1:05 step 10/20 · about 8 s left
lighthouse ━━━━━━━━━━━━━━━━━━━━━━━━        1:04 polling, no live progress
robot                                      0:05 failed · boom [2J
d          ━━━━━━━━━━━━━━━━━━━━━━━━ 100 %  0:05 completed
e                                          1:04 submitted
2 running · 1 waiting · 2 of 5 ended (1 completed, 1 failed) · 1:05"""
LOW = """\
fox       50 %  1:05 step 10/20 · about
lightho…        1:04 polling, no live pr
… and 3 more
2 running · 1 waiting · 2 of 5 ended (1…"""


def test_each_task_is_a_line_above_the_counts() -> None:
    """Bar, share, time and words stand on one line for each task; the last line counts."""
    assert drawn(some_table(), 65.0, width=80, height=24) == WIDE


def test_a_narrow_and_low_screen_shows_what_matters() -> None:
    """Without room bars go first, then what waits or has ended; no line is wrapped."""
    assert drawn(some_table(), 65.0, width=40, height=5) == LOW


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 24])
@pytest.mark.parametrize("width", [20, 40, 72, 200])
def test_a_picture_is_no_higher_than_its_screen(width: int, height: int) -> None:
    """Whatever the size of a terminal, its lines suffice, but for one too low for two lines."""
    lines = drawn(some_table(), 65.0, width=width, height=height).splitlines()

    assert len(lines) <= max(2, height - 1)
    assert max(map(len, lines)) <= width


def test_a_batch_counts_for_itself() -> None:
    """Where more is known than what is followed, that is the last line."""
    text = drawn(LiveTable(0.0, counts=lambda: "3 of 9 jobs"), 3.0, width=80, height=24)

    assert text == "3 of 9 jobs · 0:03"
