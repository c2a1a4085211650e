"""Shell completion: the script that a shell reads at its start."""

import click
from click.shell_completion import get_completion_class

from ._exit_codes import ExitCode
from ._session import PROGRAM


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
