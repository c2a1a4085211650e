"""The client's one timer and its status checks: when they are sent, singly or by list pages."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import attrs
import pytest

from cyberun_async import (
    CyberunError,
    RateLimitedError,
    ResumeToken,
    ServiceUnavailableError,
    TaskSnapshot,
    WatchPolicy,
)
from cyberun_async._following import Places, Poller, RateLimit, poller as poller_module
from cyberun_async._protocol import Page, TaskRow
from cyberun_async._watch import Watch

from ..whole.kit import VIRTUAL, virtual_backend


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


EVERY: Final = 3.0


class FakeFollower:
    """Asks every three seconds, and keeps what it was answered."""

    def __init__(self, poller: Poller, number: int) -> None:
        self.task_id = f"task-{number}"
        self.is_done = False
        self.answers: list[TaskSnapshot | CyberunError] = []
        self.crashes: list[Exception] = []
        self.asked_at: list[float] = []
        self._poller = poller
        self.watch: Any = Watch(
            start=ResumeToken(task_id=self.task_id),
            policy=WatchPolicy(),
            draw=lambda: 0.5,
            started_at=anyio.current_time(),
            streaming=False,
        )

    def due_at(self) -> float | None:
        return None

    def on_time(self, now: float) -> None:
        pass

    def on_wake(self, now: float) -> None:
        self.watch.woke(now)
        self.advance()

    def advance(self) -> None:
        self._poller.schedule(self)  # type: ignore[arg-type]

    def crash(self, error: Exception) -> None:
        self.crashes.append(error)
        self.is_done = True
        self.watch.check_sent()

    def on_answer(self, answer: TaskSnapshot | CyberunError, sent_at: float) -> None:
        self.answers.append(answer)
        self.asked_at.append(sent_at)
        self.watch._checks.by(anyio.current_time() + EVERY)
        self.advance()


@attrs.define
class Service:
    """Counts requests, and answers as it is set up."""

    singles: list[str] = attrs.field(factory=list[str])
    pages: int = 0
    single: Callable[[str], Awaitable[TaskSnapshot]] | None = None
    page: Callable[[str, int], Awaitable[Page[TaskRow]]] | None = None

    async def ask(self, task_id: str) -> TaskSnapshot:
        self.singles.append(task_id)
        if self.single is not None:
            return await self.single(task_id)
        return TaskSnapshot(id=task_id, status="running")

    async def list_page(self, state: str, number: int) -> Page[TaskRow]:
        self.pages += 1
        if self.page is not None:
            return await self.page(state, number)
        raise ServiceUnavailableError("no list here", status=500)


async def followed(
    service: Service, *, tasks: int, seconds: float, rate: float = 100.0
) -> list[FakeFollower]:
    """Look after so many followers for so long."""
    async with anyio.create_task_group() as group:
        poller = Poller(
            now=anyio.current_time,
            spawn=group.start_soon,
            check_status=service.ask,
            list_page=service.list_page,
            pace=RateLimit(anyio.current_time, rate),
            places=Places(20),
            policy=WatchPolicy(),
        )
        followers = [FakeFollower(poller, number) for number in range(tasks)]
        for follower in followers:
            poller.add(follower)  # type: ignore[arg-type]
            follower.advance()
        await anyio.sleep(seconds)
        group.cancel_scope.cancel()
    return followers


async def test_few_are_asked_about_singly() -> None:
    """Up to ten due checks need no list."""
    service = Service()
    followers = await followed(service, tasks=8, seconds=2.9)

    assert sorted(service.singles) == [follower.task_id for follower in followers]
    assert service.pages == 0


async def test_asks_keep_the_pace_of_the_client() -> None:
    """However many are due, no more requests are sent than the rate allows."""
    service = Service()
    await followed(service, tasks=8, seconds=60, rate=2.0)

    assert 115 <= len(service.singles) <= 122


async def listed(state: str, number: int) -> Page[TaskRow]:
    rows = [TaskRow(id=f"task-{n}", status="running", retry_count=0) for n in range(50)]
    return Page(items=tuple(rows) if state == "running" else (), total_count=50)


async def test_many_are_answered_from_the_list() -> None:
    """Fifty due checks are answered by a page for each state that a task may be in."""
    service = Service(page=listed)
    followers = await followed(service, tasks=50, seconds=2.9)

    assert [len(follower.answers) for follower in followers] == [1] * 50
    assert service.singles == []
    assert service.pages == 4


async def test_a_list_that_does_not_answer_holds_nobody_up_for_long() -> None:
    """A page is waited for some seconds, then every task is asked about singly."""

    async def hung(state: str, number: int) -> Page[TaskRow]:
        await anyio.sleep(1000)
        raise AssertionError

    service = Service(page=hung)
    followers = await followed(service, tasks=50, seconds=60)

    assert all(isinstance(follower.answers[-1], TaskSnapshot) for follower in followers)


async def test_what_one_check_has_to_wait_holds_for_all() -> None:
    """`Retry-After` belongs to the account: nobody asks before it has passed."""

    async def limited(task_id: str) -> TaskSnapshot:
        raise RateLimitedError(status=429, retry_after=30.0)

    service = Service(single=limited)
    followers = await followed(service, tasks=3, seconds=29)

    assert len(service.singles) <= 3
    assert all(len(follower.answers) <= 1 for follower in followers)


async def test_an_ask_that_hangs_gives_its_place_to_others() -> None:
    """As many unanswered checks as there are places hold the rest up for a while, not forever."""

    async def hung(task_id: str) -> TaskSnapshot:
        if int(task_id.partition("-")[2]) < 8:
            await anyio.sleep(10_000)
        return TaskSnapshot(id=task_id, status="running")

    followers = await followed(Service(single=hung), tasks=10, seconds=100)

    assert all(follower.answers for follower in followers)
    assert isinstance(followers[0].answers[0], ServiceUnavailableError)


async def test_a_machine_that_slept_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """After an hour of suspend every task is asked about before anything else is done."""
    slept = 0.0
    monkeypatch.setattr(poller_module, "wall_minus_monotonic", lambda: slept)
    service = Service()
    asked: list[int] = []
    async with anyio.create_task_group() as group:
        poller = Poller(
            now=anyio.current_time,
            spawn=group.start_soon,
            check_status=service.ask,
            list_page=service.list_page,
            pace=RateLimit(anyio.current_time, 100.0),
            places=Places(20),
            policy=WatchPolicy(),
        )
        followers = [FakeFollower(poller, number) for number in range(3)]
        for follower in followers:
            poller.add(follower)  # type: ignore[arg-type]
            follower.watch._checks.by(0.0)
            follower.advance()
        await anyio.sleep(1)
        for follower in followers:
            follower.watch._checks.sent()
            follower.watch._checks.by(5000.0)
        asked.append(len(service.singles))
        slept = 3600.0
        await anyio.sleep(35)
        asked.append(len(service.singles))
        group.cancel_scope.cancel()

    assert asked[0] == 3
    assert asked[1] > asked[0]


async def test_what_escapes_a_check_ends_its_follower_alone() -> None:
    """A check that raises what nobody foresaw ends who waits for it; others go on."""

    async def faulty(task_id: str) -> TaskSnapshot:
        if task_id == "task-0":
            raise LookupError("mine")
        return TaskSnapshot(id=task_id, status="running")

    followers = await followed(Service(single=faulty), tasks=3, seconds=10)

    assert [[repr(error) for error in follower.crashes] for follower in followers] == [
        ["LookupError('mine')"],
        [],
        [],
    ]
    assert all(len(follower.answers) > 1 for follower in followers[1:])


async def test_what_escapes_a_list_ends_those_that_it_was_asked_for() -> None:
    """A page that raises what nobody foresaw leaves none of those waiting that were due."""

    async def faulty(state: str, number: int) -> Page[TaskRow]:
        raise LookupError("mine")

    followers = await followed(Service(page=faulty), tasks=50, seconds=10)

    assert [len(follower.crashes) for follower in followers] == [1] * 50
