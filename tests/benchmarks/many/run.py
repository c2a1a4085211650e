"""
Thousands of tasks in one process, beside the naive ways: ``nox -s bench``, or this program.

Every row has a service of its own in another process, 20 ms away, whose list holds 5,000
more tasks of the same team. ``--quick`` is a tenth of everything and writes no page.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..harness import (
    ROOT,
    Bar,
    Column,
    Options,
    Results,
    Row,
    alternate,
    circumstances,
    finish,
    options,
    table,
    write_section,
)


PAGE: Final = ROOT / "docs" / "performance-many.md"
HEAD: Final = """\
# Performance with thousands of tasks

`nox -s bench` writes this page; each table is of the run named above it.
Ratios within a table can be compared; the figures hold for that machine and moment only.
The service is a process of its own, answers after 20 ms, and lists 5,000 more tasks of the team.
A row whose connections did not all open, or that lost or merged an event, is marked void.
"Times better" is of the first column: the median over the rounds of a quotient within each, \
the figure of the row with 1.00 divided by the row's, \
so it need not be the quotient of the two medians.
"""


def _row(name: str, program: str, *arguments: object, timeout: float = 300) -> Row:
    words = ("-m", "tests.benchmarks.many.rows", program, *map(str, arguments))
    return Row(name, words, timeout=timeout)


def _scenarios(quick: bool) -> dict[str, tuple[list[Row], list[Column], str | None]]:
    n, long = (500, 10) if quick else (5000, 30)
    streams = 200 if quick else 1000
    killed = 200 if quick else 2000
    return {
        "waiting": (
            [
                _row("wait()", "waiting", n, long),
                _row("a GET each, every 3 s", "waiting-naive", n, long),
            ],
            [
                ("requests_per_round", "requests in 3 s", ".0f"),
                ("connections", "connections", ".0f"),
                ("interval", "interval in force, s", ".1f"),
                ("latest", "latest end, s", ".1f"),
                ("intervals_late", "in intervals", ".2f"),
                ("cpu", "CPU us per task and s", ".1f"),
            ],
            "a GET each, every 3 s",
        ),
        "cost": (
            [
                _row(f"{n // 10} watched, 1 % run", "cost", n // 10, n // 1000, 20),
                _row(f"{n} watched, 1 % run", "cost", n, n // 100, 20),
                _row(f"{n} watched, all wait", "cost", n, 0, 20),
            ],
            [("cpu", "CPU us per task and s", ".1f"), ("streams", "streams", ".0f")],
            None,
        ),
        "memory": (
            [
                _row("a bare task, waiting", "memory-bare", n),
                _row("wait()", "memory-waiting", n),
                _row("watch(), streaming", "memory-stream", streams),
                _row("aconnect_sse", "memory-stream-naive", streams),
            ],
            [("bytes", "bytes each", ".0f"), ("streams", "streams", ".0f")],
            None,
        ),
        "readers": (
            [
                _row("watch(), one task", "readers", streams, 100),
                _row("anyio.Event", "readers-bare", streams, 100),
            ],
            [("cpu", "CPU us per event and reader", ".2f"), ("connections", "streams", ".0f")],
            "anyio.Event",
        ),
        "killed": (
            [
                _row("back after 30 s", "killed", killed, 5 if quick else 30),
                _row("back at once", "killed", killed, 0),
            ],
            [
                ("accepts", "accepts", ".0f"),
                ("most", "most in 100 ms", ".0f"),
                ("share", "share", ".3f"),
                ("seconds", "until all are back, s", ".1f"),
            ],
            None,
        ),
    }


def _says(holds: bool, what: str, found: str, wanted: str) -> str:
    return f"- {'holds' if holds else '**missed**'}: {what}: {found}, wanted {wanted}"


def _bars(name: str, rows: Sequence[Row], results: Results) -> list[str]:
    def median(row: int, figure: str) -> float:
        found = results.figure(rows[row].name, figure)
        return float("nan") if found is None else found.median

    match name:
        case "waiting":
            late, connections = median(0, "intervals_late"), median(0, "connections")
            return [
                Bar(rows[0].name, rows[1].name, "requests_per_round", at_most=1 / 20).judge(
                    results
                ),
                _says(connections <= 120, "connections", f"{connections:.0f}", "at most 20 + 100"),
                _says(late <= 2, "the latest end, in intervals", f"{late:.2f}", "at most 2"),
            ]
        case "cost":
            return [Bar(rows[1].name, rows[0].name, "cpu", at_most=1.5).judge(results)]
        case "memory":
            waits = median(1, "bytes") - median(0, "bytes")
            streams = median(2, "bytes") - median(3, "bytes")
            return [
                _says(waits <= 4096, "a wait above a bare task", f"{waits:.0f} B", "<= 4,096 B"),
                _says(streams <= 10240, "a stream above naive", f"{streams:.0f} B", "<= 10,240 B"),
            ]
        case "readers":
            return [Bar(rows[0].name, rows[1].name, "cpu", at_most=3).judge(results)]
        case _:
            shares = [median(number, "share") for number in range(len(rows))]
            return [
                _says(share <= 0.1, row.name, f"{share:.1%} of the accepts", "at most 10 %")
                for row, share in zip(rows, shares, strict=True)
            ]


def _section(name: str, wanted: Options, began: datetime) -> tuple[str, Results]:
    rows, columns, against = _scenarios(wanted.quick)[name]
    # Minutes each: what is long is run once, what is short three times.
    repeats = wanted.repeats if wanted.quick or name in ("memory", "readers") else 1
    results = alternate(rows, repeats=min(repeats, 3))
    void = [f"- void: {problem}" for problem in results.problems]
    lines = [
        f"## {name.capitalize()}",
        circumstances("httpx", "httpx-sse", "anyio", began=began),
        table(results, columns, against=against),
        "\n".join([*_bars(name, rows, results), *void]),
    ]
    return "\n\n".join(lines), results


def main() -> int:
    """Run what is asked for; write the page unless it is a quick run."""
    wanted = options(__doc__)
    began = datetime.now(UTC)
    found: list[Results] = []
    for name in filter(wanted.wants, _scenarios(wanted.quick)):
        text, results = _section(name, wanted, began)
        found.append(results)
        if wanted.quick:
            print(text)
        else:
            _write(name, text)
    return finish(*found)


def _write(name: str, text: str, page: Path = PAGE) -> None:
    if not page.exists():
        page.write_text(HEAD, encoding="utf-8")
    write_section(name, text, page=page)


if __name__ == "__main__":
    sys.exit(main())
