"""The event path beside its peers: bulk, steady and short streams; writes its tables."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ..harness import (
    Bar,
    Column,
    Results,
    Row,
    alternate,
    circumstances,
    cpu_seconds_of,
    finish,
    options,
    serving,
    table,
    write_section,
)
from .clients import ROWS
from .scenarios import SCENARIOS, Scenario


PLAIN, OURS, FAST = "httpx + httpx-sse", "ours", "ours, fast"
LIMIT = "raw protocol (the limit)"
ON_UVLOOP = (PLAIN, FAST, LIMIT)

# For each table, so that all of them are written within an hour on a slow machine, too.
SECONDS = 900.0

BULK: list[Column] = [("cpu", "CPU per event, µs", ".2f"), ("wall", "seconds", ".2f")]
STEADY: list[Column] = [
    ("cpu", "CPU per event, µs", ".1f"),
    ("p50", "delay p50, µs", ".0f"),
    ("p99", "delay p99, µs", ".0f"),
]
CHURN: list[Column] = [("task", "CPU per task, µs", ".0f"), ("wall", "seconds", ".2f")]

FAST_IS_BETTER = {
    "bulk-1": 4.0,
    "bulk-100": 4.0,
    "bulk-1000": 3.0,
    "steady-100": 1.8,
    "steady-1000": 1.5,
}


def _rows(scenario: str, port: int) -> list[Row]:
    command = ("-m", "tests.benchmarks.events.row")
    rows = [Row(name, (*command, name, scenario, str(port))) for name in ROWS]
    if scenario.partition("/")[0] == "bulk-1":
        rows += [
            Row(f"{name}, uvloop", (*command, name, scenario, str(port), "uvloop"))
            for name in ON_UVLOOP
        ]
    return rows


def _bars(scenario: str) -> Iterator[Bar]:
    if scenario == "churn":
        return
    most = 1.05 if scenario.startswith("bulk") else 1.10
    yield Bar(OURS, PLAIN, "cpu", at_most=most)
    yield Bar(FAST, PLAIN, "cpu", times_better=FAST_IS_BETTER[scenario])
    if scenario == "bulk-1":
        yield Bar(FAST, LIMIT, "cpu", at_most=2.0)


def _columns(scenario: str) -> list[Column]:
    kinds = {"bulk": BULK, "steady": STEADY, "churn": CHURN}
    return kinds[scenario.partition("-")[0]]


def _section(name: str, scenario: Scenario, results: Results, server: float) -> str:
    bars = "\n".join(bar.judge(results) for bar in _bars(name))
    return "\n\n".join(
        part
        for part in (
            f"### {scenario.title}",
            table(results, _columns(name), against=PLAIN),
            f"{results.rounds} rounds; the server was busy for {server:.0%} of the time.",
            bars,
        )
        if part
    )


def _introduction() -> str:
    return Path(__file__).with_name("page.md").read_text(encoding="utf-8").strip()


def main() -> int:
    """Run all scenarios, write the section, and return the exit code."""
    chosen = options(__doc__)
    began = datetime.now(UTC)
    found: list[Results] = []
    sections: list[str] = []
    for name, scenario in SCENARIOS.items():
        if not chosen.wants(name):
            continue
        with serving("-m", "tests.benchmarks.events.server") as server:
            size = f"{name}/10" if chosen.quick and name.startswith("bulk") else name
            start = time.monotonic()
            results = alternate(
                _rows(size, server["port"]), repeats=chosen.repeats, seconds=SECONDS
            )
            busy = cpu_seconds_of(server["pid"]) / (time.monotonic() - start)
        found.append(results)
        sections.append(_section(name, scenario, results, busy))
        print(sections[-1], flush=True)
    if not (chosen.quick or chosen.only):
        write_section("events", _page(sections, began))
    return finish(*found)


def _page(sections: list[str], began: datetime) -> str:
    return "\n\n".join([_introduction(), circumstances(*PACKAGES, began=began), *sections])


PACKAGES = (
    *("httpx", "httpx-sse", "httpx-aiohttp", "aiohttp", "msgspec", "openai"),
    *("launchdarkly-eventsource", "uvloop", "attrs"),
)


if __name__ == "__main__":
    sys.exit(main())
