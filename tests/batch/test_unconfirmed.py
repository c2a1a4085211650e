"""A submission whose answer was never read is neither adopted nor repeated by guess."""

from pathlib import Path
from typing import Any, Literal

import pytest

from cyberun_async import ClientStateError, CyberunClient, InvalidInputError, TaskNotFoundError
from cyberun_async.batch import Batch, UncertainSubmissionsError
from cyberun_async.testing import Simulator, StreamingASGITransport, faults

from .kit import Ran, client_of, jobs, run_batch


# A batch of four: of the second job the answer is lost, with a task or without.
LOST = {"uncertain": faults.abandon(), "probably not submitted": faults.hang_up()}


async def run_with_a_loss(
    sim: Simulator, ledger: Path, action: faults.Action, **policy: Any
) -> Ran:
    sim.faults.add("run", action, when=lambda request: b"fox 1" in request.body)
    async with client_of(sim) as client:
        return await run_batch(client, ledger, jobs(4), **policy)


async def run_again(sim: Simulator, ledger: Path, **policy: Any) -> Ran:
    async with client_of(sim) as client:
        return await run_batch(client, ledger, jobs(4), **policy)


def tasks_of(sim: Simulator, job: int) -> list[str]:
    return [s.task_id for s in sim.submissions if s.parameters["prompt"] == f"fox {job}"]


@pytest.mark.parametrize("verdict", LOST)
async def test_by_default_every_loss_is_raised(sim: Simulator, ledger: Path, verdict: str) -> None:
    """The other jobs come to their ends first; a later run begins with the same question."""
    first = await run_with_a_loss(sim, ledger, LOST[verdict])
    second = await run_again(sim, ledger)

    assert first.states == {f"job-{n}": "completed" for n in (0, 2, 3)}
    assert second.states == {}
    for ran in (first, second):
        assert isinstance(ran.error, UncertainSubmissionsError)
        [fate] = ran.error.fates
        assert (fate.key, fate.verdict, fate.action) == ("job-1", verdict, None)
        assert fate.candidates == tuple(tasks_of(sim, 1))
        assert ran.report.fates == ran.error.fates
    assert len(tasks_of(sim, 1)) == (verdict == "uncertain"), "nothing was repeated by guess"


ANSWERS_OF_PROXIES = [
    pytest.param("text/plain", b"upstream connect error or disconnect/reset", id="plain"),
    pytest.param("application/json", b'{"message": "Service Unavailable"}', id="json"),
    pytest.param("text/html", b"<html>503</html>", id="page"),
]


@pytest.mark.parametrize(("content_type", "body"), ANSWERS_OF_PROXIES)
async def test_what_a_proxy_says_of_a_lost_answer_is_no_answer(
    sim: Simulator, ledger: Path, content_type: str, body: bytes
) -> None:
    """A run that was taken, and of which a proxy says 503, is not submitted a second time."""

    async def proxy(scope: Any, receive: Any, send: Any) -> None:
        async def drop(message: Any) -> None:
            pass

        if not scope["path"].endswith("/run"):
            await sim.app(scope, receive, send)
            return
        await sim.app(scope, receive, drop)
        headers = [(b"content-type", content_type.encode())]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    client = CyberunClient(
        sim.key, base_url=sim.url, transport_factory=lambda: StreamingASGITransport(proxy)
    )
    async with client:
        ran = await run_batch(client, ledger, jobs(1))

    [fate] = ran.report.fates
    assert isinstance(ran.error, UncertainSubmissionsError)
    assert (fate.key, fate.verdict, fate.candidates) == (
        "job-0",
        "uncertain",
        tuple(tasks_of(sim, 0)),
    )
    assert len(sim.submissions) == 1


CASES = [
    # Which policy applies, what it says, the state after it, and tasks made in all.
    ("uncertain", "on_uncertain", "resubmit", "completed", 2),
    ("uncertain", "on_uncertain", "skip", "skipped", 1),
    ("probably not submitted", "on_probably_not_submitted", "resubmit", "completed", 1),
    ("probably not submitted", "on_probably_not_submitted", "skip", "skipped", 0),
]


@pytest.mark.parametrize(("verdict", "policy", "choice", "state", "tasks"), CASES)
async def test_the_policy_decides_for_each_class(
    sim: Simulator, ledger: Path, verdict: str, policy: str, choice: str, state: str, tasks: int
) -> None:
    """It is done in the same run, and the report names the job now and later."""
    first = await run_with_a_loss(sim, ledger, LOST[verdict], **{policy: choice})
    later = await run_again(sim, ledger)

    for ran in (first, later):
        assert ran.error is None
        assert ran.states["job-1"] == state
        [fate] = ran.report.fates
        assert (fate.key, fate.verdict, fate.action) == ("job-1", verdict, choice)
        moment = fate.intent_at.isoformat(timespec="seconds")
        assert f"job 'job-1' sent at {moment}: {verdict}" in str(ran.report)
    assert len(tasks_of(sim, 1)) == tasks


@pytest.mark.parametrize(("verdict", "policy", "choice", "state", "tasks"), CASES)
async def test_a_policy_can_be_given_to_a_later_run(
    sim: Simulator, ledger: Path, verdict: str, policy: str, choice: str, state: str, tasks: int
) -> None:
    """What one run raised, the next one may decide."""
    await run_with_a_loss(sim, ledger, LOST[verdict])
    ran = await run_again(sim, ledger, **{policy: choice})

    assert ran.error is None
    assert ran.states["job-1"] == state
    assert len(tasks_of(sim, 1)) == tasks


async def test_one_class_does_not_speak_for_the_other(sim: Simulator, ledger: Path) -> None:
    """Resubmitting what was probably not submitted leaves the uncertain to the caller."""
    ran = await run_with_a_loss(sim, ledger, faults.abandon(), on_probably_not_submitted="resubmit")

    assert isinstance(ran.error, UncertainSubmissionsError)


async def test_answers_lost_again_are_not_paid_for_again(sim: Simulator, ledger: Path) -> None:
    """What was resubmitted once in a run and lost once more is left to the caller."""
    sim.faults.add("run", faults.abandon(), times=None, when=lambda r: b"fox 1" in r.body)
    ran = await run_again(sim, ledger, on_uncertain="resubmit")

    assert isinstance(ran.error, UncertainSubmissionsError)
    assert len(tasks_of(sim, 1)) == 2
    assert [fate.action for fate in ran.report.fates] == ["resubmit", None]
    assert set(ran.report.fates[1].candidates) == set(tasks_of(sim, 1))


async def test_the_list_is_read_whole(sim: Simulator, ledger: Path) -> None:
    """A candidate is found on whatever page it stands; the order is nobody's promise."""
    await run_with_a_loss(sim, ledger, faults.abandon())
    for _ in range(350):
        sim.create_task(workflow="image-to-image")
    sim.forget()
    ran = await run_again(sim, ledger)

    assert isinstance(ran.error, UncertainSubmissionsError)
    assert ran.error.fates[0].verdict == "uncertain"
    assert len(sim.requests_to("tasks")) == 4


async def test_a_list_without_candidates_is_read_twice(sim: Simulator, ledger: Path) -> None:
    """Rows slip from page to page while it is read, so absence is looked at once more."""
    await run_with_a_loss(sim, ledger, faults.hang_up())
    sim.forget()
    await run_again(sim, ledger)

    assert len(sim.requests_to("tasks")) == 2


async def test_foreign_tasks_of_the_workflow_are_candidates(sim: Simulator, ledger: Path) -> None:
    """Another program's run of the same workflow cannot be distinguished from one's own."""
    await run_with_a_loss(sim, ledger, faults.hang_up())
    stranger = sim.create_task().id
    ran = await run_again(sim, ledger)

    assert isinstance(ran.error, UncertainSubmissionsError)
    assert ran.error.fates[0].candidates == (stranger,)


# Decisions by a person


async def decide(client: CyberunClient, ledger: Path, *choice: Any, **task: Any) -> None:
    async with Batch(client, ledger) as batch:
        await batch.decide(*choice, **task)


@pytest.mark.parametrize(
    ("choice", "state", "tasks"),
    [("resubmit", "completed", 2), ("skip", "skipped", 1), ("adopt", "completed", 1)],
)
async def test_a_person_decides_about_one_job(
    sim: Simulator,
    ledger: Path,
    choice: Literal["resubmit", "skip", "adopt"],
    state: str,
    tasks: int,
) -> None:
    """The next run does as it was decided; an adopted task is followed to its end."""
    await run_with_a_loss(sim, ledger, faults.abandon())
    [made] = tasks_of(sim, 1)
    async with client_of(sim) as client:
        await decide(client, ledger, "job-1", choice, task=made if choice == "adopt" else None)
    ran = await run_again(sim, ledger)

    assert ran.error is None
    assert ran.states["job-1"] == state
    assert len(tasks_of(sim, 1)) == tasks
    assert ran.report.fates[0].action == choice
    if choice == "adopt":
        assert {o.task_id for o in ran.outcomes if o.key == "job-1"} == {made}


async def test_a_decision_that_cannot_be_is_refused(sim: Simulator, ledger: Path) -> None:
    """Jobs that are settled, tasks of others and unknown tasks are reported."""
    await run_with_a_loss(sim, ledger, faults.abandon())
    [other] = tasks_of(sim, 0)
    unknown = "01890000-0000-7000-8000-000000000000"
    async with client_of(sim) as client:
        for choice in [
            ("job-0", "skip"),
            ("nobody", "skip"),
            ("job-1", "retry"),
            ("job-1", "adopt"),
        ]:
            with pytest.raises(InvalidInputError):
                await decide(client, ledger, *choice)
        with pytest.raises(InvalidInputError, match="only with it"):
            await decide(client, ledger, "job-1", "skip", task=other)
        with pytest.raises(InvalidInputError, match="another job's"):
            await decide(client, ledger, "job-1", "adopt", task=other)
        with pytest.raises(TaskNotFoundError):
            await decide(client, ledger, "job-1", "adopt", task=unknown)


async def test_nothing_is_decided_during_a_run(sim: Simulator, ledger: Path) -> None:
    """A request on its way is no lost answer, so there is nothing to decide about it yet."""
    async with client_of(sim) as client, Batch(client, ledger) as batch:
        run = batch.run(jobs(2))
        await anext(run)
        with pytest.raises(ClientStateError, match="not over"):
            await batch.decide("job-1", "skip")
        states = [outcome.state async for outcome in run]

    assert states == ["completed"]
