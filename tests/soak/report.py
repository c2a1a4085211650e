"""The soak from the command line, and its summary in words and tables."""

import argparse
import asyncio
import logging
import platform
import random
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import attrs

from cyberun_async._version import version

from .course import Course, Ledger
from .remains import Remains, remains
from .service import Control
from .weather import every_kind, none_hit


PAGE: Final = Path(__file__).parents[2] / "docs" / "guarantees.md"
BEGIN: Final = "<!-- soak: begin -->\n"
END: Final = "<!-- soak: end -->\n"

# Fragmentation of the allocator; a leak of a few KiB per task would exceed it soon.
_MEMORY_SLACK: Final = 24.0


COUNTED: Final = ("requests", "reconnects", "switches_to_polling", "repeats_dropped")


@attrs.frozen
class Soak:
    """A soak that is over."""

    seed: int
    seconds: float
    tasks_at_once: int
    ledger: Ledger
    statistics: Counter[str]
    before: Remains
    after: Remains

    @property
    def failures(self) -> list[str]:
        """Everything because of which the soak has failed."""
        found = self.ledger.problems + self.after.more_than(self.before)
        found += [f"never struck: {name}" for name in none_hit(self.ledger.hit)]
        grown = self.after.resident - self.before.resident
        if grown > _MEMORY_SLACK:
            found.append(f"memory grew by {grown:.0f} MiB")
        return found

    def summary(self) -> str:
        """Return what happened, as Markdown."""
        ledger, statistics = self.ledger, self.statistics
        followed = sum(ledger.ways.values())
        verdict = f"**{len(self.failures)} broken**" if self.failures else "none broken"
        return SUMMARY.format(
            seconds=self.seconds,
            now=f"{datetime.now(UTC):%Y-%m-%d}",
            seed=self.seed,
            version=version(),
            python=platform.python_version(),
            system=f"{platform.system()} {platform.machine()}",
            at_once=self.tasks_at_once,
            followed=followed,
            ways=_listed(ledger.ways),
            events=ledger.events,
            ends=_listed(ledger.ends),
            submissions=_listed(ledger.submissions),
            requests=statistics["requests"],
            reconnects=statistics["reconnects"],
            switches=statistics["switches_to_polling"],
            repeats=statistics["repeats_dropped"],
            verdict=verdict,
            sockets=f"{self.before.sockets} and {self.after.sockets}",
            asyncio_tasks=f"{self.before.tasks} and {self.after.tasks}",
            memory=f"{self.before.resident:.0f} and {self.after.resident:.0f} MiB",
            struck=sum(ledger.hit[name] for name in every_kind()),
            kinds=len(every_kind()),
            table="\n".join(f"| {name} | {ledger.hit[name]} |" for name in every_kind()),
        )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


SUMMARY: Final = """\
Followed for {seconds:.0f} s on {now} with seed {seed} (cyberun_async {version}, Python {python}, \
{system}), {at_once} tasks at once, half of them over TLS.

- {followed} tasks were followed ({ways}) and reported {events} events.
- They ended: {ends}.
- Submissions: {submissions}; none became two tasks.
- The client made {requests} requests, reconnected {reconnects} times, switched {switches} times \
to polling and dropped {repeats} repetitions.
- {struck} faults of {kinds} kinds struck; promises: {verdict}.
- Before and after, at rest: sockets {sockets}, asyncio tasks {asyncio_tasks}, memory {memory}.

| fault | struck |
| --- | --: |
{table}
"""


async def soak(seed: int, seconds: float, tasks: int) -> Soak:
    """Warm up for a tenth of the time, then soak for the rest; compare before and after."""
    warming = max(5.0, min(60.0, seconds * 0.1))
    controls = [Control(seed, scheme) for scheme in ("http", "https")]
    ledger = Ledger()
    overtime = max(30.0, seconds * 0.1)
    try:
        await _lap(controls, seed, Ledger(), warming, tasks=tasks, lap=0)
        await asyncio.sleep(0.5)
        before = remains()
        statistics = await _lap(
            controls, seed, ledger, seconds - warming, tasks=tasks, lap=1, overtime=overtime
        )
        await asyncio.sleep(0.5)
        after = remains()
    finally:
        for control in controls:
            control.close()
    return Soak(seed, seconds, tasks, ledger, statistics, before, after)


async def _lap(
    controls: Sequence[Control],
    seed: int,
    ledger: Ledger,
    seconds: float,
    *,
    tasks: int,
    lap: int,
    overtime: float = 0.0,
) -> Counter[str]:
    """Run a client at each service, with its share of the tasks, and add up what they say."""
    share = tasks // len(controls)
    courses = [
        Course(control, seed, ledger, tasks=share, lap=lap, overtime=overtime)
        for control in controls
    ]
    found = await asyncio.gather(*(course.run(seconds) for course in courses))
    return Counter({name: sum(each[name] for each in found) for name in COUNTED})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    parser.add_argument("--seed", type=int, help="repeats an earlier soak's dice")
    parser.add_argument("--tasks", type=int, default=150, help="tasks at once (150)")
    parser.add_argument("--output", type=Path, help="write the summary to this file")
    parser.add_argument(
        "--record", action="store_true", help=f"write the summary into {PAGE.name}, if it passed"
    )
    return parser.parse_args()


def main() -> int:
    """Soak, print the summary, and return 1 if anything was not as promised."""
    args = _arguments()
    seed = random.randrange(10**6) if args.seed is None else args.seed
    # Each unknown end is worth a warning, and here they are made on purpose.
    logging.getLogger("cyberun_async").setLevel(logging.ERROR)
    print(f"soaking for {args.seconds:.0f} s, seed {seed}", flush=True)
    done = asyncio.run(soak(seed, args.seconds, args.tasks))
    print(done.summary())
    failures = done.failures
    for failure in failures[:50]:
        print(f"FAILED: {failure}", file=sys.stderr)
    if args.output is not None:
        args.output.write_text(done.summary(), encoding="utf-8")
    if args.record and not failures:
        record(done.summary())
    print(f"{len(failures)} failures, seed {seed}")
    return 1 if failures else 0


def record(summary: str) -> None:
    """Put *summary* into the page of promises."""
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n{summary}\n{END}{tail}", encoding="utf-8")
