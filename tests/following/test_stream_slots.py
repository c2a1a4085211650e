"""Who gets a stream slot: running tasks first, and never more than there are."""

import attrs

from cyberun_async._following import StreamSlots
from cyberun_async._http import Usage


@attrs.define(eq=False)
class Streamer:
    """A follower, as far as slots are concerned; its stream closes when the test says so."""

    slots: StreamSlots
    is_running: bool = True
    is_wanted: bool = True
    streams: bool = False
    revocations: int = 0
    tenant: Usage | None = None

    def ask(self) -> "Streamer":
        self.streams = self.slots.request(self)
        return self

    def revoke_stream(self) -> None:
        self.revocations += 1

    def grant_stream(self) -> None:
        if self.is_wanted:
            self.ask()

    def close(self) -> None:
        self.streams = False
        self.slots.release(self)

    def turns(self, *, running: bool) -> None:
        self.is_running = running
        self.slots.moved(self)


def test_no_more_slots_are_given_than_there_are():
    """Who comes when all are taken waits, and gets a slot when one frees."""
    slots = StreamSlots(2, 4)
    first, second, third = (Streamer(slots).ask() for _ in range(3))

    assert [one.streams for one in (first, second, third)] == [True, True, False]
    assert (slots.held, slots.wanted) == (2, 1)
    second.close()
    assert third.streams
    assert (slots.held, slots.wanted) == (2, 0)


def test_a_slot_is_had_once():
    """Who asks again keeps the slot, takes no second one, and is not stream_granted any more."""
    slots = StreamSlots(1, 4)
    holder, other = Streamer(slots).ask(), Streamer(slots).ask()
    holder.ask()
    assert (holder.streams, slots.held, slots.wanted) == (True, 1, 1)
    holder.close()
    other.ask()

    assert (other.streams, slots.held, slots.wanted) == (True, 1, 0)


def test_running_tasks_come_first():
    """A slot that frees goes to a running task, even if a waiting one came before it."""
    slots = StreamSlots(1, 4)
    holder = Streamer(slots).ask()
    waiting = Streamer(slots, is_running=False).ask()
    running = Streamer(slots).ask()
    holder.close()

    assert (waiting.streams, running.streams) == (False, True)


def test_a_lent_slot_is_handed_over_when_its_stream_is_closed():
    """A waiting task's stream gives way, and the other opens only when it is closed."""
    slots = StreamSlots(1, 4)
    lent = Streamer(slots, is_running=False).ask()
    running = Streamer(slots).ask()

    assert (lent.revocations, running.streams, slots.held) == (1, False, 1)
    lent.close()
    assert (lent.streams, running.streams, slots.held) == (False, True, 1)


def test_one_lent_slot_is_claimed_for_each_running_task():
    """Two waiting tasks do not give way for one running task, however often it is reported."""
    slots = StreamSlots(2, 4)
    lent = [Streamer(slots, is_running=False).ask() for _ in range(2)]
    running = Streamer(slots).ask()
    running.turns(running=True)

    assert [one.revocations for one in lent] == [1, 0]


def test_a_task_that_begins_to_run_is_promoted():
    """A task on the revoke_stream that begins to run gets a waiting one's slot."""
    slots = StreamSlots(1, 4)
    lent = Streamer(slots, is_running=False).ask()
    promoted = Streamer(slots, is_running=False).ask()
    assert lent.revocations == 0
    promoted.turns(running=True)
    lent.close()

    assert promoted.streams
    assert slots.wanted == 1


def test_a_task_that_falls_back_to_waiting_gives_its_slot_up():
    """A second attempt that waits makes room for a task that runs."""
    slots = StreamSlots(1, 4)
    falling = Streamer(slots).ask()
    running = Streamer(slots).ask()
    assert falling.revocations == 0
    falling.turns(running=False)
    assert falling.revocations == 1
    falling.close()

    assert running.streams


def test_a_slot_that_is_not_wanted_goes_to_the_next():
    """A task that is read by nobody any more does not use up the slot that freed."""
    slots = StreamSlots(1, 4)
    holder = Streamer(slots).ask()
    left = Streamer(slots, is_wanted=False).ask()
    next_one = Streamer(slots).ask()
    holder.close()

    assert (left.streams, next_one.streams) == (False, True)


def test_who_is_forgotten_gets_no_slot():
    """A streamer that wants no slot any more is not stream_granted."""
    slots = StreamSlots(1, 4)
    holder = Streamer(slots).ask()
    gone = Streamer(slots).ask()
    slots.forget(gone)
    holder.close()

    assert (gone.streams, slots.held, slots.wanted) == (False, 0, 0)


def test_reconnections_are_spread():
    """All that were lost together come back within the spread, none at the same moment."""
    slots = StreamSlots(400, 4)
    streamers = [Streamer(slots).ask() for _ in range(400)]
    for streamer in streamers:
        streamer.close()
    moments = [slots.start_time(10.0) for _ in streamers]

    assert len(set(moments)) == 400
    assert 13.9 < max(moments) <= 14.01
    assert max(sum(at <= m < at + 0.1 for m in moments) for at in moments) <= 11


def test_a_single_reconnection_is_hardly_held_up():
    """With few streams, one that returns waits for nothing."""
    slots = StreamSlots(100, 4)
    Streamer(slots).ask()

    assert slots.start_time(10.0) == 10.0
    assert slots.start_time(10.0) == 10.2


def test_a_tenant_with_fewer_slots_is_served_first():
    """A slot that frees goes to whoever holds fewest, not to who has waited longest."""
    greedy, modest = Usage(), Usage()
    slots = StreamSlots(3, 4)
    for _ in range(2):
        Streamer(slots, tenant=greedy).ask()
    ending = Streamer(slots, tenant=modest).ask()
    first = Streamer(slots, tenant=greedy).ask()
    second = Streamer(slots, tenant=modest).ask()
    ending.close()

    assert (first.streams, second.streams) == (False, True)


def test_a_tenant_with_more_slots_gives_some_back():
    """Until they are even, and no further, so that nothing goes to and fro."""
    greedy, modest = Usage(), Usage()
    slots = StreamSlots(5, 4)
    holders = [Streamer(slots, tenant=greedy).ask() for _ in range(5)]
    others = [Streamer(slots, tenant=modest).ask() for _ in range(5)]
    for holder in holders:
        if holder.revocations:
            holder.close()
    for one in (*holders, *others):
        one.turns(running=True)

    assert sum(one.revocations for one in (*holders, *others)) == 2
    assert sum(one.streams for one in others) == 2
    assert slots.held == 5


def test_a_waiting_task_takes_nothing_from_another_tenant():
    """A running task keeps its slot, whoever else only waits."""
    slots = StreamSlots(3, 4)
    holders = [Streamer(slots, tenant=Usage()).ask() for _ in range(3)]
    Streamer(slots, is_running=False, tenant=Usage()).ask()

    assert [one.revocations for one in holders] == [0, 0, 0]
