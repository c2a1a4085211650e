"""
Which job belongs to which shard.

A job's shard follows from its key alone and the number of shards, which a folder keeps
forever: whatever list a later run brings, a key meets the ledger that knows it.
"""

import hashlib
from collections.abc import Mapping
from contextlib import aclosing
from typing import cast

import attrs

from .._iteration import each
from ..batch import InvalidJobsError, Job, JobFault
from ..batch._jobs import Jobs, prepared


_IN_ONE_GO = 100


def shard_count(jobs: int, shard_size: int) -> int:
    """Return how many shards of about *shard_size* jobs there have to be."""
    return max(-(-jobs // shard_size), 1)


def shard_of(key: str, count: int) -> int:
    """Return the number of the shard, from 0, that the job *key* belongs to."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % count


async def taken_in(jobs: Jobs) -> dict[str, Job]:
    """
    Return the jobs by key, each checked by itself.

    Raises:
        InvalidJobsError: Some cannot be run.
    """
    taken: dict[str, Job] = {}
    faults: list[JobFault] = []
    index = 0
    async with aclosing(each(jobs, in_one_go=_IN_ONE_GO)) as found:
        async for job in found:
            read = prepared(job, index)
            index += 1
            if isinstance(read, list):
                faults += read
            elif read.key in taken:
                problem = f"the key is that of {taken[read.key].source} already"
                faults.append(JobFault(read.place, read.key, problem))
            else:
                # Jobs of a shard are counted anew, so each takes its place with it.
                taken[read.key] = attrs.evolve(cast("Job", job), source=read.place)
    if faults:
        raise InvalidJobsError(faults)
    return taken


def split(jobs: Mapping[str, Job], count: int) -> dict[int, list[Job]]:
    """Return the jobs by the number of their shard; shards without any are left out."""
    shards: dict[int, list[Job]] = {}
    for key, job in jobs.items():
        shards.setdefault(shard_of(key, count), []).append(job)
    return dict(sorted(shards.items()))
