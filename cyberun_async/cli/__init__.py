"""
The command line: ``cyberun-async`` and ``python -m cyberun_async``, with the extra ``cli``.

Everything here is written as a user would write it, on the public surface alone.
"""

import sys
from collections.abc import Sequence
from importlib.util import find_spec


_NEEDED = ("click", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one command and return its exit code.

    Args:
        arguments: What stands behind the program's name; None takes the process' own.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        sys.stderr.write(
            f"cyberun-async: the command line needs {' and '.join(missing)}, which the extra "
            "`cli` brings: pip install 'cyberun_async[cli]'\n"
        )
        from ._exits import ExitCode

        return ExitCode.NO_EXTRA
    from ._app import invoke

    return invoke(sys.argv[1:] if arguments is None else list(arguments))
