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
from ._interrupt import InterruptedRunError, stoppable
from ._output import Output, broken_output, discard_output, output_for


PROGRAM = "cyberun-async"
KEY_VARIABLES = ("CYBERUN_API_KEY", "CYBERUN_KEY")
FILE_VARIABLE = "CYBERUN_API_KEY_FILE"
# Some editors write a byte order mark.
_ENCODING = "utf-8-sig"

Work = Callable[[CyberunClient], Awaitable[ExitCode]]


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


@attrs.define
class Session:
    """What every command that talks to the service gets."""

    url: str | None
    key_file: str | None
    team: str | None
    output: Output
    # The arguments after the program's name, for hints.
    arguments: tuple[str, ...] = ()
    hints: list[str] = attrs.field(factory=list[str], init=False)
    # Whether the hints have an id that was not printed elsewhere.
    has_unprinted_id: bool = attrs.field(default=False, init=False)

    def on_stop(self, *lines: str) -> None:
        """Set the hints that are printed if the command is stopped from here on."""
        self.hints = list(lines)

    def run(
        self, work: Work, *, before: Callable[[], None] | None = None, sends: bool = True
    ) -> ExitCode:
        """
        Do *work* with an open client, and turn its errors into messages and an exit code.

        Args:
            work: What is done, in an event loop.
            before: Called before the loop and after the key is read: what may wait for typed
                input belongs here, because Ctrl-C does not interrupt it within the loop.
            sends: Whether anything is sent to the service, which needs a key.
        """
        try:
            client = CyberunClient(
                key_from(self.key_file, self.output.hint) if sends else _no_key,
                base_url=self.url,
                team_id=self.team,
                observer=self.output.observer,
            )
            if before is not None:
                before()
            return anyio.run(self._run, client, work)
        except CyberunError as error:
            self.output.close()
            self.output.problem(error)
            if error.resume_token is not None:
                self.output.hint(f"go on with: {command('watch', error.resume_token.task_id)}")
            return exit_code_of(error)
        except InterruptedRunError as stop:
            self._print_hints()
            return stop.code
        except BrokenPipeError:
            discard_output()
            if self.has_unprinted_id:
                self._print_hints()
            return ExitCode.BROKEN_PIPE
        except OSError as error:
            if (problem := broken_output(error)) is None:
                raise
            self.output.problem(problem)
            self._print_hints()
            return exit_code_of(problem)

    def _print_hints(self) -> None:
        """Say how to continue what was started."""
        self.output.close()
        for line in self.hints:
            self.output.hint(line)

    async def _run(self, client: CyberunClient, work: Work) -> ExitCode:
        async def inside() -> ExitCode:
            async with client:
                return await work(client)

        return await stoppable(inside, beside=self.output.draw, on_first=self._stopping)

    def _stopping(self) -> None:
        self.output.close()
        self.output.hint("stopping; press Ctrl-C again to stop at once")


def _no_key() -> str:
    raise ConfigurationError("this command sends nothing, and has no key")


def command(*words: str) -> str:
    """Return a command of this program as typed in a shell."""
    return shlex.join([PROGRAM, *words])


def service_command(function: Callable[..., ExitCode]) -> Callable[..., int]:
    """Add the options of the connection, and pass a :class:`Session` in their place."""

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
