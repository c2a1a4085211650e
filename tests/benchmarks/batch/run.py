"""
What the ledger of a batch costs; writes its table.

Ten thousand jobs of 0.3 s each at a concurrency of 200: as a batch without a ledger, as a
batch, as a durable batch, with a tenth of the jobs, and the finished batch once more.
Clients and service are processes of their own.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ..harness import (
    ROOT,
    Bar,
    Column,
    Results,
    Row,
    alternate,
    circumstances,
    finish,
    options,
    serving,
    table,
    write_section,
)


PAGE = ROOT / "docs" / "performance-batch.md"
PLAIN, BATCH, DURABLE, FEW, AGAIN = (
    *("batch without a ledger", "batch", "batch, durable", "batch, a tenth of the jobs"),
    "finished batch, run again",
)
MOST = 1.25
MORE_MEMORY = 30.0
RESTART_SECONDS = 2.0

COLUMNS: list[Column] = [
    ("cpu", "CPU, s", ".2f"),
    ("wall", "wall, s", ".2f"),
    ("per_job", "CPU per job, µs", ".0f"),
    ("peak", "peak memory, MiB", ".1f"),
    ("requests", "requests", ".0f"),
    ("lists", "of lists", ".0f"),
    ("per_request", "CPU per request, µs", ".0f"),
]

INTRODUCTION = """\
## Batches

{jobs:,} jobs of 0.3 s each at a concurrency of 200.
The service costs next to nothing and runs in a process of its own.
In the first row the batch's ledger is replaced by lists in memory: nothing is written down.
Medians with the least and the most in brackets; \
the first two rows take turns in {repeats} rounds, the others run once.
Each run is a process of its own.
How often tasks are asked about differs from row to row, as jobs bunch together or do not; \
CPU per request leaves that out.
"""


def _rows(port: int, number: int, finished: Path) -> tuple[list[Row], list[Row]]:
    """Return the rows that are compared, and those that stand alone."""

    def row(name: str, kind: str, count: int, *more: str) -> Row:
        command = ("-m", "tests.benchmarks.batch.row", kind, str(port), str(count), *more)
        return Row(name, command, timeout=600.0)

    return [
        row(PLAIN, "no ledger", number),
        row(BATCH, "batch", number),
    ], [
        row(DURABLE, "batch, durable", number),
        row(FEW, "batch", number // 10),
        row(AGAIN, "again", number, str(finished)),
    ]


def _finish_once(port: int, number: int, ledger: Path) -> None:
    command = ("-m", "tests.benchmarks.batch.row", "batch", str(port), str(number), str(ledger))
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def _judged(results: Results) -> Iterator[str]:
    for figure in ("cpu", "wall", "per_request"):
        yield Bar(BATCH, PLAIN, figure, at_most=MOST).judge(results)
    many, few = results.figure(BATCH, "peak"), results.figure(FEW, "peak")
    again = results.figure(AGAIN, "cpu"), results.figure(AGAIN, "lists")
    if many is None or few is None or None in again:
        yield "- not measured: memory, or the finished batch"
        return
    more = many.median - few.median
    yield (
        f"- {_mark(more <= MORE_MEMORY)}: {more:.1f} MiB more than with a tenth of the jobs, "
        f"wanted at most {MORE_MEMORY:g}"
    )
    work, lists = (figure.median for figure in again if figure is not None)
    good = work < RESTART_SECONDS and lists <= 1
    yield (
        f"- {_mark(good)}: run again when finished, {work:.2f} s of work and "
        f"{lists:.0f} list requests, wanted less than {RESTART_SECONDS:g} s and at most one"
    )


def _mark(holds: bool) -> str:
    return "holds" if holds else "**missed**"


def main() -> int:
    """Run all rows, write the page, and return the exit code."""
    chosen = options(__doc__)
    number = 1000 if chosen.quick else 10_000
    # Each round takes minutes.
    repeats = min(chosen.repeats, 3)
    began = datetime.now(UTC)
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("-m", "tests.benchmarks.batch.service") as server,
    ):
        finished = Path(folder, "finished.sqlite")
        _finish_once(server["port"], number, finished)
        compared, alone = _rows(server["port"], number, finished)
        results = Results(
            {
                **alternate(compared, repeats=repeats).samples,
                **alternate(alone, repeats=1).samples,
            }
        )
    text = "\n\n".join(
        [
            INTRODUCTION.format(jobs=number, repeats=repeats).strip(),
            circumstances("httpx", "anyio", "attrs", began=began),
            table(results, COLUMNS),
            "\n".join(_judged(results)),
        ]
    )
    if chosen.quick:
        print(text)
    else:
        write_section("batch", text, page=PAGE)
    return finish(results)


if __name__ == "__main__":
    sys.exit(main())
