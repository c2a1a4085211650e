"""The live table: what is known of each task, which lines fit on a screen, and how they look."""

from collections import Counter
from collections.abc import Iterable, Mapping

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


# The end of an id tells tasks apart; its beginning is the time of their creation.
SHORT_ID = 8
_ENDS = ("completed", "failed", "cancelled")


@attrs.define
class Row:
    """One task: its newest state, what troubles its watch, and its times by the loop's clock."""

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
        """Where it stands: what runs comes first, what has ended last."""
        if self.ended is not None:
            return 2
        return 0 if self.status == "running" else 1


@attrs.frozen
class Summary:
    """Tasks by what they are doing, how many that should become, and for how long."""

    running: int
    waiting: int
    ends: Counter[str]
    total: int | None
    seconds: float

    @property
    def text(self) -> str:
        """Say it in one line."""
        ended = sum(self.ends.values())
        parts = [f"{self.running} running"]
        if self.waiting:
            parts.append(f"{self.waiting} waiting")
        of_all = f" of {self.total}" if self.total is not None else ""
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.ends.items()))
        parts.append(f"{ended}{of_all} ended" + (f" ({kinds})" if kinds else ""))
        return " · ".join([*parts, clock(self.seconds)])


@attrs.define
class LiveTable:
    """
    Takes what happens, and says what a screen of some height shows.

    Args:
        keeps_ended: Whether a task that ended keeps its line; a batch's does not.
        names: What tasks are called, by id, asked when one gets its line; others by the end
            of their id.
        total: How many tasks there will be, where that is known.
    """

    began: float
    keeps_ended: bool = True
    names: Mapping[str, str] = attrs.field(factory=dict[str, str])
    total: int | None = None
    rows: dict[str, Row] = attrs.field(factory=dict[str, Row], init=False)
    ends: Counter[str] = attrs.field(factory=Counter[str], init=False)

    def begin(self, task_id: str, now: float) -> None:
        """Give a task its line."""
        if task_id not in self.rows:
            name = self.names.get(task_id, short(task_id))
            self.rows[task_id] = Row(name, ProgressUpdate(task_id=task_id), now)

    def show(self, update: ProgressUpdate, now: float) -> None:
        """Take what the progress view of a task says."""
        self.begin(update.task_id, now)
        row = self.rows[update.task_id]
        row.update = update
        if update.is_live:
            row.note = ""
        if update.is_final:
            self._end(update.task_id, update.status or "", now)

    def take(self, item: Event | Notice, now: float) -> None:
        """Take what the client's observer is told."""
        if not isinstance(item, Event):
            self._notice(item)
            return
        row = self.rows.get(item.task_id)
        if row is None or row.ended is not None:
            return
        match item:
            case StatusEvent(status=status):
                row.update = attrs.evolve(row.update, status=clean(status), attempt=item.attempt)
            case ProgressEvent():
                row.update = _with_tick(row.update, item)
                row.note = ""
            case CompletedEvent() | FailedEvent() | CancelledEvent():
                row.update = attrs.evolve(row.update, status=item.status, end=item)
                self._end(item.task_id, item.status, now)
            case _:
                row.note = note_of(item)

    def _notice(self, notice: Notice) -> None:
        row = self.rows.get(notice.task_id)
        if row is None or row.ended is not None:
            return
        match notice:
            case Connected() | Gap():
                pass
            case PollingStarted():
                # Why is of interest only until it has been read once: the state tells the rest.
                row.note = "polling, no live progress"
                row.update = attrs.evolve(row.update, is_live=False)
            case _:
                row.note = note_of(notice)

    def leave(self, task_id: str, now: float) -> None:
        """Hear that a task is followed no longer, though it has not ended."""
        row = self.rows.get(task_id)
        if row is not None and row.ended is None:
            row.ended = now
            # How it was followed is of no interest any more.
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

    def summary(self, now: float) -> Summary:
        """Count."""
        ranks = Counter(row.rank for row in self.rows.values())
        return Summary(ranks[0], ranks[1], self.ends, self.total, now - self.began)

    def clock(self, now: float) -> str:
        """Say how long it has taken until *now*."""
        return clock(now - self.began)

    def visible(self, room: int) -> tuple[list[Row], int]:
        """Return the rows for *room* lines, and how many were left out."""
        rows = sorted(self.rows.values(), key=_place)
        if len(rows) <= room:
            return _as_begun(rows), 0
        shown = max(0, room - 1)
        return _as_begun(rows[:shown]), len(rows) - shown


def short(task_id: str) -> str:
    """Return enough of *task_id* to tell it from others on one screen."""
    return task_id if len(task_id) <= SHORT_ID else f"…{task_id[-SHORT_ID:]}"


def _place(row: Row) -> tuple[int, float]:
    # Of those that ended, the newest stay longest.
    return (row.rank, row.began if row.ended is None else -row.ended)


def _as_begun(rows: Iterable[Row]) -> list[Row]:
    # Lines that change places cannot be read.
    return sorted(rows, key=lambda row: row.began)


def _with_tick(update: ProgressUpdate, tick: ProgressEvent) -> ProgressUpdate:
    return attrs.evolve(
        update,
        status="running",
        attempt=tick.attempt,
        progress=tick.progress,
        step_current=tick.step_current,
        step_total=tick.step_total,
        stage=tick.stage,
        is_live=True,
    )


def clock(seconds: float) -> str:
    """Return *seconds* as ``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


_COLOURS = {"completed": "green", "failed": "red", "cancelled": "magenta", "running": "cyan"}
_BAR_WIDTH = 24
_NARROW = 72
# The summary, and the line that the cursor stands on.
_OTHER_LINES = 2


def picture(
    board: LiveTable, now: float, *, width: int, height: int, summary: str | None = None
) -> RenderableType:
    """Return what a screen of *width* and *height* shows at *now*; never higher than that."""
    rows, hidden = board.visible(room_of(height))
    table = Table.grid(padding=(0, 1), expand=False)
    has_bars = width >= _NARROW
    _columns(table, has_bars=has_bars)
    for row in rows:
        table.add_row(*_cells(row, now, has_bars=has_bars))
    lines: list[RenderableType] = [table] if rows else []
    if hidden:
        lines.append(Text(f"… and {hidden} more", style="dim", no_wrap=True))
    counts = board.summary(now).text if summary is None else clean(summary)
    return Group(*lines, Text(counts, style="bold", no_wrap=True, overflow="ellipsis"))


def room_of(height: int) -> int:
    """Return how many tasks fit on a screen of *height* lines."""
    return max(1, height - _OTHER_LINES)


def _columns(table: Table, *, has_bars: bool) -> None:
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=24)
    if has_bars:
        table.add_column(width=_BAR_WIDTH)
    table.add_column(min_width=5, justify="right", no_wrap=True)
    table.add_column(no_wrap=True, justify="right", min_width=5)
    table.add_column(no_wrap=True, overflow="ellipsis")


def _cells(row: Row, now: float, *, has_bars: bool) -> list[RenderableType]:
    time = clock((now if row.ended is None else row.ended) - row.began)
    colour = _COLOURS.get(row.status, "")
    cells: list[RenderableType] = [Text(clean(row.name))]
    if has_bars:
        cells.append(_bar(row, colour, now))
    words = Text(clean(words_of(row)), style="yellow" if row.note else colour)
    return [*cells, Text(_share(row)), Text(time, style="dim"), words]


def _bar(row: Row, colour: str, now: float) -> RenderableType:
    if row.status == "completed":
        return ProgressBar(total=1.0, completed=1.0, width=_BAR_WIDTH, finished_style="green")
    if row.ended is None and row.status == "running" and not row.update.is_live:
        return ProgressBar(
            total=None, width=_BAR_WIDTH, pulse=True, animation_time=now, pulse_style="yellow"
        )
    done = row.update.progress or 0.0
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


def words_of(row: Row) -> str:
    """Return what stands behind a row's bar: its trouble, or how far it is."""
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
