"""Who may stream when there are more watches than streams."""

import attrs
import pytest

from cyberun_async._slots import StreamSlots


@attrs.define(eq=False)
class FakeStreamer:
    """Does as it is told, and remembers it."""

    name: str
    is_running: bool = False
    slots: StreamSlots | None = None
    log: list[str] = attrs.field(factory=list[str])

    def bench(self) -> None:
        self.log.append("bench")

    def invite(self) -> None:
        self.log.append("invite")
        if self.slots is not None:
            self.slots.request(self)

    def __repr__(self) -> str:
        return self.name


def table(capacity: int) -> StreamSlots:
    return StreamSlots(capacity, reconnect_spread=4.0)


def waiting(name: str) -> FakeStreamer:
    return FakeStreamer(name)


def running(name: str) -> FakeStreamer:
    return FakeStreamer(name, is_running=True)


def test_there_are_as_many_slots_as_were_asked_for() -> None:
    """A slot is had while there is room, once for each, and not beyond."""
    slots = table(2)
    first, second, third = waiting("a"), waiting("b"), waiting("c")

    assert [slots.request(one) for one in (first, second, first, third)] == [
        True,
        True,
        True,
        False,
    ]
    assert slots.held == 2


def test_a_running_task_takes_the_place_of_a_waiting_one() -> None:
    """A task that waits gives its stream back the moment a running one needs it."""
    slots = table(2)
    lent, busy, late = waiting("lent"), running("busy"), running("late")
    slots.request(lent)
    slots.request(busy)

    assert slots.request(late)
    assert (lent.log, busy.log, slots.held) == (["bench"], [], 2)


def test_running_tasks_do_not_displace_each_other() -> None:
    """Where all slots serve running tasks, the next one polls until one is free."""
    slots = table(1)
    first, second = running("a"), running("b")
    slots.request(first)

    assert not slots.request(second)
    assert (first.log, second.log) == ([], [])


def test_a_free_slot_goes_to_a_running_task_first() -> None:
    """Who waits longest is invited, but running tasks come before waiting ones."""
    slots = table(1)
    holder, idle, busy = running("holder"), waiting("idle"), running("busy")
    for one in (holder, idle, busy):
        slots.request(one)

    slots.release(holder)

    assert (idle.log, busy.log) == ([], ["invite"])


def test_a_free_slot_goes_to_who_waits_longest() -> None:
    """Among equals the order of asking counts, and each is invited once."""
    slots = table(1)
    holder, first, second = waiting("holder"), waiting("a"), waiting("b")
    first.slots = second.slots = slots
    for one in (holder, first, second):
        slots.request(one)

    slots.release(holder)
    assert (first.log, second.log) == (["invite"], [])
    slots.release(first)
    assert (first.log, second.log) == (["invite"], ["invite"])


def test_the_bench_is_left_with_a_slot() -> None:
    """Who got a slot meanwhile is not invited again."""
    slots = table(1)
    holder, other = running("holder"), running("other")
    slots.request(holder)
    slots.request(other)
    slots.release(holder)
    slots.request(other)
    other.log.clear()

    slots.release(other)

    assert other.log == []


@pytest.mark.parametrize("who_is_forgotten", ["holder", "benched"])
def test_who_is_forgotten_leaves_no_trace(who_is_forgotten: str) -> None:
    """A forgotten holder makes room for the next; a forgotten waiter is never invited."""
    slots = table(1)
    holder, benched = running("holder"), running("benched")
    slots.request(holder)
    slots.request(benched)

    slots.forget({"holder": holder, "benched": benched}[who_is_forgotten])
    slots.forget(waiting("stranger"))
    slots.release(holder)

    assert benched.log == (["invite"] if who_is_forgotten == "holder" else [])


@pytest.mark.parametrize(
    ("holder", "invited"),
    [
        pytest.param(waiting("lent"), ["invite"], id="a-waiting-task-can-give-way"),
        pytest.param(running("busy"), [], id="a-running-task-does-not"),
    ],
)
def test_a_task_that_begins_to_run_is_invited_where_room_can_be_made(
    holder: FakeStreamer, invited: list[str]
) -> None:
    """The beginning of progress is what a stream is for."""
    slots = table(1)
    slots.request(holder)
    late = waiting("late")
    slots.request(late)
    late.is_running = True

    slots.promote(late)

    assert late.log == invited


def test_only_who_waits_for_a_slot_is_promoted() -> None:
    """A task that polls for reasons of its own is not made to stream."""
    slots = table(1)
    stranger = running("stranger")

    slots.promote(stranger)

    assert stranger.log == []


def test_reconnections_are_spread() -> None:
    """Streams lost together return one after the other, over the spread at most."""
    slots = table(100)
    for number in range(40):
        slots.request(running(str(number)))

    moments = [slots.start_moment(1000.0) for _ in range(40)]

    assert moments == pytest.approx([1000.0 + 0.1 * number for number in range(40)])
    assert slots.start_moment(2000.0) == 2000.0


def test_few_streams_return_without_long_waits() -> None:
    """A handful does not have to wait for a spread made for hundreds."""
    slots = table(100)

    moments = [slots.start_moment(0.0) for _ in range(3)]

    assert moments == pytest.approx([0.2, 0.4, 0.6])
