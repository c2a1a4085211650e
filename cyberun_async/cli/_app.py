"""The program: its commands, and the exit code of whatever happens."""

import sys
import traceback
from collections.abc import Sequence

import click

from .. import CyberunError
from . import _batch, _lists, _local, _runs
from ._exit_codes import ExitCode, exit_code_of
from ._format import error_line
from ._interrupt import alone
from ._output import broken_output, discard_output
from ._session import PROGRAM


_CODES = "\n".join(f"  {int(code):>3}  {code.meaning}" for code in ExitCode)

HELP = f"""
Run GPU workflows on Cyberun Cloud, follow them, and collect what they make.

The API key comes from CYBERUN_API_KEY, from a file (--key-file) or from a prompt.
It is never an argument, because every user of the machine could read that.

\b
Try it without an account:
  {PROGRAM} demo                              three runs against a local service
  {PROGRAM} simulate                          that service, for trying the rest

\b
Then:
  {PROGRAM} workflows                         list what can be run
  {PROGRAM} workflows text-to-image           and its parameters
  {PROGRAM} run text-to-image -p prompt="a fox" --out pictures
  {PROGRAM} batch jobs.jsonl --out pictures   thousands, resumable

A terminal shows a live table, a pipe gets plain lines, and --json prints JSON lines.
COMMAND --help has examples.
"""


@click.group(
    help=HELP,
    epilog=f"\b\nExit codes:\n{_CODES}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="cyberun_async", prog_name=PROGRAM)
def app() -> None:
    """Hold the commands."""


for each in (
    *(_runs.run, _runs.watch, _runs.wait, _runs.result, _runs.cancel),
    *(_lists.workflows, _lists.tasks, _batch.batch),
    *(_local.simulate, _local.demo, _local.completion),
):
    app.add_command(each)


def invoke(arguments: Sequence[str]) -> int:
    """Run the command in *arguments*, and return its exit code."""
    try:
        code: object = app.main(
            list(arguments), prog_name=PROGRAM, standalone_mode=False, obj=tuple(arguments)
        )
        sys.stdout.flush()
        return code if isinstance(code, int) else ExitCode.DONE
    except click.ClickException as error:
        error.show()
        # An error without a code of its own comes from the arguments.
        return max(error.exit_code, ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - nobody else would report it
        return _report(alone(error))


def _report(error: Exception) -> int:
    """Print what went wrong, and return the exit code."""
    if isinstance(error, BrokenPipeError):
        discard_output()
        return ExitCode.BROKEN_PIPE
    problem = broken_output(error) if isinstance(error, OSError) else error
    if isinstance(problem, CyberunError):
        click.echo(error_line(problem), err=True)
        return exit_code_of(problem)
    traceback.print_exception(error)
    return ExitCode.BUG
