"""The live table: what is known of each task, which lines fit on a screen, and how they look."""

from collections import Counter
from collections.abc import Callable, Mapping

import anyio
import attrs
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from .. import (
    CancelledEvent,
    CompletedEvent,
    Connected,
    Event,
    FailedEvent,
    Gap,
    Notice,
    PollingStarted,
    ProgressEvent,
    ProgressUpdate,
    StatusEvent,
)
from ._format import clean, note_of


SHORT_ID = 8
_ENDS = ("completed", "failed", "cancelled")
_COLOURS = {"completed": "green", "failed": "red", "cancelled": "magenta", "running": "cyan"}
_BAR_WIDTH = 24
_NARROW = 72
# The summary, and the line of the cursor.
_OTHER_LINES = 2


@attrs.define
class Row:
    """One task: its newest state, a problem with its watch, and its times by the loop's clock."""

    name: str
    update: ProgressUpdate
    began: float
    note: str = ""
    ended: float | None = None

    @property
    def status(self) -> str:
        """Its state in one word."""
        return self.update.status or "submitted"

    @property
    def rank(self) -> int:
        """Its place: running tasks come first, ended ones last."""
        if self.ended is not None:
            return 2
        return 0 if self.status == "running" else 1


@attrs.define
class LiveTable:
    """
    Collects what happens to tasks, and chooses the lines for a screen of some height.

    Args:
        began: When it began, by the loop's clock; by default now.
        keeps_ended: Whether a task that ended keeps its line; a batch's does not.
        names: Names of tasks by id, looked up when a task gets its line; the others are shown
            by the end of their id.
        total: How many tasks there will be, where that is known.
        counts: Returns the counts for the summary, where it knows more than this table.
    """

    began: float = attrs.field(factory=anyio.current_time)
    keeps_ended: bool = True
    names: Mapping[str, str] = attrs.field(factory=dict[str, str])
    total: int | None = None
    counts: Callable[[], str] | None = None
    rows: dict[str, Row] = attrs.field(factory=dict[str, Row], init=False)
    ends: Counter[str] = attrs.field(factory=Counter[str], init=False)

    def begin(self, task_id: str, now: float) -> None:
        """Give a task its line."""
        if task_id not in self.rows:
            # The end of an id tells tasks apart; its beginning is the time of their creation.
            short = task_id if len(task_id) <= SHORT_ID else f"…{task_id[-SHORT_ID:]}"
            self.rows[task_id] = Row(
                self.names.get(task_id, short), ProgressUpdate(task_id=task_id), now
            )

    def apply_update(self, update: ProgressUpdate, now: float) -> None:
        """Apply an update of a task's progress view."""
        self.begin(update.task_id, now)
        row = self.rows[update.task_id]
        row.update = update
        if update.is_live:
            row.note = ""
        if update.is_final:
            self._end(update.task_id, update.status or "", now)

    def apply(self, item: Event | Notice, now: float) -> None:
        """Apply an event or a notice that the client's observer got."""
        if not isinstance(item, Event):
            self._apply_notice(item)
            return
        row = self.rows.get(item.task_id)
        if row is None or row.ended is not None:
            return
        match item:
            case StatusEvent(status=status):
                row.update = attrs.evolve(row.update, status=clean(status), attempt=item.attempt)
            case ProgressEvent():
                row.update = _with_progress(row.update, item)
                row.note = ""
            case CompletedEvent() | FailedEvent() | CancelledEvent():
                row.update = attrs.evolve(row.update, status=item.status, end=item)
                self._end(item.task_id, item.status, now)
            case _:
                row.note = note_of(item)

    def _apply_notice(self, notice: Notice) -> None:
        row = self.rows.get(notice.task_id)
        if row is None or row.ended is not None:
            return
        match notice:
            case Connected() | Gap():
                pass
            case PollingStarted():
                # Without the cause, which matters only once.
                row.note = "polling, no live progress"
                row.update = attrs.evolve(row.update, is_live=False)
            case _:
                row.note = note_of(notice)

    def leave(self, task_id: str, now: float) -> None:
        """Note that a task is no longer followed, though it has not ended."""
        row = self.rows.get(task_id)
        if row is not None and row.ended is None:
            row.ended = now
            # How it was followed no longer matters.
            row.note = ""
            if not self.keeps_ended:
                del self.rows[task_id]

    def _end(self, task_id: str, status: str, now: float) -> None:
        row = self.rows[task_id]
        if row.ended is not None:
            return
        row.ended = now
        row.note = ""
        self.ends[status if status in _ENDS else "ended"] += 1
        if not self.keeps_ended:
            del self.rows[task_id]

    def summary(self, now: float) -> str:
        """Return the line below the table: how many tasks do what, and for how long."""
        counts = self._count() if self.counts is None else clean(self.counts())
        return f"{counts} · {clock(now - self.began)}"

    def _count(self) -> str:
        ranks = Counter(row.rank for row in self.rows.values())
        parts = [f"{ranks[0]} running"]
        if ranks[1]:
            parts.append(f"{ranks[1]} waiting")
        of_all = f" of {self.total}" if self.total is not None else ""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.ends.items()))
        ended = f"{sum(self.ends.values())}{of_all} ended"
        return " · ".join([*parts, f"{ended} ({kinds})" if kinds else ended])

    def visible(self, room: int) -> tuple[list[Row], int]:
        """Return the rows for *room* lines, and how many were left out."""
        rows = sorted(self.rows.values(), key=_priority)
        shown = len(rows) if len(rows) <= room else max(0, room - 1)
        # In the order of their beginning: lines that change places cannot be read.
        return sorted(rows[:shown], key=lambda row: row.began), len(rows) - shown


def _priority(row: Row) -> tuple[int, float]:
    # Of the tasks that ended, the newest stay longest.
    return (row.rank, row.began if row.ended is None else -row.ended)


def _with_progress(update: ProgressUpdate, event: ProgressEvent) -> ProgressUpdate:
    return attrs.evolve(
        update,
        status="running",
        attempt=event.attempt,
        progress=event.progress,
        step_current=event.step_current,
        step_total=event.step_total,
        stage=event.stage,
        is_live=True,
    )


def clock(seconds: float) -> str:
    """Return *seconds* as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def render(table: LiveTable, now: float, *, width: int, height: int) -> RenderableType:
    """Return what a screen of *width* and *height* shows at *now*; never higher than that."""
    rows, hidden = table.visible(room_of(height))
    grid = Table.grid(padding=(0, 1), expand=False)
    has_bars = width >= _NARROW
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=24)
    if has_bars:
        grid.add_column(width=_BAR_WIDTH)
    grid.add_column(min_width=5, justify="right", no_wrap=True)
    grid.add_column(no_wrap=True, justify="right", min_width=5)
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for row in rows:
        grid.add_row(*_cells(row, now, has_bars=has_bars))
    lines: list[RenderableType] = [grid] if rows else []
    if hidden:
        lines.append(Text(f"… and {hidden} more", style="dim", no_wrap=True))
    return Group(*lines, Text(table.summary(now), style="bold", no_wrap=True, overflow="ellipsis"))


def room_of(height: int) -> int:
    """Return how many tasks fit on a screen of *height* lines."""
    return max(1, height - _OTHER_LINES)


def _cells(row: Row, now: float, *, has_bars: bool) -> list[RenderableType]:
    time = clock((now if row.ended is None else row.ended) - row.began)
    colour = _COLOURS.get(row.status, "")
    cells: list[RenderableType] = [Text(clean(row.name))]
    if has_bars:
        cells.append(_bar(row, colour, now))
    text = Text(clean(_text_of(row)), style="yellow" if row.note else colour)
    return [*cells, Text(_share(row)), Text(time, style="dim"), text]


def _bar(row: Row, colour: str, now: float) -> RenderableType:
    if row.ended is None and row.status == "running" and not row.update.is_live:
        return ProgressBar(
            total=None, width=_BAR_WIDTH, pulse=True, animation_time=now, pulse_style="yellow"
        )
    done = 1.0 if row.status == "completed" else row.update.progress or 0.0
    style = colour or "cyan"
    return ProgressBar(
        total=1.0, completed=done, width=_BAR_WIDTH, complete_style=style, finished_style=style
    )


def _share(row: Row) -> str:
    if row.status == "completed":
        return "100 %"
    if row.update.progress is None or (row.ended is None and not row.update.is_live):
        return ""
    return f"{row.update.progress * 100:.0f} %"


def _text_of(row: Row) -> str:
    """Return the text after a row's bar: its problem, or how far it is."""
    if row.note:
        return row.note
    if row.ended is not None and row.update.end is None:
        return "not followed any more"
    text = row.update.text
    if row.update.status == "running" and row.update.progress is not None:
        # The share has a column of its own.
        share = f"{row.update.progress * 100:.0f} %"
        parts = [part for part in text.split(" · ") if part != share]
        return " · ".join(parts) or "running"
    return text
