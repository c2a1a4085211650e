"""
Read streams with one of the clients and report what it cost; a process for each run.

Usage: ``python -m tests.benchmarks.events.row ROW SCENARIO PORT [asyncio|uvloop]``
"""

import asyncio
import importlib
import sys
from collections.abc import Callable

from ..harness import report
from .clients import ROWS, Row
from .load import Load, stats
from .scenarios import scenario_of


IMPORTED = {
    "ours, fast": "cyberun_async._http.aiohttp_backend",
    "httpx-sse over httpx-aiohttp": "httpx_aiohttp",
    "aiohttp, lines by hand": "aiohttp",
    "httpx + openai's decoder": "openai._streaming",
    "launchdarkly-eventsource": "ld_eventsource.async_client",
    "raw protocol (the limit)": "msgspec.json",
}


def main(name: str, scenario: str, port: str, loop: str = "asyncio") -> None:
    load = scenario_of(scenario).load(int(port))
    row: Row = ROWS[name]
    # What a row imports when it is first used is not what is measured.
    if name in IMPORTED:
        importlib.import_module(IMPORTED[name])
    load.announce()
    figures = runner(loop)(load, row)
    report(load.problems(stats(load.port)), **figures)


def runner(loop: str) -> Callable[[Load, Row], dict[str, float]]:
    """Return what runs a row on the event loop of that name."""
    if loop == "uvloop":
        import uvloop

        return lambda load, row: uvloop.run(load.measure(row))
    return lambda load, row: asyncio.run(load.measure(row))


if __name__ == "__main__":
    main(*sys.argv[1:])
