"""The board as rich draws it. Nothing is written here."""

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ._format import clean
from ._live_table import LiveTable, Row, clock


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
