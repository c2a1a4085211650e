"""A batch over a cluster of three worker processes, against the service in another process."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

from cyberun_async import ConfigurationError, CyberunClient, Limits
from cyberun_async.cluster import ClusterBatch

from .kit import JOBS, POLICY, Service, connecting, jobs, running_service, unreported, until


distributed: Any = pytest.importorskip(
    "distributed", reason="Dask is installed by `nox -s cluster`"
)
dask: Any = pytest.importorskip("dask")

# Processes are started, lost and missed; a busy machine takes its time.
pytestmark = pytest.mark.timeout(180)

KEYS = [f"job-{number:03}" for number in range(JOBS)]


@pytest.fixture(scope="module", params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param  # Dask knows asyncio alone


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running_service() as found, pytest.MonkeyPatch.context() as patch:
        # Where the workers, which inherit it, look for the key.
        patch.setenv("CYBERUN_BASE_URL", found.url)
        patch.setenv("CYBERUN_API_KEY", found.key)
        yield found


class Unreachable(distributed.Nanny):
    """Watches over a worker, but cannot be reached: nobody kills the worker that hangs."""

    async def kill(self, timeout: float = 5, reason: str = "") -> None:
        if self.status == distributed.Status.running:
            raise TimeoutError
        await super().kill(timeout=timeout, reason=reason)


@pytest.fixture(scope="module")
async def cluster(anyio_backend: Any, service: Service) -> AsyncIterator[Any]:
    # A worker that is silent for so long is taken for lost; a busy machine needs that long.
    with dask.config.set({"distributed.scheduler.worker-ttl": "20s"}):
        async with distributed.LocalCluster(
            n_workers=3,
            threads_per_worker=2,
            worker_class=Unreachable,
            asynchronous=True,
            dashboard_address=None,
        ) as found:
            yield found


@pytest.fixture
async def client(cluster: Any) -> AsyncIterator[Any]:
    async with distributed.Client(cluster, asynchronous=True) as found:
        await found.wait_for_workers(3)
        yield found


def batch_on(client: Any, folder: Path, trap: Path | None = None) -> ClusterBatch:
    return ClusterBatch(
        client,
        folder,
        policy=POLICY,
        limits=Limits(poll_rate=300.0),
        shard_size=15,
        connect=connecting(trap),
    )


async def test_every_job_gets_one_outcome(client: Any, service: Service, tmp_path: Path) -> None:
    """Outcomes come from all workers, progress is that of the whole, and a rerun sends nothing."""
    before = service.tasks()
    async with batch_on(client, tmp_path) as batch:
        found = [outcome async for outcome in batch.run(jobs())]
        again = [outcome async for outcome in batch.run(jobs())]
        report = await batch.report()

    assert sorted(outcome.key for outcome in found) == KEYS
    assert all(outcome.is_completed and not outcome.is_replayed for outcome in found)
    assert sorted(outcome.key for outcome in again) == KEYS
    assert all(outcome.is_replayed for outcome in again)
    assert batch.progress.is_finished
    assert (report.total, report.ended, report.fates, report.overtaken) == (JOBS, JOBS, (), ())
    assert before == {}
    assert {key: len(tasks) for key, tasks in service.tasks().items()} == dict.fromkeys(KEYS, 1)
    assert len({outcome.task_id for outcome in found}) == JOBS


async def test_the_shard_of_a_killed_worker_is_run_elsewhere(
    client: Any, service: Service, tmp_path: Path
) -> None:
    """After SIGKILL in mid-run each job has one outcome, and none was doubled silently."""
    before = {key: len(tasks) for key, tasks in service.tasks().items()}
    processes = await client.run(os.getpid)
    found: list[Any] = []
    async with batch_on(client, tmp_path) as batch:
        async for outcome in batch.run(jobs()):
            found.append(outcome)
            if len(found) == JOBS // 5:
                os.kill(next(iter(processes.values())), signal.SIGKILL)
        report = await batch.report()

    made = {key: tasks[before.get(key, 0) :] for key, tasks in service.tasks().items()}
    assert sorted(outcome.key for outcome in found) == KEYS
    assert all(outcome.is_completed for outcome in found)
    assert (report.total, report.ended) == (JOBS, JOBS)
    assert list(tmp_path.glob("shard-*.0002.sqlite"))
    assert unreported(made, report) == []


async def test_a_credential_does_not_travel(client: Any, service: Service, tmp_path: Path) -> None:
    """A key that a client would bring along is refused before anything is sent to the cluster."""
    key = service.key

    def connect(limits: Limits) -> CyberunClient:
        return CyberunClient(key, limits=limits)

    batch = ClusterBatch(client, tmp_path, connect=connect)
    with pytest.raises(ConfigurationError, match="brings a credential along") as caught:
        await batch.__aenter__()

    assert key not in str(caught.value)


async def test_the_program_of_the_documentation_runs(
    cluster: Any, client: Any, service: Service, tmp_path: Path
) -> None:
    """As a program of its own that knows where the scheduler is, it runs its jobs and reports."""
    before = sum(len(tasks) for tasks in service.tasks().values())
    written = [json.dumps(attrs.asdict(job, filter=_is_given)) for job in jobs(5)]
    (tmp_path / "jobs.jsonl").write_text("\n".join(written))
    program = Path(__file__).parents[3] / "docs" / "examples" / "cluster.py"
    command = [sys.executable, str(program), cluster.scheduler_address, str(tmp_path)]
    ran = await anyio.run_process([*command, str(tmp_path / "jobs.jsonl")], stderr=None)

    *lines, last = ran.stdout.decode().splitlines()
    assert sorted(line.split()[:2] for line in lines) == [[key, "completed"] for key in KEYS[:5]]
    assert last == "5 of 5 jobs have an outcome (5 completed)"
    assert sum(len(tasks) for tasks in service.tasks().values()) == before + 5


def _is_given(field: "attrs.Attribute[Any]", value: object) -> bool:
    return field.name in {"key", "workflow", "parameters"}


async def test_a_paused_worker_that_comes_back_is_found_out(
    client: Any, service: Service, tmp_path: Path
) -> None:
    """
    A worker stopped just before a request sends it when it is continued, after its shard
    has moved and the job was submitted again: the task it makes is reported, as is that of
    any other request that was in flight, and there is no further one.
    """
    before = {key: len(tasks) for key, tasks in service.tasks().items()}
    trap = tmp_path / "trap"
    found: list[Any] = []
    async with batch_on(client, tmp_path, trap) as batch:
        async for outcome in batch.run(jobs()):
            found.append(outcome)  # noqa: PERF401 - what came before an error is of interest
        process, key = trap.read_text().split()
        os.kill(int(process), signal.SIGCONT)
        sent = before.get(key, 0) + 2
        await until(lambda: len(service.tasks()[key]) == sent, "the paused worker had sent")
        report = await batch.report()
        while not report.overtaken:
            report = await batch.report()

    made = {key: tasks[before.get(key, 0) :] for key, tasks in service.tasks().items()}
    assert sorted(outcome.key for outcome in found) == KEYS
    overtaken = {each.key: {each.task_id, *each.other_tasks} for each in report.overtaken}
    assert set(overtaken[key]) == set(made[key])
    assert {job: set(tasks) for job, tasks in made.items() if len(tasks) > 1} == overtaken
    # No more than were in flight on that worker.
    assert len(overtaken) <= POLICY.concurrency // 3
    assert overtaken.keys() <= {fate.key for fate in report.fates}
    assert unreported(made, report) == []
