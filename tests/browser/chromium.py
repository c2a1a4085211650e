"""Run the tests in this folder with a Chromium; where that is allowed, install Debian's first."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


NAMES = ("chromium", "chromium-browser", "google-chrome")
COMMANDS = (
    ("apt-get", "update", "-qq"),
    ("apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium"),
)


def found() -> str | None:
    """Return the path of the one that ``CYBERUN_BROWSER`` names, or else of any."""
    named = os.environ.get("CYBERUN_BROWSER")
    names = [named] if named else NAMES
    return next((path for name in names if (path := shutil.which(name))), None)


def install() -> None:
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        for command in COMMANDS:
            subprocess.run(command, check=False)


def main() -> int:
    if found() is None and "CYBERUN_BROWSER" not in os.environ:
        install()
    path = found()
    if path is None:
        print("SKIPPED: no Chromium was found or could be installed; name one in CYBERUN_BROWSER")
        return 0
    command = ["pytest", str(Path(__file__).parent), *sys.argv[1:]]
    return subprocess.call(command, env={**os.environ, "CYBERUN_BROWSER": path})


if __name__ == "__main__":
    sys.exit(main())
