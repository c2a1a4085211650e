"""
One schedule for all status checks: which are due, in which order, at what rate.

The poller is the client's one timer. It wakes each follower when its machine has something
to decide, and answers the status checks that are due: a few by single GETs, many by list
pages, whichever costs fewer requests.
"""

import heapq
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
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
from .._protocol import Page, TaskRow
from .._runtime import wall_minus_monotonic
from .._watch import Phase
from .check_places import Place, Places
from .due_polls import DuePolls
from .follower import Follower
from .list_polling import FEW, ListMemory, ListPage, ListPolling, snapshot_of
from .rate_limit import Lately, RateLimit


# A jump of the wall clock against the monotonic one that means the machine slept.
_SUSPEND_SECONDS = 20.0
_LONGEST_SLEEP = 30.0
# A heap with this many outdated entries is built anew.
_OUTDATED = 256
# So many tasks are checked evenly over the interval; more are on pages together.
_SPREAD_UP_TO = 2 * FEW
# What is not answered must not keep the others waiting for as long as all its tries.
_LONGEST_PAGE = 10.0
# Intervals, then at most seconds, without lists that fail while single requests are answered.
_FIRST_LIST_REST, _LONGEST_LIST_REST = 2.0, 60.0


@attrs.define(eq=False)
class _Entry:
    """
    What the poller knows of one follower.

    Attributes:
        scheduled_at: When it is looked at next.
        is_checking: Whether a status check is due, or in flight.
        is_hung: Whether its last check hung.
        unlisted: How often in a row the list did not show it.
    """

    follower: Follower
    scheduled_at: float | None = None
    is_checking: bool = False
    is_hung: bool = False
    unlisted: int = 0


@attrs.frozen
class _Check:
    """
    A single status check.

    Attributes:
        since: Since when it has been due.
        missed_in: The state whose list did not show the task, or None.
        confirms: Whether a list did not show it.
    """

    entry: _Entry
    since: float
    missed_in: str | None = None
    confirms: bool = False


@attrs.define(kw_only=True, eq=False)
class Poller:
    """Wakes followers and answers their status checks, for one client."""

    _now: Callable[[], float] = attrs.field(alias="now")
    _spawn: Callable[..., Any] = attrs.field(alias="spawn")
    _check_status: Callable[[str], Awaitable[TaskSnapshot]] = attrs.field(alias="check_status")
    _list_page: ListPage = attrs.field(alias="list_page")
    _pace: RateLimit = attrs.field(alias="pace")
    _places: Places = attrs.field(alias="places")
    _policy: WatchPolicy = attrs.field(alias="policy")
    # By whether the task waits for a GPU.
    _lags: dict[bool, Lately] = attrs.field(init=False)
    _entries: dict[str, _Entry] = attrs.field(factory=dict[str, _Entry], init=False)
    _heap: list[tuple[float, int, _Entry]] = attrs.field(factory=list[Any], init=False)
    _sequence: Iterator[int] = attrs.field(factory=count, init=False)
    _waker: anyio.Event | None = attrs.field(default=None, init=False)
    _due: DuePolls[_Entry] = attrs.field(factory=DuePolls[_Entry], init=False)
    # What lists did not show, to be confirmed; and due checks whose last one hung: all
    # others go before them.
    _unconfirmed: dict[_Entry, _Check] = attrs.field(factory=dict[_Entry, _Check], init=False)
    _standing_back: dict[_Entry, _Check] = attrs.field(factory=dict[_Entry, _Check], init=False)
    _confirmed_last: bool = attrs.field(default=False, init=False)
    _spread_at: float = attrs.field(default=0.0, init=False)
    _offset: float = attrs.field(default=0.0, init=False)
    _running: bool = attrs.field(default=False, init=False)
    _memory: ListMemory = attrs.field(init=False)
    _lists: ListPolling = attrs.field(init=False)
    _listing: set[str | None] = attrs.field(factory=set[str | None], init=False)
    _no_lists_until: float = attrs.field(default=0.0, init=False)
    _list_rests: int = attrs.field(default=0, init=False)
    _single_answered_at: float = attrs.field(default=float("-inf"), init=False)
    _list_failed_at: float = attrs.field(default=float("-inf"), init=False)

    def __attrs_post_init__(self) -> None:
        span = self._policy.poll_interval_waiting
        self._lags = {waits: Lately(span) for waits in (False, True)}
        self._memory = ListMemory(self._now)
        self._lists = ListPolling(self._paced_page, self._now, self._memory, self._answer_row)

    def add(self, follower: Follower) -> None:
        """Look after *follower* until :meth:`remove`."""
        self._entries[follower.task_id] = _Entry(follower)
        if not self._running:
            self._running = True
            self._spawn(self._run)

    def remove(self, follower: Follower) -> None:
        """Forget *follower*."""
        entry = self._entry_of(follower)
        if entry is not None:
            del self._entries[follower.task_id]
            self._withdraw(entry)
        if not self._entries:
            self._wake()

    def clear(self) -> None:
        """Forget every follower, those included that are gone and were due some time."""
        for entry in tuple(self._entries.values()):
            self.remove(entry.follower)
        self._heap.clear()

    def schedule(self, follower: Follower) -> None:
        """Note when *follower* wants to be looked at next."""
        if (entry := self._entry_of(follower)) is None:
            return
        due, check_at = follower.due_at(), None if entry.is_checking else follower.watch.check_at
        if check_at is not None and (due is None or check_at < due):
            due = check_at
        if due is None or due == float("inf"):
            return
        if entry.scheduled_at is not None and entry.scheduled_at <= due:
            return  # it will be looked at sooner, and scheduled again then
        entry.scheduled_at = due
        if len(self._heap) > 2 * len(self._entries) + _OUTDATED:
            # Each check leaves an entry for the time of giving up, which is half an hour away.
            valid = {item[2]: item for item in self._heap if item[0] == item[2].scheduled_at}
            self._heap = [item for entry, item in valid.items() if self._has(entry)]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (due, next(self._sequence), entry))
        if self._heap[0][2] is entry:
            self._wake()

    def lag(self, *, waits: bool) -> float:
        """By how many seconds checks of tasks that wait, or run, were late at most, lately."""
        return self._lags[waits].largest(self._now())

    def _entry_of(self, follower: Follower) -> _Entry | None:
        entry = self._entries.get(follower.task_id)
        return entry if entry is not None and entry.follower is follower else None

    def _has(self, entry: _Entry) -> bool:
        return self._entries.get(entry.follower.task_id) is entry

    def _wake(self) -> None:
        if self._waker is not None:
            self._waker.set()

    async def _run(self) -> None:
        # It ends when nothing is followed: what it holds can only then be let go of.
        self._offset = wall_minus_monotonic()
        try:
            while self._entries:
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
        if not self._entries:
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
            due, _, entry = heapq.heappop(self._heap)
            if not self._has(entry) or entry.scheduled_at != due:
                continue
            entry.scheduled_at = None
            watch = entry.follower.watch
            check_at = watch.check_at
            if check_at is not None and check_at <= now and not entry.is_checking:
                entry.is_checking = True
                self._due.add(entry, watch.status, check_at)
            entry.follower.on_time(now)

    def _notice_suspend(self, now: float) -> None:
        offset = wall_minus_monotonic()
        jumped = offset - self._offset > _SUSPEND_SECONDS
        self._offset = offset
        if jumped:
            for entry in tuple(self._entries.values()):
                entry.follower.on_wake(now)

    # Which checks are next.

    def _start(self) -> None:
        for states, due in self._rounds():
            self._listing.update(states)
            self._spawn(self._poll_lists, states, due)
        while (place := self._places.take()) is not None:
            if (check := self._next_single()) is None:
                self._places.give_back(place)
                return
            self._note_lags(_oldest({check.entry: check.since}))
            self._spawn(self._check_singly, place, check)

    def _rounds(self) -> list[tuple[list[str | None], Mapping[_Entry, float]]]:
        """Take out of what is due all that is to be answered by lists, and return it."""
        counts = self._due.counts()
        if max(counts.values(), default=0) <= FEW or self._now() < self._no_lists_until:
            return []
        if counts.get(None, 0) > FEW:
            # Nothing is known of them: they may be in any state.
            if self._listing:
                return []
            states: list[str | None] = [*self._memory.states_to_list(counts)]
            due = {entry: at for s in (None, *states) for entry, at in self._due.take(s).items()}
            return [([None, *states], due)]
        listed = (s for s in self._memory.states_to_list(counts) if s not in self._listing)
        return [([state], self._due.take(state)) for state in listed]

    def _next_single(self) -> _Check | None:
        # By turns: thousands that ended together must not hold up those that are on no list.
        kinds = [self._next_unconfirmed, self._next_due]
        for take in reversed(kinds) if self._confirmed_last else kinds:
            while (check := take()) is not None:
                if not check.entry.is_hung:
                    self._confirmed_last = check.confirms
                    return check
                self._standing_back[check.entry] = check
        if self._standing_back and self._places.may_hang:
            return self._standing_back.pop(next(iter(self._standing_back)))
        return None

    def _next_unconfirmed(self) -> _Check | None:
        first = next(iter(self._unconfirmed), None)
        return None if first is None else self._unconfirmed.pop(first)

    def _next_due(self) -> _Check | None:
        counts = self._due.counts()
        barred = {state for state in self._listing if counts.get(state, 0) > FEW}
        if self._listing and counts.get(None, 0) > FEW:
            barred.add(None)
        found = self._due.take_one(barred)
        return None if found is None else _Check(*found)

    def _withdraw(self, entry: _Entry) -> bool:
        """Take back its check unless it was sent; return whether there was one."""
        found = [each.pop(entry, None) for each in (self._unconfirmed, self._standing_back)]
        return self._due.discard(entry) or any(found)

    def _note_lags(self, oldest: Mapping[bool, float]) -> None:
        now = self._now()
        for waits, since in oldest.items():
            self._lags[waits].note(now - since, now)

    # Checks by lists.

    async def _poll_lists(self, states: list[str | None], due: Mapping[_Entry, float]) -> None:
        seen = {entry.follower.task_id: entry.follower.watch.status for entry in due}
        # Now, as what the list says changes their states.
        oldest = _oldest(due)
        try:
            listed = [state for state in states if state is not None]
            left = frozenset(await self._lists.run(seen, listed))
        except CyberunError as error:
            # What the list says holds for all tasks; what one task's check says, for that one.
            if isinstance(error, RateLimitedError | ServiceUnavailableError) and (
                isinstance(error, RateLimitedError) or error.retry_after is not None
            ):
                self._pace.slow_down(error.retry_after, cap=self._policy.hint_cap)
            self._lists_failed(due, error)
        except Exception as error:  # noqa: BLE001 - theirs who wait for these tasks
            self._crash_all([entry for entry in due if entry.is_checking], error)
        else:
            self._list_failed_at = float("-inf")
            self._list_rests = 0
            self._note_lags(oldest)
            for entry, since in due.items():
                if entry.follower.task_id in left and self._has(entry):
                    # A list that was refused has shown nothing, and so has missed nobody.
                    state = entry.follower.watch.status
                    missed_in = None if self._memory.is_refused(state) else state
                    self._unconfirmed[entry] = _Check(entry, since, missed_in, confirms=True)
        finally:
            self._listing.difference_update(states)
        self._start()

    def _lists_failed(self, due: Mapping[_Entry, float], error: CyberunError) -> None:
        """Check singly if that works; otherwise all have their answer, but one that tries."""
        waiting = [entry for entry in due if entry.is_checking and self._has(entry)]
        if isinstance(error, RateLimitedError):
            for entry in waiting:
                self._answer_unsent(entry, error, self._now())
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
            for entry in waiting[1:]:
                self._answer_unsent(entry, error, self._now())
        for entry in tried:
            self._due.add(entry, entry.follower.watch.status, self._now())

    def _answer_row(self, row: TaskRow, sent_at: float, is_due: bool) -> bool:
        """Answer whom the *row* is about, unless another request about it is in flight."""
        entry = self._entries.get(row.id)
        if entry is None or entry.follower.is_done:
            return False
        if not is_due and entry.is_checking and not self._withdraw(entry):
            return False
        entry.unlisted = 0
        self._answer_unsent(entry, snapshot_of(row, entry.follower.watch.snapshot), sent_at)
        return True

    @staticmethod
    def _answer_unsent(entry: _Entry, answer: TaskSnapshot | CyberunError, sent_at: float) -> None:
        entry.is_checking = False
        entry.follower.watch.check_sent()
        entry.follower.on_answer(answer, sent_at)

    def _crash_all(self, entries: Iterable[_Entry], error: Exception) -> None:
        for entry in entries:
            if self._has(entry):
                entry.follower.crash(error)

    async def _paced_page(self, state: str, number: int) -> Page[TaskRow]:
        await self._pace.turn()
        self._pace.pages += 1
        try:
            with anyio.fail_after(_LONGEST_PAGE):
                page = await self._list_page(state, number)
        except TimeoutError:
            raise ServiceUnavailableError("a page of the list took too long") from None
        self._pace.answered()
        return page

    # Single checks.

    async def _check_singly(self, place: Place, check: _Check) -> None:
        entry = check.entry
        try:
            await self._pace.turn()
            if self._has(entry) and not entry.follower.is_done:
                await self._send(place, check)
        except Exception as error:  # noqa: BLE001 - theirs who wait for this task
            self._crash_all([entry], error)
        finally:
            entry.is_checking = False
            self._places.give_back(place)
            self._start()
        self.schedule(entry.follower)

    async def _send(self, place: Place, check: _Check) -> None:
        entry, sent_at = check.entry, self._now()
        follower = entry.follower
        self._pace.status_checks += 1
        follower.watch.check_sent()
        if self._places.sent(place, sent_at):
            self._wake()
        answer: TaskSnapshot | CyberunError
        answer = ServiceUnavailableError("the status was not answered in time")
        try:
            with place.scope:
                answer = await self._check_status(follower.task_id)
                self._single_answered_at = self._now()
                self._pace.answered()
        except CyberunError as error:
            answer = error
            if isinstance(error, RateLimitedError):
                self._pace.declined(follower.task_id, error.retry_after, cap=self._policy.hint_cap)
        entry.is_checking = False
        if self._has(entry):
            entry.is_hung = self._places.took_long(place, self._now())
            follower.on_answer(answer, sent_at)
            if isinstance(answer, TaskSnapshot):
                self._note_unlisted(entry, answer, check.missed_in)
                self._spread(follower)

    def _note_unlisted(self, entry: _Entry, answer: TaskSnapshot, missed_in: str | None) -> None:
        """Check ever more rarely a task in a state that the list does not give."""
        state = str(answer.status)
        if missed_in == state:
            self._memory.note_absence(state)
        if answer.is_terminal or len(self._entries) <= FEW:
            return
        if missed_in != state and self._memory.gives(state):
            entry.unlisted = 0
            return
        entry.unlisted += 1
        policy = self._policy
        # Once may be a row that slipped to another page.
        pause = policy.poll_interval * 2.0 ** min(entry.unlisted - 1, 10)
        entry.follower.watch.postpone_check(self._now() + min(pause, policy.poll_interval_waiting))
        self.schedule(entry.follower)

    def _spread(self, follower: Follower) -> None:
        """Where few tasks are polled, check them evenly rather than all at once."""
        if len(self._entries) > _SPREAD_UP_TO or follower.watch.phase is not Phase.POLLING:
            return
        now, interval = self._now(), self._policy.poll_interval
        gap = interval / len(self._entries)
        # No later than its turn among all: one task alone is checked each interval.
        latest = now + 2 * interval - gap
        self._spread_at = min(max(now + interval, self._spread_at + gap), latest)
        follower.watch.postpone_check(self._spread_at)
        self.schedule(follower)


def _oldest(due: Mapping[_Entry, float]) -> dict[bool, float]:
    """Return since when the first of the tasks that wait, and of the others, has been due."""
    oldest: dict[bool, float] = {}
    for entry, since in due.items():
        waits = entry.follower.watch.status in WAITING_STATUSES
        oldest[waits] = min(since, oldest.get(waits, since))
    return oldest
