"""A batch over a cluster that is faked: the client program's part, and the workers' code."""

import os
import pickle
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from cyberun_async import (
    AuthenticationError,
    ClientStateError,
    ConfigurationError,
    CyberunClient,
    InvalidInputError,
    Limits,
)
from cyberun_async.batch import (
    BatchPolicy,
    BatchStoppedError,
    InvalidJobsError,
    Job,
    JobState,
    LedgerWriteError,
    UncertainSubmissionsError,
)
from cyberun_async.cluster import ClusterBatch, ClusterError, LeaseLostError
from cyberun_async.cluster._sharding import shard_of
from cyberun_async.testing import Simulator, faults

from ..batch.kit import client_of, jobs, quick_service
from ..whole.kit import until
from .fake_dask import Client, install


@pytest.fixture(scope="module", params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param  # Dask knows asyncio alone


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install(monkeypatch)
    yield
    sys.modules.pop("cyberun_async.cluster._plugin", None)


@pytest.fixture
def sim() -> Simulator:
    return quick_service()


def batch_of(sim: Simulator, folder: Path, dask: Client | None = None, **more: Any) -> ClusterBatch:
    more.setdefault("policy", BatchPolicy(settle_time=0.0))
    more.setdefault("shard_size", 10)
    return ClusterBatch(dask or Client(), folder, connect=lambda _: client_of(sim), **more)


async def test_every_job_gets_one_outcome(sim: Simulator, tmp_path: Path) -> None:
    """All shards are worked through, and the sums are those of the whole."""
    async with batch_of(sim, tmp_path) as batch:
        found = [outcome async for outcome in batch.run(jobs(40))]
        progress, report = batch.progress, await batch.report()

    assert sorted(outcome.key for outcome in found) == sorted(f"job-{n}" for n in range(40))
    assert all(outcome.is_completed and outcome.snapshot is None for outcome in found)
    assert progress.is_finished
    assert progress.total == report.total == len(sim.submissions) == 40
    assert str(report).startswith("40 of 40 jobs have an outcome")
    assert len(list(tmp_path.glob("shard-*.sqlite"))) == 4


async def test_run_again_nothing_is_sent(sim: Simulator, tmp_path: Path) -> None:
    """Another program with the same folder replays, whatever size of shards it asks for."""
    async with batch_of(sim, tmp_path) as batch:
        first = [outcome async for outcome in batch.run(jobs(30))]
    async with batch_of(sim, tmp_path, shard_size=3) as batch:
        again = [outcome async for outcome in batch.run(jobs(30))]

    assert len(sim.submissions) == 30
    assert sorted(one.key for one in again) == sorted(one.key for one in first)
    assert all(outcome.is_replayed for outcome in again)


async def test_as_many_shards_run_as_there_are_parts(sim: Simulator, tmp_path: Path) -> None:
    """No more shards are on the cluster at once than the limits were divided for."""
    dask = Client(workers=3)
    async with batch_of(sim, tmp_path, dask) as batch:
        async for _ in batch.run(jobs(60)):
            pass

    assert len([key for key in dask.submitted if "shard" in key]) == 6
    assert dask.peak <= 3


async def test_the_worker_s_client_gets_its_part(sim: Simulator, tmp_path: Path) -> None:
    """What makes the client is handed a worker's share of the account's limits."""
    given: list[Limits] = []

    def connect(limits: Limits) -> CyberunClient:
        given.append(limits)
        return client_of(sim)

    async with ClusterBatch(Client(), tmp_path, connect=connect, workers=4):
        pass

    assert [(each.max_streams, each.max_connections, each.poll_rate) for each in given] == [
        (25, 5, 5.0)
    ]


async def test_faults_of_the_whole_list_come_first(sim: Simulator, tmp_path: Path) -> None:
    """A duplicate key is reported before anything reaches the cluster."""
    dask = Client()
    async with batch_of(sim, tmp_path, dask) as batch:
        with pytest.raises(InvalidJobsError, match="the key is that of job 0 already"):
            async for _ in batch.run([*jobs(20), *jobs(1)]):
                pass

    assert dask.submitted == []


async def test_faults_that_workers_find_are_reported(sim: Simulator, tmp_path: Path) -> None:
    """An unknown workflow stops the batch with the fault; nothing of its shard is sent."""
    odd = Job(key="odd", workflow="text-to-imagge", source="runs.jsonl:7")
    async with batch_of(sim, tmp_path, shard_size=100) as batch:
        with pytest.raises(InvalidJobsError) as caught:
            async for _ in batch.run([*jobs(5), odd]):
                pass

    assert [fault.place for fault in caught.value.faults] == ["runs.jsonl:7"]
    assert sim.submissions == []


async def test_what_stops_a_batch_stops_all_shards(sim: Simulator, tmp_path: Path) -> None:
    """An error of a shard comes typed as it is, and no further shard is begun."""
    dask = Client(workers=1)
    sim.faults.add("run", faults.refuse(401))
    async with batch_of(sim, tmp_path, dask) as batch:
        with pytest.raises(AuthenticationError):
            async for _ in batch.run(jobs(50)):
                pass

    assert len([key for key in dask.submitted if "shard" in key]) == 1


async def test_after_a_failure_no_shard_waits_for_the_reader_to_stop(
    sim: Simulator, tmp_path: Path
) -> None:
    """While outcomes are yet to be read the other shards submit nothing more."""
    bad = [job for job in jobs(100) if shard_of(job.key, 2) == 0][5]
    prompt = str(bad.parameters["prompt"]).encode() + b'"'
    sim.faults.add("run", faults.refuse(401), when=lambda request: prompt in request.body)
    policy = BatchPolicy(concurrency=2, settle_time=0.0)
    dask = Client()
    async with batch_of(sim, tmp_path, dask, policy=policy, shard_size=50) as batch:
        run = batch.run(jobs(100))
        found = [await anext(run)]
        await until(lambda: "stop_shards" in dask.ran)
        begun = len(sim.submissions)
        await anyio.sleep(0.05)
        submitted = len(sim.submissions)
        with pytest.raises(AuthenticationError):
            async for outcome in run:
                found.append(outcome)  # noqa: PERF401 - until the error

    assert submitted == begun < 99
    assert {outcome.state for outcome in found} == {JobState.COMPLETED}
    assert dask.ran.count("stop_shards") == 1


async def test_fail_fast_stops_all_shards(sim: Simulator, tmp_path: Path) -> None:
    """The outcome of the job that failed is reported, and then the error."""
    sim.faults.add("run", faults.refuse(400), times=1)
    policy = BatchPolicy(fail_fast=True, settle_time=0.0)
    found: list[str] = []
    async with batch_of(sim, tmp_path, policy=policy) as batch:
        with pytest.raises(BatchStoppedError) as caught:
            async for outcome in batch.run(jobs(40)):
                found.append(outcome.key)  # noqa: PERF401 - until it is stopped

    assert caught.value.outcome.key in found


async def test_undecided_submissions_come_at_the_end(sim: Simulator, tmp_path: Path) -> None:
    """The other shards are worked through first; decided upon, the next run finishes."""
    sim.faults.add("run", faults.abandon(), times=1)
    found: list[str] = []
    async with batch_of(sim, tmp_path) as batch:
        with pytest.raises(UncertainSubmissionsError) as caught:
            async for outcome in batch.run(jobs(30)):
                found.append(outcome.key)  # noqa: PERF401 - until the error
        [fate] = caught.value.fates
        made = {each.parameters["prompt"]: each.task_id for each in sim.submissions}
        task = made[f"fox {fate.key.removeprefix('job-')}"]
        shard = shard_of(fate.key, 3)
        other = next(job.key for job in jobs(30) if shard_of(job.key, 3) != shard)
        with pytest.raises(InvalidInputError, match="another job's"):
            await batch.decide(fate.key, "adopt", task=made[f"fox {other.removeprefix('job-')}"])
        await batch.decide(fate.key, "adopt", task=task)
        again = [outcome async for outcome in batch.run(jobs(30))]
        report = await batch.report()

    assert len(found) == 29
    assert fate.candidates == (task,)
    assert len(again) == len(sim.submissions) == 30
    assert [(one.key, one.action) for one in report.fates] == [(fate.key, "adopt")]


async def test_an_outcome_that_was_reported_stays(sim: Simulator, tmp_path: Path) -> None:
    """A shard that is run again within one run tries no job anew; the next run does."""
    dask = Client()
    dask.loses_workers = True
    sim.faults.add("run", faults.refuse(400), times=1)
    async with batch_of(sim, tmp_path, dask) as batch:
        first = [outcome async for outcome in batch.run(jobs(20))]
        submitted, report = len(sim.submissions), await batch.report()
        second = [outcome async for outcome in batch.run(jobs(20))]

    states = Counter(outcome.state for outcome in first)
    assert states == {JobState.COMPLETED: 19, JobState.REJECTED: 1}
    assert (submitted, report.counts[JobState.REJECTED]) == (19, 1)
    assert Counter(outcome.state for outcome in second) == {JobState.COMPLETED: 20}
    assert len(sim.submissions) == 20


async def test_another_program_takes_the_folder(sim: Simulator, tmp_path: Path) -> None:
    """Two programs do not work on one folder: the first gets an error, and doubles nothing."""
    dask = Client()
    async with batch_of(sim, tmp_path, dask) as first:
        async with batch_of(sim, tmp_path, dask) as second:
            assert len([outcome async for outcome in second.run(jobs(20))]) == 20
            with pytest.raises(ClusterError, match="another program"):
                async for _ in first.run(jobs(20)):
                    pass

    assert len(sim.submissions) == 20


async def test_a_program_that_leaves_takes_nothing_of_another_along(
    sim: Simulator, tmp_path: Path
) -> None:
    """Overtaken and then left, a batch lets the one that took the folder go on to its end."""
    dask = Client()
    is_open, may_leave, has_left = anyio.Event(), anyio.Event(), anyio.Event()

    async def overtaken() -> None:
        async with batch_of(sim, tmp_path, dask):
            is_open.set()
            await may_leave.wait()
        has_left.set()

    async with anyio.create_task_group() as group:
        group.start_soon(overtaken)
        await is_open.wait()
        found: list[str] = []
        async with batch_of(sim, tmp_path, dask, workers=1) as batch:
            async for outcome in batch.run(jobs(40)):
                found.append(outcome.key)
                may_leave.set()
                await has_left.wait()

    assert len(found) == len(sim.submissions) == 40
    assert [worker.plugins for worker in dask.workers] == [{}, {}]


async def test_a_plugin_that_is_gone_already_is_no_error(sim: Simulator, tmp_path: Path) -> None:
    """A scheduler that does not know it any more, having been restarted, has none to remove."""
    dask = Client()
    async with batch_of(sim, tmp_path, dask) as batch:
        dask.registered.clear()

    assert "not open" in repr(batch)


async def test_left_early_the_shards_stop(sim: Simulator, tmp_path: Path) -> None:
    """Closing the run stops what runs on the workers, and the next run goes on."""
    dask = Client()
    async with batch_of(sim, tmp_path, dask) as batch:
        async with batch.run(jobs(60)) as run:
            async for _ in run:
                break
        begun = len(sim.submissions)
        await anyio.sleep(0.05)
        assert len(sim.submissions) == begun < 60
        found = [outcome async for outcome in batch.run(jobs(60))]

    assert len(found) == len(sim.submissions) == 60


@pytest.mark.parametrize(
    "look_seconds",
    [pytest.param(3600.0, id="before-a-request"), pytest.param(0.01, id="now-and-then")],
)
async def test_a_lost_lease_stops_the_shard(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look_seconds: float
) -> None:
    """Overtaken in mid-run, a shard sends nothing more and says by whom it was overtaken."""
    from cyberun_async.cluster import _shard
    from cyberun_async.cluster._lease import claim

    monkeypatch.setattr(_shard, "_CHECK_SECONDS", look_seconds)
    rule = sim.faults.add("run", faults.hold(after=0.2))
    policy = BatchPolicy(concurrency=4, settle_time=0.0)
    async with batch_of(sim, tmp_path, Client(workers=1), policy=policy, shard_size=50) as batch:
        async with anyio.create_task_group() as group:

            async def overtake() -> None:
                while not rule.fired:
                    await anyio.sleep(0.01)
                claim(tmp_path, 0, "tcp://elsewhere")

            group.start_soon(overtake)
            with pytest.raises(LeaseLostError, match="epoch 2 on tcp://elsewhere"):
                async for _ in batch.run(jobs(50)):
                    pass

    assert len(sim.submissions) <= 4


async def test_a_folder_that_is_not_there_is_reported(sim: Simulator, tmp_path: Path) -> None:
    """A folder that the worker does not see is a typed error that says what is needed."""
    async with batch_of(sim, tmp_path / "elsewhere") as batch:
        with pytest.raises(LedgerWriteError, match="give a folder that all workers share"):
            async for _ in batch.run(jobs(1)):
                pass


async def test_a_client_that_does_not_fit_is_reported(sim: Simulator, tmp_path: Path) -> None:
    """A synchronous client, or none, is refused at once, as is a cluster without workers."""
    synchronous = Client()
    synchronous.asynchronous = False
    for wrong in (synchronous, None, "tcp://scheduler:8786"):
        with pytest.raises(ConfigurationError, match="asynchronous=True"):
            ClusterBatch(wrong, tmp_path)
    with pytest.raises(ConfigurationError, match="no workers"):
        await batch_of(sim, tmp_path, Client(workers=0)).__aenter__()


async def test_without_dask_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra a batch over a cluster says what to install."""
    monkeypatch.setitem(sys.modules, "distributed", None)

    with pytest.raises(ConfigurationError, match=r"cyberun_async\[dask\]"):
        ClusterBatch(None, tmp_path)


async def test_a_credential_does_not_travel(sim: Simulator, tmp_path: Path) -> None:
    """A key in what would be pickled is refused, and not repeated in the message."""
    key = sim.key
    batch = ClusterBatch(
        Client(), tmp_path, connect=lambda limits: CyberunClient(key, limits=limits)
    )
    with pytest.raises(ConfigurationError, match="brings a credential along") as caught:
        await batch.__aenter__()

    assert key not in str(caught.value)


async def test_what_cannot_travel_is_reported(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes the clients and does not pickle is an error that says so."""

    def dumps(_: object) -> bytes:
        raise TypeError("cannot pickle '_thread.lock' object")

    monkeypatch.setattr(sys.modules["distributed"].protocol.pickle, "dumps", dumps)
    with pytest.raises(ConfigurationError, match=r"connect cannot travel .* '_thread.lock' object"):
        await batch_of(sim, tmp_path).__aenter__()


async def test_a_client_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    """It is no matter of Dask's, and no plugin is left where it was not made."""

    def connect(_: Limits) -> CyberunClient:
        raise FileNotFoundError("/run/secrets/cyberun")

    dask = Client()
    batch = ClusterBatch(dask, tmp_path, connect=connect)
    with pytest.raises(ConfigurationError, match="FileNotFoundError: /run/secrets/cyberun"):
        await batch.__aenter__()

    assert (dask.registered, dask.workers[0].plugins) == (set(), {})


async def test_a_worker_that_joins_without_a_client_says_why(
    sim: Simulator, tmp_path: Path
) -> None:
    """A shard that comes to it ends the run with what was wrong when it joined."""
    connects = [client_of(sim)]
    dask = Client(workers=1)
    async with ClusterBatch(dask, tmp_path, connect=lambda _: connects.pop()) as batch:
        await dask.join()
        with pytest.raises(ConfigurationError, match="IndexError: pop from empty list"):
            async for _ in batch.run(jobs(1)):
                pass


async def test_clients_are_made_in_a_thread(sim: Simulator, tmp_path: Path) -> None:
    """Whoever asks a vault for the key holds up no worker's event loop."""
    threads: list[threading.Thread] = []

    def connect(_: Limits) -> CyberunClient:
        threads.append(threading.current_thread())
        return client_of(sim)

    async with ClusterBatch(Client(), tmp_path, connect=connect):
        pass

    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


async def test_a_report_waits_for_no_shard(sim: Simulator, tmp_path: Path) -> None:
    """It is no task of the cluster's, so that nothing has to be free for it."""
    dask = Client()
    async with batch_of(sim, tmp_path, dask) as batch:
        before = list(dask.submitted)
        report = await batch.report()
        dask.workers.clear()
        with pytest.raises(ClusterError, match="no workers"):
            await batch.report()

    assert report.total == 0
    assert dask.submitted == before


async def test_a_decision_that_was_not_taken_is_reported(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is stopped before it has decided does not let one believe it had."""
    from cyberun_async.cluster._host import WorkerHost

    async def stopped(*_: object) -> None:
        return None

    async with batch_of(sim, tmp_path) as batch:
        assert len([outcome async for outcome in batch.run(jobs(1))]) == 1
        monkeypatch.setattr(WorkerHost, "call", stopped)
        with pytest.raises(ClusterError, match="before job 'job-0' was decided"):
            await batch.decide("job-0", "skip")


async def test_a_folder_that_is_too_slow_for_leases_is_reported(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no look at the lease says anything about now, nothing is sent, and not forever."""
    from cyberun_async.cluster import _shard

    monkeypatch.setattr(_shard, "_FRESH_SECONDS", 0.0)
    async with batch_of(sim, tmp_path) as batch:
        with pytest.raises(LedgerWriteError, match="the folder is too slow"):
            async for _ in batch.run(jobs(3)):
                pass

    assert sim.submissions == []


async def test_it_is_used_in_its_block(sim: Simulator, tmp_path: Path) -> None:
    """Before and after, and with a run that is not over, the error says so."""
    batch = batch_of(sim, tmp_path)
    with pytest.raises(ClientStateError, match="async with ClusterBatch"):
        batch.run(jobs(1))
    async with batch:
        with pytest.raises(ClientStateError, match="open already"):
            await batch.__aenter__()
        run = batch.run(jobs(1))
        with pytest.raises(ClientStateError, match="not over"):
            batch.run(jobs(1))
        with pytest.raises(ClientStateError, match="not over"):
            await batch.decide("job-0", "skip")
        await run.aclose()
        with pytest.raises(InvalidInputError, match="choice must be"):
            await batch.decide("job-0", "forget")  # type: ignore[arg-type]
    assert repr(batch) == f"<ClusterBatch {os.fspath(tmp_path)} not open>"


async def test_a_block_may_have_many_runs(sim: Simulator, tmp_path: Path) -> None:
    """No two tasks have one name, which Dask would take for one: a failed run is not met again."""
    dask = Client()
    sim.faults.add("run", faults.refuse(401))
    async with batch_of(sim, tmp_path, dask) as batch:
        with pytest.raises(AuthenticationError):
            async for _ in batch.run(jobs(20)):
                pass
        found = [outcome async for outcome in batch.run(jobs(20))]

    assert len(found) == len(sim.submissions) == 20
    assert len(set(dask.submitted)) == len(dask.submitted)


def test_errors_travel() -> None:
    """What a worker raises arrives as it was, with its attributes."""
    lost = LeaseLostError(Path("shard.lease"), 3, "there is a newer one")
    found = pickle.loads(pickle.dumps(lost))

    assert str(found) == str(lost)
    assert str(lost) == "the lease shard.lease is of epoch 3, which has ended: there is a newer one"
    assert (found.epoch, found.path) == (3, Path("shard.lease"))


async def test_jobs_may_come_asynchronously(sim: Simulator, tmp_path: Path) -> None:
    """An asynchronous iterable is read to its end, an empty one brings nothing."""

    async def some() -> AsyncIterator[Job]:
        for job in jobs(3):
            yield job

    async with batch_of(sim, tmp_path) as batch:
        found = [outcome async for outcome in batch.run(some())]
        nothing = [outcome async for outcome in batch.run([])]

    assert {outcome.state for outcome in found} == {JobState.COMPLETED}
    assert (len(found), nothing) == (3, [])
