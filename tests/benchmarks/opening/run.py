"""Opening and closing many streams, requests beside them, memory, and what an import costs."""

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from ..harness import (
    REPEATS,
    Bar,
    Column,
    Figure,
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
from .row import ROWS


OURS, FAST, POOL = "ours", "ours, fast", "one pool of httpx"
# A pool takes a minute or more for 5,000 streams, so these rows have fewer rounds.
MANY, MANY_REPEATS = 5_000, 3
SECONDS, ROW_SECONDS = 1200.0, 300.0
PACKAGES = (
    "httpx",
    "httpx-sse",
    "httpx-aiohttp",
    "aiohttp",
    "openai",
    "launchdarkly-eventsource",
)
COLUMNS: list[Column] = [
    ("open", "open, s", ".2f"),
    ("close", "close, s", ".2f"),
    ("each", "CPU per stream, µs", ".0f"),
    ("memory", "KiB per stream", ".1f"),
    ("request", "a request, times", ".2f"),
]
BARS = (
    *(Bar(f"{row}, 2000", f"{row}, 100", "each", at_most=1.6) for row in (OURS, FAST)),
    *(
        Bar(f"{row}, 2000, frozen", f"{row}, 100, frozen", "each", at_most=1.3)
        for row in (OURS, FAST)
    ),
)
MANY_BARS = (Bar(f"{OURS}, {MANY}", f"{POOL}, {MANY}", "open", times_better=3.0),)
MOST_PER_REQUEST = 1.3
MOST_PER_IMPORT_MS = 25.0
IMPORTS = 10


def _row(name: str, streams: int, port: int, *frozen: str) -> Row:
    command = ("-m", "tests.benchmarks.opening.row", name, str(streams), str(port), *frozen)
    return Row(", ".join([name, str(streams), *frozen]), command, timeout=ROW_SECONDS)


def _rows(port: int) -> list[Row]:
    rows = [_row(name, n, port) for name in ROWS for n in (100, 1_000, 2_000)]
    rows += [_row(name, n, port, "frozen") for n in (100, 2_000) for name in (OURS, FAST)]
    return rows


def _request_bar(results: Results, row: str) -> str:
    figure = results.figure(row, "request")
    if figure is None:
        return f"- not measured: {row}, requests"
    mark = "holds" if figure.median <= MOST_PER_REQUEST else "**missed**"
    return (
        f"- {mark}: {row}, a request beside the open streams: {figure.median:.2f} times one"
        f" without, wanted at most {MOST_PER_REQUEST:g}"
    )


def import_cost(statement: str) -> Figure:
    """Return the milliseconds that *statement* takes of the package over its dependencies."""
    code = f"import anyio, attrs, httpx, httpx_sse; {statement}"
    command = [sys.executable, "-X", "importtime", "-c", code]
    costs: list[float] = []
    for _ in range(IMPORTS):
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        # The names are loaded, as `_public`, when the first of them is used.
        pattern = r"\|\s+(\d+) \| cyberun_async(?:\._public)?$"
        costs.append(sum(map(int, re.findall(pattern, run.stderr, re.MULTILINE))) / 1000)
    return Figure(tuple(costs))


def _import_section() -> str:
    cost = import_cost("import cyberun_async")
    client = import_cost("from cyberun_async import CyberunClient")
    mark = "holds" if cost.median <= MOST_PER_IMPORT_MS else "**missed**"
    return (
        "### Import\n\n"
        f"- {mark}: `import cyberun_async` takes {cost:.1f} ms over its four dependencies,"
        f" wanted at most {MOST_PER_IMPORT_MS:g}\n"
        f"- with the client, which is loaded when it is first named: {client:.1f} ms"
    )


def _introduction() -> str:
    return Path(__file__).with_name("page.md").read_text(encoding="utf-8").strip()


def main() -> int:
    """Run it, write the section, and return the exit code."""
    chosen = options(__doc__)
    began = datetime.now(UTC)
    with serving("-m", "tests.benchmarks.events.server") as server:
        port = server["port"]
        results = alternate(_rows(port), repeats=chosen.repeats, seconds=SECONDS)
        many = Results({})
        if not chosen.quick:
            rows = [_row(name, MANY, port) for name in ROWS]
            many = alternate(rows, repeats=min(chosen.repeats, MANY_REPEATS))
    bars = [bar.judge(results) for bar in BARS]
    bars += [_request_bar(results, f"{name}, 1000") for name in (OURS, FAST)]
    text = "\n\n".join(
        [
            _introduction().format(repeats=results.rounds, many=many.rounds),
            circumstances(*PACKAGES, began=began),
            table(results, COLUMNS),
            "\n".join(bars),
            f"### {MANY:,} streams",
            table(many, COLUMNS),
            "\n".join(bar.judge(many) for bar in MANY_BARS),
            _import_section(),
        ]
    )
    if chosen.quick or chosen.repeats < REPEATS:
        print(text)
    else:
        write_section("opening", text)
    return finish(results, many)


if __name__ == "__main__":
    sys.exit(main())
