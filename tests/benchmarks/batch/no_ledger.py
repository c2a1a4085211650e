"""What a batch has in place of its ledger, for the row that writes nothing down."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from cyberun_async.batch import JobState
from cyberun_async.batch._jobs import PreparedJob
from cyberun_async.batch._ledger.queries import JobRow


class NoLedger:
    """
    The steps of a batch whose jobs all complete, kept in lists and done in place.

    There is no file, no transaction and no thread; whatever else a batch could ask for
    raises, so that nothing is left out unseen.
    """

    def __init__(self, path: str | os.PathLike[str], **_: Any) -> None:
        self.path = path
        self._jobs: list[JobRow] = []
        self._ended: set[int] = set()
        self._submissions = 0

    async def open(self) -> Self:
        return self

    async def aclose(self) -> None:
        pass

    async def write(self, step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do *step*, a function such as those of ``batch._ledger.queries``."""
        return getattr(self, f"_{step.__name__}")(*args, **kwargs)

    read = write

    def _begin_staging(self) -> None:
        self._jobs.clear()

    def _known(self, keys: Sequence[str]) -> dict[str, Any]:
        return {}

    def _stage(self, jobs: Iterable[tuple[int, PreparedJob, str | None]]) -> list[Any]:
        for _, job, workflow_id in jobs:
            fields = (job.workflow, workflow_id, job.parameters, job.files, job.options)
            number = len(self._jobs) + 1
            self._jobs.append(JobRow(number, job.key, *fields, JobState.PLANNED, None, 0, 1))
        return []

    def _accept_staged(self) -> int:
        return 1

    def _begin(self, *_: Any, **__: Any) -> None:
        pass

    def _resubmitted(self) -> set[int]:
        return set()

    def _counts(self, run: int | None = None) -> dict[JobState, int]:
        return {}

    def _open_submissions(self) -> list[Any]:
        return []

    def _outcomes(self, *_: Any) -> list[Any]:
        return []

    def _work(self, run: int, after: int, limit: int, *, may_submit: bool) -> list[JobRow]:
        page = self._jobs[after : after + limit]
        while page and all(row.number in self._ended for row in page):
            after += limit
            page = self._jobs[after : after + limit]
        return [row for row in page if row.number not in self._ended]

    def _intend(self, job: int) -> int:
        self._submissions += 1
        return self._submissions

    def _accept(self, *_: Any) -> None:
        pass

    def _end(self, job: int, task_id: str, *, status: str, **_: Any) -> None:
        if status != JobState.COMPLETED:
            raise ValueError(f"all jobs of this row complete, but one is {status}")
        self._ended.add(job)
