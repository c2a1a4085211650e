"""The maintained fork in the place of httpx, as its page says."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from cyberun_async.testing import Simulator


PROGRAM = Path(__file__).parents[2] / "docs" / "examples" / "over_httpx2.py"


@pytest.mark.skipif(
    find_spec("httpx2") is None, reason="httpx2 is not installed; `nox -s httpx2` runs this"
)
def test_the_program_of_the_page_runs_over_the_fork() -> None:
    """A program that aliases the fork makes its runs with the fork's own transports."""
    with Simulator(speed=20.0) as simulator:
        env = {**os.environ, "CYBERUN_BASE_URL": simulator.url, "CYBERUN_API_KEY": simulator.key}
        run = subprocess.run(
            [sys.executable, str(PROGRAM)],
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("httpx2 [")
