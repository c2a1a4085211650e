"""
Make the pictures of the documentation from real output: ``python docs/pictures.py``.

The demo runs as it is, on a recorded console. Its bars are drawn at the moment when one
run's stream has been cut while another is being polled, and once more at the end.
"""

import asyncio
import io
import re
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console, RenderableType
from rich.terminal_theme import MONOKAI
from rich.text import Text


DOCS = Path(__file__).parent
PICTURES = DOCS / "pictures"
WIDTH = 84

sys.path.insert(0, str(DOCS / "examples"))

import demo  # noqa: E402 - found by the line above

from cyberun_async import Event, Notice, StreamLost  # noqa: E402


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


def export(ansi: str, path: Path) -> None:
    """Draw *ansi* as SVG, without the fonts that rich would load from elsewhere."""
    console = Console(file=io.StringIO(), width=WIDTH, record=True, force_terminal=True)
    console.print(Text.from_ansi(ansi), end="")
    svg = console.export_svg(title="nox -s demo", theme=MONOKAI, unique_id="demo")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code, monospace", "ui-monospace, Menlo, DejaVu Sans Mono, monospace")
    svg = svg.replace("<svg ", '<svg xml:space="preserve" ', 1)  # some viewers drop leading blanks
    path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    export(record(), PICTURES / "demo.svg")
