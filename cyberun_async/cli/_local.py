"""The commands that need no account: simulate, demo and completion."""

import importlib.util
import sys
import threading
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import click
from click.shell_completion import get_completion_class

from ._exit_codes import ExitCode
from ._session import PROGRAM


# Beside this file in an installation, else in the checkout.
_DEMOS = (
    Path(__file__).with_name("_show.py"),
    Path(__file__).parents[2] / "docs" / "examples" / "demo.py",
)


class MissingExtraError(click.ClickException):
    """A command needs an extra that is not installed."""

    exit_code = ExitCode.NO_EXTRA


def need_testing() -> None:
    """
    Make sure that the simulator can be started.

    Raises:
        MissingExtraError: What it needs is not installed.
    """
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise MissingExtraError(
            f"the local service needs {' and '.join(missing)}, which the extra `testing` brings: "
            "pip install 'cyberun_async[cli,testing]'"
        )


@click.command(
    epilog="""
    \b
    Examples:
      cyberun-async simulate --port 8765 --speed 10
      cyberun-async simulate > service.env &  sleep 1; . ./service.env
    """
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Where to serve. [default: a free one]"
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="How many times faster tasks live.",
)
@click.option("--seed", type=int, help="The same ids and keys each time.")
def simulate(port: int, speed: float, seed: int | None) -> int:
    """
    Serve a local Cyberun Cloud until Ctrl-C, for trying things out.

    Prints the two environment variables to set, for a shell.
    """
    need_testing()
    from ..testing import Simulator

    service = Simulator(port=port, speed=speed, seed=seed)
    try:
        service.restart()
    except OSError as error:
        where = f"on port {port}" if port else "on any port"
        message = f"cannot serve {where}: {error.strerror}; leave --port out for a free one"
        raise click.ClickException(message) from error
    with service:
        click.echo(f"export CYBERUN_BASE_URL={service.url}\nexport CYBERUN_API_KEY={service.key}")
        click.echo("serving until Ctrl-C; set both variables in another terminal", err=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            click.echo("\nstopped", err=True)
    return ExitCode.DONE


@click.command(
    epilog="""
    \b
    Examples:
      cyberun-async demo
      cyberun-async demo --out pictures --speed 3
    """
)
@click.option("--out", type=click.Path(file_okay=False), help="Folder for the pictures.")
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="How many times faster.",
)
def demo(out: str | None, speed: float) -> int:
    """
    Show three runs against a local service, two of them with problems.

    One stream is cut and recovers; one task gets no stream and is polled. The program
    is docs/examples/demo.py of the project.
    """
    need_testing()
    where = [] if out is None else ["--out", out]
    return int(_demo().run([*where, "--speed", str(speed)]))


def _demo() -> ModuleType:
    path = next((path for path in _DEMOS if path.exists()), None)
    if path is None:
        raise click.ClickException("this installation has no demo")
    spec = importlib.util.spec_from_file_location("cyberun_async_demo", path)
    if spec is None or spec.loader is None:
        raise click.ClickException(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


VARIABLE = "_CYBERUN_ASYNC_COMPLETE"


@click.command(
    epilog="""
    \b
    Examples:
      cyberun-async completion bash >> ~/.bashrc
      cyberun-async completion zsh >> ~/.zshrc
      cyberun-async completion fish > ~/.config/fish/completions/cyberun-async.fish
    """
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print the completion script for SHELL."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"there is no completion for {shell}")
    click.echo(kind(context.find_root().command, {}, PROGRAM, VARIABLE).source())
    return ExitCode.DONE
