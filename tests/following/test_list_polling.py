"""One round through list pages: whom it answers, and whom it leaves to be asked singly."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from cyberun_async._following import ListMemory, ListPolling, snapshot_of
from cyberun_async._model import (
    AuthenticationError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RequestRejectedError,
    ServiceUnavailableError,
    TaskSnapshot,
)
from cyberun_async._protocol import Page, TaskRow


Due = dict[str, str | None]


def tasks(count: int, status: str | None = "running", *, first: int = 0) -> Due:
    return dict.fromkeys((f"task-{number}" for number in range(first, first + count)), status)


def row(number: int, status: str = "running", retry_count: int | None = 0) -> TaskRow:
    return TaskRow(f"task-{number}", status, retry_count)


@attrs.define
class FakeList:
    """Pages by state, and what was asked of them."""

    pages: Mapping[str, list[list[TaskRow]]]
    total_count: int | None = None
    error: Exception | None = None
    asked: list[tuple[str, int]] = attrs.field(factory=list[Any])
    now: float = 100.0

    async def page(self, state: str, number: int) -> Page[TaskRow]:
        self.asked.append((state, number))
        self.now += 1.0
        if self.error is not None:
            raise self.error
        pages = self.pages.get(state, [])
        rows = tuple(pages[number - 1]) if number <= len(pages) else ()
        full = number < len(pages)
        return Page(items=rows, total_count=self.total_count, row_count=100 if full else len(rows))


async def run(
    listed: FakeList,
    due: Due,
    memory: ListMemory | None = None,
    answers: list[tuple[str, float, bool]] | None = None,
) -> list[str]:
    """Read the lists that are worth it, and return who is left."""
    memory = memory or ListMemory(lambda: listed.now)

    def answer(sighting: TaskRow, sent_at: float, is_due: bool) -> bool:
        if answers is not None:
            answers.append((sighting.id, sent_at, is_due))
        return is_due

    polling = ListPolling(listed.page, lambda: listed.now, memory, answer)
    return await polling.run(due, memory.states_to_list(Counter(due.values())))


async def test_rows_answer_what_is_due() -> None:
    """Each task on a page gets its state, as of when the page was asked for, due or not."""
    listed = FakeList({"running": [[row(n) for n in range(21)]]})
    answers: list[tuple[str, float, bool]] = []

    left = await run(listed, tasks(20), answers=answers)

    assert left == []
    assert answers == [(f"task-{n}", 100.0, n < 20) for n in range(21)]


async def test_who_is_on_no_page_is_asked_singly() -> None:
    """Absence is only a hint that a task has ended."""
    left = await run(FakeList({"running": [[row(n) for n in range(15)]]}), tasks(20))

    assert left == [f"task-{n}" for n in range(15, 20)]


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_an_end_on_a_page_is_only_a_hint(end: str) -> None:
    """The row of an ended task lacks its error and may lag: one request confirms it."""
    due = tasks(20)

    left = await run(
        FakeList({"running": [[row(n, end if n == 3 else "running") for n in range(20)]]}), due
    )

    assert left == ["task-3"]


async def test_few_are_not_looked_for_in_lists() -> None:
    """Ten single requests are as good as a page."""
    listed = FakeList({})

    assert len(await run(listed, tasks(10))) == 10
    assert listed.asked == []


async def test_pages_are_read_while_they_are_worth_it() -> None:
    """It goes on as long as a page costs less than asking for those still missing."""
    pages = [[row(n) for n in range(start, start + 20)] for start in (0, 100, 200, 20)]
    listed = FakeList({"running": pages}, total_count=400)

    assert await run(listed, tasks(40)) == []
    assert listed.asked == [("running", number) for number in (1, 2, 3, 4)]


async def test_a_few_stragglers_are_asked_singly() -> None:
    """Hundreds of pages of other people's tasks are not read for the sake of two."""
    pages = [[row(n) for n in range(18)], *[[row(n)] for n in range(1000, 1300)]]
    listed = FakeList({"running": pages}, total_count=30_000)

    assert await run(listed, tasks(20)) == ["task-18", "task-19"]
    assert listed.asked == [("running", 1)]


async def test_pages_that_answer_are_read_on_whatever_the_count_says() -> None:
    """A count that is far too high neither ends the round nor keeps the next from the list."""
    pages = [[row(n) for n in range(start, start + 20)] for start in (0, 20, 40)]
    listed = FakeList({"running": pages}, total_count=100_000_000)
    memory = ListMemory(lambda: listed.now)

    assert await run(listed, tasks(60), memory) == []
    assert await run(listed, tasks(60), memory) == []
    assert listed.asked == [("running", number) for number in (1, 2, 3)] * 2


@pytest.mark.parametrize("total_count", [pytest.param(250, id="counted"), None])
async def test_a_list_that_ignores_the_page_number_is_read_once(total_count: int | None) -> None:
    """A page that shows nothing new is the end; who was on none is asked singly."""
    same = [row(n) for n in range(40)]
    listed = FakeList({"running": [same] * 1000}, total_count=total_count)

    left = await run(listed, tasks(60))

    assert left == [f"task-{n}" for n in range(40, 60)]
    assert listed.asked == [("running", 1), ("running", 2)]


@pytest.mark.parametrize("total_count", [pytest.param(200, id="count-too-low"), None])
async def test_a_list_without_a_known_end_is_left_in_time(total_count: int | None) -> None:
    """Pages of other people's tasks are read no longer than single requests would cost."""
    foreign = [[row(n)] for n in range(1000, 2000)]
    listed = FakeList({"running": foreign}, total_count=total_count)

    assert len(await run(listed, tasks(20))) == 20
    assert len(listed.asked) == 20


async def test_a_refused_state_is_remembered() -> None:
    """A filter that the list does not know is not tried again; its tasks are asked singly."""
    refusing = FakeList({}, error=RequestRejectedError(status=400))
    memory = ListMemory(lambda: refusing.now)

    for _ in range(2):
        assert len(await run(refusing, tasks(20, "provisioning"), memory)) == 20
        refusing.now += 300
    assert refusing.asked == [("provisioning", 1)]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(PermissionDeniedError(status=403), id="firewall"),
        pytest.param(AuthenticationError(status=401), id="key"),
        pytest.param(NotFoundError(status=404), id="route"),
    ],
)
async def test_a_refusal_that_is_not_of_the_state_is_soon_forgotten(error: Exception) -> None:
    """Something between refused the list once: its tasks are asked singly, then it is tried."""
    listed = FakeList({"running": [[row(n) for n in range(20)]]}, error=error)
    memory = ListMemory(lambda: listed.now)

    assert len(await run(listed, tasks(20), memory)) == 20
    listed.error = None
    assert len(await run(listed, tasks(20), memory)) == 20
    listed.now += 60
    assert await run(listed, tasks(20), memory) == []
    assert listed.asked == [("running", 1)] * 2


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(RateLimitedError(status=429, retry_after=5.0), id="slow-down"),
        pytest.param(ServiceUnavailableError("down", status=503), id="down"),
    ],
)
async def test_trouble_is_no_refusal(error: Exception) -> None:
    """What will pass is left to whoever paces the checks, and nothing is remembered."""
    failing = FakeList({}, error=error)
    memory = ListMemory(lambda: failing.now)

    with pytest.raises(type(error)):
        await run(failing, tasks(20), memory)

    assert memory.gives("running")


def test_an_answer_keeps_what_was_known() -> None:
    """A row has few fields; where the state is the same, the fuller snapshot stays."""
    full = TaskSnapshot(id="task-0", status="running", retry_count=0, gpu_type="H100", raw=b"{}")
    before = attrs.evolve(full, status="queued")

    assert snapshot_of(row(0), full) is full
    changed = snapshot_of(row(0), before)
    assert changed == attrs.evolve(before, status="running", raw=b"")
    assert changed.raw == b""
