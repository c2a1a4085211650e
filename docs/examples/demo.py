"""
Three runs at once against the local service, two of them in trouble.

The second run's stream is cut in the middle: watch it recover. The third gets no
stream at all and is followed by polling, without live progress. Then the pictures
are downloaded. The part that a user would write is `follow` and `main`.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from cyberun_async import (
    CompletedEvent,
    CyberunClient,
    Event,
    Notice,
    PollingStarted,
    ProgressEvent,
    StatusEvent,
    StreamLost,
    TaskHandle,
)
from cyberun_async.testing import Simulator, TaskPlan, faults


PROMPTS = ("a fox in the snow", "a lighthouse at dusk", "a tin robot, sleeping")


async def follow(client: CyberunClient, name: str, task: TaskHandle, screen: "Screen") -> None:
    """Show one task's events as they come, whichever way they come."""
    async with client.watch(task, notices=True) as events:
        async for event in events:
            screen.show(name, event, live=events.progress_is_live)


async def main(folder: Path, service: Simulator, screen: "Screen") -> list[Path]:
    """Submit three runs, follow them side by side, and fetch their pictures."""
    async with CyberunClient(service.key, base_url=service.url) as client:
        tasks = [
            await client.submit("text-to-image", {"prompt": prompt, "steps": 20})
            for prompt in PROMPTS
        ]
        async with asyncio.TaskGroup() as group:
            for prompt, task in zip(PROMPTS, tasks, strict=True):
                group.create_task(follow(client, prompt, task, screen))
        results = await asyncio.gather(*tasks)
        return [path for result in results for path in await result.download_to(folder)]


class Screen:
    """Bars on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description:<22}"),
            BarColumn(bar_width=28),
            TextColumn("{task.fields[share]:>5}"),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.rows: dict[str, TaskID] = {}
        self.last_line: dict[str, str] = {}

    def show(self, name: str, event: Event | Notice, *, live: bool) -> None:
        """Take one event or notice of the task called *name*."""
        if name not in self.rows:
            self.rows[name] = self.bars.add_task(name, total=1.0, share="", note="")
        note = describe(event, live=live)
        row = self.rows[name]
        match event:
            case ProgressEvent(progress=progress):
                share = progress or 0.0
                self.bars.update(row, completed=share, share=f"{share:.0%}", note=note)
            case CompletedEvent():
                self.bars.update(row, total=1.0, completed=1.0, share="100%", note=note)
            case PollingStarted():
                self.bars.update(row, total=None, share="?", note=note)  # a bar that only moves
            case _:
                if note:
                    self.bars.update(row, note=note)
        if not self.console.is_terminal:
            self._print_line(name, note, event)

    def _print_line(self, name: str, note: str, event: Event | Notice) -> None:
        if isinstance(event, ProgressEvent):
            if (event.step_current or 0) % 5:
                return
            note = f"{event.progress or 0.0:.0%}"
        if note and note != self.last_line.get(name):
            self.last_line[name] = note
            self.console.print(f"{name:<22} {note}", highlight=False)


def describe(event: Event | Notice, *, live: bool) -> str:
    """Say in a few words what *event* means to somebody who waits."""
    match event:
        case StreamLost():
            return "[yellow]stream cut, reconnecting"
        case PollingStarted():
            return "[yellow]polling, no live progress"
        case ProgressEvent(step_current=step, step_total=steps):
            return f"step {step} of {steps}"
        case StatusEvent(status=status):
            return status if live else "[yellow]polling, no live progress"
        case CompletedEvent():
            return "[green]completed"
        case _:
            return ""


def service_in_trouble(speed: float) -> Simulator:
    """Return the local service, which cuts one stream and refuses another."""
    service = Simulator(speed=speed)
    cut = faults.drop_after(events=12)
    restarting = faults.on("events", faults.refuse(503, retry_after=2))
    refused = faults.on("events", faults.refuse(403), times=None)
    service.plan(
        TaskPlan(step_seconds=0.3, file_names=("fox.png",)),
        TaskPlan(step_seconds=0.3, file_names=("lighthouse.png",), faults=(cut, restarting)),
        TaskPlan(step_seconds=0.3, file_names=("robot.png",), faults=(refused,)),
    )
    return service


def run(given: Sequence[str] | None = None) -> int:
    """Run the demo and say where the pictures are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster")
    arguments = parser.parse_args(given)
    folder: Path = arguments.out or Path(tempfile.mkdtemp(prefix="cyberun-demo-"))
    screen = Screen(Console())
    with service_in_trouble(arguments.speed) as service, screen.bars:
        paths = asyncio.run(main(folder, service, screen))
    for path in paths:
        print(f"saved {path} ({path.stat().st_size} bytes)")
    return 0 if len(paths) == len(PROMPTS) else 1


if __name__ == "__main__":
    sys.exit(run())
