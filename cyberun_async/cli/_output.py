"""Three kinds of output: JSON lines, plain lines, and a live table on a terminal."""

import errno
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import anyio
import click
from anyio.abc import TaskGroup
from rich.console import Console
from rich.live import Live
from rich.text import Text

from .. import CyberunClient, CyberunError, Event, Notice, Observer, ProgressEvent
from ._exit_codes import OutputError
from ._format import as_line, error_line, error_record, harmless, line_of, record_of, rough_progress
from ._live_table import LiveTable, render, room_of


_VIEW_INTERVAL = 0.2
_FRAMES_PER_SECOND = 10.0
_WRITE_ERRORS = frozenset(
    {errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EINVAL, errno.EIO, errno.ENOSPC, errno.ENXIO}
)


class Output(ABC):
    """Where the commands report to."""

    observer: Observer | None = None
    is_live: bool = False

    @abstractmethod
    def report(self, line: str, record: Mapping[str, Any]) -> None:
        """Report one thing, as a line for people and as a record for programs."""

    @abstractmethod
    def event(self, item: Event | Notice) -> None:
        """Report what happened to a task."""

    @contextmanager
    def showing(self, table: LiveTable, *, client: CyberunClient | None = None) -> Generator[None]:
        """
        Show *table* as long as the block lasts, where the output has live tables.

        Args:
            table: The table.
            client: Follows the running tasks of the table that nobody else follows.
        """
        del table, client
        yield

    async def follow(
        self, client: CyberunClient, task_id: str, *, cancel_on_exit: bool = False
    ) -> str | None:
        """Follow one task to its end, report its events, and return its final status."""
        status = None
        async with client.watch(task_id, notices=True, cancel_on_exit=cancel_on_exit) as events:
            async for item in events:
                self.event(item)
                status = getattr(item, "status", status)
        return status

    def problem(self, error: CyberunError) -> None:
        """Report an error, on standard error."""
        click.echo(error_line(error), err=True)

    def hint(self, line: str) -> None:
        """Say how to continue, on standard error."""
        click.echo(line, err=True)

    async def draw(self) -> None:
        """Redraw what is shown, until cancelled."""
        return

    def close(self) -> None:
        """Restore the terminal."""
        return


class JsonOutput(Output):
    """One JSON object a line, flushed, so that a program can read along."""

    def report(self, line: str, record: Mapping[str, Any]) -> None:
        """Write the record."""
        del line
        click.echo(as_line(record))

    def event(self, item: Event | Notice) -> None:
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
        self._last_progress: dict[str, object] = {}

    def report(self, line: str, record: Mapping[str, Any]) -> None:
        """Write the line."""
        del record
        if line:
            click.echo(harmless(line))

    def event(self, item: Event | Notice) -> None:
        """Write a line, unless it would repeat the last one."""
        if isinstance(item, ProgressEvent):
            progress = rough_progress(item)
            if self._last_progress.get(item.task_id) == progress:
                return
            self._last_progress[item.task_id] = progress
        if line := line_of(item):
            click.echo(f"{item.task_id} {line}")


class LiveTableOutput(Output, Observer):
    """A table that is redrawn in place, with everything else printed above it."""

    is_live = True

    def __init__(self, console: Console) -> None:
        self._console = console
        self._table: LiveTable | None = None
        self._live: Live | None = None
        self._client: CyberunClient | None = None
        self._followed: dict[str, anyio.CancelScope] = {}
        self.observer = self

    def report(self, line: str, record: Mapping[str, Any]) -> None:
        """Print the line above the table."""
        del record
        if line:
            self._console.print(Text(harmless(line)), soft_wrap=True)

    def problem(self, error: CyberunError) -> None:
        """Print it above the table, where standard error is the same terminal."""
        if self._live is None or not sys.stderr.isatty():
            super().problem(error)
            return
        self._console.print(Text(error_line(error), style="red"), soft_wrap=True)

    def event(self, item: Event | Notice) -> None:
        """Show it in the table."""
        if self._table is not None:
            self._table.apply(item, anyio.current_time())

    # As the observer of the client

    def watch_began(self, task_id: str) -> None:
        """Give the task its line."""
        if self._table is not None:
            self._table.begin(task_id, anyio.current_time())

    def received(self, event: Event) -> None:
        """Show it in the table."""
        self.event(event)

    def noticed(self, notice: Notice) -> None:
        """Show it in the table."""
        self.event(notice)

    def watch_ended(self, task_id: str, outcome: object) -> None:
        """Close the task's line where the task has not ended."""
        del outcome
        if self._table is not None:
            self._table.leave(task_id, anyio.current_time())

    # Showing

    async def follow(
        self, client: CyberunClient, task_id: str, *, cancel_on_exit: bool = False
    ) -> str | None:
        """Follow by the progress view, which knows the time left."""
        status = None
        view = client.progress(task_id, min_interval=_VIEW_INTERVAL, cancel_on_exit=cancel_on_exit)
        async with view as updates:
            async for update in updates:
                status = update.status
                if self._table is not None:
                    self._table.apply_update(update, anyio.current_time())
        return status

    @contextmanager
    def showing(self, table: LiveTable, *, client: CyberunClient | None = None) -> Generator[None]:
        """Show the table, and once more at the end; it is redrawn while :meth:`draw` runs."""
        self._table, self._client = table, client
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            # The rest of a table without its ended tasks is of no use.
            transient=not table.keeps_ended,
        )
        self._live.start()
        try:
            yield
        finally:
            self._redraw()
            self.close()

    async def draw(self) -> None:
        """Redraw the table some times a second, forever."""
        async with anyio.create_task_group() as group:
            while True:
                self._redraw()
                if self._table is not None and self._client is not None:
                    self._follow_visible(group, self._table, self._client)
                await anyio.sleep(1 / _FRAMES_PER_SECOND)

    def _redraw(self) -> None:
        if self._live is not None and self._table is not None:
            size, now = self._console.size, anyio.current_time()
            screen = render(self._table, now, width=size.width, height=size.height)
            self._live.update(screen, refresh=True)

    def _follow_visible(self, group: TaskGroup, table: LiveTable, client: CyberunClient) -> None:
        """
        Follow the running tasks on the screen, so that their bars move, and no others.

        A batch itself follows no progress: streams cost, and its ledger needs none.
        """
        rows, _ = table.visible(room_of(self._console.height))
        wanted = {row.update.task_id for row in rows if row.status == "running"}
        for task_id in self._followed.keys() - wanted:
            self._followed.pop(task_id).cancel()
        for task_id in wanted - self._followed.keys():
            scope = self._followed[task_id] = anyio.CancelScope()
            group.start_soon(_follow_bar, client, table, task_id, scope)

    def close(self) -> None:
        """Stop redrawing and bring the cursor back."""
        live, self._live = self._live, None
        self._table = self._client = None
        for scope in self._followed.values():
            scope.cancel()
        self._followed.clear()
        if live is not None:
            live.stop()


async def _follow_bar(
    client: CyberunClient, table: LiveTable, task_id: str, scope: anyio.CancelScope
) -> None:
    # The batch follows the task as well, and reports its errors.
    with scope, suppress(CyberunError):
        async with client.progress(task_id, min_interval=_VIEW_INTERVAL) as updates:
            async for update in updates:
                # The last update does not bring back a line that is gone.
                if update.task_id in table.rows and not update.is_final:
                    table.apply_update(update, anyio.current_time())


def output_for(*, as_json: bool) -> Output:
    """Return the output that suits standard output."""
    if as_json:
        return JsonOutput()
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if sys.stdout.isatty() and console.is_terminal and not console.is_dumb_terminal:
        return LiveTableOutput(console)
    return PlainOutput()


def discard_output() -> None:
    """Send all further output to the null device; the interpreter would try to write at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def broken_output(error: OSError) -> OutputError | None:
    """
    Return the error to report if *error* comes from standard output, and stop writing there.

    Errors of files have a file name, and the network has errors of its own: what is left is
    standard output.
    """
    if error.filename is not None or error.errno not in _WRITE_ERRORS:
        return None
    discard_output()
    return OutputError(f"standard output cannot be written: {error.strerror}")
