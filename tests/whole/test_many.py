"""Many tasks at once: the plain forms, the helpers, shared streams and slots; in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any, Final

import anyio
import attrs
import httpx
import pytest
import trio

from cyberun_async import (
    ClientClosedError,
    ClientStateError,
    CompletedEvent,
    CyberunClient,
    Event,
    Limits,
    Notice,
    ProgressEvent,
    RequestRejectedError,
    Submission,
    TaskFailedError,
    TaskHandle,
    TaskNotFoundError,
    TaskResult,
    WatchPolicy,
)
from cyberun_async.testing import Behaviour, Simulator, TaskPlan, faults

from .kit import (
    OUTPUT,
    SLOW,
    VIRTUAL,
    VIRTUAL_TRIO,
    Watched,
    assert_nothing_left,
    ended_watch,
    library_tasks,
    virtual_backend,
    virtual_client,
)


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


asyncio_only = pytest.mark.parametrize("anyio_backend", ["virtual-asyncio"], indirect=True)
trio_only = pytest.mark.parametrize("anyio_backend", [VIRTUAL_TRIO], indirect=True)

PLAN: Final = attrs.evolve(SLOW, output=OUTPUT)
LONG: Final = attrs.evolve(SLOW, steps=60, output=OUTPUT)
FAILING: Final = attrs.evolve(SLOW, outcome="failed", error="no memory")
ENDLESS: Final = attrs.evolve(SLOW, steps=600)
NOBODY: Final = "0198c0de-0000-7000-8000-00000000dead"


def made(sim: Simulator, count: int, plan: TaskPlan = PLAN) -> list[str]:
    return [sim.create_task(plan).id for _ in range(count)]


# The plain forms.


@asyncio_only
async def test_gather_takes_handles_and_coroutines() -> None:
    """Handles are awaitable, so that `gather` takes them; it takes waits just as well."""
    sim = Simulator(seed=7)
    ids = made(sim, 20)
    async with virtual_client(sim) as client:
        results = await asyncio.gather(*(client.handle(each) for each in ids))
        finals = await asyncio.gather(*(client.wait(each) for each in ids))

    assert [result.output for result in results] == [OUTPUT] * 20
    assert [final.id for final in finals] == ids


@asyncio_only
async def test_as_completed_of_asyncio_takes_handles() -> None:
    """`asyncio.as_completed` yields the result of whichever handle ends first."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(attrs.evolve(PLAN, steps=steps)).id for steps in (90, 4, 40)]
    async with virtual_client(sim) as client:
        order = [
            (await next_one).task_id
            for next_one in asyncio.as_completed([client.handle(each) for each in ids])
        ]

    assert order == [ids[1], ids[2], ids[0]]


@asyncio_only
async def test_wait_of_asyncio_takes_coroutines_as_tasks() -> None:
    """`asyncio.wait` takes tasks made of `handle.result()`."""
    sim = Simulator(seed=7)
    ids = made(sim, 5)
    async with virtual_client(sim) as client:
        tasks = [asyncio.create_task(client.handle(each).result()) for each in ids]
        done, pending = await asyncio.wait(tasks)

    assert (len(done), pending) == (5, set())
    assert [task.result().output for task in tasks] == [OUTPUT] * 5


@asyncio_only
async def test_a_task_group_of_asyncio_takes_coroutines() -> None:
    """`asyncio.TaskGroup` takes `handle.result()`, and cancels the rest when one fails."""
    sim = Simulator(seed=7)
    ids = made(sim, 3)
    async with virtual_client(sim) as client:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.handle(each).result()) for each in ids]
        failing, endless = sim.create_task(FAILING).id, sim.create_task(ENDLESS).id
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(client.handle(failing).result())
                group.create_task(client.handle(endless).result())
        assert client.statistics().followed_tasks == 0

    assert [task.result().output for task in tasks] == [OUTPUT] * 3
    assert [type(error) for error in caught.value.exceptions] == [TaskFailedError]


async def test_a_task_group_of_anyio_takes_the_method() -> None:
    """`start_soon(client.wait, task)` works on either event loop."""
    sim = Simulator(seed=7)
    ids = made(sim, 20)
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        for each in ids:
            group.start_soon(client.wait, each)

    assert {task.state for task in sim.tasks} == {"completed"}


@trio_only
async def test_a_nursery_of_trio_takes_the_method() -> None:
    """`nursery.start_soon(client.wait, task)` works."""
    sim = Simulator(seed=7)
    ids = made(sim, 20)
    async with virtual_client(sim) as client, trio.open_nursery() as nursery:
        for each in ids:
            nursery.start_soon(client.wait, each)

    assert {task.state for task in sim.tasks} == {"completed"}


def lean_service(states: dict[str, str], asked: list[str]) -> httpx.MockTransport:
    """A service of a few lines, as the simulator is too thorough for thousands of tasks."""

    def row(task_id: str) -> dict[str, object]:
        return {"id": task_id, "task_status": states[task_id], "retry_count": 0}

    def answer(request: httpx.Request) -> httpx.Response:
        *_, last = request.url.path.rstrip("/").split("/")
        asked.append(last)
        if last != "tasks":
            return httpx.Response(200, json=row(last))
        query = dict(request.url.params)
        number, size, state = int(query["current_page"]), int(query["per_page"]), query["status"]
        rows = [each for each in states if states[each] == state]
        page = [row(each) for each in rows[(number - 1) * size : number * size]]
        meta = {"current_page": number, "per_page": size, "total_count": len(rows)}
        return httpx.Response(200, json={"task_list": page, "page_meta": meta})

    return httpx.MockTransport(answer)


@asyncio_only
async def test_five_thousand_waits_cost_few_requests() -> None:
    """Five thousand waits are answered by pages, and each end by one request."""
    ids = [f"0198c0de-0000-7000-8000-{number:012d}" for number in range(5000)]
    states, asked = dict.fromkeys(ids, "waiting"), list[str]()
    transport = lean_service(states, asked)
    policy = WatchPolicy(poll_interval=30, poll_interval_waiting=30)
    async with CyberunClient(
        "sk-test", transport_factory=lambda: transport, watch_policy=policy
    ) as client:
        waits = [asyncio.create_task(client.wait(each)) for each in ids]
        await asyncio.sleep(50)
        before = client.statistics()
        for each in ids[::50]:
            states[each] = "completed"
        await asyncio.sleep(before.poll_interval_waiting + 2)
        ended = sum(wait.done() for wait in waits)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    assert before.polled_tasks == 5000
    assert before.open_streams == 0
    # A page or two for each state at first, then 50 a round.
    assert set(asked[: before.requests]) == {"tasks"}
    assert before.requests <= 4 * 2 + 4 * 50
    assert ended == 100
    assert sorted(each for each in asked if each != "tasks") == ids[::50]


async def test_the_lateness_of_tasks_that_wait_is_not_that_of_those_that_run() -> None:
    """Each interval of the statistics tells of its own tasks."""
    ids = [f"0198c0de-0000-7000-8000-{number:012d}" for number in range(400)]
    transport = lean_service(dict.fromkeys(ids, "waiting"), [])
    policy = WatchPolicy(poll_interval=3, poll_interval_waiting=15)
    async with (
        CyberunClient(
            "sk-test",
            transport_factory=lambda: transport,
            watch_policy=policy,
            # Four pages take eight seconds.
            limits=Limits(poll_rate=0.5),
        ) as client,
        anyio.create_task_group() as group,
    ):
        for each in ids:
            group.start_soon(client.wait, each)
        await anyio.sleep(200)
        found = client.statistics()
        group.cancel_scope.cancel()

    assert found.poll_interval == 3.0
    assert 15 + 6 <= found.poll_interval_waiting <= 15 + 15


# Helpers.


async def ids_later(ids: list[str]) -> AsyncIterator[str]:
    for each in ids:
        await anyio.sleep(1)
        yield each


def ids_now(ids: list[str]) -> Iterator[str]:
    yield from ids


@pytest.mark.parametrize("source", [list, ids_now, ids_later], ids=["list", "generator", "async"])
async def test_the_helpers_take_any_iterable(source: Any) -> None:
    """Lists, generators and async generators are taken alike by every helper."""
    sim = Simulator(seed=7)
    ids = made(sim, 3)
    async with virtual_client(sim) as client:
        finals = await client.wait_many(source(ids))
        results = await client.result_many(source(ids))
        async with client.as_completed(source(ids)) as outcomes:
            ended = [outcome.handle.id async for outcome in outcomes]
        async with client.watch_many(source(ids)) as events:
            watched = {event.task_id async for event in events}
        parameters = source([{"prompt": each} for each in ids])
        async with client.submit_many("text-to-image", parameters) as submissions:
            made_of = {one.parameters["prompt"] async for one in submissions}

    assert [final.id for final in finals if not isinstance(final, Exception)] == ids
    assert [one.output for one in results if not isinstance(one, Exception)] == [OUTPUT] * 3
    assert sorted(ended) == sorted(watched) == sorted(made_of) == sorted(ids)


async def test_watch_many_merges_and_ends() -> None:
    """Each task's events come in its own order, its end once, and then the iterator ends."""
    sim = Simulator(seed=7)
    ids = made(sim, 4)
    found: dict[str, list[Event | Notice]] = {each: [] for each in ids}
    async with virtual_client(sim) as client, client.watch_many(ids) as events:
        async for event in events:
            found[event.task_id].append(event)

    for each in ids:
        watched = Watched(found[each])
        assert isinstance(watched.end, CompletedEvent)
        assert [event.step_current for event in watched.progress] == [1, 2, 3, 4]


async def test_tasks_are_added_while_watch_many_runs() -> None:
    """What is added meanwhile is followed too, also when the last of the first is ending."""
    sim = Simulator(seed=7)
    [first] = made(sim, 1)
    added = list[str]()
    ends = list[str]()
    async with virtual_client(sim) as client, client.watch_many([first]) as events:
        async for event in events:
            if isinstance(event, CompletedEvent):
                ends.append(event.task_id)
                if len(added) < 3:
                    added.append(sim.create_task(PLAN).id)
                    events.add(added[-1])
        with pytest.raises(ClientStateError, match="has ended"):
            events.add(first)

    assert ends == [first, *added]


async def test_one_that_cannot_be_watched_does_not_hide_the_others() -> None:
    """Errors come when everything else has been delivered, several of them together."""
    sim = Simulator(seed=7)
    ids = made(sim, 2)
    ends = list[str]()

    async def watch(*missing: str) -> None:
        async with virtual_client(sim) as client, client.watch_many([*missing, *ids]) as events:
            async for event in events:
                if isinstance(event, CompletedEvent):
                    ends.append(event.task_id)

    with pytest.raises(TaskNotFoundError):
        await watch(NOBODY)
    with pytest.raises(ExceptionGroup) as caught:
        await watch(NOBODY, NOBODY[:-1] + "e")

    assert sorted(ends) == sorted(2 * ids)
    assert [type(error) for error in caught.value.exceptions] == [TaskNotFoundError] * 2


async def test_outcomes_tell_failures_and_errors_apart() -> None:
    """`as_completed` yields every task: ended well, failed, or not to be followed."""
    sim = Simulator(seed=7)
    good, failed = sim.create_task(PLAN).id, sim.create_task(FAILING).id
    async with virtual_client(sim) as client, client.as_completed([good, failed, NOBODY]) as found:
        outcomes = {outcome.handle.id: outcome async for outcome in found}

    assert outcomes[good].unwrap().status == "completed"
    assert [outcomes[each].is_completed for each in (good, failed, NOBODY)] == [True, False, False]
    with pytest.raises(TaskFailedError):
        outcomes[failed].unwrap()
    with pytest.raises(TaskNotFoundError):
        outcomes[NOBODY].unwrap()


async def test_outcomes_come_as_tasks_end() -> None:
    """The shortest task is reported first, while the others go on."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(attrs.evolve(PLAN, steps=steps)).id for steps in (300, 4, 60)]
    async with virtual_client(sim) as client, client.as_completed(ids) as outcomes:
        order = [outcome.handle.id async for outcome in outcomes]

    assert order == [ids[1], ids[2], ids[0]]


@pytest.mark.parametrize("method", ["wait_many", "result_many"])
async def test_many_results_wait_for_all_before_they_raise(method: str) -> None:
    """One error is raised as it is, several as a group, after the last task has ended."""
    sim = Simulator(seed=7)
    slow = sim.create_task(LONG)
    other = NOBODY[:-1] + "e"
    async with virtual_client(sim) as client:
        call = getattr(client, method)
        with pytest.raises(TaskNotFoundError):
            await call([NOBODY, slow.id])
        assert slow.state == "completed"
        with pytest.raises(ExceptionGroup) as caught:
            await call([NOBODY, slow.id, other])
        kept = await call([NOBODY, slow.id, other], return_exceptions=True)

    assert {type(error) for error in caught.value.exceptions} == {TaskNotFoundError}
    assert [isinstance(each, TaskNotFoundError) for each in kept] == [True, False, True]


async def test_a_failed_task_raises_for_results_only() -> None:
    """`wait_many` returns the final states, `result_many` raises for the one that failed."""
    sim = Simulator(seed=7)
    ids = [sim.create_task(PLAN).id, sim.create_task(FAILING).id]
    async with virtual_client(sim) as client:
        finals = await client.wait_many(ids)
        with pytest.raises(TaskFailedError, match="no memory"):
            await client.result_many(ids)

    assert [each.status for each in finals if not isinstance(each, Exception)] == [
        "completed",
        "failed",
    ]


async def test_submissions_are_bounded() -> None:
    """So many are under way at once as asked for, and sets are taken only as room frees."""
    sim = Simulator(seed=7, behaviour=Behaviour(accept_delay=1.0))
    taken = list[int]()

    def sets() -> Iterator[dict[str, object]]:
        for number in range(1000):
            taken.append(number)
            yield {"prompt": f"fox {number}"}

    seen = list[Submission]()
    async with virtual_client(sim) as client:
        began = anyio.current_time()
        async with client.submit_many("text-to-image", sets(), concurrency=3) as submissions:
            async for submission in submissions:
                seen.append(submission)
                if len(seen) == 6:
                    break
        took = anyio.current_time() - began

    assert 1.9 <= took <= 3.1
    assert len(taken) <= 6 + 3 + 3 + 1
    assert all(isinstance(one.handle, TaskHandle) for one in seen)


async def test_a_refused_submission_stops_no_other() -> None:
    """It is yielded with its error and the parameters it came from."""
    sim = Simulator(seed=7)
    sim.faults.add("run", faults.refuse(422, "no such sampler"), skip=1)
    sets = [{"prompt": each} for each in ("a", "b", "c")]
    async with (
        virtual_client(sim) as client,
        client.submit_many("text-to-image", sets, concurrency=1) as submissions,
    ):
        found = [each async for each in submissions]

    assert [(each.index, each.error is None) for each in found] == [
        (0, True),
        (1, False),
        (2, True),
    ]
    assert found[1].parameters == {"prompt": "b"}
    assert "no such sampler" in str(found[1].error)


async def test_runs_give_their_results_in_order() -> None:
    """Submitted a few at a time, each run has its result, or its error, at its place."""
    sim = Simulator(seed=7, default_plan=PLAN)
    sets = [{"prompt": each} for each in ("a", "b", "c")]
    async with virtual_client(sim) as client:
        results = await client.run_many("text-to-image", sets, concurrency=2)
        sim.faults.add("run", faults.refuse(422, "no such sampler"), skip=1)
        mixed = await client.run_many("text-to-image", sets, concurrency=1, return_exceptions=True)
        sim.faults.add("run", faults.refuse(422, "no such sampler"))
        with pytest.raises(RequestRejectedError):
            await client.run_many("text-to-image", sets)

    assert [one.output for one in results] == [OUTPUT] * 3
    assert [type(one) for one in mixed] == [TaskResult, RequestRejectedError, TaskResult]


@pytest.mark.parametrize("method", ["watch_many", "as_completed", "submit_many", "wait_many"])
async def test_helpers_cancelled_leave_nothing(method: str) -> None:
    """Cancelled in the middle, a helper stops all its work and gives every stream back."""
    sim = Simulator(seed=7, default_plan=ENDLESS, behaviour=Behaviour(accept_delay=1e6))
    ids = made(sim, 5, ENDLESS)
    async with virtual_client(sim) as client:
        with anyio.move_on_after(10) as scope:
            if method == "wait_many":
                await client.wait_many(ids)
            else:
                source = {"submit_many": ("text-to-image", [{"prompt": "x"}])}.get(method, (ids,))
                async with getattr(client, method)(*source) as items:
                    async for _ in items:
                        pass
        assert scope.cancelled_caught
        await anyio.sleep(2)
        assert client.statistics().followed_tasks == 0
        assert sim.open_streams == 0

    assert library_tasks() == []


async def test_a_source_that_fails_is_reported() -> None:
    """An error of the iterable itself ends the helper and is raised to its reader."""
    sim = Simulator(seed=7)

    async def source() -> AsyncIterator[str]:
        yield sim.create_task(PLAN).id
        message = "the list of tasks broke off"
        raise LookupError(message)

    async with virtual_client(sim) as client:
        with pytest.raises(LookupError, match="broke off"):
            async with client.as_completed(source()) as outcomes:
                async for _ in outcomes:
                    pass
        assert client.statistics().followed_tasks == 0


@asyncio_only
@pytest.mark.parametrize("method", ["watch_many", "as_completed", "submit_many"])
async def test_a_helper_whose_client_is_closed_under_it_says_so(method: str) -> None:
    """It does not end as if all had been done."""
    sim = Simulator(seed=7, default_plan=ENDLESS, behaviour=Behaviour(accept_delay=1e6))
    source = {"submit_many": ("text-to-image", [{"prompt": "x"}])}.get(method, (made(sim, 3),))
    async with virtual_client(sim) as client:

        async def close() -> None:
            await anyio.sleep(5)
            await client.aclose()

        async with anyio.create_task_group() as group:
            group.start_soon(close)
            with pytest.raises(ClientClosedError):
                async with getattr(client, method)(*source) as items:
                    async for _ in items:
                        pass


@asyncio_only
async def test_runs_that_were_accepted_are_handed_over_though_the_client_is_closed() -> None:
    """A reader that was slow when the client closed still gets their handles, each once."""
    sim = Simulator(seed=7)
    sets = [{"prompt": f"fox {number}"} for number in range(20)]
    seen: list[Submission] = []
    async with virtual_client(sim) as client:
        with pytest.raises(ClientClosedError):
            async with client.submit_many("text-to-image", sets, concurrency=4) as submissions:
                async for submission in submissions:
                    seen.append(submission)
                    if len(seen) == 3:
                        await anyio.sleep(5)
                        await client.aclose()

    accepted = {one.handle.id for one in seen if one.handle is not None}
    assert len(accepted) == len(seen) == len(sim.submissions) == 7


@pytest.mark.parametrize("method", ["watch_many", "as_completed", "wait_many"])
async def test_a_generator_that_is_left_early_is_closed(method: str) -> None:
    """Where the reader stops, or is cancelled, a source that is a generator is closed, too."""
    sim = Simulator(seed=7, default_plan=ENDLESS)
    closed: list[str] = []

    def source() -> Iterator[str]:
        try:
            while len(sim.tasks) < 1000:
                yield sim.create_task(ENDLESS).id
        finally:
            closed.append(method)

    tasks = source()
    async with virtual_client(sim) as client:
        with anyio.CancelScope() as scope:
            if method == "wait_many":
                scope.cancel()
                await client.wait_many(tasks)
            else:
                async with getattr(client, method)(tasks) as items:
                    with anyio.move_on_after(0):
                        await anext(items)
        assert closed == [method]


@pytest.mark.parametrize("method", ["watch_many", "as_completed"])
async def test_a_helper_whose_client_is_closed_already_says_so(method: str) -> None:
    """Nothing of it has begun, so nothing is waited for when it is left."""
    sim = Simulator(seed=7)
    async with virtual_client(sim) as client:
        helper = getattr(client, method)(made(sim, 2))
    with anyio.fail_after(60), pytest.raises(ClientClosedError):
        async with helper as items:
            async for _ in items:
                pass


# Shared streams.


async def test_many_readers_share_one_stream() -> None:
    """A hundred watches of one task open one stream, and each is reported everything."""
    sim = Simulator(seed=7)
    [one] = made(sim, 1)
    found = list[Watched]()
    async with virtual_client(sim) as client, anyio.create_task_group() as group:

        async def read() -> None:
            found.append(await ended_watch(client, one))

        for _ in range(100):
            group.start_soon(read)

    assert len(sim.requests_to("events")) == 1
    assert {tuple(event.step_current for event in each.progress) for each in found} == {
        (1, 2, 3, 4)
    }
    assert [each.end.status for each in found] == ["completed"] * 100


async def test_a_slow_reader_disturbs_no_other() -> None:
    """It loses progress, which are counted, and neither a status nor the end."""
    sim = Simulator(seed=7)
    live = sim.create_task(attrs.evolve(PLAN, steps=200))
    quick = list[Watched]()
    slow = list[Event | Notice]()
    async with virtual_client(sim, limits=Limits(reader_capacity=4)) as client:
        async with anyio.create_task_group() as group:

            async def read() -> None:
                quick.append(await ended_watch(client, live.id))

            group.start_soon(read)
            events = client.watch(live.id)
            async with events:
                async for event in events:
                    slow.append(event)
                    if isinstance(event, ProgressEvent):
                        await anyio.sleep(50)
        dropped_progress = client.statistics().dropped_progress

    assert [event.step_current for event in quick[0].progress] == list(range(1, 201))
    assert isinstance(Watched(slow).end, CompletedEvent)
    assert Watched(slow).statuses == quick[0].statuses
    steps = [event.step_current for event in Watched(slow).progress]
    assert steps == sorted(set(steps), key=lambda step: step or 0)
    assert len(steps) + events.dropped_progress == 200
    assert dropped_progress == events.dropped_progress > 100


async def test_the_last_reader_leaving_closes_a_shared_stream_after_a_while() -> None:
    """Who comes back within the linger finds the stream open; after it, it is closed."""
    sim = Simulator(seed=7)
    [one] = made(sim, 1, ENDLESS)
    async with virtual_client(sim, watch_policy=WatchPolicy(linger=5)) as client:
        for pause, streams in ((3, 1), (7, 2)):
            async with client.watch(one) as first, client.watch(one) as second:
                await anext(first)
                await anext(second)
            assert sim.open_streams == 1
            await anyio.sleep(pause)
            assert sim.open_streams == (1 if pause < 5 else 0)
            assert len(sim.requests_to("events")) == streams - (0 if pause < 5 else 1)

    assert library_tasks() == []


async def test_cancelling_any_reader_disturbs_none() -> None:
    """Readers that are cancelled, one after the other, leave the last one undisturbed."""
    sim = Simulator(seed=7)
    live = sim.create_task(attrs.evolve(PLAN, steps=50))
    found = list[Watched]()
    async with virtual_client(sim) as client, anyio.create_task_group() as group:

        async def read(seconds: float | None) -> None:
            with anyio.move_on_after(seconds):
                found.append(await ended_watch(client, live.id))

        for seconds in (None, *range(2, 40, 3)):
            group.start_soon(read, seconds)

    assert len(sim.requests_to("events")) == 1
    assert [[event.step_current for event in each.progress] for each in found] == [
        list(range(1, 51))
    ]


# Slots.


async def test_plain_requests_never_starve_behind_streams() -> None:
    """With all slots taken by streams, other requests are answered at once."""
    sim = Simulator(seed=7)
    ids = made(sim, 30, ENDLESS)
    async with (
        virtual_client(sim, limits=Limits(max_streams=10, max_connections=2)) as client,
        anyio.create_task_group() as group,
    ):
        for each in ids:
            group.start_soon(ended_watch, client, each)
        await anyio.sleep(20)
        assert sim.open_streams == 10
        began = anyio.current_time()
        for each in ids:
            await client.tasks.get(each)
        assert anyio.current_time() - began < 1
        group.cancel_scope.cancel()

    await assert_nothing_left(sim)


async def test_a_slot_that_frees_goes_to_a_running_task() -> None:
    """A polled watch is promoted: from then on it tells progress."""
    sim = Simulator(seed=7)
    first = sim.create_task(attrs.evolve(PLAN, steps=30)).id
    second = sim.create_task(attrs.evolve(PLAN, steps=200)).id
    found = dict[str, Watched]()
    async with (
        virtual_client(sim, limits=Limits(max_streams=1)) as client,
        anyio.create_task_group() as group,
    ):

        async def read(each: str) -> None:
            found[each] = await ended_watch(client, each)

        group.start_soon(read, first)
        await anyio.sleep(0.5)
        group.start_soon(read, second)

    assert sim.peak_streams == 1
    assert len(found[first].progress) == 30
    steps = [event.step_current or 0 for event in found[second].progress]
    assert steps[0] >= 30
    assert all(later - sooner == 1 for sooner, later in pairwise(steps))
    assert isinstance(found[second].end, CompletedEvent)


async def test_statistics_tell_what_is_going_on() -> None:
    """Streams, polled tasks and intervals are those of the moment."""
    sim = Simulator(seed=7)
    watched, waited = sim.create_task(ENDLESS).id, sim.create_task(ENDLESS).id
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        group.start_soon(ended_watch, client, watched)
        group.start_soon(client.wait, waited)
        await anyio.sleep(30)
        found, arrived = client.statistics(), len(sim.requests)
        group.cancel_scope.cancel()

    assert (found.open_streams, found.followed_tasks, found.polled_tasks) == (1, 2, 1)
    assert found.requests == arrived
    assert 3.0 <= found.poll_interval <= 3.5
    assert found.events > 20
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        found.events = 0  # type: ignore[misc]


async def test_a_list_that_is_refused_once_is_soon_asked_for_again() -> None:
    """A firewall's refusal of one page does not leave all to single requests for good."""
    sim = Simulator(seed=1)
    lives = [sim.create_task(manual=True) for _ in range(200)]
    for live in lives:
        live.status("running")
    async with virtual_client(sim) as client, anyio.create_task_group() as group:
        for live in lives:
            group.start_soon(client.wait, live.id)
        await anyio.sleep(30)
        sim.faults.add("tasks", faults.refuse(403, body="<html>blocked</html>"), times=1)
        await anyio.sleep(60)
        before = client.statistics()
        await anyio.sleep(30)
        after = client.statistics()
        group.cancel_scope.cancel()

    assert after.list_pages - before.list_pages >= 15
    # One that is due a moment before the others may be asked about singly in each round.
    assert after.status_checks - before.status_checks <= 20
