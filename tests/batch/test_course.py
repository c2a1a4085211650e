"""The course of a batch: concurrency, failures, stopping early, progress, files."""

from pathlib import Path

import anyio
import pytest

from cyberun_async import (
    AuthenticationError,
    ClientStateError,
    ConfigurationError,
    RateLimitedError,
    ServiceUnavailableError,
)
from cyberun_async.batch import Batch, BatchPolicy, BatchStoppedError, Job, JobState
from cyberun_async.batch._worker import folder_of
from cyberun_async.testing import RecordedRequest, Simulator, TaskPlan, faults

from ..whole.kit import until
from .kit import client_of, jobs, query, run_batch


def prompts(sim: Simulator) -> list[str]:
    return [str(each.parameters["prompt"]) for each in sim.submissions]


def failing(sim: Simulator, *numbers: int) -> None:
    """Let these jobs fail, each time they are submitted."""
    wanted = {f"fox {number}" for number in numbers}
    bad = TaskPlan(steps=1, step_seconds=0.001, outcome="failed", error="out of memory")
    sim.plan_by(lambda run: bad if run.parameters["prompt"] in wanted else None)


# Concurrency


async def test_no_more_jobs_than_allowed_are_under_way(sim: Simulator, ledger: Path) -> None:
    """A job has its room from its submission to its recorded end."""
    crowds: list[int] = []

    def crowd(_: object) -> None:
        crowds.append(1 + sum(task.state != "completed" for task in sim.tasks))

    sim.plan_by(crowd)
    async with client_of(sim) as client:
        await run_batch(client, ledger, jobs(12), concurrency=3)

    assert len(crowds) == 12
    assert max(crowds) <= 3


async def test_a_batch_slows_down_where_the_service_declines(sim: Simulator, ledger: Path) -> None:
    """Every 429 is heard by the batch: nothing is sent twice, and every job comes to its end."""
    sim.faults.add("run", faults.refuse(429), times=8)
    async with client_of(sim) as client:
        ran = await run_batch(client, ledger, jobs(20), concurrency=10)

    assert set(ran.states.values()) == {"completed"}
    assert len(sim.submissions) == 20
    assert len(sim.requests_to("run")) == 28
    assert query(ledger, "SELECT count(*) FROM submissions WHERE answer = 'declined'") == [(8,)]


async def test_patience_has_an_end(sim: Simulator, ledger: Path) -> None:
    """A service that declines forever ends the batch, which can be taken up later."""
    sim.faults.add("run", faults.refuse(503, "closed"), times=None)
    async with client_of(sim) as client:
        ran = await run_batch(client, ledger, jobs(3), patience=0.0)
        sim.faults.clear()
        again = await run_batch(client, ledger, jobs(3))

    assert isinstance(ran.error, ServiceUnavailableError)
    assert ran.outcomes == []
    assert set(again.states.values()) == {"completed"}
    assert len(sim.submissions) == 3


async def test_a_mistyped_pause_is_no_longer_than_the_patience(
    sim: Simulator, ledger: Path
) -> None:
    """A day's `Retry-After` for one submission does not stop a batch for a day."""
    sim.faults.add("run", faults.refuse(503, retry_after=86_400))
    async with client_of(sim) as client:
        with anyio.fail_after(60):
            ran = await run_batch(client, ledger, jobs(3), patience=1.0)

    assert set(ran.states.values()) == {"completed"}
    assert len(sim.submissions) == 3


async def test_waiting_for_room_does_not_try_the_patience(sim: Simulator, ledger: Path) -> None:
    """Only what the service declines counts, not the jobs that have the room meanwhile."""
    sim.plan_by(lambda _: TaskPlan(steps=1, step_seconds=2.5))
    declined = iter([False, True, True])
    sim.faults.add("run", faults.refuse(429), times=None, when=lambda _: next(declined, False))
    async with client_of(sim) as client:
        ran = await run_batch(client, ledger, jobs(2), concurrency=2, patience=2.0)

    assert ran.error is None
    assert set(ran.states.values()) == {"completed"}


async def test_a_key_that_is_refused_ends_the_batch(sim: Simulator, ledger: Path) -> None:
    """What every job would meet is no outcome of one of them."""
    async with client_of(sim) as client, Batch(client, ledger) as batch:
        sim.revoke(sim.key)
        with pytest.raises(AuthenticationError):
            async for _ in batch.run(jobs(3)):
                pass
        report = await batch.report()

    assert report.total == 0


async def test_without_a_key_to_send_nothing_was_sent(sim: Simulator, ledger: Path) -> None:
    """A provider that gives none ends the batch; nobody has to decide about its jobs."""
    asked = 0

    def key() -> str:
        nonlocal asked
        asked += 1
        # The first is for the workflow's definition.
        return "" if asked == 2 else sim.key

    async with client_of(sim, api_key=key) as client:
        ran = await run_batch(client, ledger, jobs(1))
        again = await run_batch(client, ledger, jobs(1))

    assert isinstance(ran.error, ConfigurationError)
    assert ran.report.counts[JobState.PLANNED] == 1
    assert again.states == {"job-0": "completed"}
    answers = query(ledger, "SELECT answer FROM submissions ORDER BY id")
    assert answers == [("withdrawn",), ("accepted",)]


# Failures


async def test_failures_are_collected(sim: Simulator, ledger: Path) -> None:
    """By default a failed job is an outcome like others, submitted once."""
    failing(sim, 1)
    async with client_of(sim) as client:
        ran = await run_batch(client, ledger, jobs(3))

    assert ran.error is None
    assert ran.states == {"job-0": "completed", "job-1": "failed", "job-2": "completed"}
    assert {o.error for o in ran.outcomes} == {None, "out of memory"}
    assert query(ledger, "SELECT key, state, error FROM problems") == [
        ("job-1", "failed", "out of memory")
    ]
    assert len(sim.submissions) == 3


async def test_a_failed_job_is_submitted_as_often_as_allowed(sim: Simulator, ledger: Path) -> None:
    """Two more runs are paid for, and the ledger says so."""
    failing(sim, 1)
    async with client_of(sim) as client:
        ran = await run_batch(client, ledger, jobs(2), max_submissions_per_job=3)

    assert prompts(sim).count("fox 1") == 3
    assert {o.key: o.submissions for o in ran.outcomes} == {"job-0": 1, "job-1": 3}
    assert query(ledger, "SELECT key, times_submitted FROM paid_twice") == [("job-1", 3)]


async def test_a_second_try_may_succeed(sim: Simulator, ledger: Path) -> None:
    """Then its outcome is that of the last task."""
    sim.plan(TaskPlan(steps=1, step_seconds=0.001, outcome="failed"))
    async with client_of(sim) as client:
        ran = await run_batch(client, ledger, jobs(1), max_submissions_per_job=2)

    [outcome] = ran.outcomes
    assert (outcome.state, outcome.error) == ("completed", None)
    assert outcome.task_id == sim.submissions[1].task_id


async def test_a_raised_limit_takes_failed_jobs_up(sim: Simulator, ledger: Path) -> None:
    """Run again with more submissions allowed, only what failed is submitted."""
    failing(sim, 1)
    async with client_of(sim) as client:
        await run_batch(client, ledger, jobs(3))
        sim.plan_by(None)
        ran = await run_batch(client, ledger, jobs(3), max_submissions_per_job=2)

    assert set(ran.states.values()) == {"completed"}
    assert sorted(prompts(sim)) == ["fox 0", "fox 1", "fox 1", "fox 2"]


async def test_a_job_the_service_rejects_is_an_outcome(sim: Simulator, ledger: Path) -> None:
    """No task exists; the next run tries it again."""
    sim.faults.add("run", faults.refuse(403, "not for you"), when=lambda r: b"fox 1" in r.body)
    async with client_of(sim) as client:
        ran = await run_batch(client, ledger, jobs(2))
        again = await run_batch(client, ledger, jobs(2))

    assert ran.states == {"job-0": "completed", "job-1": "rejected"}
    assert again.states == {"job-0": "completed", "job-1": "completed"}


async def test_a_task_that_is_not_found_at_first_is_waited_for(
    sim: Simulator, ledger: Path
) -> None:
    """What was just submitted may be unknown to the service for a moment."""
    sim.faults.add("task", faults.refuse(404, "no such task"))
    async with client_of(sim) as client:
        ran = await run_batch(client, ledger, jobs(3))

    assert ran.error is None
    assert set(ran.states.values()) == {"completed"}


async def test_trouble_with_a_new_task_is_the_outcome_of_its_job_alone(
    sim: Simulator, ledger: Path
) -> None:
    """It is lost, the others go on, and the next run follows it again."""

    def is_first(request: RecordedRequest) -> bool:
        return request.task_id == sim.submissions[0].task_id

    sim.faults.add("task", faults.refuse(403, "not for you"), times=2, when=is_first)
    async with client_of(sim, confirm_after=0.01) as client:
        ran = await run_batch(client, ledger, jobs(3))
        again = await run_batch(client, ledger, jobs(3))

    assert ran.error is None
    assert sorted(ran.states.values()) == ["completed", "completed", "lost"]
    assert set(again.states.values()) == {"completed"}
    assert len(sim.submissions) == 3


async def test_a_job_taken_up_again_and_declined_forever_is_not_lost(
    sim: Simulator, ledger: Path
) -> None:
    """Nothing of it is in flight, so the batch gives up as with a job that is new."""
    failing(sim, 0)
    async with client_of(sim) as client:
        await run_batch(client, ledger, jobs(1))
        sim.faults.add("run", faults.refuse(429), times=None)
        ran = await run_batch(client, ledger, jobs(1), max_submissions_per_job=2, patience=0.0)

    assert isinstance(ran.error, RateLimitedError)
    assert ran.outcomes == []
    assert ran.report.counts[JobState.PLANNED] == 1


async def test_a_job_that_was_not_given_is_followed_but_not_submitted_again(
    sim: Simulator, ledger: Path
) -> None:
    """Its failure is an outcome, however many submissions the policy allows."""
    sim.plan(TaskPlan(steps=1, step_seconds=0.3, outcome="failed"))
    in_flight = "SELECT 1 FROM jobs WHERE state = 'running'"
    async with client_of(sim) as client:
        async with Batch(client, ledger) as batch:
            run = batch.run(jobs(1))
            async with anyio.create_task_group() as group:
                group.start_soon(run.__anext__)
                await until(lambda: bool(query(ledger, in_flight)))
                group.cancel_scope.cancel()
        ran = await run_batch(client, ledger, list(jobs(2))[1:], max_submissions_per_job=3)

    assert ran.states == {"job-0": "failed", "job-1": "completed"}
    assert prompts(sim) == ["fox 0", "fox 1"]


# Stopping early


async def test_fail_fast_stops_at_the_first_failure(sim: Simulator, ledger: Path) -> None:
    """Its outcome comes, then the error; what was in flight is left running and resumed."""
    failing(sim, 0)
    slow = TaskPlan(steps=1, step_seconds=0.3)
    failed = TaskPlan(steps=1, step_seconds=0.001, outcome="failed")
    sim.plan_by(lambda run: failed if run.parameters["prompt"] == "fox 0" else slow)
    async with client_of(sim) as client:
        ran = await run_batch(client, ledger, jobs(9), concurrency=3, fail_fast=True)
        submitted = len(sim.submissions)
        cancelled = len(sim.requests_to("cancel"))
        again = await run_batch(client, ledger, jobs(9))

    assert isinstance(ran.error, BatchStoppedError)
    assert ran.error.outcome.key == "job-0"
    assert ran.states == {"job-0": "failed"}
    assert (submitted, cancelled) == (3, 0)
    assert again.states["job-0"] == "failed"
    assert len(again.states) == len(sim.submissions) == 9


async def test_nothing_is_submitted_once_a_failure_is_known(sim: Simulator, ledger: Path) -> None:
    """With `fail_fast` a reader that takes its time does not pay for more runs meanwhile."""
    failed = TaskPlan(steps=1, step_seconds=0.001, outcome="failed")
    quick = TaskPlan(steps=1, step_seconds=0.001)
    sim.plan_by(lambda run: failed if run.parameters["prompt"] == "fox 3" else quick)
    is_known = "SELECT 1 FROM jobs WHERE state = 'failed'"
    known: int | None = None
    policy = BatchPolicy(concurrency=4, fail_fast=True)
    async with client_of(sim) as client, Batch(client, ledger, policy=policy) as batch:
        with pytest.raises(BatchStoppedError):
            async for _ in batch.run(jobs(40)):
                await anyio.sleep(0.2)
                if known is None and query(ledger, is_known):
                    known = len(sim.submissions)

    assert known is not None
    assert len(sim.submissions) == known < 40


async def test_the_rest_is_cancelled_where_asked(sim: Simulator, ledger: Path) -> None:
    """Each cancelled task is an outcome too; what was never sent stays planned."""
    slow = TaskPlan(steps=1, step_seconds=60)
    failed = TaskPlan(steps=1, step_seconds=0.001, outcome="failed")
    sim.plan_by(lambda run: failed if run.parameters["prompt"] == "fox 0" else slow)
    async with client_of(sim) as client:
        ran = await run_batch(
            client, ledger, jobs(9), concurrency=3, fail_fast=True, cancel_rest=True
        )

    assert isinstance(ran.error, BatchStoppedError)
    assert ran.states == {"job-0": "failed", "job-1": "cancelled", "job-2": "cancelled"}
    assert ran.report.counts[JobState.PLANNED] == 6
    assert not ran.report.is_finished


# Progress


async def test_progress_is_reported_for_the_whole(sim: Simulator, ledger: Path) -> None:
    """It counts all jobs of the ledger, and only grows."""
    ended: list[int] = []
    async with client_of(sim) as client, Batch(client, ledger) as batch:
        async for _ in batch.run(jobs(5)):
            assert batch.progress.total == 5
            ended.append(batch.progress.ended)
        last = batch.progress

    assert ended == sorted(ended)
    assert last.is_finished
    assert str(last) == "5 of 5 jobs have an outcome (5 completed)"


# Files


async def test_files_that_cannot_be_had_do_not_undo_the_outcome(
    sim: Simulator, ledger: Path, tmp_path: Path
) -> None:
    """The job is completed and says why it has no files; the next run tries again."""
    rule = sim.faults.add("download", faults.refuse(404), times=None)
    async with client_of(sim) as client:
        ran = await run_batch(client, ledger, jobs(1), download_to=tmp_path / "out")
        sim.faults.clear()
        again = await run_batch(client, ledger, jobs(1), download_to=tmp_path / "out")

    [first], [second] = ran.outcomes, again.outcomes
    assert rule.fired
    assert first.is_completed
    assert "its files were not downloaded" in (first.error or "")
    assert (second.error, len(second.files)) == (None, 1)
    assert len(sim.submissions) == 1


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("job-1", "job-1"),
        ("a.b_c", "a.b_c"),
        ("../../etc", "etc~"),
        ("A", "A~"),
        ("con", "con~"),
        ("trailing.", "trailing~"),
        ("ein Fuchs im Schnee", "ein-Fuchs-im-Schnee~"),
        ("狐", "~"),
    ],
)
def test_a_job_has_a_folder_of_its_own_on_any_file_system(key: str, name: str) -> None:
    """Plain keys are names as they are; others get what is left of them and a number."""
    folder = folder_of("out", key)

    assert folder.parent == Path("out")
    assert folder.name.startswith(name)
    assert ("~" in folder.name) == ("~" in name)


def test_no_two_keys_share_a_folder() -> None:
    """Keys that differ in case or in strange characters only stay apart."""
    keys = ["a", "A", "a b", "a-b", "a/b", "..", ".", "a.", "CON", "con", "狐", "狸"]

    assert len({str(folder_of("out", key)).lower() for key in keys}) == len(keys)


# Use


async def test_a_batch_says_how_it_is_used(sim: Simulator, ledger: Path) -> None:
    """Used outside its block, or twice at once, it says what to do."""
    async with client_of(sim) as client:
        batch = Batch(client, ledger)
        with pytest.raises(ClientStateError, match="async with Batch"):
            batch.run(jobs(1))
        async with batch:
            run = batch.run(jobs(1))
            with pytest.raises(ClientStateError, match="not over"):
                batch.run(jobs(1))
            async with run:
                assert [outcome.key async for outcome in run] == ["job-0"]
            assert [o.is_replayed async for o in batch.run()] == [True]


async def test_only_the_jobs_given_are_run(sim: Simulator, ledger: Path) -> None:
    """What the ledger knows and was never sent stays as it is, until all are asked for."""
    sim.faults.add("run", faults.refuse(503, "closed"), times=None)
    async with client_of(sim) as client:
        await run_batch(client, ledger, jobs(4), patience=0.0)
        sim.faults.clear()
        some = await run_batch(client, ledger, list(jobs(4))[2:])
        rest = await run_batch(client, ledger, None)

    assert set(some.states) == {"job-2", "job-3"}
    assert set(rest.states) == {f"job-{n}" for n in range(4)}
    assert len(sim.submissions) == 4


async def test_files_of_a_job_are_uploaded_before_its_intent(
    sim: Simulator, ledger: Path, tmp_path: Path
) -> None:
    """An upload cut short leaves no question open; the task gets the uploaded file's key."""
    picture = tmp_path / "fox.png"
    picture.write_bytes(b"\x89PNG fox")
    job = Job(
        key="edit",
        workflow="image-to-image",
        parameters={"prompt": "a fox"},
        files={"input_image": picture},
    )
    async with client_of(sim) as client:
        ran = await run_batch(client, ledger, [job])

    assert ran.states == {"edit": "completed"}
    [key] = sim.uploads
    assert sim.submissions[0].parameters["input_image"] == key
