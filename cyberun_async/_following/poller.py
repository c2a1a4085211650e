"""
One schedule for everything that has to be asked: who is due, in which order, at what pace.

The poller is the client's one timer. It wakes each follower when its machine has something
to decide, and answers the asks that are due: a few by single GETs, many by list pages,
whichever costs fewer requests.
"""

import heapq
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import count
from typing import Any

import anyio
import attrs

from .._model import (
    WAITING_STATUSES,
    CyberunError,
    RateLimitedError,
    ServiceUnavailableError,
    TaskSnapshot,
    WatchPolicy,
)
from .._protocol import Page, Sighting
from .._runtime import wall_minus_monotonic
from .._watch import Phase
from .check_places import Place, Places
from .due_polls import DuePolls
from .follower import Follower
from .list_polling import FEW, ListMemory, ListPage, ListPolling
from .rate_limit import Lately, RateLimit


# A jump of the wall clock against the monotonic one that means the machine slept.
_SUSPEND_SECONDS = 20.0
_LONGEST_SLEEP = 30.0
# A heap with this many outdated entries is built anew.
_OUTDATED = 256
# So many tasks are asked about evenly over the interval; more are on pages together.
_SPREAD_UP_TO = 2 * FEW
# What is not answered must not keep the others waiting for as long as all its tries.
_LONGEST_PAGE = 10.0
# Intervals, then at most seconds, without lists that fail while single requests are answered.
_FIRST_LIST_REST, _LONGEST_LIST_REST = 2.0, 60.0

AskTask = Callable[[str], Awaitable[TaskSnapshot]]


class Poller:
    """Wakes followers and answers their asks, for one client."""

    def __init__(
        self,
        *,
        now: Callable[[], float],
        spawn: Callable[..., Any],
        ask: AskTask,
        list_page: ListPage,
        pace: RateLimit,
        places: Places,
        policy: WatchPolicy,
    ) -> None:
        self._now = now
        self._spawn = spawn
        self._ask_task = ask
        self._list_page = list_page
        self._policy = policy
        self.pace = pace
        self._places = places
        # By whether the task waits for a GPU.
        self._lags = {waits: Lately(policy.poll_interval_waiting) for waits in (False, True)}
        self._heap: list[tuple[float, int, Follower]] = []
        self._sequence = count()
        self._waker: anyio.Event | None = None
        self._due: DuePolls[Follower] = DuePolls()
        # To be confirmed: the state in which the list did not show them, and since when.
        self._hints: dict[Follower, tuple[str | None, float]] = {}
        self._confirmed_last = False
        # Whose last check hung, and those of them that are due: all others go before them.
        self._hung: set[Follower] = set()
        self._standing_back: dict[Follower, _Single] = {}
        self._spread_at = 0.0
        self._offset = wall_minus_monotonic()
        self._running = False
        self._followers: dict[str, Follower] = {}
        self._memory = ListMemory(now)
        self._sweep = ListPolling(self._paced_page, now, self._memory, self._claim)
        self._sweeping: set[str | None] = set()
        self._no_lists_until = 0.0
        self._list_rests = 0
        self._single_answered_at = float("-inf")
        self._list_failed_at = float("-inf")

    def add(self, follower: Follower) -> None:
        """Look after *follower* until :meth:`remove`."""
        self._followers[follower.task_id] = follower
        if not self._running:
            self._running = True
            self._spawn(self._run)

    def remove(self, follower: Follower) -> None:
        """Forget *follower*."""
        if self._followers.get(follower.task_id) is follower:
            del self._followers[follower.task_id]
        self._due.discard(follower)
        self._unhint(follower)
        self._hung.discard(follower)
        if not self._followers and self._waker is not None:
            self._waker.set()

    def clear(self) -> None:
        """Forget every follower, those included that are gone and were due some time."""
        for follower in tuple(self._followers.values()):
            self.remove(follower)
        self._heap.clear()

    def schedule(self, follower: Follower) -> None:
        """Note when *follower* wants to be looked at next."""
        if not self._has(follower):
            return
        due = follower.due_at()
        if due is None or due == float("inf"):
            return
        if follower.scheduled_at is not None and follower.scheduled_at <= due:
            return  # it will be looked at sooner, and scheduled again then
        follower.scheduled_at = due
        if len(self._heap) > 2 * len(self._followers) + _OUTDATED:
            self._drop_outdated()
        heapq.heappush(self._heap, (due, next(self._sequence), follower))
        if self._waker is not None and self._heap[0][2] is follower:
            self._waker.set()

    @property
    def waiting_asks(self) -> int:
        """How many asks are due and not yet sent."""
        return len(self._due) + len(self._hints) + len(self._standing_back)

    def lag(self, *, waits: bool) -> float:
        """By how many seconds asks about tasks that wait, or run, were late at most, lately."""
        return self._lags[waits].largest(self._now())

    def _drop_outdated(self) -> None:
        # Each ask leaves an entry for the moment of giving up, which is half an hour away.
        valid = {
            follower: entry
            for entry in self._heap
            if entry[0] == (follower := entry[2]).scheduled_at
        }
        self._heap = [entry for follower, entry in valid.items() if self._has(follower)]
        heapq.heapify(self._heap)

    async def _run(self) -> None:
        # It ends when nothing is followed: what it holds can only then be let go of.
        self._offset = wall_minus_monotonic()
        try:
            while self._followers:
                now = self._now()
                self._notice_suspend(now)
                self._wake_due(now)
                self._places.relieve(now)
                self._start()
                await self._sleep()
            self._heap.clear()
        finally:
            # Nothing is awaited since the last look: who is added from now on begins it again.
            self._running = False

    async def _sleep(self) -> None:
        if not self._followers:
            return
        self._waker = anyio.Event()
        due = self._heap[0][0] if self._heap else float("inf")
        if (relieved_at := self._places.next_at) is not None:
            due = min(due, relieved_at)
        pause = min(due - self._now(), _LONGEST_SLEEP)
        if pause > 0:
            with anyio.move_on_after(pause):
                await self._waker.wait()
        else:
            await anyio.lowlevel.checkpoint()
        self._waker = None

    def _wake_due(self, now: float) -> None:
        while self._heap and self._heap[0][0] <= now:
            due, _, follower = heapq.heappop(self._heap)
            if not self._has(follower) or follower.scheduled_at != due:
                continue
            follower.scheduled_at = None
            check_at = follower.watch.check_at
            if check_at is not None and check_at <= now and not follower.asking:
                follower.asking = True
                self._due.add(follower, follower.watch.status, check_at)
            follower.on_time(now)

    def _notice_suspend(self, now: float) -> None:
        offset = wall_minus_monotonic()
        jumped = offset - self._offset > _SUSPEND_SECONDS
        self._offset = offset
        if jumped:
            for follower in tuple(self._followers.values()):
                follower.watch.woke(now)
                follower.advance()

    def _has(self, follower: Follower) -> bool:
        return self._followers.get(follower.task_id) is follower

    # Asks.

    def _start(self) -> None:
        for states, due in self._rounds():
            self._sweeping.update(states)
            self._spawn(self._run_sweep, states, due)
        while (place := self._places.take()) is not None:
            if (work := self._next_single()) is None:
                self._places.give_back(place)
                return
            self._note_lags(_oldest({work.follower: work.since}))
            self._spawn(self._work, place, work)

    def _rounds(self) -> list[tuple[list[str | None], Mapping[Follower, float]]]:
        """Take out of what is due all that is to be answered by lists, and return it."""
        counts = self._due.counts()
        if max(counts.values(), default=0) <= FEW or self._now() < self._no_lists_until:
            return []
        if counts.get(None, 0) > FEW:
            # Nothing is known of them: they may be in any state.
            if self._sweeping:
                return []
            states: list[str | None] = [*self._memory.states_to_list(counts)]
            due = {
                follower: at for s in (None, *states) for follower, at in self._due.take(s).items()
            }
            return [([None, *states], due)]
        listed = (s for s in self._memory.states_to_list(counts) if s not in self._sweeping)
        return [([state], self._due.take(state)) for state in listed]

    def _next_single(self) -> "_Single | None":
        """Return whom to ask about next."""
        # By turns: thousands that ended together must not hold up those that are on no list.
        kinds = [self._next_hint, self._next_due]
        for take in reversed(kinds) if self._confirmed_last else kinds:
            while (work := take()) is not None:
                if work.follower not in self._hung:
                    self._confirmed_last = work.confirms
                    return work
                self._standing_back[work.follower] = work
        if self._standing_back and self._places.may_hang:
            return self._standing_back.pop(next(iter(self._standing_back)))
        return None

    def _next_hint(self) -> "_Single | None":
        if not self._hints:
            return None
        follower = next(iter(self._hints))
        missed_in, since = self._hints.pop(follower)
        return _Single(follower, since, missed_in, confirms=True)

    def _next_due(self) -> "_Single | None":
        counts = self._due.counts()
        barred = {state for state in self._sweeping if counts.get(state, 0) > FEW}
        if self._sweeping and counts.get(None, 0) > FEW:
            barred.add(None)
        found = self._due.take_one(barred)
        return None if found is None else _Single(*found)

    async def _run_sweep(self, states: list[str | None], due: Mapping[Follower, float]) -> None:
        listed = [state for state in states if state is not None]
        # Now, as what the list tells changes their states.
        oldest = _oldest(due)
        try:
            left = await self._sweep.run(due, self._followers, listed)
        except CyberunError as error:
            self._heed(error)
            self._lists_failed(due, error)
        except Exception as error:  # noqa: BLE001 - theirs who wait for these tasks
            self._crash_all([follower for follower in due if follower.asking], error)
        else:
            self._list_failed_at = float("-inf")
            self._list_rests = 0
            self._note_lags(oldest)
            # What the list did not tell is asked singly.
            self._hints.update(
                (follower, (self._missed_in(follower), due[follower]))
                for follower in left
                if self._has(follower)
            )
        finally:
            self._sweeping.difference_update(states)
        self._start()

    def _missed_in(self, follower: Follower) -> str | None:
        # A list that was refused has shown nothing, and so has missed nobody.
        state = follower.watch.status
        return None if self._memory.is_refused(state) else state

    def _note_lags(self, oldest: Mapping[bool, float]) -> None:
        now = self._now()
        for waits, since in oldest.items():
            self._lags[waits].note(now - since, now)

    def _lists_failed(self, due: Mapping[Follower, float], error: CyberunError) -> None:
        """Ask singly if that works; otherwise all have their answer, but one that tries."""
        waiting = [follower for follower in due if follower.asking and self._has(follower)]
        if isinstance(error, RateLimitedError):
            self._answer_all(waiting, error)
            return
        only_lists_fail = self._single_answered_at >= self._list_failed_at > float("-inf")
        self._list_failed_at = self._now()
        if only_lists_fail:
            rest = _FIRST_LIST_REST * self._policy.poll_interval * 2.0 ** min(self._list_rests, 10)
            self._list_rests += 1
            self._no_lists_until = self._now() + min(rest, _LONGEST_LIST_REST)
            tried = waiting
        else:
            tried = waiting[:1]
            self._answer_all(waiting[1:], error)
        for follower in tried:
            self._due.add(follower, follower.watch.status, self._now())

    def _answer_all(self, followers: Iterable[Follower], error: CyberunError) -> None:
        sent_at = self._now()
        for follower in followers:
            follower.asking = False
            follower.watch.asked()
            follower.on_answer(error, sent_at)

    def _crash_all(self, followers: Iterable[Follower], error: Exception) -> None:
        for follower in followers:
            if self._has(follower):
                follower.crash(error)

    async def _paced_page(self, state: str, number: int) -> Page[Sighting]:
        await self.pace.turn()
        self.pace.pages += 1
        try:
            with anyio.fail_after(_LONGEST_PAGE):
                page = await self._list_page(state, number)
        except TimeoutError:
            raise ServiceUnavailableError("a page of the list took too long") from None
        self.pace.answered()
        return page

    def _claim(self, follower: Follower) -> bool:
        """Return whether *follower*, which was on a page, is not asked about already."""
        return not follower.asking or self._due.discard(follower) or self._unhint(follower)

    def _unhint(self, follower: Follower) -> bool:
        was_hinted = follower in self._hints or follower in self._standing_back
        self._hints.pop(follower, None)
        self._standing_back.pop(follower, None)
        return was_hinted

    async def _work(self, place: Place, work: "_Single") -> None:
        follower = work.follower
        try:
            await self.pace.turn()
            if self._has(follower) and not follower.is_done:
                await self._ask(place, follower, work.missed_in)
        except Exception as error:  # noqa: BLE001 - theirs who wait for this task
            self._crash_all([follower], error)
        finally:
            follower.asking = False
            self._places.give_back(place)
            self._start()
        self.schedule(follower)

    async def _ask(self, place: Place, follower: Follower, missed_in: str | None) -> None:
        sent_at = self._now()
        self.pace.status_checks += 1
        follower.watch.asked()
        if self._places.sent(place, sent_at) and self._waker is not None:
            self._waker.set()
        answer: TaskSnapshot | CyberunError
        answer = ServiceUnavailableError("the status was not answered in time")
        try:
            with place.scope:
                answer = await self._ask_task(follower.task_id)
                self._single_answered_at = self._now()
                self.pace.answered()
        except CyberunError as error:
            answer = error
            if isinstance(error, RateLimitedError):
                self.pace.declined(follower.task_id, error.retry_after, cap=self._policy.hint_cap)
        follower.asking = False
        if self._has(follower):
            hung = self._places.took_long(place, self._now())
            (self._hung.add if hung else self._hung.discard)(follower)
            follower.on_answer(answer, sent_at)
            if isinstance(answer, TaskSnapshot):
                self._note_unlisted(follower, answer, missed_in)
                self._spread(follower)

    def _note_unlisted(
        self, follower: Follower, answer: TaskSnapshot, missed_in: str | None
    ) -> None:
        """Ask ever more rarely about a task in a state that the list does not give."""
        state = str(answer.status)
        if missed_in == state:
            self._memory.note_absence(state)
        if answer.is_terminal or len(self._followers) <= FEW:
            return
        if missed_in != state and self._memory.gives(state):
            follower.unlisted = 0
            return
        follower.unlisted += 1
        policy = self._policy
        # Once may be a row that slipped to another page.
        pause = policy.poll_interval * 2.0 ** min(follower.unlisted - 1, 10)
        follower.watch.rested(self._now() + min(pause, policy.poll_interval_waiting))
        self.schedule(follower)

    def _spread(self, follower: Follower) -> None:
        """Where few tasks are polled, ask about them evenly rather than all at once."""
        if len(self._followers) > _SPREAD_UP_TO or follower.watch.phase is not Phase.POLLING:
            return
        now, interval = self._now(), self._policy.poll_interval
        gap = interval / len(self._followers)
        # No later than its turn among all: one task alone is asked about each interval.
        latest = now + 2 * interval - gap
        self._spread_at = min(max(now + interval, self._spread_at + gap), latest)
        follower.watch.rested(self._spread_at)
        self.schedule(follower)

    def _heed(self, error: CyberunError) -> None:
        # What the list says holds for all tasks; what one task's check says, for that one.
        if isinstance(error, RateLimitedError | ServiceUnavailableError):
            is_asked_for = isinstance(error, RateLimitedError) or error.retry_after is not None
            if is_asked_for:
                self.pace.slow_down(error.retry_after, cap=self._policy.hint_cap)


@attrs.frozen
class _Single:
    """
    A task that is to be asked about singly.

    Attributes:
        missed_in: The state whose list did not show it, or None.
        confirms: Whether a list did not show it.
    """

    follower: Follower
    since: float
    missed_in: str | None = None
    confirms: bool = False


def _oldest(due: Mapping[Follower, float]) -> dict[bool, float]:
    """Return since when the first of the tasks that wait, and of the others, has been due."""
    oldest: dict[bool, float] = {}
    for follower, since in due.items():
        waits = follower.watch.status in WAITING_STATUSES
        oldest[waits] = min(since, oldest.get(waits, since))
    return oldest
