"""The public view of a task's progress: dropped_progress, throttled, ready to be shown."""

from collections.abc import Awaitable, Callable, Sequence

import anyio

from .._following import EventBuffer, Follower
from .._model import Event, Notice, PollingStarted, ResumeToken, StreamingResumed
from .._runtime import Runtime
from .._watch import ProgressTracker, ProgressUpdate
from .session import Session
from .streams import Subscription


class ProgressReader(EventBuffer):
    """
    A reader that keeps the newest state instead of a queue of events.

    Attributes:
        follower: What it reads. Not the view, which could not be collected then.
    """

    __slots__ = ("_now", "_polls", "_tracker", "follower")

    def __init__(self, tracker: ProgressTracker, *, now: Callable[[], float]) -> None:
        super().__init__(1, notices=True)
        self._tracker = tracker
        self._now = now
        self.follower: Follower | None = None
        self._polls = False

    def push(self, item: Event | Notice) -> None:
        """Take note of *item*."""
        if isinstance(item, Event):
            self._tracker.take(item, self._now())
            self.dropped_progress = self._tracker.dropped_progress
        # Polling is said again after each stream in vain, which is no news here.
        elif isinstance(item, StreamingResumed if self._polls else PollingStarted):
            self._polls = not self._polls
            self._tracker.changed()
        self.wake()

    def push_all(self, items: Sequence[Event | Notice]) -> None:
        """Take note of each of *items*."""
        for item in items:
            self.push(item)

    async def next_update(self) -> ProgressUpdate | None:
        """Return the next update when it is due, or None at the end; raise what ended it."""
        while True:
            due = self._tracker.due_at()
            if due is not None and due <= self._now():
                return self._tracker.update(self._now(), is_live=self._is_live)
            if due is None and self.is_finished:
                self._raise_failure()
                return None
            await self._changed(None if due is None else due - self._now())

    @property
    def is_drained(self) -> bool:
        """Whether the end was read."""
        return super().is_drained and self._tracker.due_at() is None

    @property
    def _is_live(self) -> bool:
        return self.follower is not None and self.follower.watch.progress_is_live

    async def _changed(self, seconds: float | None) -> None:
        with anyio.move_on_after(seconds):
            await self._woken()


class ProgressView(Subscription[ProgressUpdate]):
    """
    A task's progress for one message: its newest state, at most once per interval.

    Use it as ``async with task.progress() as updates: async for update in updates``.
    Updates between two are overwritten by the newest, progress never falls within an
    attempt, and the update with the task's end always comes, and comes last. It shares
    its connection with every other watch of the task; leaving it works as for
    :class:`EventStream`.
    """

    _what = "progress view"
    _call = "client.progress(task)"

    def __init__(
        self,
        session: Session,
        token: ResumeToken,
        *,
        min_interval: float,
        cancel_on_exit: bool = False,
    ) -> None:
        tracker = ProgressTracker(token.task_id, min_interval)
        self._updates = ProgressReader(tracker, now=anyio.current_time)
        super().__init__(session, token, reader=self._updates, cancel_on_exit=cancel_on_exit)

    def _begin(self) -> Runtime:
        runtime = super()._begin()
        self._updates.follower = self._follower
        return runtime

    def _next(self) -> Awaitable[ProgressUpdate | None]:
        return self._updates.next_update()
