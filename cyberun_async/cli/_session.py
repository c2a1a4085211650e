"""One command's session: its key and its client, its output, and how it is stopped."""

import functools
import os
import shlex
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import attrs
import click

from .. import ConfigurationError, CyberunClient, CyberunError
from ._exit_codes import ExitCode, exit_code_of
from ._format import task_of
from ._interrupt import InterruptedRunError, alone, stoppable
from ._output import Output, broken_output, discard_output, output_for


KEY_VARIABLES = ("CYBERUN_API_KEY", "CYBERUN_KEY")
# With the mark that some editors put in front of the first character.
_ENCODING = "utf-8-sig"
FILE_VARIABLE = "CYBERUN_API_KEY_FILE"


def key_from(key_file: str | None, warn: Callable[[str], None]) -> str:
    """
    Return the key: from *key_file*, the environment, or a person at a terminal.

    Args:
        key_file: The file that was named, if any.
        warn: Notified of a file that others can read.

    Raises:
        ConfigurationError: There is none.
    """
    if key_file is not None:
        return _read(key_file, warn)
    for name in KEY_VARIABLES:
        if key := os.environ.get(name):
            return key
    if named := os.environ.get(FILE_VARIABLE):
        return _read(named, warn)
    if sys.stdin.isatty() and sys.stderr.isatty():
        return str(click.prompt("API key", hide_input=True, err=True)).strip()
    raise ConfigurationError(
        f"no API key: set {KEY_VARIABLES[0]} in the environment, or name a file that holds it "
        f"with --key-file or {FILE_VARIABLE}"
    )


def _read(path: str, warn: Callable[[str], None]) -> str:
    try:
        if path == "-":
            return sys.stdin.buffer.readline().decode(_ENCODING).strip()
        file = Path(path).expanduser()
        key = file.read_text(encoding=_ENCODING).strip()
        mode = file.stat().st_mode
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise ConfigurationError(f"the key file {path} cannot be read: {reason}") from error
    if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        warn(f"warning: others can read the key in {path}; chmod 600 {path}")
    return key


PROGRAM = "cyberun-async"

Work = Callable[[CyberunClient], Awaitable[ExitCode]]


@attrs.define
class Session:
    """What every command that talks to the service is given."""

    url: str | None
    key_file: str | None
    team: str | None
    output: Output
    # Behind the program's name, to be said again.
    arguments: tuple[str, ...] = ()
    hints: list[str] = attrs.field(factory=list[str], init=False)
    # Whether the hints have an id that was not written anywhere else yet.
    owes_an_id: bool = attrs.field(default=False, init=False)

    def client(self, *, sends: bool = True) -> CyberunClient:
        """Return a client, not opened yet; one that never *sends* has no key."""
        return CyberunClient(
            key_from(self.key_file, self.output.hint) if sends else _no_key,
            base_url=self.url,
            team_id=self.team,
            observer=self.output.observer,
        )

    def go_on_with(self, *lines: str) -> None:
        """Remember what to say if the command is stopped from here on."""
        self.hints = list(lines)

    def run(
        self, work: Work, *, before: Callable[[], None] | None = None, sends: bool = True
    ) -> ExitCode:
        """
        Do *work* with an open client, and turn what it raises into words and a code.

        Args:
            work: What is done, in an event loop.
            before: Called ahead of the loop, behind the key: what may wait for somebody to
                type belongs here, as Ctrl-C does not interrupt it within the loop.
            sends: Whether the service is asked for anything, which needs a key.
        """
        try:
            client = self.client(sends=sends)
            if before is not None:
                before()
            return self._run_in_a_loop(client, work)
        except CyberunError as error:
            self.output.close()
            self.output.problem(error)
            self._hint(error)
            return exit_code_of(error)
        except InterruptedRunError as stop:
            self._leave()
            return stop.code
        except BrokenPipeError:
            discard_output()
            if self.owes_an_id:
                self._leave()
            return ExitCode.BROKEN_PIPE
        except OSError as error:
            if (problem := broken_output(error)) is None:
                raise
            self.output.problem(problem)
            self._leave()
            return exit_code_of(problem)

    def _leave(self) -> None:
        """Say how to go on with what was begun."""
        self.output.close()
        for line in self.hints:
            self.output.hint(line)

    def _run_in_a_loop(self, client: CyberunClient, work: Work) -> ExitCode:
        try:
            return anyio.run(self._run, client, work)
        except ExceptionGroup as error:
            raise alone(error) from error

    async def _run(self, client: CyberunClient, work: Work) -> ExitCode:
        async def inside() -> ExitCode:
            async with client:
                return await work(client)

        return await stoppable(inside, beside=self.output.draw, on_first=self._stopping)

    def _stopping(self) -> None:
        self.output.close()
        self.output.hint("stopping; once more stops at once")

    def _hint(self, error: CyberunError) -> None:
        task_id = task_of(error)
        if error.resume_token is not None and task_id:
            self.output.hint(f"go on with: {command('watch', task_id)}")


def _no_key() -> str:
    raise ConfigurationError("this command was not to send anything, and asked for no key")


def command(*words: str) -> str:
    """Return a command of this program as one types it."""
    return shlex.join([PROGRAM, *words])


def service_command(function: Callable[..., ExitCode]) -> Callable[..., int]:
    """Add the options that lead to the service, and pass a :class:`Session` in their place."""

    @click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
    @click.option(
        "--url", envvar="CYBERUN_BASE_URL", show_envvar=True, help="The service's base URL."
    )
    @click.option(
        "--key-file",
        type=click.Path(dir_okay=False, allow_dash=True),
        metavar="FILE",
        help="A file with the API key; - reads it from standard input. "
        "Without it: CYBERUN_API_KEY, CYBERUN_API_KEY_FILE, or a prompt.",
    )
    @click.option(
        "--team", envvar="CYBERUN_TEAM_ID", show_envvar=True, help="The team, with a user token."
    )
    @functools.wraps(function)
    def with_session(
        *, as_json: bool, url: str | None, key_file: str | None, team: str | None, **options: Any
    ) -> int:
        given: object = click.get_current_context().obj
        arguments = tuple(map(str, given)) if isinstance(given, tuple) else ()  # pyright: ignore[reportUnknownArgumentType]
        session = Session(url, key_file, team, output_for(as_json=as_json), arguments)
        return int(function(session, **options))

    return with_session
