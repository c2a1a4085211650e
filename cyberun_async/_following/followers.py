"""
Following tasks, behind the client: followers, their poller, stream slots and the network.

One follower a task, however many watch or wait for it. Everything a follower needs of the rest
of the library comes through here.
"""

import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from typing import Any

import anyio
import attrs

from .._http import Caller, EventConnection, Secret, Transport, Usage
from .._model import (
    WAITING_STATUSES,
    ClientClosedError,
    CyberunError,
    Event,
    Gap,
    GaveUp,
    Notice,
    Polling,
    PollingStarted,
    RateLimitedError,
    ResultExpiredError,
    ResumeToken,
    ServiceUnavailableError,
    StatusEvent,
    StreamingResumed,
    StreamLost,
    TaskNotFoundError,
    TaskSnapshot,
    Timeouts,
    UnknownEndError,
    WatchPolicy,
)
from .._protocol import (
    Page,
    Sighting,
    decode_result,
    decode_sightings,
    decode_task,
    resumable_id,
    without_locals,
)
from .._runtime import Runtime, draw, utc_now
from .._validation import path_for
from .._watch import Counters, Phase, Watch
from .check_places import Places
from .event_buffer import EventBuffer
from .follower import Follower
from .list_polling import PAGE_SIZE
from .notifier import Notifier, SentRun
from .poller import Poller
from .rate_limit import RateLimit
from .stream_slots import StreamSlots


logger = logging.getLogger("cyberun_async")

# So many tries that hang have room in the time for an output.
_OUTPUT_TRIES = 3
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
    What all watches of one client share, or of those siblings whose choices are equal.

    Attributes:
        economy: What it shares with all others of its tenant.
    """

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
        self._transport = transport
        self._timeouts = timeouts
        self.caller = caller
        self.policy = policy
        self._notifier = notifier
        self.observe: Callable[[Event], None] | None = notifier.received
        self.now = runtime.now
        self.loads = transport.loads
        self.economy = economy
        self.tenant: Usage | None = economy.usage
        self.slots = economy.slots
        self.counters = economy.counters
        self.by_task: dict[str, Follower] = {}
        self.poller = Poller(
            now=runtime.now,
            spawn=runtime.spawn,
            ask=self.ask_task,
            list_page=self.list_page,
            pace=economy.pace,
            places=Places(economy.connections),
            policy=policy,
        )
        self._closed: CyberunError | None = None

    # What the client asks.

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
            follower.teach(token)
            follower.attach(reader, _current_state(follower, token, notices=reader.notices))
        return follower

    async def unsubscribe(self, follower: Follower, reader: EventBuffer) -> None:
        """Detach *reader*; the last one gives the stream's connection back."""
        follower.detach(reader)
        if follower.is_done:
            await follower.line_closed()
            return
        self.counters.dropped_progress += reader.dropped_progress
        if follower.readers:
            return
        if follower.was_shared and self.policy.linger > 0:
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
        follower.waiters += 1
        try:
            # Without a limit thousands wait; a cancel scope each would cost a kilobyte each.
            if limit is None:
                await follower.wait_end()
            else:
                with anyio.move_on_after(limit):
                    await follower.wait_end()
                if last_look > 0 and not follower.is_running and not follower.end_is_known:
                    with anyio.move_on_after(last_look):
                        await follower.look_again()
        finally:
            follower.waiters -= 1
            if not follower.waiters and not follower.readers and not follower.is_done:
                self._forget(follower)
        return follower

    async def request_cancel(self, task_id: str) -> bool:
        """
        Ask the service to cancel the task, shielded and within ``Timeouts.cancel`` seconds.

        Return whether it took the request.
        """
        with anyio.move_on_after(self._timeouts.cancel, shield=True):
            try:
                await self.cancel_task(task_id)
            except CyberunError as error:
                logger.warning("task %s could not be cancelled: %s", task_id, type(error).__name__)
            else:
                return True
            return False
        logger.warning("task %s could not be cancelled: no answer in time", task_id)
        return False

    def submitting(self, workflow: str) -> AbstractContextManager[SentRun]:
        """Tell the observer of a run that is sent within the block."""
        return self._notifier.submitting(workflow)

    async def cancel_task(self, task_id: str) -> None:
        """Ask the service to cancel the task."""
        await self.caller.call("POST", path_for("tasks", task_id, "cancel"), task=True)

    async def ask_task(self, task_id: str) -> TaskSnapshot:
        """Ask for the task's state."""
        path, headers = path_for("tasks", task_id), self._notifier.headers(task_id)
        # Not repeated here: the watch asks again, at the client's pace rather than its quota's.
        call = self.caller.call(
            "GET", path, headers=headers, task=True, is_check=True, repeatable=False
        )
        return decode_task(await call)

    async def check_task(self, task_id: str) -> TaskSnapshot:
        """Ask for the task's state at the client's pace, until it is answered."""
        pace = self.poller.pace
        while True:
            await pace.turn()
            pace.status_checks += 1
            try:
                return await self.ask_task(task_id)
            except (ServiceUnavailableError, RateLimitedError) as error:
                if getattr(error, "is_final", False):
                    raise
            await anyio.sleep(_RECHECK)

    async def list_page(self, state: str, number: int) -> Page[Sighting]:
        """Ask for one page of the team's tasks in *state*."""
        params = {"status": str(state), "current_page": number, "per_page": PAGE_SIZE}
        call = self.caller.call(
            "GET", path_for("tasks"), params=params, is_check=True, repeatable=False
        )
        return decode_sightings(await call)

    def polling(self) -> Polling:
        """Return how many tasks are polled, and how often."""
        now, policy, lag = self.now(), self.policy, self.poller.lag
        polled = [
            follower.watch
            for follower in self.by_task.values()
            if follower.watch.phase is Phase.POLLING
        ]
        waits = [one.poll_interval(now) for one in polled if one.status in WAITING_STATUSES]
        return Polling(
            tasks=len(polled),
            interval=policy.poll_interval + lag(waits=False),
            interval_waiting=max(waits, default=policy.poll_interval) + lag(waits=True),
        )

    @property
    def dropped_progress_now(self) -> int:
        """How many ticks were overwritten in readers that are not in the counters yet."""
        return sum(
            reader.dropped_progress
            for follower in self.by_task.values()
            for reader in follower.readers
        )

    def close(self) -> None:
        """End every follower with :class:`ClientClosedError`."""
        self._closed = ClientClosedError("the client was closed while the task was being followed")
        for follower in tuple(self.by_task.values()):
            follower.fail(self._closed)
        # Else a client that is kept would keep what it followed last.
        self.poller.clear()

    # What followers ask.

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        """Start a task that the client owns."""
        self._runtime.spawn(function, *args)

    def schedule(self, follower: Follower) -> None:
        """Wake *follower* when it is due."""
        self.poller.schedule(follower)

    def settled(self, follower: Follower) -> None:
        """*follower* has ended, and nothing more is overwritten in its readers."""
        self.counters.dropped_progress += sum(
            reader.dropped_progress for reader in follower.readers
        )
        self._remove(follower)
        if isinstance(follower.watch.error, UnknownEndError):
            logger.warning("%s", follower.watch.error)
        if follower.watch.error is not None:
            self.noticed(
                GaveUp(
                    task_id=follower.task_id,
                    cause=type(follower.watch.error).__name__,
                    token=follower.watch.token(),
                    snapshot=follower.watch.snapshot,
                )
            )

    def noticed(self, notice: Notice) -> None:
        """Log *notice* and hand it to the callback."""
        match notice:
            case StreamLost(cause=cause, delay=delay):
                logger.info(
                    "task %s: stream lost (%s), again in %.1f s", notice.task_id, cause, delay
                )
            case PollingStarted(cause=cause):
                logger.info("task %s: polling (%s)", notice.task_id, cause)
            case StreamingResumed():
                logger.info("task %s: streaming again", notice.task_id)
            case Gap(seconds=seconds):
                logger.info("task %s: reconnected after %.1f s", notice.task_id, seconds)
            case GaveUp(cause=cause):
                logger.info("task %s: gave up (%s)", notice.task_id, cause)
            case _:
                logger.debug("task %s: %s", notice.task_id, type(notice).__name__)
        self._notifier.noticed(notice)

    @property
    def can_refresh(self) -> bool:
        """Whether a refused key may be replaced."""
        return self.caller.can_refresh

    async def stream_headers(self, refused: Secret | None) -> tuple[Secret, dict[str, str]]:
        """Return the key to use and the headers it makes."""
        return await self.caller.headers(refused)

    async def open_stream(self, task_id: str, headers: Mapping[str, str]) -> EventConnection:
        """Open the task's event stream."""
        path = path_for("tasks", task_id, "events")
        all_headers = {**headers, **self._notifier.headers(task_id)}
        with without_locals():
            return await self._transport.open_stream(
                path,
                headers=all_headers,
                open_timeout=self.policy.open_timeout,
                timeouts=self._timeouts,
                usage=self.tenant,
            )

    async def read_output(self, task_id: str) -> tuple[Mapping[str, Any] | None, str | None]:
        """Return the output of a completed task, or why it cannot be read (in time)."""
        path, headers = path_for("tasks", task_id, "result"), self._notifier.headers(task_id)
        seconds = self.policy.output_timeout
        with anyio.move_on_after(seconds):
            try:
                # One try that hangs leaves time for others.
                reply = await self.caller.call(
                    "GET", path, headers=headers, task=True, total=seconds / _OUTPUT_TRIES
                )
                output = decode_result(reply).output
            except TaskNotFoundError as error:
                return None, str(ResultExpiredError.after(error))
            except CyberunError as error:
                return None, str(error)
            return output, None if output is not None else "the service's result holds no output"
        return None, f"the result was not answered within {seconds:g} s"

    # Within.

    def _new_follower(self, token: ResumeToken, *, streaming: bool) -> Follower:
        now = self.now()
        watch = Watch(
            task_id=token.task_id,
            policy=self.policy,
            draw=draw,
            started_at=now,
            streaming=streaming,
            not_found_until=now + self._grace_left(token),
            counters=self.counters,
            status=token.status,
            attempt=token.attempt,
            retry_count=token.retry_count,
            last_event_id=resumable_id(token.last_event_id),
        )
        follower = Follower(self, watch)
        self.by_task[token.task_id] = follower
        self._notifier.watch_began(token.task_id)
        self.poller.add(follower)
        follower.begin()
        return follower

    def _grace_left(self, token: ResumeToken) -> float:
        if token.submitted_at is None:
            return 0.0
        age = (utc_now() - token.submitted_at).total_seconds()
        return max(0.0, self.policy.not_found_grace - max(0.0, age))

    async def _linger(self, follower: Follower, departures: int) -> None:
        await anyio.sleep(self.policy.linger)
        # Who came and left meanwhile is lingered for anew.
        if not follower.readers and not follower.is_done and follower.departures == departures:
            await self._stop(follower)

    async def _stop(self, follower: Follower) -> None:
        if follower.waiters:
            await follower.stop_streaming()
            return
        self._forget(follower)
        await follower.stop_streaming()

    def _forget(self, follower: Follower) -> None:
        self._remove(follower)
        self.slots.forget(follower)
        follower.let_go()

    def _remove(self, follower: Follower) -> None:
        if self.by_task.get(follower.task_id) is follower:
            del self.by_task[follower.task_id]
            self._notifier.watch_ended(follower.task_id, follower.outcome)
        self.poller.remove(follower)


def _current_state(
    follower: Follower, token: ResumeToken, *, notices: bool
) -> list[Event | Notice]:
    """Return what a late reader is told first."""
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
    if watch.last_tick is not None:
        first.append(attrs.evolve(watch.last_tick))
    return first
