"""
The rows, each a program: ``python -m tests.benchmarks.many.rows NAME TASKS [SECONDS]``.

Each starts a service of its own, measures one thing once, and checks that what it
measured really happened: as many connections as claimed, every event, unmerged.
"""

import asyncio
import gc
import json
import os
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import attrs
import httpx
from httpx_sse import aconnect_sse

from cyberun_async import CyberunClient, Limits, ProgressEvent

from ..harness import report, serving
from .server import OWN, task_id


KEY: Final = "sk-benchmark"
POLL_INTERVAL: Final = 3.0
TICKS: Final = 10
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def ids(count: int) -> list[str]:
    return [task_id(OWN, number) for number in range(count)]


@attrs.define
class Service:
    """The row's service, as the row commands it."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"

    def command(self, command: str) -> Any:
        """Tell it something, on a connection that it does not count."""
        address = f"http://127.0.0.1:{self.port}/control/{command}"
        with urllib.request.urlopen(address) as reply:
            return json.loads(reply.read())

    async def order(self, command: str) -> Any:
        """As :meth:`command`, beside what the event loop does."""
        return await asyncio.to_thread(self.command, command)


@contextmanager
def service(own: int, *, running: int, foreign: int = 5000) -> Iterator[Service]:
    arguments = (str(own), str(running), str(foreign))
    with serving("-m", "tests.benchmarks.many.server", *arguments) as first:
        yield Service(first["port"])


@asynccontextmanager
async def ours(at: Service, **limits: Any) -> AsyncIterator[CyberunClient]:
    async with CyberunClient(KEY, base_url=at.url, limits=Limits(**limits)) as client:
        yield client


def resident() -> int:
    """Return the bytes of memory that the process has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * PAGE_BYTES


async def until(condition: Callable[[], Any], seconds: float = 60.0) -> bool:
    """Wait until *condition* holds; False when time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return True
        await asyncio.sleep(0.05)
    return False


async def all_open(at: Service, count: int, seconds: float = 60.0) -> bool:
    """Wait until *count* streams are open by the service's own count."""

    async def are_open() -> bool:
        return bool((await at.order("report"))["streams"] == count)

    return await until(are_open, seconds)


async def cancelled(tasks: list["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# Waiting for thousands, a few of them running.


async def waiting(count: int, seconds: float) -> None:
    """Requests, connections and lateness, with 1 % running and an end each half second."""
    found: dict[str, float] = {}
    with service(count, running=count // 100) as at:
        async with ours(at) as client:

            async def wait(one: str) -> None:
                await client.wait(one)
                found[one] = time.monotonic()

            tasks = [asyncio.create_task(wait(one)) for one in ids(count)]
            await asyncio.sleep(20)
            await at.order("forget")
            began, cpu = time.monotonic(), time.process_time()
            await at.order(f"ends/{int(seconds * 2)}/0.5")
            intervals: list[float] = []
            while time.monotonic() - began < seconds:
                await asyncio.sleep(0.5)
                intervals.append(client.statistics().poll_interval)
            cpu, took = time.process_time() - cpu, time.monotonic() - began
            seen = await at.order("report")
            interval = max(intervals)
            await asyncio.sleep(2 * interval)
            ended = (await at.order("report"))["ended"]
            await cancelled(tasks)
    late = [found[one] - moment for one, moment in ended.items() if one in found]
    problems = [f"{len(ended) - len(late)} ends not reported"] if len(late) < len(ended) else []
    if len(ended) < seconds:
        problems.append(f"only {len(ended)} tasks ended")
    report(
        problems,
        requests_per_round=sum(seen["requests"].values()) * POLL_INTERVAL / took,
        connections=seen["peak_connections"],
        latest=max(late, default=0.0),
        interval=interval,
        intervals_late=max(late, default=0.0) / interval,
        cpu=1e6 * cpu / took / count,
    )


async def waiting_naive(count: int, seconds: float) -> None:
    """One GET per task every three seconds, as many at once as a pool of the default size has."""
    asked = 0
    # More would queue in the pool, which looks through all of them each time.
    room = asyncio.Semaphore(100)
    with service(count, running=count // 100) as at:
        async with httpx.AsyncClient(timeout=None) as client:

            async def poll(one: str) -> None:
                nonlocal asked
                while True:
                    began = time.monotonic()
                    async with room:
                        reply = await client.get(f"{at.url}/r/tasks/{one}")
                    json.loads(reply.content)
                    asked += 1
                    await asyncio.sleep(max(0.0, began + POLL_INTERVAL - time.monotonic()))

            tasks = [asyncio.create_task(poll(one)) for one in ids(count)]
            began, cpu = time.monotonic(), time.process_time()
            await asyncio.sleep(seconds)
            cpu, took = time.process_time() - cpu, time.monotonic() - began
            seen = await at.order("report")
            await cancelled(tasks)
    problems = [] if asked >= count else [f"only {asked} of {count} tasks were asked about"]
    report(
        problems,
        # One per task in each round; how long a round really takes is the interval.
        requests_per_round=count,
        connections=seen["peak_connections"],
        interval=max(POLL_INTERVAL, count * took / max(asked, 1)),
        cpu=1e6 * cpu / took / count,
    )


# What watching costs.


async def cost(count: int, running: int, seconds: float) -> None:
    """Processor time per watched task and second, running tasks ticking once a second."""
    ticks = 0
    with service(count, running=running) as at:
        async with ours(at) as client:

            async def watch(one: str) -> None:
                nonlocal ticks
                async with client.watch(one) as events:
                    async for event in events:
                        ticks += isinstance(event, ProgressEvent)

            tasks = [asyncio.create_task(watch(one)) for one in ids(count)]
            await asyncio.sleep(20)
            seen = await at.order("report")
            ticks = 0
            sent = int(seconds) - 2
            began, cpu = time.monotonic(), time.process_time()
            await at.order(f"tick/{sent}/1/{sent}")
            await asyncio.sleep(seconds)
            cpu, took = time.process_time() - cpu, time.monotonic() - began
            await cancelled(tasks)
    problems = [] if ticks == sent * running else [f"{ticks} of {sent * running} ticks came"]
    if seen["streams"] < running:
        problems.append(f"{seen['streams']} streams for {running} running tasks")
    report(problems, cpu=1e6 * cpu / took / count, streams=seen["streams"])


# Memory.


async def memory_bare(count: int) -> None:
    """A bare asyncio task that waits for an event of its own."""
    names = ids(count)
    async with CyberunClient(KEY, base_url="http://127.0.0.1:9"):
        before = resident()
        events = {one: asyncio.Event() for one in names}
        tasks = [asyncio.create_task(event.wait()) for event in events.values()]
        await asyncio.sleep(1)
        report((), bytes=(resident() - before) / count)
        await cancelled([*tasks])


async def memory_waiting(count: int) -> None:
    """A task in ``client.wait``."""
    names = ids(count)
    with service(count, running=0) as at:
        async with ours(at) as client:
            await client.tasks.get(names[0])
            before = resident()
            tasks = [asyncio.create_task(client.wait(one)) for one in names]
            await asyncio.sleep(30)
            after = resident()
            waiting = sum(not task.done() for task in tasks)
            asked = client.statistics()
            await cancelled(tasks)
    problems = [] if waiting == count == asked.polled_tasks else [f"{waiting} tasks wait"]
    report(problems, bytes=(after - before) / count)


async def memory_stream(count: int) -> None:
    """A task in ``client.watch``, its stream open."""
    ticks: dict[str, int] = {}
    with service(count, running=count, foreign=0) as at:
        async with ours(at, max_streams=count) as client:
            await client.tasks.get(ids(1)[0])
            before = resident()

            async def watch(one: str) -> None:
                async with client.watch(one) as events:
                    async for event in events:
                        ticks[one] = ticks.get(one, 0) + isinstance(event, ProgressEvent)

            tasks = [asyncio.create_task(watch(one)) for one in ids(count)]
            await _measure_streams(at, tasks, ticks, count, before)


async def memory_stream_naive(count: int) -> None:
    """A task in ``aconnect_sse``, all streams in one pool."""
    ticks: dict[str, int] = {}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    with service(count, running=count, foreign=0) as at:
        async with httpx.AsyncClient(timeout=None, limits=limits) as client:
            await client.get(f"{at.url}/r/tasks/{ids(1)[0]}")
            before = resident()

            async def watch(one: str) -> None:
                url = f"{at.url}/r/tasks/{one}/events"
                async with aconnect_sse(client, "GET", url) as source:
                    async for event in source.aiter_sse():
                        json.loads(event.data)
                        ticks[one] = ticks.get(one, 0) + (event.event == "progress")

            tasks = [asyncio.create_task(watch(one)) for one in ids(count)]
            await _measure_streams(at, tasks, ticks, count, before)


async def _measure_streams(
    at: Service, tasks: "list[asyncio.Task[None]]", ticks: dict[str, int], count: int, before: int
) -> None:
    await all_open(at, count)
    await at.order(f"tick/{TICKS}/0.2/{TICKS}")
    await until(lambda: sum(ticks.values()) >= count * TICKS)
    await asyncio.sleep(1)
    after, seen = resident(), await at.order("report")
    problems = [] if seen["streams"] == count else [f"{seen['streams']} streams of {count}"]
    if any(number != TICKS for number in ticks.values()) or len(ticks) < count:
        problems.append(f"{sum(ticks.values())} of {count * TICKS} ticks came")
    report(problems, bytes=(after - before) / count, streams=seen["streams"])
    await cancelled([*tasks])


# One task, many readers.


async def readers(count: int, events: int) -> None:
    """What it costs to bring one event to one of many readers."""
    ticks = 0
    with service(1, running=1, foreign=0) as at:
        async with ours(at) as client:

            async def watch() -> None:
                nonlocal ticks
                async with client.watch(ids(1)[0]) as found:
                    async for event in found:
                        ticks += isinstance(event, ProgressEvent)

            tasks = [asyncio.create_task(watch()) for _ in range(count)]
            await asyncio.sleep(3)
            cpu = time.process_time()
            await at.order(f"tick/{events}/0.1/{events}")
            await until(lambda: ticks >= count * events)
            cpu = time.process_time() - cpu
            seen = await at.order("report")
            await cancelled([*tasks])
    problems = [] if ticks == count * events else [f"{ticks} of {count * events} events came"]
    if seen["peak_streams"] != 1:
        problems.append(f"{seen['peak_streams']} streams")
    report(problems, cpu=1e6 * cpu / count / events, connections=seen["requests"]["events"])


async def readers_bare(count: int, events: int) -> None:
    """What it costs to wake one of many tasks that wait for the same ``anyio.Event``."""
    turn = [anyio.Event()]
    woken = 0

    async def read() -> None:
        nonlocal woken
        while True:
            await turn[0].wait()
            woken += 1

    tasks = [asyncio.create_task(read()) for _ in range(count)]
    await asyncio.sleep(1)
    cpu = time.process_time()
    for _ in range(events):
        last, turn[0] = turn[0], anyio.Event()
        last.set()
        await asyncio.sleep(0.1)
    cpu = time.process_time() - cpu
    await cancelled([*tasks])
    problems = [] if woken == count * events else [f"{woken} of {count * events} woke"]
    report(problems, cpu=1e6 * cpu / count / events)


# The service killed and back.


async def killed(count: int, down: float) -> None:
    """All streams cut at once: how they come back, by the service's own count."""
    heard: dict[str, int] = {}
    ended: list[str] = []
    with service(count, running=count) as at:
        async with ours(at, max_streams=count) as client:

            async def watch(one: str) -> None:
                async with client.watch(one) as events:
                    async for event in events:
                        heard[one] = heard.get(one, 0) + isinstance(event, ProgressEvent)
                        if event.is_terminal:
                            ended.append(one)

            tasks = [asyncio.create_task(watch(one)) for one in ids(count)]
            opened = await all_open(at, count)
            await at.order(f"kill/{down:g}")
            began = time.monotonic()
            await asyncio.sleep(down + 2)
            back = await all_open(at, count, 120)
            took = time.monotonic() - began - down
            seen = await at.order("report")
            heard.clear()
            await at.order("tick/1/1/10")
            all_hear = await until(lambda: len(heard) == count)
            await at.order("end_all")
            all_end = await until(lambda: len(ended) == count, 30)
            await cancelled([*tasks])
    problems = [
        problem
        for is_well, problem in (
            (opened, "not all streams opened"),
            (back, f"{seen['streams']} of {count} streams came back"),
            (all_hear, f"only {len(heard)} received what came after"),
            (all_end and len(set(ended)) == count, f"{len(set(ended))} of {count} ended"),
        )
        if not is_well
    ]
    accepts = seen["accepts"]
    report(
        problems,
        accepts=len(accepts),
        most=most_in_window(accepts, 0.1),
        share=most_in_window(accepts, 0.1) / max(len(accepts), 1),
        seconds=took,
    )


def most_in_window(moments: list[float], seconds: float) -> int:
    """Return the most moments that any stretch of so many seconds holds."""
    most = first = 0
    for last, moment in enumerate(moments):
        while moment - moments[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


ROWS: Final[dict[str, Callable[..., Any]]] = {
    "waiting": lambda n, s: waiting(int(n), float(s)),
    "waiting-naive": lambda n, s: waiting_naive(int(n), float(s)),
    "cost": lambda n, running, s: cost(int(n), int(running), float(s)),
    "memory-bare": lambda n: memory_bare(int(n)),
    "memory-waiting": lambda n: memory_waiting(int(n)),
    "memory-stream": lambda n: memory_stream(int(n)),
    "memory-stream-naive": lambda n: memory_stream_naive(int(n)),
    "readers": lambda n, events: readers(int(n), int(events)),
    "readers-bare": lambda n, events: readers_bare(int(n), int(events)),
    "killed": lambda n, down: killed(int(n), float(down)),
}

if __name__ == "__main__":
    asyncio.run(ROWS[sys.argv[1]](*sys.argv[2:]))
