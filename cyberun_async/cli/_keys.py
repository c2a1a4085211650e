"""Where the key comes from: the environment, a file or a prompt, never an argument."""

import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import click

from .. import ConfigurationError


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
