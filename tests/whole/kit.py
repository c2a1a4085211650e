"""What the tests of the whole have in common: clients, what a watch brought, what is left."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import anyio
import attrs
import pytest

from cyberun_async import (
    CancelledEvent,
    CompletedEvent,
    CyberunClient,
    CyberunError,
    Event,
    EventStream,
    FailedEvent,
    Notice,
    ProgressEvent,
    ResumeToken,
    StatusEvent,
    TaskHandle,
)
from cyberun_async.testing import (
    Simulator,
    StreamingASGITransport,
    TaskPlan,
    virtual_backend as kit_backend,
)


COURSE: Final = ["pending", "waiting", "queued", "running"]
PATIENCE: Final = 10.0

# Clocks that jump; every test on them takes its hours in milliseconds. Trio's turn comes in
# `nox -s backends` only (see tests/conftest.py).
VIRTUAL_TRIO: Final = "virtual-trio"
VIRTUAL: Final = ["virtual-asyncio", VIRTUAL_TRIO]


def virtual_backend(name: str) -> tuple[str, dict[str, Any]]:
    """Return the back end called *name* for anyio, with a clock that begins at 0."""
    return kit_backend("trio" if name == VIRTUAL_TRIO else "asyncio")


def virtual_client(sim: Simulator, api_key: Any = None, **settings: Any) -> CyberunClient:
    """Return a client that calls the simulator in process, on whatever clock runs."""
    return CyberunClient(
        api_key or sim.key,
        base_url=sim.url,
        transport_factory=lambda: StreamingASGITransport(sim.app),
        **settings,
    )


@attrs.frozen
class Watched:
    """What a watch brought, from its first event to its end."""

    items: Sequence[Event | Notice]
    error: CyberunError | None = None

    @property
    def events(self) -> list[Event]:
        return [item for item in self.items if isinstance(item, Event)]

    @property
    def notices(self) -> list[Notice]:
        return [item for item in self.items if isinstance(item, Notice)]

    @property
    def statuses(self) -> list[tuple[int, str]]:
        """Attempt and status of each status event."""
        return [(e.attempt, e.status) for e in self.events if isinstance(e, StatusEvent)]

    @property
    def progress(self) -> list[ProgressEvent]:
        return [event for event in self.events if isinstance(event, ProgressEvent)]

    @property
    def end(self) -> CompletedEvent | FailedEvent | CancelledEvent:
        """The one terminal event, which is the last."""
        assert self.error is None, repr(self.error)
        ends = [event for event in self.events if event.is_terminal]
        assert len(ends) == 1, f"{len(ends)} terminal events: {ends}"
        assert ends[0] is self.events[-1], "something follows the end"
        end = ends[0]
        assert isinstance(end, CompletedEvent | FailedEvent | CancelledEvent)
        return end

    def kinds(self) -> list[str]:
        return [type(item).__name__ for item in self.items]


async def follow(events: EventStream[Event | Notice]) -> Watched:
    """Read *events* to their end, or to the error that stands in its place."""
    items: list[Event | Notice] = []
    async with events:
        try:
            async for item in events:
                items.append(item)  # noqa: PERF401 - kept also when an error ends it
        except CyberunError as error:
            return Watched(items, error)
    return Watched(items)


def assert_in_order(watched: Watched) -> None:
    """Attempts never fall, the statuses of one attempt follow the life cycle and differ."""
    ranks = {
        name: rank
        for rank, name in enumerate(("pending", "waiting", "provisioning", "queued", "running"))
    }
    known = [(attempt, ranks[status]) for attempt, status in watched.statuses]
    assert known == sorted(set(known)), watched.statuses
    attempts = [event.attempt for event in watched.events]
    assert attempts == sorted(attempts), attempts


async def until(condition: Callable[[], bool], *, what: str = "") -> None:
    """Wait until *condition* holds, at most for ten seconds."""
    with anyio.move_on_after(PATIENCE):
        while not condition():
            await anyio.sleep(0.005)
        return
    pytest.fail(f"never came true: {what or condition}")


async def assert_nothing_left(sim: Simulator) -> None:
    """No stream is open at the service and no task of the library runs."""
    await until(lambda: sim.open_streams == 0, what="no open stream")
    assert library_tasks() == []


def library_tasks() -> list[str]:
    """Return what tasks of the library run; on trio nurseries themselves see to it."""
    try:
        tasks = asyncio.all_tasks()
    except RuntimeError:
        return []
    return [name for task in tasks if "cyberun_async." in (name := _module_of(task))]


def _module_of(task: "asyncio.Task[Any]") -> str:
    frame = getattr(task.get_coro(), "cr_frame", None)
    if frame is None:
        return ""
    module: str = frame.f_globals.get("__name__", "")
    return "" if ".testing" in module else f"{module}.{frame.f_code.co_qualname}"


SHORT: Final = TaskPlan(pending=0.05, waiting=0.05, queued=0.05, steps=4, step_seconds=0.05)
"""A life of half a second, for real sockets."""

SLOW: Final = TaskPlan(pending=1, waiting=1, queued=1, steps=4, step_seconds=1)
"""A life of seven seconds, for virtual time."""


OUTPUT: Final = {"answer": 42}


async def ended_watch(
    client: CyberunClient,
    task: TaskHandle | ResumeToken | str,
    *,
    notices: bool = False,
    within: float = 7200,
) -> Watched:
    """Watch *task* to its end, which has to come within two hours."""
    with anyio.fail_after(within):
        return await follow(client.watch(task, notices=notices))
