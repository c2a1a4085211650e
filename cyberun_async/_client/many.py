"""Many tasks at once: merged events, outcomes as they come, results in order."""

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar
from uuid import UUID

import anyio
import attrs

from .._iteration import each
from .._model import (
    ClientStateError,
    CyberunError,
    InvalidInputError,
    TaskSnapshot,
    TaskStatus,
    Workflow,
)
from .fan_in import Emit, FanIn, Work
from .handle import TaskHandle, TaskRef, starting_point
from .session import Session
from .streams import Delivered, EventStream
from .submit import Run, RunOptions
from .waiting import ended_badly, wait_for_end


T = TypeVar("T")
R = TypeVar("R")


@attrs.frozen(kw_only=True)
class Outcome:
    """
    How following one task ended: with its final state, or with the error of the watch.

    A failed task is no error here: its snapshot says ``failed``.
    """

    handle: TaskHandle
    snapshot: TaskSnapshot | None = None
    error: CyberunError | None = None

    @property
    def is_completed(self) -> bool:
        """Whether the task is known to have completed."""
        return self.snapshot is not None and self.snapshot.status == TaskStatus.COMPLETED

    def unwrap(self) -> TaskSnapshot:
        """
        Return the snapshot of a completed task.

        Raises:
            TaskFailedError: It failed.
            TaskCancelledError: It was cancelled.
            CyberunError: It could not be followed to its end.
        """
        if self.error is not None:
            raise self.error
        snapshot = self.snapshot
        if snapshot is None:
            raise ClientStateError("an outcome has either a snapshot or an error")
        if (error := ended_badly(snapshot)) is not None:
            raise error
        return snapshot


@attrs.frozen(kw_only=True)
class Submission:
    """
    What came of one run of :meth:`CyberunClient.submit_many`: a handle, or an error.

    ``index`` counts the parameter sets from 0.
    """

    index: int
    parameters: Mapping[str, Any] = attrs.field(hash=False)
    handle: TaskHandle | None = None
    error: CyberunError | None = None


class _Merging(Work[Any]):
    """Follows tasks, those that are added later included."""

    def __init__(
        self,
        session: Session,
        tasks: Iterable[TaskRef] | AsyncIterable[TaskRef],
        *,
        notices: bool,
    ) -> None:
        super().__init__()
        self._session = session
        self._tasks = tasks
        self._notices = notices
        self._added: list[TaskRef] = []
        self._running = 0
        self._news = anyio.Event()

    def add(self, task: TaskRef) -> None:
        self._added.append(task)
        self._news.set()

    async def arriving(self) -> AsyncGenerator[TaskRef, None]:
        async with aclosing(each(self._tasks)) as given:
            async for task in given:
                self._running += 1
                yield task
        while self._running or self._added:
            while self._added:
                self._running += 1
                yield self._added.pop(0)
            if self._running:
                await self._news.wait()
                self._news = anyio.Event()

    async def follow(self, task: TaskRef, emit: Emit[Any]) -> None:
        try:
            events = EventStream[Any](self._session, starting_point(task), notices=self._notices)
            async with events:
                async for event in events:
                    await emit(event)
        except CyberunError as error:
            self.failures.append(error)
        finally:
            self._running -= 1
            self._news.set()


class MergedEvents(FanIn[Delivered]):
    """
    The events of many tasks in one iterator; each names its task.

    As with :class:`EventStream`, ``MergedEvents`` alone is ``MergedEvents[Event]``.

    Tasks may be added while it runs. It ends when all have ended; the errors of watches
    that failed are raised then, so that one does not hide the others. A read that is
    cancelled inside ``async with`` loses nothing, and the next one continues.
    """

    def __init__(
        self,
        session: Session,
        tasks: Iterable[TaskRef] | AsyncIterable[TaskRef],
        *,
        notices: bool = False,
    ) -> None:
        check_several("tasks", tasks)
        merging = self._merging = _Merging(session, tasks, notices=notices)
        super().__init__(
            session.home(), merging.arriving(), merging.follow, method="watch_many", behind=merging
        )

    def add(self, task: TaskRef) -> None:
        """
        Follow *task*, too.

        Raises:
            ClientStateError: All tasks have ended, or the iterator is closed.
            WrongEventLoopError: On another event loop than the client's.
        """
        self._home.check()
        if self._is_closed or self._merging.is_over:
            raise ClientStateError("this iterator has ended; call client.watch_many() again")
        self._merging.add(task)


class Outcomes(FanIn[Outcome]):
    """The :class:`Outcome` of each of many tasks, in the order in which they end."""

    def __init__(self, session: Session, tasks: Iterable[TaskRef] | AsyncIterable[TaskRef]) -> None:
        async def follow(task: TaskRef, emit: Emit[Outcome]) -> None:
            token = starting_point(task)
            handle = TaskHandle(token.task_id, token.submitted_at, session=session)
            try:
                snapshot = await wait_for_end(session, token)
            except CyberunError as error:
                await emit(Outcome(handle=handle, error=error))
            else:
                await emit(Outcome(handle=handle, snapshot=snapshot))

        check_several("tasks", tasks)
        super().__init__(session.home(), tasks, follow, method="as_completed")


class Submissions(FanIn[Submission]):
    """The :class:`Submission` of each of many runs, as they are answered."""

    def __init__(
        self,
        session: Session,
        workflow: str | UUID | Workflow,
        parameter_sets: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]],
        concurrency: int,
        options: RunOptions,
    ) -> None:
        count = 0

        async def submit(parameters: Mapping[str, Any], emit: Emit[Submission]) -> None:
            nonlocal count
            index, count = count, count + 1
            try:
                handle = await Run(session, workflow, parameters, **options).submit()
            except CyberunError as error:
                await emit(Submission(index=index, parameters=parameters, error=error))
            else:
                await emit(Submission(index=index, parameters=parameters, handle=handle))

        check_several("parameter_sets", parameter_sets, of_mappings=True)
        super().__init__(
            session.home(),
            parameter_sets,
            submit,
            method="submit_many",
            concurrency=concurrency_of(concurrency),
        )


def check_several(name: str, values: object, *, of_mappings: bool = False) -> None:
    """
    Check that *values* can be iterated over, and are no single text.

    A mapping counts by its keys, as everywhere, but for what is itself *of_mappings*.

    Raises:
        InvalidInputError: They cannot.
    """
    kind = type(values).__name__
    is_several = isinstance(values, Iterable | AsyncIterable)
    is_single = isinstance(values, str | bytes) or (of_mappings and isinstance(values, Mapping))
    if not is_several or is_single:
        raise InvalidInputError(f"{name} must be an iterable, synchronous or not, not {kind}")


def concurrency_of(number: int) -> int:
    """
    Return *number*, which says how many submissions may be in flight.

    Raises:
        InvalidInputError: It is no whole number from 1 on.
    """
    if type(number) is not int or number < 1:
        raise InvalidInputError("concurrency must be a whole number from 1 on")
    return number


async def in_order(
    tasks: Iterable[T] | AsyncIterable[T],
    work: Callable[[T], Awaitable[R]],
    *,
    return_exceptions: bool,
    what: str,
    name: str = "tasks",
) -> list[Any]:
    """
    Return what *work* gives for each of *tasks*, in their order.

    All are awaited even if some fail; then one failure is raised as it is, several as
    an ``ExceptionGroup``, unless they are to be returned.
    """
    check_several(name, tasks, of_mappings=name != "tasks")
    results: dict[int, R | CyberunError] = {}
    failures: list[CyberunError] = []

    async def one(index: int, task: T) -> None:
        try:
            results[index] = await work(task)
        except CyberunError as error:
            results[index] = error
            failures.append(error)

    async with anyio.create_task_group() as group:
        index = 0
        async for task in each(tasks):
            group.start_soon(one, index, task)
            index += 1
    if failures and not return_exceptions:
        raise failures[0] if len(failures) == 1 else ExceptionGroup(what, failures)
    return [results[position] for position in range(len(results))]
