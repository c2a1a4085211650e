"""
Submissions whose answer was never read, looked for among the tasks the service knows.

Absence proves little and presence nothing: the service knows no reference of the
client's. So nothing is adopted here; each submission gets a verdict and its candidates.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import attrs

from .. import CyberunClient, TaskSnapshot
from ._ledger import queries as records
from ._ledger.ledger import Ledger
from ._ledger.queries import OpenFate
from ._outcomes import Verdict
from ._patience import patiently
from ._policy import BatchPolicy


_PAGE = 100
# The list tells whole seconds, so that a task may seem to be made before its request left.
_RESOLUTION = timedelta(seconds=1)
# A clock that is further off is not a matter of skew.
_FURTHEST = timedelta(days=1)


@attrs.frozen
class Sighting:
    """What the task list tells about a task."""

    id: str
    workflow_id: str | None
    created_at: datetime | None


@attrs.frozen
class Judgement:
    """A submission's verdict, and the tasks it may have become."""

    fate: OpenFate
    verdict: Verdict
    candidates: tuple[str, ...]


class Sweep:
    """What has been seen of the task list so far."""

    def __init__(self, fates: Sequence[OpenFate]) -> None:
        self._earliest = min(fate.intent_at for fate in fates)
        ids = {fate.workflow_id for fate in fates}
        self._workflows: Collection[str] | None = (
            None if None in ids else {one for one in ids if one}
        )
        self._unclaimed: dict[str, Sighting] = {}
        self._lead = timedelta(0)

    @property
    def unclaimed(self) -> Iterable[Sighting]:
        """Tasks that no submission of the ledger is known to have become."""
        return self._unclaimed.values()

    @property
    def unclaimed_ids(self) -> tuple[str, ...]:
        """Their ids."""
        return tuple(self._unclaimed)

    def forget(self, ids: Iterable[str]) -> None:
        """Hear that these tasks are those of other ledgers."""
        for each in ids:
            self._unclaimed.pop(each, None)

    @property
    def lead(self) -> timedelta:
        """How far this machine's clock was seen to be ahead of the service's."""
        return self._lead

    def see(self, tasks: Iterable[TaskSnapshot], claimed: Mapping[str, datetime]) -> None:
        """Take note of *tasks*, of which *claimed* are known to be the ledger's own."""
        for task in tasks:
            if task.id in claimed:
                self._compare_clocks(claimed[task.id], task.created_at)
            elif self._may_be_ours(task):
                self._unclaimed[task.id] = Sighting(task.id, task.workflow_id, task.created_at)

    def _compare_clocks(self, intent_at: datetime, created_at: datetime | None) -> None:
        if created_at is not None:
            self._lead = min(max(self._lead, intent_at - created_at), _FURTHEST)

    def _may_be_ours(self, task: TaskSnapshot) -> bool:
        if task.created_at is not None and task.created_at < self._earliest - 2 * _FURTHEST:
            return False
        if self._workflows is None or task.workflow_id is None:
            return True
        return task.workflow_id in self._workflows


def judged(
    fates: Iterable[OpenFate], sightings: Iterable[Sighting], allowance: timedelta
) -> list[Judgement]:
    """
    Return the verdict on each submission.

    A task is a candidate if it may be of that workflow and was made after the intent,
    give or take *allowance*, in the whole seconds that the list tells; what it leaves out
    counts as a match.
    """
    seen = list(sightings)
    judgements: list[Judgement] = []
    for fate in fates:
        since = fate.intent_at - allowance - _RESOLUTION
        ids = tuple(one.id for one in seen if _fits(one, fate, since))
        verdict: Verdict = "uncertain" if ids else "probably not submitted"
        judgements.append(Judgement(fate, verdict, ids))
    return judgements


def _fits(sighting: Sighting, fate: OpenFate, since: datetime) -> bool:
    if sighting.created_at is not None and sighting.created_at < since:
        return False
    return None in {fate.workflow_id, sighting.workflow_id} or (
        fate.workflow_id == sighting.workflow_id
    )


async def look(
    client: CyberunClient,
    ledger: Ledger,
    fates: Sequence[OpenFate],
    policy: BatchPolicy,
    claimed_elsewhere: Callable[[Collection[str]], Awaitable[Collection[str]]] | None = None,
) -> list[Judgement]:
    """
    Read the whole task list and return the verdict on each of *fates*.

    Its order is not documented, so no page may be left out. Where nothing is found it is
    read a second time: rows can slip from page to page while it is read.
    """
    sweep = Sweep(fates)
    judgements: list[Judgement] = []
    for _ in range(2):
        await patiently(policy.patience, partial(_read_list, client, ledger, sweep))
        if claimed_elsewhere is not None:
            # After the list: what came to be meanwhile is not on it, what is on it was noted.
            sweep.forget(await claimed_elsewhere(sweep.unclaimed_ids))
        allowance = timedelta(seconds=policy.clock_skew) + sweep.lead
        judgements = judged(fates, sweep.unclaimed, allowance)
        if all(judgement.candidates for judgement in judgements):
            break
    return judgements


async def _read_list(client: CyberunClient, ledger: Ledger, sweep: Sweep) -> None:
    tasks: list[TaskSnapshot] = []
    async for task in client.tasks.list(per_page=_PAGE):
        tasks.append(task)
        if len(tasks) == _PAGE:
            await _see(ledger, sweep, tasks)
            tasks = []
    await _see(ledger, sweep, tasks)


async def _see(ledger: Ledger, sweep: Sweep, tasks: list[TaskSnapshot]) -> None:
    ids = [task.id for task in tasks]
    sweep.see(tasks, await ledger.read(partial(records.claimed, task_ids=ids)))
