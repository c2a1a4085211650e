"""Three kinds of output: JSON lines, plain lines, and a live table on a terminal."""

import errno
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio
import click
from anyio.abc import TaskGroup
from rich.console import Console
from rich.live import Live
from rich.text import Text

from .. import CyberunClient, CyberunError, Event, Notice, Observer, ProgressEvent, ProgressUpdate
from ._exit_codes import OutputError
from ._format import as_line, error_line, error_record, harmless, line_of, mark_of, record_of
from ._live_table import LiveTable, picture, room_of


_VIEW_INTERVAL = 0.2


class Spotlight:
    """
    Follows whichever tasks a board shows, so that their bars move.

    A batch itself asks for no progress: streams cost, and its ledger needs none.
    """

    def __init__(self, client: CyberunClient, board: LiveTable) -> None:
        self._client = client
        self._table = board
        self._scopes: dict[str, anyio.CancelScope] = {}

    def turn(self, group: TaskGroup, room: int) -> None:
        """Follow what *room* lines of the board show now, with tasks of *group*."""
        rows, _ = self._table.visible(room)
        wanted = {row.update.task_id for row in rows if row.status == "running"}
        for task_id in self._scopes.keys() - wanted:
            self._scopes.pop(task_id).cancel()
        for task_id in wanted - self._scopes.keys():
            self._scopes[task_id] = anyio.CancelScope()
            group.start_soon(self._follow, task_id, self._scopes[task_id])

    def stop(self) -> None:
        """Follow nothing any more."""
        for scope in self._scopes.values():
            scope.cancel()
        self._scopes.clear()

    async def _follow(self, task_id: str, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                view = self._client.progress(task_id, min_interval=_VIEW_INTERVAL)
                async with view as updates:
                    async for update in updates:
                        self._show(update)
            except CyberunError:
                # The batch follows the task as well, and is the one that tells of errors.
                return

    def _show(self, update: ProgressUpdate) -> None:
        # A line that is gone is not brought back by the last word about it.
        if update.task_id in self._table.rows and not update.is_final:
            self._table.show(update, anyio.current_time())


_FRAMES_PER_SECOND = 10.0
_WRITE_ERRORS = frozenset(
    {errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EINVAL, errno.EIO, errno.ENOSPC, errno.ENXIO}
)


class Output(ABC):
    """What the commands talk to."""

    observer: Observer | None = None
    is_live: bool = False

    @abstractmethod
    def tell(self, line: str, record: Mapping[str, Any]) -> None:
        """Say one thing, as a line to people and as a record to programs."""

    @abstractmethod
    def happened(self, item: Event | Notice) -> None:
        """Pass on what happened to a task."""

    @contextmanager
    def showing(
        self,
        *,
        total: int | None = None,
        keeps_ended: bool = True,
        names: Mapping[str, str] | None = None,
        summary: Callable[[], str] | None = None,
        lit_by: CyberunClient | None = None,
    ) -> Generator[None]:
        """
        Show progress as long as the block lasts, where that is done at all.

        Args:
            total: How many tasks there will be.
            keeps_ended: Whether tasks that ended keep their lines.
            names: What tasks are called, by id, as they get to be known.
            summary: Says the last line, where it counts more than what is followed.
            lit_by: Follows what is shown by name and would otherwise have no progress.
        """
        del total, keeps_ended, names, summary, lit_by
        yield

    async def follow(
        self, client: CyberunClient, task_id: str, *, cancel_on_exit: bool = False
    ) -> str | None:
        """Follow one task to its end, tell of it meanwhile, and return its final status."""
        status = None
        async with client.watch(task_id, notices=True, cancel_on_exit=cancel_on_exit) as events:
            async for item in events:
                self.happened(item)
                status = getattr(item, "status", status)
        return status

    def problem(self, error: CyberunError) -> None:
        """Say what went wrong, on standard error."""
        click.echo(error_line(error), err=True)

    def hint(self, line: str) -> None:
        """Say how to go on, on standard error."""
        click.echo(line, err=True)

    async def draw(self) -> None:
        """Keep up what is shown, until cancelled."""
        return

    def close(self) -> None:
        """Leave the terminal as it was, whatever comes."""
        return


class JsonOutput(Output):
    """One JSON object a line, flushed, so that a program can read along."""

    def tell(self, line: str, record: Mapping[str, Any]) -> None:
        """Write the record."""
        del line
        click.echo(as_line(record))

    def happened(self, item: Event | Notice) -> None:
        """Write it as a record."""
        click.echo(as_line(record_of(item)))

    def problem(self, error: CyberunError) -> None:
        """Write it as a record, on standard error."""
        click.echo(as_line(error_record(error)), err=True)

    def hint(self, line: str) -> None:
        """Write it as a record, on standard error, where a program reads errors."""
        click.echo(as_line({"type": "hint", "message": line.strip()}), err=True)


class PlainOutput(Output):
    """Plain lines for pipes and logs; of progress, every tenth."""

    def __init__(self) -> None:
        self._marks: dict[str, object] = {}

    def tell(self, line: str, record: Mapping[str, Any]) -> None:
        """Write the line."""
        del record
        if line:
            click.echo(harmless(line))

    def happened(self, item: Event | Notice) -> None:
        """Write a line, unless it would say what the last one said."""
        if isinstance(item, ProgressEvent):
            mark = mark_of(item)
            if self._marks.get(item.task_id) == mark:
                return
            self._marks[item.task_id] = mark
        if line := line_of(item):
            click.echo(f"{item.task_id} {line}")


class LiveTableOutput(Output):
    """A board that is redrawn in place, with everything else printed above it."""

    is_live = True

    def __init__(self, console: Console) -> None:
        self._console = console
        self._table: LiveTable | None = None
        self._live: Live | None = None
        self._summary: Callable[[], str] | None = None
        self._spotlight: Spotlight | None = None
        self.observer = _LiveTableObserver(self)

    def tell(self, line: str, record: Mapping[str, Any]) -> None:
        """Print the line above the board."""
        del record
        if line:
            self._console.print(Text(harmless(line)), soft_wrap=True)

    def problem(self, error: CyberunError) -> None:
        """Print it above the board, where standard error is the same terminal."""
        if self._live is None or not sys.stderr.isatty():
            super().problem(error)
            return
        self._console.print(Text(error_line(error), style="red"), soft_wrap=True)

    def happened(self, item: Event | Notice) -> None:
        """Put it on the board."""
        if self._table is not None:
            self._table.take(item, anyio.current_time())

    def began(self, task_id: str) -> None:
        """Give a task its line on the board."""
        if self._table is not None:
            self._table.begin(task_id, anyio.current_time())

    def left(self, task_id: str) -> None:
        """Hear that a task is followed no longer."""
        if self._table is not None:
            self._table.leave(task_id, anyio.current_time())

    async def follow(
        self, client: CyberunClient, task_id: str, *, cancel_on_exit: bool = False
    ) -> str | None:
        """Follow by the progress view, which knows about the time left."""
        status = None
        view = client.progress(task_id, min_interval=_VIEW_INTERVAL, cancel_on_exit=cancel_on_exit)
        async with view as updates:
            async for update in updates:
                status = update.status
                if self._table is not None:
                    self._table.show(update, anyio.current_time())
        return status

    @contextmanager
    def showing(
        self,
        *,
        total: int | None = None,
        keeps_ended: bool = True,
        names: Mapping[str, str] | None = None,
        summary: Callable[[], str] | None = None,
        lit_by: CyberunClient | None = None,
    ) -> Generator[None]:
        """Show the board, and once more at the end; it is redrawn while :meth:`draw` runs."""
        board = LiveTable(
            anyio.current_time(),
            keeps_ended=keeps_ended,
            # An empty one fills later.
            names={} if names is None else names,
            total=total,
        )
        self._table = board
        self._summary = summary
        self._spotlight = None if lit_by is None else Spotlight(lit_by, board)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            # What is left of a board without its ended tasks tells nobody anything.
            transient=not keeps_ended,
        )
        self._live.start()
        try:
            yield
        finally:
            self._redraw()
            self.close()

    async def draw(self) -> None:
        """Redraw the board some times a second, for ever."""
        async with anyio.create_task_group() as group:
            while True:
                self._redraw()
                if self._spotlight is not None:
                    self._spotlight.turn(group, room_of(self._console.height))
                await anyio.sleep(1 / _FRAMES_PER_SECOND)

    def _redraw(self) -> None:
        if self._live is not None and self._table is not None:
            self._live.update(self._picture(self._table), refresh=True)

    def _picture(self, board: LiveTable) -> Any:
        size, now = self._console.size, anyio.current_time()
        counts = None if self._summary is None else f"{self._summary()} · {board.clock(now)}"
        return picture(board, now, width=size.width, height=size.height, summary=counts)

    def close(self) -> None:
        """Stop redrawing and bring the cursor back."""
        live, self._live = self._live, None
        spotlight, self._spotlight = self._spotlight, None
        self._table = None
        if spotlight is not None:
            spotlight.stop()
        if live is not None:
            live.stop()


class _LiveTableObserver(Observer):
    """Tells a board what the client's watches do."""

    def __init__(self, output: LiveTableOutput) -> None:
        self._output = output

    def watch_began(self, task_id: str) -> None:
        """Give it a line."""
        self._output.began(task_id)

    def received(self, event: Event) -> None:
        """Pass it on."""
        self._output.happened(event)

    def noticed(self, notice: Notice) -> None:
        """Pass it on."""
        self._output.happened(notice)

    def watch_ended(self, task_id: str, outcome: object) -> None:
        """Close its line where it has not ended."""
        del outcome
        self._output.left(task_id)


def output_for(*, as_json: bool) -> Output:
    """Return the way to tell that suits standard output."""
    if as_json:
        return JsonOutput()
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if sys.stdout.isatty() and console.is_terminal and not console.is_dumb_terminal:
        return LiveTableOutput(console)
    return PlainOutput()


def discard_output() -> None:
    """Write nothing more to a reader that has gone; the interpreter's end would try to."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def broken_output(error: OSError) -> OutputError | None:
    """
    Return what to say if *error* came from writing to standard output, and write there no more.

    Files have names in their errors and errors of their own, and so has the network: what is
    left is standard output.
    """
    if error.filename is not None or error.errno not in _WRITE_ERRORS:
        return None
    discard_output()
    return OutputError(f"standard output cannot be written: {error.strerror}")
