"""Shards: which job belongs to which, and what is reported before anything is sent."""

import pytest

from cyberun_async.batch import InvalidJobsError, Job, JobFault
from cyberun_async.cluster._sharding import shard_count, shard_of, split, taken_in


def job(key: str, source: str | None = None) -> Job:
    return Job(key=key, workflow="text-to-image", parameters={"prompt": key}, source=source)


def test_a_job_keeps_its_shard() -> None:
    """The shard follows from the key and the number of shards, in every process and version."""
    assert [shard_of(f"job-{n}", 7) for n in range(8)] == SHARDS


# Written down once: another answer would lead known jobs to ledgers that know nothing of them.
SHARDS = [0, 6, 5, 4, 5, 3, 5, 6]


def test_every_job_has_one_shard() -> None:
    """Splitting loses nothing, doubles nothing, and shards are of about one size."""
    jobs = {f"job-{n}": job(f"job-{n}") for n in range(2000)}
    shards = split(jobs, shard_count(len(jobs), 200))

    assert sorted(one.key for each in shards.values() for one in each) == sorted(jobs)
    assert list(shards) == list(range(10))
    assert all(100 < len(each) < 300 for each in shards.values())


def test_there_is_always_a_shard() -> None:
    """The number of shards is rounded up, and never 0."""
    assert [shard_count(jobs, 200) for jobs in (0, 1, 200, 201)] == [1, 1, 1, 2]


async def test_a_key_is_taken_once() -> None:
    """A duplicate key is reported with both places, as in a batch."""
    with pytest.raises(InvalidJobsError) as caught:
        await taken_in([job("a", source="runs.jsonl:1"), job("b"), job("a", source="runs.jsonl:3")])

    assert caught.value.faults == (
        JobFault("runs.jsonl:3", "a", "the key is that of runs.jsonl:1 already"),
    )


async def test_jobs_that_are_wrong_by_themselves_are_reported() -> None:
    """Faults of the file and of the job come with their places."""
    fault = JobFault("runs.jsonl:1", None, "is no JSON")
    with pytest.raises(InvalidJobsError) as caught:
        await taken_in([fault, job("")])

    assert caught.value.faults == (
        fault,
        JobFault("job 1", None, "the key must have 1 to 200 characters, not 0"),
    )


async def test_a_job_takes_its_place_with_it() -> None:
    """Faults that a shard finds later name the place in the whole list."""
    taken = await taken_in([job("a"), job("b")])

    assert [one.source for one in taken.values()] == ["job 0", "job 1"]
