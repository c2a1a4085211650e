"""Following tasks, behind the client: one follower a task, however many watch it."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager

import anyio
import attrs

from .._http import Caller, Transport, Usage
from .._model import (
    WAITING_STATUSES,
    ClientClosedError,
    CyberunError,
    Event,
    GaveUp,
    Notice,
    Polling,
    PollingStarted,
    RateLimitedError,
    ResumeToken,
    ServiceUnavailableError,
    StatusEvent,
    TaskSnapshot,
    Timeouts,
    UnknownEndError,
    WatchPolicy,
)
from .._runtime import Runtime, draw, utc_now
from .._watch import Counters, Phase, Watch
from .check_places import Places
from .event_buffer import EventBuffer
from .follower import Follower, Shared
from .notifier import Notifier, SentRun
from .poller import Poller
from .rate_limit import RateLimit
from .stream_slots import StreamSlots
from .task_requests import TaskRequests


logger = logging.getLogger("cyberun_async")

# Until a status that somebody waits for is asked for again.
_RECHECK = 1.0


@attrs.frozen(kw_only=True)
class Economy:
    """
    What bounds and counts all watches of one tenant.

    Attributes:
        slots: Those of all tenants of the client.
        pace: The tenant's own, which keeps to the rate of all.
        usage: What the tenant does on the network.
        counters: What its watches have seen.
    """

    slots: StreamSlots
    pace: RateLimit
    usage: Usage = attrs.field(factory=Usage)
    submissions: RateLimit | None = None
    connections: int = 20
    counters: Counters = attrs.field(factory=Counters)


class Followers:
    """
    What all watches of one client share, or of those siblings whose settings are equal.

    Attributes:
        economy: What it shares with all others of its tenant.
        by_task: All tasks that are followed.
    """

    now: Callable[[], float]

    def __init__(
        self,
        *,
        runtime: Runtime,
        transport: Transport,
        caller: Caller,
        policy: WatchPolicy,
        timeouts: Timeouts,
        economy: Economy,
        notifier: Notifier,
    ) -> None:
        self._runtime = runtime
        self.caller = caller
        self._policy = policy
        self._notifier = notifier
        self.now = runtime.now
        self.economy = economy
        self._counters = economy.counters
        self.by_task: dict[str, Follower] = {}
        self.requests: TaskRequests = TaskRequests(
            transport=transport,
            caller=caller,
            policy=policy,
            timeouts=timeouts,
            usage=economy.usage,
            notifier=notifier,
        )
        self._poller = Poller(
            now=runtime.now,
            spawn=runtime.spawn,
            check_status=self.requests.status,
            list_page=self.requests.list_page,
            pace=economy.pace,
            places=Places(economy.connections),
            policy=policy,
        )
        self._shared = Shared(
            requests=self.requests,
            slots=economy.slots,
            notifier=notifier,
            tenant=economy.usage,
            now=runtime.now,
            loads=transport.loads,
            spawn=runtime.spawn,
            schedule=self._poller.schedule,
            settled=self._settled,
        )
        self._closed: CyberunError | None = None

    def check_open(self) -> None:
        """Raise unless the client is open and this is its event loop."""
        if self._closed is not None:
            raise ClientClosedError("the client is closed; make a new one")
        self._runtime.check()

    def subscribe(self, token: ResumeToken, reader: EventBuffer) -> Follower:
        """Attach *reader* to the one follower of its task, making it if need be."""
        follower = self.by_task.get(token.task_id)
        if follower is None:
            follower = self._new_follower(token, streaming=True)
            follower.attach(reader, [])
        else:
            follower.merge_token(token)
            follower.attach(reader, _present_state(follower, token, notices=reader.notices))
        return follower

    async def unsubscribe(self, follower: Follower, reader: EventBuffer) -> None:
        """Detach *reader*; the last one gives the stream's connection back."""
        follower.detach(reader)
        if follower.is_done:
            await follower.stream_closed()
            return
        self._counters.dropped_progress += reader.dropped_progress
        if follower.readers:
            return
        if follower.was_shared and self._policy.linger > 0:
            self._runtime.spawn(self._linger, follower, follower.departures)
            return
        await self._stop(follower)

    async def wait_end(
        self, token: ResumeToken, limit: float | None, *, last_look: float = 0.0
    ) -> Follower:
        """
        Wait until the task has ended, by polling unless it is streamed anyway.

        After *limit* seconds the follower is returned as it is then, its end not known. A task
        not known to run by then has its status checked once more, for up to *last_look*
        seconds.
        """
        follower = self.by_task.get(token.task_id) or self._new_follower(token, streaming=False)
        try:
            await follower.wait_end(limit, last_look=last_look)
        finally:
            if not follower.waiters and not follower.readers and not follower.is_done:
                self._forget(follower)
        return follower

    def submitting(self, workflow: str) -> AbstractContextManager[SentRun]:
        """Notify the observer of a run that is sent within the block."""
        return self._notifier.submitting(workflow)

    async def check_task(self, task_id: str) -> TaskSnapshot:
        """Check the task's status at the client's rate, until it is answered."""
        pace = self.economy.pace
        while True:
            await pace.turn()
            pace.status_checks += 1
            try:
                return await self.requests.status(task_id)
            except (ServiceUnavailableError, RateLimitedError) as error:
                if getattr(error, "is_final", False):
                    raise
            await anyio.sleep(_RECHECK)

    def polling(self) -> Polling:
        """Return how many tasks are polled, and how often."""
        now, policy, lag = self.now(), self._policy, self._poller.lag
        watches = [follower.watch for follower in self.by_task.values()]
        polled = [watch for watch in watches if watch.phase is Phase.POLLING]
        waits = [one.poll_interval(now) for one in polled if one.status in WAITING_STATUSES]
        return Polling(
            tasks=len(polled),
            interval=policy.poll_interval + lag(waits=False),
            interval_waiting=max(waits, default=policy.poll_interval) + lag(waits=True),
        )

    @property
    def dropped_progress_now(self) -> int:
        """How many progress events were dropped for readers that are not in the counters yet."""
        followers = self.by_task.values()
        return sum(reader.dropped_progress for each in followers for reader in each.readers)

    def close(self) -> None:
        """End every follower with :class:`ClientClosedError`."""
        self._closed = ClientClosedError("the client was closed while the task was being followed")
        for follower in tuple(self.by_task.values()):
            follower.fail(self._closed)
        # Else a client that is kept would keep what it followed last.
        self._poller.clear()

    # Within.

    def _new_follower(self, token: ResumeToken, *, streaming: bool) -> Follower:
        now, grace = self.now(), 0.0
        if token.submitted_at is not None:
            age = (utc_now() - token.submitted_at).total_seconds()
            grace = max(0.0, self._policy.not_found_grace - max(0.0, age))
        watch = Watch(
            start=token,
            policy=self._policy,
            draw=draw,
            started_at=now,
            streaming=streaming,
            not_found_until=now + grace,
            counters=self._counters,
        )
        follower = self.by_task[token.task_id] = Follower(self._shared, watch)
        self._notifier.watch_began(token.task_id)
        self._poller.add(follower)
        follower.advance()
        return follower

    def _settled(self, follower: Follower) -> None:
        self._counters.dropped_progress += sum(each.dropped_progress for each in follower.readers)
        self._remove(follower)
        error = follower.watch.error
        if isinstance(error, UnknownEndError):
            logger.warning("%s", error)
        if error is not None:
            self._notifier.noticed(
                GaveUp(
                    task_id=follower.task_id,
                    cause=type(error).__name__,
                    token=follower.watch.token(),
                    snapshot=follower.watch.snapshot,
                )
            )

    async def _linger(self, follower: Follower, departures: int) -> None:
        await anyio.sleep(self._policy.linger)
        # Who came and left meanwhile is lingered for anew.
        if not follower.readers and not follower.is_done and follower.departures == departures:
            await self._stop(follower)

    async def _stop(self, follower: Follower) -> None:
        if not follower.waiters:
            self._forget(follower)
        await follower.stop_streaming()

    def _forget(self, follower: Follower) -> None:
        self._remove(follower)
        follower.abandon()

    def _remove(self, follower: Follower) -> None:
        if self.by_task.get(follower.task_id) is follower:
            del self.by_task[follower.task_id]
            self._notifier.watch_ended(follower.task_id, follower.outcome)
        self._poller.remove(follower)


def _present_state(
    follower: Follower, token: ResumeToken, *, notices: bool
) -> list[Event | Notice]:
    """Return what a late reader reads first."""
    watch = follower.watch
    first: list[Event | Notice] = []
    if notices and watch.polling_cause is not None:
        first.append(PollingStarted(task_id=watch.task_id, cause=watch.polling_cause))
    if watch.status is not None and watch.is_news_to(token):
        first.append(
            StatusEvent(
                task_id=watch.task_id, attempt=watch.attempt, origin="poll", status=watch.status
            )
        )
    if watch.last_progress is not None:
        first.append(attrs.evolve(watch.last_progress))
    return first
