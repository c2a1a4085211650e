"""What a row has to read, and what is counted and timed while it does."""

import asyncio
import json
import ssl
import time
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import httpx


# Of each stream beside its ticks: the status and the end.
FRAME = 2


@attrs.define
class Load:
    """
    The streams of one run, and what came of them.

    Attributes:
        port: Where the server is.
        task_ids: One for each stream.
        ticks: How many each stream brings.
        at_once: How many streams are read side by side; None reads all.
        steady: Whether each event is timed; the processor is then measured from when
            all streams are open to the last tick, otherwise over everything.
        received: Events delivered, over all streams.
        dropped_progress: Events that were merged with others instead of being delivered.
    """

    port: int
    task_ids: list[str]
    ticks: int
    at_once: int | None = None
    steady: bool = False
    received: int = 0
    dropped_progress: int = 0
    connections: int = 0
    delays: list[float] = attrs.field(factory=list[float])
    tls: ssl.SSLContext = attrs.field(factory=httpx.create_ssl_context)
    _cpu: float = attrs.field(default=0.0, init=False)
    _used: float = attrs.field(default=0.0, init=False)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    def url(self, task_id: str) -> str:
        return f"{self.base_url}/r/tasks/{task_id}/events"

    def announce(self) -> None:
        """Tell the server which tasks there are, and let it count anew."""
        stem = self.task_ids[0].rpartition("-")[0]
        stats(self.port, f"?stem={stem}&count={len(self.task_ids)}")

    def seen(self, sent: float) -> None:
        """Time one event of a steady stream; ticks before the first round are not timed."""
        if sent:
            self.delays.append(time.perf_counter() - sent)
            # Only the last one is asked for: the question costs as much as a tenth of an event.
            if len(self.delays) == len(self.task_ids) * self.ticks:
                self._used = time.process_time() - self._cpu
        else:
            self._cpu = time.process_time()

    async def for_each(self, one: Callable[[str], Awaitable[None]]) -> None:
        """Read all streams, each by *one*."""
        if self.at_once is None:
            await asyncio.gather(*map(one, self.task_ids))
            return
        left = iter(self.task_ids)

        async def work() -> None:
            for task_id in left:
                await one(task_id)

        await asyncio.gather(*(work() for _ in range(self.at_once)))

    async def measure(self, row: Callable[["Load"], Awaitable[None]]) -> dict[str, float]:
        """Let *row* read everything, and return its figures."""
        wall, cpu = time.perf_counter(), time.process_time()
        await row(self)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        ticks = len(self.task_ids) * self.ticks
        if not self.steady:
            return {"cpu": cpu / ticks * 1e6, "wall": wall, "task": cpu / len(self.task_ids) * 1e6}
        delays = sorted(self.delays)
        return {
            "cpu": self._used / ticks * 1e6,
            "p50": delays[len(delays) // 2] * 1e6,
            "p99": delays[len(delays) * 99 // 100] * 1e6,
        }

    def problems(self, stats: dict[str, int]) -> list[str]:
        """Return what is wrong with this run."""
        streams = len(self.task_ids)
        expected = streams * (self.ticks + FRAME + self.steady)
        found: list[str] = []
        if self.received != expected:
            found.append(f"{self.received} of {expected} events")
        if self.dropped_progress:
            found.append(f"{self.dropped_progress} events merged")
        if self.at_once is None and stats["peak"] < streams:
            found.append(f"at most {stats['peak']} of {streams} streams were open at once")
        if self.steady and len(self.delays) != streams * self.ticks:
            found.append(f"{len(self.delays)} events timed")
        return found


def stats(port: int, query: str = "") -> dict[str, Any]:
    """Return what the server has counted since this was last asked."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/stats{query}") as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def resident_kib() -> float:
    """Return this process' resident memory."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return float(line.split()[1])
    raise RuntimeError("this system does not say what is resident")
