"""The work of one run: take the jobs in, settle open submissions, lead each job to its outcome."""

import sqlite3
import uuid
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing

import anyio
import anyio.abc

from .. import CyberunClient, CyberunError
from ._admission import Admission
from ._counts import Counts
from ._environment import ALONE, Environment
from ._errors import BatchStoppedError, LedgerError, UncertainSubmissionsError
from ._jobs import Jobs
from ._ledger import queries
from ._ledger.ledger import Ledger
from ._ledger.queries import JobRow
from ._outcomes import JobOutcome, JobState, UnconfirmedSubmission
from ._policy import BatchPolicy, Choice
from ._reconcile import Judgement, look
from ._run import Emit
from ._submitting import Submitter
from ._throttle import Throttle
from ._worker import Worker


_PAGE = 200
_CANCELLED_AT_ONCE = 20

Decision = tuple[Judgement, Choice]


class Driver:
    """Does the work of one run."""

    def __init__(
        self,
        client: CyberunClient,
        ledger: Ledger,
        policy: BatchPolicy,
        counts: Counts,
        environment: Environment = ALONE,
    ) -> None:
        self._client, self._ledger, self._policy = client, ledger, policy
        self._counts = counts
        self._environment = environment
        self.throttle: Throttle = Throttle(policy.concurrency)
        self._submitter = Submitter(client, ledger, policy, self.throttle, environment)
        self._worker = Worker(client, ledger, policy, self._submitter, counts)
        self._failure: Exception | None = None
        # Set with the outcome that ends the batch: a slow reader may take it much later.
        self._is_stopping = False
        self._run = 0

    async def drive(self, jobs: Jobs | None, emit: Emit) -> None:
        """
        Lead all jobs to their outcomes.

        Raises:
            CyberunError: What stops the batch.
        """
        await self._take_in(jobs)
        # What is skipped now is an outcome of the ledger, and is yielded with the others.
        try:
            await self._settle()
        except UncertainSubmissionsError:
            # Known tasks run and are billed meanwhile, whoever decides, and when.
            await self._work_through(emit, may_submit=False)
            raise
        await self._replay(emit)
        while await self._work_through(emit):
            for outcome in await self._settle():
                await emit(outcome)

    async def _take_in(self, jobs: Jobs | None) -> None:
        if jobs is None:
            self._run = await self._ledger.write(queries.take_all)
        else:
            self._run = await Admission(self._client, self._ledger, self._policy).admit(jobs)
        await self._ledger.write(
            queries.begin,
            self._run,
            self._environment.run_marker or uuid.uuid4().hex,
            max_submissions=self._policy.max_submissions_per_job,
            saves=self._policy.download_to is not None,
        )
        await self._count()

    async def _count(self) -> None:
        # A ledger that is one of many counts the jobs of this run alone.
        run = self._run if self._environment.is_shared else None
        self._counts.reset(await self._ledger.read(queries.counts, run))

    async def _replay(self, emit: Emit) -> None:
        after = 0
        while True:
            rows = await self._ledger.read(queries.outcomes, self._run, after, _PAGE)
            for _, outcome in rows:
                await emit(outcome)
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    # Unconfirmed submissions

    async def _settle(self) -> list[JobOutcome]:
        """Decide what the policy decides; return the outcomes of jobs that it skips."""
        submissions = await self._ledger.write(queries.open_submissions)
        if not submissions:
            return []
        await anyio.sleep(self._policy.settle_time)
        judgements = await look(
            self._client, self._ledger, submissions, self._policy, self._environment
        )
        again = await self._ledger.read(queries.resubmitted)
        choices: list[Decision] = [(one, self._choice(one, again)) for one in judgements]
        await self._ledger.write(_apply, choices)
        await self._count()
        if left := [_unconfirmed(one) for one, choice in choices if choice == "raise"]:
            raise UncertainSubmissionsError(left)
        return [
            JobOutcome(key=one.of.key, state=JobState.SKIPPED, error=queries.SKIPPED_WHY)
            for one, choice in choices
            if choice == "skip"
        ]

    def _choice(self, judgement: Judgement, again: Collection[int]) -> Choice:
        choice = self._policy.choice(judgement.verdict)
        # Answers that are lost again and again would be billed again and again.
        is_again = judgement.of.job in again
        return "raise" if choice == "resubmit" and is_again else choice

    # Work

    async def _work_through(self, emit: Emit, *, may_submit: bool = True) -> bool:
        """
        Work on all that can be worked on; return whether there was anything.

        Args:
            emit: Takes each outcome.
            may_submit: Whether that is also what has no task yet, or whose task fails.
        """
        found = False
        async with anyio.create_task_group() as outer:
            await outer.start(self._submitter.guard)
            async with anyio.create_task_group() as workers:
                found = await self._start(workers, outer.cancel_scope, emit, may_submit=may_submit)
            outer.cancel_scope.cancel()
        if self._failure is not None:
            await self._wind_up(emit)
            raise self._failure
        return found

    async def _start(
        self,
        workers: anyio.abc.TaskGroup,
        scope: anyio.CancelScope,
        emit: Emit,
        *,
        may_submit: bool,
    ) -> bool:
        found = False
        try:
            async with aclosing(self._rows(may_submit=may_submit)) as rows:
                async for row in rows:
                    found = True
                    await self.throttle.acquire()
                    if self._is_stopping:
                        self.throttle.release()
                        break
                    may_retry = may_submit and row.run == self._run
                    workers.start_soon(self._work_on, row, scope, emit, may_retry)
        except Exception as error:  # noqa: BLE001 - raised when all have stopped
            self._fail(error, scope)
        return found

    async def _rows(self, *, may_submit: bool) -> AsyncGenerator[JobRow, None]:
        after = 0
        while page := await self._ledger.read(
            queries.work, self._run, after, _PAGE, may_submit=may_submit
        ):
            for row in page:
                yield row
            after = page[-1].number

    def _begin(self, row: JobRow) -> None:
        is_counted = row.run == self._run or not self._environment.is_shared
        self._counts.begin(row.key, row.state, row.task_id, is_counted=is_counted)

    async def _work_on(
        self, row: JobRow, scope: anyio.CancelScope, emit: Emit, may_retry: bool
    ) -> None:
        self._begin(row)
        try:
            outcome = await self._worker.work(row, may_retry=may_retry)
            if outcome is not None:
                is_last = self._policy.fail_fast and not outcome.is_completed
                self._is_stopping = self._is_stopping or is_last
                await emit(outcome)
                if is_last:
                    raise BatchStoppedError(outcome)
        except Exception as error:  # noqa: BLE001 - raised when all have stopped
            self._fail(error, scope)
        finally:
            self._counts.leave(row.key)
            self.throttle.release()

    def _fail(self, error: Exception, scope: anyio.CancelScope) -> None:
        first = self._failure
        # Tasks that are in no ledger are reported before all else.
        if first is None or (_unrecorded(error) and not isinstance(first, LedgerError)):
            self._failure = error
            if first is not None:
                error.add_note(f"the batch was stopping: {first}")
        elif isinstance(first, LedgerError):
            first.unrecorded += [one for one in _unrecorded(error) if one not in first.unrecorded]
        scope.cancel()

    # Stopping early

    async def _wind_up(self, emit: Emit) -> None:
        if not isinstance(self._failure, BatchStoppedError) or not self._policy.cancel_rest:
            return
        limiter = anyio.CapacityLimiter(_CANCELLED_AT_ONCE)
        failures: list[CyberunError] = []
        async with (
            anyio.create_task_group() as group,
            aclosing(self._rows(may_submit=False)) as rows,
        ):
            async for row in rows:
                if row.state == JobState.RUNNING:
                    group.start_soon(self._cancel, row, limiter, emit, failures)
        for failure in failures:
            self._failure.add_note(f"a task could not be cancelled: {failure}")

    async def _cancel(
        self,
        row: JobRow,
        limiter: anyio.CapacityLimiter,
        emit: Emit,
        failures: list[CyberunError],
    ) -> None:
        self._begin(row)
        async with limiter:
            try:
                snapshot = await self._client.cancel_and_wait(row.task_id or "")
                outcome = await self._worker.ended(row, snapshot, may_retry=False)
            except CyberunError as error:
                failures.append(error)
                return
            finally:
                self._counts.leave(row.key)
        if outcome is not None:
            await emit(outcome)


def _apply(db: sqlite3.Connection, choices: list[Decision]) -> None:
    for one, choice in choices:
        queries.judge(db, one.of.id, one.verdict, one.candidates)
        if choice == "resubmit":
            queries.resubmit(db, one.of.job, one.of.id)
            queries.mark_resubmitted(db, one.of.job)
        elif choice == "skip":
            queries.skip(db, one.of.job, one.of.id)


def _unrecorded(error: Exception) -> list[tuple[str, str]]:
    return error.unrecorded if isinstance(error, LedgerError) else []


def _unconfirmed(judgement: Judgement) -> UnconfirmedSubmission:
    return UnconfirmedSubmission(
        key=judgement.of.key,
        workflow=judgement.of.workflow,
        intent_at=judgement.of.intent_at,
        verdict=judgement.verdict,
        candidates=judgement.candidates,
    )
