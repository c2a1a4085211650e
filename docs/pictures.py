"""
Make the pictures of the documentation from real output: ``python docs/pictures.py``.

The demo runs as it is, on a recorded console. Its bars are drawn at the moment when one
run's stream has been cut while another is being polled, and once more at the end.

The batch is killed while the service holds the answer to one of its submissions, and run
again. Both programs stand in docs/examples; give a picture's name to draw it alone.
"""

import asyncio
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console, RenderableType
from rich.terminal_theme import MONOKAI
from rich.text import Text


DOCS = Path(__file__).parent
PICTURES = DOCS / "pictures"
WIDTH, WIDE = 84, 100

sys.path.insert(0, str(DOCS / "examples"))

import demo  # noqa: E402 - found by the line above

from cyberun_async import Event, Notice, StreamLost  # noqa: E402
from cyberun_async.testing import Simulator, TaskPlan, faults  # noqa: E402


class RecordedScreen(demo.Screen):
    """The demo's screen, which remembers how it looked when the stream was cut."""

    def __init__(self) -> None:
        super().__init__(_console())
        self.moments: list[tuple[float, str]] = []

    def show(self, name: str, event: Event | Notice, *, live: bool) -> None:
        """Show, and keep the picture of the telling moment."""
        super().show(name, event, live=live)
        if isinstance(event, StreamLost) and not self.moments:
            self.keep()

    def keep(self) -> None:
        """Keep the bars as they are now."""
        self.moments.append((time.monotonic(), _ansi(self.bars.get_renderable())))


def _console(file: io.StringIO | None = None) -> Console:
    # As wide as WIDTH, whatever the terminal this runs in.
    return Console(
        file=file or io.StringIO(),
        width=WIDTH,
        height=25,
        force_terminal=True,
        color_system="truecolor",
    )


def _ansi(what: RenderableType) -> str:
    text = io.StringIO()
    _console(text).print(what)
    return text.getvalue()


def record() -> str:
    """Run the demo and return what a terminal would have shown, at two moments."""
    screen = RecordedScreen()
    folder = Path(tempfile.mkdtemp(prefix="cyberun-demo-"))
    with demo.service_in_trouble(1.0) as service:
        paths = asyncio.run(demo.main(folder, service, screen))
    screen.keep()
    saved = "".join(f"saved {path} ({path.stat().st_size} bytes)\n" for path in paths)
    (cut_at, during), (ended_at, after) = screen.moments
    later = f"\x1b[2m... {ended_at - cut_at:.0f} s later\x1b[0m"
    return f"$ nox -s demo\n{during}\n{later}\n{after}{saved}"


BATCH = DOCS / "examples" / "batch.py"
PROGRESS = ["sqlite3", "-box", "runs.sqlite", "SELECT * FROM progress"]


def record_batch() -> str:
    """Kill a batch, look at its ledger, run it again, and return what was shown."""
    plan = TaskPlan(steps=4, step_seconds=0.2)
    folder = Path(tempfile.mkdtemp(prefix="cyberun-batch-"))
    with Simulator(default_plan=plan) as sim:
        env = {**os.environ, "CYBERUN_BASE_URL": sim.url, "CYBERUN_API_KEY": sim.key}
        command = [sys.executable, str(BATCH)]
        # The answer to one submission is never given.
        held = sim.faults.add("run", faults.hold(after=3600), skip=30)
        first = subprocess.Popen(  # noqa: S603 - the program beside this one
            command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True
        )
        while not held.fired:
            time.sleep(0.01)
        time.sleep(0.5)  # the answers to its neighbours are read
        first.send_signal(signal.SIGKILL)
        before, _ = first.communicate()
        ledger = _shown(PROGRESS, folder, env)
        after = _shown(command, folder, env)
        made = len(sim.submissions)
    last = f"\x1b[2m# the service's own count: {made} tasks for 60 jobs\x1b[0m\n"
    run, look = "$ python batch.py", f'$ sqlite3 -box runs.sqlite "{PROGRESS[-1]}"'
    killed = "\x1b[31mKilled\x1b[0m"  # as a shell tells of SIGKILL
    return f"{run}\n{before}{killed}\n{look}\n{ledger}{run}\n{after}{last}"


def _shown(command: list[str], folder: Path, env: dict[str, str]) -> str:
    run = subprocess.run(  # noqa: S603 - the programs named above
        command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    return run.stdout


def export(ansi: str, path: Path, title: str, width: int = WIDTH) -> None:
    """Draw *ansi* as SVG, without the fonts that rich would load from elsewhere."""
    console = Console(file=io.StringIO(), width=width, record=True, force_terminal=True)
    console.print(Text.from_ansi(ansi), end="")
    svg = console.export_svg(title=title, theme=MONOKAI, unique_id=path.stem)
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code, monospace", "ui-monospace, Menlo, DejaVu Sans Mono, monospace")
    svg = svg.replace("<svg ", '<svg xml:space="preserve" ', 1)  # some viewers drop leading blanks
    path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    wanted = sys.argv[1:] or ["demo", "batch"]
    if "demo" in wanted:
        export(record(), PICTURES / "demo.svg", "nox -s demo")
    if "batch" in wanted:
        export(record_batch(), PICTURES / "batch.svg", "a batch, killed and run again", WIDE)
