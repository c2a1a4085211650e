"""
How benchmarks are run here: a process for each row, rows in turn, medians with spread.

A benchmark is a list of rows. Each row is a program that measures one thing once, in a
process of its own, checks itself, and ends with :func:`report`. Rounds are run one after
the other, each with every row in it, beginning with another row each time, so that
whatever else the machine does strikes all of them alike; ratios are taken within a round.

A row that found something wrong with itself is *broken* and makes the run fail. A *bar*
that is missed is only marked in the table.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import attrs


ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "performance.md"
REPEATS: Final = 7
FEWEST: Final = 3
SERVER_CORE, CLIENT_CORE = 1, 0

_HEAD = """\
# Performance

The tables on this page are written by `nox -s bench`, each by the run that is named above it.
Figures hold for the machine and the moment they were taken at.
Compare the ratios within a table, never the figures of two tables.
"""


@attrs.frozen
class Row:
    """
    One line of a table, and the program that measures it.

    Attributes:
        name: As the table has it.
        command: Arguments of Python; ``("-m", "tests.benchmarks.events.client", ...)``.
        env: Environment variables beside the present ones.
        timeout: Seconds after which the row counts as broken.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(factory=dict[str, str])
    timeout: float = 120.0


@attrs.frozen
class Sample:
    """What one run of a row found: its figures, and what is wrong with them."""

    figures: Mapping[str, float]
    problems: Sequence[str] = ()


def report(problems: Sequence[str] = (), /, **figures: float) -> None:
    """Print a row's figures as its last line; called once, at the end of its program."""
    print(json.dumps({"figures": figures, "problems": list(problems)}), flush=True)


@attrs.frozen
class Figure:
    """One figure of a row over all rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __format__(self, spec: str) -> str:
        low, high = min(self.values), max(self.values)
        return f"{self.median:{spec}} ({low:{spec}} - {high:{spec}})"


@attrs.frozen
class Results:
    """All samples of a table: for each row, one for each round."""

    samples: Mapping[str, Sequence[Sample]]

    @property
    def problems(self) -> list[str]:
        """What is wrong, each with the row's name."""
        return [
            f"{name}: {problem}"
            for name, samples in self.samples.items()
            for problem in dict.fromkeys(p for sample in samples for p in sample.problems)
        ]

    @property
    def rounds(self) -> int:
        """How many times each row was run."""
        return max(map(len, self.samples.values()), default=0)

    def figure(self, row: str, name: str) -> Figure | None:
        """Return the figure called *name*, or None where the row has it in no round."""
        values = [s.figures[name] for s in self.samples.get(row, ()) if name in s.figures]
        return Figure(tuple(values)) if values else None

    def ratio(self, row: str, against: str, name: str) -> float | None:
        """Return the median of the ratios within the rounds."""
        pairs = zip(self.samples.get(row, ()), self.samples.get(against, ()), strict=False)
        ratios = [
            one.figures[name] / other.figures[name]
            for one, other in pairs
            if name in one.figures and other.figures.get(name)
        ]
        return statistics.median(ratios) if ratios else None


@attrs.frozen
class Bar:
    """
    What a ratio has to reach: *row*'s figure divided by that of *against*.

    ``Bar("ours", "plain", "cpu", at_most=1.05)`` or, for a figure of which less is
    better, ``times_better=4``: the other divided by ours is at least 4.
    """

    row: str
    against: str
    figure: str
    at_most: float | None = None
    times_better: float | None = None

    def judge(self, results: Results) -> str:
        """Return a sentence that says whether it holds."""
        ratio = results.ratio(self.row, self.against, self.figure)
        if ratio is None:
            return f"- not measured: {self.row} against {self.against} ({self.figure})"
        if self.at_most is not None:
            found, limit, kind = ratio, self.at_most, "at most"
            holds = found <= limit
        else:
            found, limit, kind = 1 / ratio, self.times_better or 0.0, "better by at least"
            holds = found >= limit
        mark = "holds" if holds else "**missed**"
        return (
            f"- {mark}: {self.row} against {self.against}, {self.figure}: "
            f"{found:.2f}, wanted {kind} {limit:g}"
        )


Column = tuple[str, str, str]
"""A figure's name, the column's heading, and how it is formatted (``.2f``)."""


def alternate(
    rows: Sequence[Row],
    *,
    repeats: int = REPEATS,
    core: int | None = CLIENT_CORE,
    seconds: float = float("inf"),
) -> Results:
    """
    Run every row *repeats* times, in turn; rounds begin with another row each time.

    No round is begun that would not end within *seconds*, beyond the first three.
    """
    samples: dict[str, list[Sample]] = {row.name: [] for row in rows}
    start = time.monotonic()
    for number in range(repeats):
        spent = time.monotonic() - start
        if number >= FEWEST and spent + spent / number > seconds:
            break
        shift = number % len(rows)
        for row in (*rows[shift:], *rows[:shift]):
            samples[row.name].append(run_once(row, core=core))
    return Results(samples)


def run_once(row: Row, *, core: int | None = CLIENT_CORE) -> Sample:
    """Run a row's program and return what it reported."""
    try:
        run = subprocess.run(
            [sys.executable, *row.command],
            **_environment(row.env, core),
            capture_output=True,
            text=True,
            timeout=row.timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Sample({}, [f"did not end within {row.timeout:g} s"])
    lines = run.stdout.splitlines()
    if run.returncode or not lines:
        tail = " / ".join(run.stderr.strip().splitlines()[-3:])
        return Sample({}, [f"ended with {run.returncode}: {tail}"])
    found = json.loads(lines[-1])
    return Sample(found["figures"], found["problems"])


@contextlib.contextmanager
def serving(
    *command: str, env: Mapping[str, str] | None = None, core: int | None = SERVER_CORE
) -> Iterator[dict[str, Any]]:
    """
    Run a server in a process of its own, and end it with the block.

    Its first line is a JSON object, which is yielded, with its ``pid`` added: by
    custom ``{"port": 1234}``. It ends when its standard input does.
    """
    server = subprocess.Popen(
        [sys.executable, *command],
        **_environment(env or {}, core),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        first = server.stdout.readline()
        if not first:
            message = f"the server ended with {server.wait()}: {' '.join(command)}"
            raise RuntimeError(message)
        yield json.loads(first) | {"pid": server.pid}
    finally:
        server.terminate()
        server.communicate()


def _environment(env: Mapping[str, str], core: int | None) -> dict[str, Any]:
    cores = os.sched_getaffinity(0)
    pin = core is not None and len(cores) > 1 and core in cores
    return {
        "cwd": ROOT,
        "env": {**os.environ, **env},
        "preexec_fn": (lambda: os.sched_setaffinity(0, {core or 0})) if pin else None,
    }


def cpu_seconds_of(pid: int) -> float:
    """Return the processor time that another process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Tables and the page.


def table(
    results: Results,
    columns: Sequence[Column],
    *,
    against: str | None = None,
    ratio_of: str | None = None,
) -> str:
    """
    Return a Markdown table: median and spread, and how many times less than *against*.

    Args:
        results: What :func:`alternate` returned.
        columns: Which figures.
        against: The row that ratios are taken to.
        ratio_of: The figure that ratios are taken of; None means the first column.
    """
    ratio_of = ratio_of or columns[0][0]
    head = ["", *(heading for _, heading, _ in columns)]
    if against is not None:
        head.append("times better")
    lines = [_line(head), _line(["---", *["--:"] * (len(head) - 1)])]
    for name in results.samples:
        cells = [name, *(_cell(results.figure(name, key), spec) for key, _, spec in columns)]
        if against is not None:
            ratio = results.ratio(name, against, ratio_of)
            cells.append("" if not ratio else f"{1 / ratio:.2f}")
        lines.append(_line(cells))
    return "\n".join(lines)


def _cell(figure: Figure | None, spec: str) -> str:
    return "" if figure is None else format(figure, spec)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_section(name: str, text: str, *, page: Path = PAGE) -> None:
    """Put *text* (which begins with a heading) in the place of the page's section *name*."""
    before, after = f"<!-- {name} -->", f"<!-- end of {name} -->"
    whole = page.read_text(encoding="utf-8") if page.exists() else _HEAD
    section = f"{before}\n\n{text.strip()}\n\n{after}"
    if before in whole:
        head, _, rest = whole.partition(before)
        whole = head + section + rest.partition(after)[2]
    else:
        whole = f"{whole.rstrip()}\n\n{section}\n"
    page.write_text(whole, encoding="utf-8")
    print(text)


def circumstances(*packages: str, began: datetime | None = None) -> str:
    """Return the sentence that says when and on what a table was taken, and with what."""
    moment = began or datetime.now(UTC)
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"Taken {moment:%Y-%m-%d %H:%M} UTC on {platform.system()} {platform.machine()} "
        f"with {os.cpu_count()} cores, Python {platform.python_version()}"
        + (f", {versions}." if versions else ".")
    )


def finish(*results: Results) -> int:
    """Print what is broken and return the program's exit code; missed bars are no failure."""
    problems = [problem for found in results for problem in found.problems]
    for problem in problems:
        print(f"BROKEN {problem}", file=sys.stderr)
    return 1 if problems else 0


@attrs.frozen
class Options:
    """How much is run: ``--quick`` is for development and writes no page."""

    quick: bool
    repeats: int
    only: str

    def wants(self, name: str) -> bool:
        """Return whether the scenario called *name* is asked for."""
        return self.only in name


def options(description: str | None) -> Options:
    """Read the command line that all benchmarks have: ``--quick --repeats N --only NAME``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="few, short rounds; no page")
    parser.add_argument("--repeats", type=int, default=None)
    parser.add_argument("--only", default="", help="scenarios with this in their name")
    found = parser.parse_args()
    return Options(found.quick, found.repeats or (2 if found.quick else REPEATS), found.only)
