"""Jobs are checked before anything is sent, and all faults are reported at once."""

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

from cyberun_async._iteration import each
from cyberun_async.batch import InvalidJobsError, Job, JobFault, read_jobs
from cyberun_async.testing import Simulator

from .kit import client_of, jobs, query, quick_service, run_batch


GOOD = {"prompt": "a fox"}


def wrong_jobs(folder: Path) -> Iterator[Job]:
    yield Job(key="good", workflow="text-to-image", parameters=GOOD)
    yield Job(key="slug", workflow="text-to-imagge", parameters=GOOD)
    yield Job(key="parameter", workflow="text-to-image", parameters={"promt": "a fox"})
    yield Job(key="good", workflow="text-to-image", parameters=GOOD)
    yield Job(
        key="file",
        workflow="image-to-image",
        parameters={"prompt": "a fox"},
        files={"input_image": folder / "missing.png"},
    )
    yield Job(key="", workflow="text-to-image", parameters=GOOD)
    yield Job(key="value", workflow="text-to-image", parameters={"prompt": "x", "steps": 9000})
    yield Job(key="option", workflow="text-to-image", parameters=GOOD, options={"pool": "a"})
    yield Job(key="option", workflow="text-to-image", parameters=GOOD)
    yield Job(key="json", workflow="text-to-image", parameters={"prompt": {1, 2}})


async def faults_of(sim: Simulator, ledger: Path, given: object) -> tuple[JobFault, ...]:
    async with client_of(sim) as client:
        ran = await run_batch(client, ledger, given)  # type: ignore[arg-type]
    assert isinstance(ran.error, InvalidJobsError)
    assert ran.error.count == len(ran.error.faults)
    assert ran.report.total == 0, "the ledger is as it was"
    assert sim.submissions == []
    assert sim.uploads == {}
    return ran.error.faults


async def test_all_faults_are_reported_at_once_in_the_order_of_the_jobs(tmp_path: Path) -> None:
    """Each fault has its job's index and key, and says what would have been right."""
    faults = await faults_of(quick_service(), tmp_path / "runs.sqlite", wrong_jobs(tmp_path))

    assert [(fault.place, fault.key) for fault in faults] == [
        ("job 1", "slug"),
        ("job 2", "parameter"),
        ("job 2", "parameter"),
        ("job 3", "good"),
        ("job 4", "file"),
        ("job 5", None),
        ("job 6", "value"),
        ("job 7", "option"),
        ("job 8", "option"),
        ("job 9", "json"),
    ]
    reported = [fault.problem for fault in faults]
    assert "did you mean 'text-to-image'?" in reported[0]
    assert any("did you mean 'prompt'?" in one for one in reported[1:3])
    assert reported[3] == "the key is that of job 0 already"
    assert "cannot be read: No such file" in reported[4]
    assert "150" in reported[6]
    assert "dispatch_target" in reported[7]
    assert reported[8] == "the key is that of job 7 already"


async def test_lines_of_a_file_are_named(tmp_path: Path) -> None:
    """What is read from JSON lines is reported by file and line."""
    file = tmp_path / "runs.jsonl"
    file.write_text(
        '{"key": "a", "workflow": "text-to-image", "parameters": {"prompt": "x"}}\n'
        "\n"
        '{"key": "b", "workflow": "text-to-image", "parameters": {}}\n'
        "{no JSON\n"
        '["a"]\n'
        '{"key": "c"}\n'
        '{"key": "d", "workflow": "text-to-image", "parametres": {}}\n'
    )

    faults = await faults_of(quick_service(), tmp_path / "runs.sqlite", read_jobs(file))

    assert [fault.place for fault in faults] == [f"runs.jsonl:{n}" for n in (3, 4, 5, 6, 7)]
    assert "prompt" in faults[0].problem
    assert faults[3].problem == "lacks workflow"


async def test_thousands_of_faults_are_counted_and_some_kept(tmp_path: Path) -> None:
    """The error stays of a size, and says how many there were."""
    same = (Job(key="same", workflow="text-to-image", parameters=GOOD) for _ in range(1600))
    async with client_of(quick_service()) as client:
        ran = await run_batch(client, tmp_path / "runs.sqlite", same)

    assert isinstance(ran.error, InvalidJobsError)
    assert ran.error.count == 1599
    assert len(ran.error.faults) == 1000
    assert "and 1579 more" in str(ran.error)


async def test_a_key_that_means_another_job_now_is_reported(tmp_path: Path) -> None:
    """The ledger's job and the given one differ, so that neither is run by mistake."""
    sim = quick_service()
    async with client_of(sim) as client:
        await run_batch(client, tmp_path / "runs.sqlite", jobs(2))
        changed = [Job(key="job-1", workflow="text-to-image", parameters={"prompt": "a hare"})]
        ran = await run_batch(client, tmp_path / "runs.sqlite", changed)

    assert isinstance(ran.error, InvalidJobsError)
    assert "give the new job a new key" in str(ran.error)
    assert len(sim.submissions) == 2


async def test_jobs_may_come_asynchronously(tmp_path: Path) -> None:
    """An async iterable is read as a list is."""

    async def come() -> AsyncIterator[Job]:
        for job in jobs(3):
            yield job

    async with client_of(quick_service()) as client:
        ran = await run_batch(client, tmp_path / "runs.sqlite", come())

    assert set(ran.states.values()) == {"completed"}


async def test_a_generator_of_jobs_is_closed_where_it_is_left() -> None:
    """An error while jobs are taken in does not leave their source to the garbage collector."""
    ended: list[bool] = []

    async def come() -> AsyncIterator[Job]:
        try:
            for job in jobs(3):
                yield job
        finally:
            ended.append(True)

    async with aclosing(each(come())) as found:
        assert (await anext(found)).key == "job-0"
    assert ended == [True]


async def test_a_generator_that_an_iterable_makes_is_closed_too() -> None:
    """So is one that is not asynchronous; what stays iterable is left as it is."""
    ended: list[str] = []

    class Source:
        async def __aiter__(self) -> AsyncIterator[Job]:
            try:
                for job in jobs(3):
                    yield job
            finally:
                ended.append("asynchronous")

    def come() -> Iterator[Job]:
        try:
            yield from jobs(3)
        finally:
            ended.append("plain")

    for source in (Source(), come(), list(jobs(3))):
        async with aclosing(each(source)) as found:
            assert (await anext(found)).key == "job-0"
    assert ended == ["asynchronous", "plain"]


async def test_each_workflow_is_asked_for_once(tmp_path: Path) -> None:
    """A definition serves all jobs of its workflow."""
    sim = quick_service()
    async with client_of(sim) as client:
        await run_batch(client, tmp_path / "runs.sqlite", jobs(40))

    assert len(sim.requests_to("workflow")) == 1


async def test_faulty_jobs_leave_an_earlier_batch_alone(tmp_path: Path) -> None:
    """What the ledger holds stays, and can be run on."""
    ledger = tmp_path / "runs.sqlite"
    async with client_of(quick_service()) as client:
        await run_batch(client, ledger, jobs(2))
        await run_batch(client, ledger, wrong_jobs(tmp_path))
        ran = await run_batch(client, ledger, None)

    assert ran.states == {"job-0": "completed", "job-1": "completed"}
    assert query(ledger, "SELECT count(*) FROM submissions") == [(2,)]
