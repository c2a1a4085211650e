"""
Submissions whose answer was never read, looked for among the tasks the service knows.

Absence proves little and presence nothing: the service stores no reference of the
client's. So nothing is adopted here; each submission gets a verdict and its candidates.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial

import attrs

from .. import CyberunClient, TaskSnapshot
from ._environment import Environment
from ._ledger import queries
from ._ledger.ledger import Ledger
from ._ledger.queries import OpenSubmission
from ._outcomes import Verdict
from ._patience import patiently
from ._policy import BatchPolicy


_PAGE = 100
# The list has whole seconds, so a task may seem to be made before its request left.
_RESOLUTION = timedelta(seconds=1)
# A clock that is further off is wrong, not skewed.
_FURTHEST = timedelta(days=1)


@attrs.frozen
class Judgement:
    """A submission's verdict, and the tasks it may have become."""

    of: OpenSubmission
    verdict: Verdict
    candidates: tuple[str, ...]


@attrs.frozen
class _Task:
    """What is kept of a listed task: of thousands, no more than is needed."""

    id: str
    workflow_id: str | None
    created_at: datetime | None


class Search:
    """The candidates for *submissions*: listed tasks that nobody is known to have submitted."""

    def __init__(self, submissions: Sequence[OpenSubmission]) -> None:
        self._submissions = submissions
        self._earliest = min(one.intent_at for one in submissions) - 2 * _FURTHEST
        self._workflows = {one.workflow_id for one in submissions}
        self._tasks: dict[str, _Task] = {}
        self._lead = timedelta(0)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of the tasks found."""
        return tuple(self._tasks)

    def add(self, tasks: Iterable[TaskSnapshot], claimed: Mapping[str, datetime]) -> None:
        """Add a part of the list; *claimed* are the ledger's own tasks in it, by intent."""
        for task in tasks:
            if task.id not in claimed:
                if self._may_be_candidate(task):
                    self._tasks[task.id] = _Task(task.id, task.workflow_id, task.created_at)
            elif task.created_at is not None:
                # How far this machine's clock is ahead of the service's.
                lead = claimed[task.id] - task.created_at
                self._lead = min(max(self._lead, lead), _FURTHEST)

    def _may_be_candidate(self, task: TaskSnapshot) -> bool:
        if task.created_at is not None and task.created_at < self._earliest:
            return False
        return bool(self._workflows & {None, task.workflow_id}) or task.workflow_id is None

    def remove(self, ids: Iterable[str]) -> None:
        """Remove tasks that belong to other ledgers."""
        for each in ids:
            self._tasks.pop(each, None)

    def judgements(self, clock_skew: float) -> list[Judgement]:
        """
        Return the verdict on each submission.

        A task is a candidate if it may be of that workflow and was made after the intent,
        in whole seconds and give or take *clock_skew*; what the list omits counts as a match.
        """
        allowance = timedelta(seconds=clock_skew) + self._lead + _RESOLUTION
        judgements: list[Judgement] = []
        for one in self._submissions:
            since = one.intent_at - allowance
            ids = tuple(task.id for task in self._tasks.values() if _fits(task, one, since))
            verdict: Verdict = "uncertain" if ids else "probably not submitted"
            judgements.append(Judgement(one, verdict, ids))
        return judgements


def _fits(task: _Task, submission: OpenSubmission, since: datetime) -> bool:
    if task.created_at is not None and task.created_at < since:
        return False
    workflows = {task.workflow_id, submission.workflow_id}
    return None in workflows or len(workflows) == 1


async def look(
    client: CyberunClient,
    ledger: Ledger,
    submissions: Sequence[OpenSubmission],
    policy: BatchPolicy,
    environment: Environment,
) -> list[Judgement]:
    """
    Read the whole task list and return the verdict on each of *submissions*.

    Its order is not documented, so no page may be left out. Where nothing is found it is
    read a second time: rows can slip from page to page while it is read.
    """
    search = Search(submissions)
    judgements: list[Judgement] = []
    for _ in range(2):
        await patiently(policy.patience, partial(_read_list, client, ledger, search))
        # After the list: what appears meanwhile is not on it, and what is on it was noted.
        search.remove(await environment.claimed_elsewhere(search.ids))
        judgements = search.judgements(policy.clock_skew)
        if all(judgement.candidates for judgement in judgements):
            break
    return judgements


async def _read_list(client: CyberunClient, ledger: Ledger, search: Search) -> None:
    tasks: list[TaskSnapshot] = []
    async for task in client.tasks.list(per_page=_PAGE):
        tasks.append(task)
        if len(tasks) == _PAGE:
            await _add(ledger, search, tasks)
            tasks = []
    await _add(ledger, search, tasks)


async def _add(ledger: Ledger, search: Search, tasks: list[TaskSnapshot]) -> None:
    search.add(tasks, await ledger.read(queries.claimed, [task.id for task in tasks]))
