"""
Three runs at once against the local service, two of them in trouble.

The second run's stream is cut in the middle: watch it recover. The third has no
stream at all and is followed by polling, without live progress. Then the pictures
are downloaded. The part that a user would write is `follow` and `main`.
"""

import argparse
import asyncio
import sys
import tempfile
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
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.rows: dict[str, TaskID] = {}
        self.last_line: dict[str, str] = {}

    def show(self, name: str, event: Event | Notice, *, live: bool) -> None:
        """Take one event or notice of the task called *name*."""
        note = describe(event, live=live)
        if name not in self.rows:
            self.rows[name] = self.bars.add_task(name, total=100, note="submitted")
        row = self.rows[name]
        if isinstance(event, ProgressEvent):
            self.bars.update(row, completed=100 * (event.progress or 0.0), note=note or "streaming")
        elif isinstance(event, CompletedEvent):
            self.bars.update(row, completed=100, note="completed")
        elif note:
            self.bars.update(row, note=note)
        if not self.console.is_terminal:
            self._print_line(name, note, event)

    def _print_line(self, name: str, note: str, event: Event | Notice) -> None:
        if isinstance(event, ProgressEvent) and (event.step_current or 0) % 5:
            return
        line = f"{name:<24} {note or 'streaming'}"
        if isinstance(event, ProgressEvent):
            line = f"{name:<24} {100 * (event.progress or 0):3.0f} %"
        if line != self.last_line.get(name):
            self.last_line[name] = line
            print(line, flush=True)


def describe(event: Event | Notice, *, live: bool) -> str:
    """Say in a few words what *event* means to somebody who waits."""
    match event:
        case StreamLost():
            return "stream cut, reconnecting"
        case PollingStarted():
            return "polling, no live progress"
        case StatusEvent(status=status):
            return f"{status}" if live else f"{status} (polling, no live progress)"
        case CompletedEvent():
            return "completed"
        case _:
            return ""


def service_in_trouble(speed: float) -> Simulator:
    """Return the local service, told to cut one stream and to refuse another."""
    service = Simulator(speed=speed)
    service.plan(
        TaskPlan(step_seconds=0.3),
        TaskPlan(step_seconds=0.3, faults=(faults.drop_after(events=12),)),
        TaskPlan(step_seconds=0.3, faults=(faults.on("events", faults.refuse(403), times=None),)),
    )
    return service


def run() -> int:
    """Run the demo and say where the pictures are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster")
    arguments = parser.parse_args()
    folder: Path = arguments.out or Path(tempfile.mkdtemp(prefix="cyberun-demo-"))
    screen = Screen(Console())
    with service_in_trouble(arguments.speed) as service, screen.bars:
        paths = asyncio.run(main(folder, service, screen))
    for path in paths:
        print(f"saved {path} ({path.stat().st_size} bytes)")
    return 0 if len(paths) == len(PROMPTS) else 1


if __name__ == "__main__":
    sys.exit(run())
