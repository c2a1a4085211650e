"""
Which job belongs to which shard.

A job's shard follows from its key alone and the number of shards, which a folder has for
ever: whatever list a later run brings, a key meets the ledger that knows it.
"""

import hashlib
from collections.abc import Mapping
from typing import cast

import attrs

from ..batch import Job, JobFault
from ..batch._jobs import prepared


def shard_count(jobs: int, shard_size: int) -> int:
    """Return how many shards of about *shard_size* jobs there have to be."""
    return max(-(-jobs // shard_size), 1)


def shard_of(key: str, count: int) -> int:
    """Return the number of the shard, from 0, that the job *key* belongs to."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % count


@attrs.define
class Intake:
    """
    Jobs on their way in: each checked by itself, and every key taken once.

    Attributes:
        jobs: The sound ones, by key.
        faults: What is wrong with others.
    """

    jobs: dict[str, Job] = attrs.field(factory=dict[str, Job])
    faults: list[JobFault] = attrs.field(factory=list[JobFault])
    _places: dict[str, str] = attrs.field(factory=dict[str, str])
    _seen: int = 0

    def take(self, job: Job | JobFault) -> None:
        """Take the next job in."""
        found = prepared(job, self._seen)
        self._seen += 1
        if isinstance(found, list):
            self.faults += found
            return
        first = self._places.setdefault(found.key, found.place)
        if found.key in self.jobs:
            problem = f"the key is that of {first} already"
            self.faults.append(JobFault(found.place, found.key, problem))
        else:
            # Jobs of a shard are counted anew, so each takes its place with it.
            self.jobs[found.key] = attrs.evolve(cast("Job", job), source=found.place)


def split(jobs: Mapping[str, Job], count: int) -> dict[int, list[Job]]:
    """Return the jobs by the number of their shard; shards without any are left out."""
    shards: dict[int, list[Job]] = {}
    for key, job in jobs.items():
        shards.setdefault(shard_of(key, count), []).append(job)
    return dict(sorted(shards.items()))
