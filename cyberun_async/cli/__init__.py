"""
The command line: ``cyberun-async`` and ``python -m cyberun_async``, with the extra ``cli``.

Everything here is written as a user would write it, on the public surface alone.
"""

import os
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
    if any(stream is None for stream in (sys.stdin, sys.stdout, sys.stderr)):
        return _without_a_stream(arguments)
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        sys.stderr.write(
            f"cyberun-async: the command line needs {' and '.join(missing)}, which the extra "
            "`cli` brings: pip install 'cyberun_async[cli]'\n"
        )
        from ._exit_codes import ExitCode

        return ExitCode.NO_EXTRA
    from ._app import invoke

    return invoke(sys.argv[1:] if arguments is None else list(arguments))


def _without_a_stream(arguments: Sequence[str] | None) -> int:
    """
    Run where one of the three streams of the process is closed.

    Its number would go to the next file that is opened, a ledger for instance, into which
    what is printed would be written. Without standard output nothing is begun.
    """
    has_output = sys.stdout is not None
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free is the one that is closed.
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    if has_output:
        return main(arguments)
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    sys.stderr.write(
        "cyberun-async: standard output is closed, and nothing was begun; "
        "for silence, send it to /dev/null\n"
    )
    from ._exit_codes import ExitCode

    return ExitCode.OUTPUT
