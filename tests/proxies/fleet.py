"""Many watches, some waits and a small batch at once, and what becomes of them."""

import asyncio
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import attrs

from cyberun_async import CompletedEvent, CyberunClient, TaskSnapshot, Timeouts, WatchPolicy
from cyberun_async.batch import Batch, BatchPolicy, Job
from cyberun_async.testing import Simulator, TaskPlan

from ..whole.kit import OUTPUT, Watched, assert_in_order, assert_nothing_left, follow, until


# As by default where it matters, and with less patience where a test would only wait.
POLICY: Final = WatchPolicy(
    backoff_cap=2.0,
    check_after=3.0,
    settle_after=1.0,
    idle_timeout=15.0,
    open_timeout=5.0,
    poll_interval=0.5,
    poll_interval_waiting=1.0,
    climb_base=2.0,
)
LIFE: Final = TaskPlan(steps=20, step_seconds=0.25, output=OUTPUT)
# Of a job: some of them are submitted while the trouble lasts.
SHORT: Final = TaskPlan(steps=4, step_seconds=0.3)
_WITHIN: Final = 45.0


def port_of(url: str) -> int:
    """Return the port of *url*."""
    port = urlsplit(url).port
    assert port is not None
    return port


def client_of(sim: Simulator, port: int | None = None, **settings: Any) -> CyberunClient:
    """Return a client of the service, which it reaches over TLS at *port* if there is one."""
    base = sim.url
    if port is not None:
        base = f"https://127.0.0.1:{port}{urlsplit(base).path}"
    settings = {"watch_policy": POLICY, "timeouts": Timeouts(connect=3.0, read=10.0), **settings}
    return CyberunClient(sim.key, base_url=base, **settings)


@attrs.frozen
class Fleet:
    """So many of each, all of them under way when trouble comes."""

    watches: int = 6
    waits: int = 3
    jobs: int = 6
    life: TaskPlan = LIFE

    async def survives(
        self,
        client: CyberunClient,
        sim: Simulator,
        folder: Path,
        *troubles: Callable[[], object],
        after: float = 1.0,
    ) -> None:
        """Everything ends as the service says, exactly once, whatever happens meanwhile."""
        sim.default_plan = SHORT
        watched = [sim.create_task(self.life).id for _ in range(self.watches)]
        awaited = [sim.create_task(self.life).id for _ in range(self.waits)]
        known = len(sim.tasks)
        async with asyncio.timeout(_WITHIN), asyncio.TaskGroup() as group:
            batch = group.create_task(self._batch(client, folder))
            if self.jobs:
                await until(lambda: len(sim.tasks) > known, what="a first job")
            watches = [group.create_task(follow(client.watch(each))) for each in watched]
            waits = [group.create_task(client.wait(each)) for each in awaited]
            await asyncio.sleep(after)
            for trouble in troubles:
                await asyncio.to_thread(trouble)
        for each in watches:
            _assert_ended_well(each.result())
        assert [_final(each.result()) for each in waits] == [("completed", None)] * self.waits
        assert batch.result() == {f"job-{number}": "completed" for number in range(self.jobs)}
        # What was paid for: one task for each job.
        assert len(sim.tasks) - known == self.jobs
        await client.aclose()
        await assert_nothing_left(sim)

    async def _batch(self, client: CyberunClient, folder: Path) -> dict[str, str]:
        if not self.jobs:
            return {}
        jobs = [
            Job(key=f"job-{number}", workflow="text-to-image", parameters={"prompt": f"{number}"})
            for number in range(self.jobs)
        ]
        policy = BatchPolicy(concurrency=2, settle_time=1.0)
        async with Batch(client, folder / "runs.sqlite", policy=policy) as batch:
            return {outcome.key: str(outcome.state) async for outcome in batch.run(jobs)}


def _assert_ended_well(watched: Watched) -> None:
    assert isinstance(watched.end, CompletedEvent)
    assert (watched.end.output, watched.end.output_error) == (OUTPUT, None)
    assert_in_order(watched)


def _final(snapshot: TaskSnapshot) -> tuple[str, str | None]:
    return snapshot.status, snapshot.error or None


def for_seconds(seconds: float, begin: Callable[[], object], end: Callable[[], object]) -> Any:
    """Return a trouble that begins and ends."""

    def trouble() -> None:
        begin()
        time.sleep(seconds)
        with suppress(FileNotFoundError):
            end()

    return trouble


def restarted(sim: Simulator, seconds: float) -> Any:
    """Return the trouble of a service that is gone for so long."""
    return for_seconds(seconds, sim.kill, sim.restart)


def trusting(bundle: Path) -> ssl.SSLContext:
    """Return a context that trusts the tests' authority."""
    return ssl.create_default_context(cafile=str(bundle))
