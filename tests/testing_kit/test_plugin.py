"""The pytest plugin and what comes with it, used as a user's tests would."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cyberun_async import (
    CompletedEvent,
    CyberunClient,
    FailedEvent,
    StatusEvent,
    SubmissionUncertainError,
    TaskCancelledError,
    TaskFailedError,
    WatchPolicy,
)
from cyberun_async.testing import TROUBLES, Simulator, TaskPlan, faults, story, virtual_backend


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return virtual_backend(request.param)


async def test_the_client_is_one_of_the_simulator(
    cyberun_simulator: Simulator, cyberun_client: CyberunClient
) -> None:
    """The two fixtures belong together."""
    result = await cyberun_client.run("text-to-image", {"prompt": "a fox"})

    run = cyberun_simulator.sent.assert_run_once("text-to-image", {"prompt": "a fox"})
    assert run.task_id == result.task_id


async def test_a_story_is_lived_in_order(
    cyberun_simulator: Simulator, cyberun_client: CyberunClient
) -> None:
    """What was reported happens to the next submissions, one story each."""
    cyberun_simulator.tell(
        story().waits(30).queues(5).runs(steps=10, seconds=60).loses_its_stream(after=5),
        story().waits(5).runs(steps=3).fails("no memory", at=2),
        story().is_cancelled(),
        story().runs(steps=4, seconds=4).is_lost(after=2).completes("fox.png", "hare.png"),
    )
    tasks = [await cyberun_client.submit("text-to-image", {"prompt": "a fox"}) for _ in range(4)]
    first, second, third, fourth = tasks

    async with cyberun_client.watch(first) as events:
        assert isinstance([event async for event in events][-1], CompletedEvent)
    with pytest.raises(TaskFailedError, match="no memory"):
        await second
    with pytest.raises(TaskCancelledError):
        await third
    assert [artifact.name for artifact in await fourth] == ["fox.png", "hare.png"]
    snapshot = await cyberun_client.tasks.get(fourth)
    assert snapshot.retry_count == 1


async def test_an_hour_without_a_stream_takes_no_time(
    cyberun_simulator: Simulator, cyberun_client: CyberunClient
) -> None:
    """The clock jumps: what takes the task an hour takes the test an instant."""
    cyberun_simulator.tell(story().runs(steps=60, seconds=3600).has_no_stream())
    task = await cyberun_client.submit("text-to-image", {"prompt": "a fox"})
    began = time.monotonic()
    async with cyberun_client.watch(task) as events:
        found = [event async for event in events]

    assert isinstance(found[-1], CompletedEvent)
    assert cyberun_simulator.now >= 3600
    assert time.monotonic() - began < 1800


async def test_a_silent_stream_and_any_other_fault_can_be_reported(
    cyberun_simulator: Simulator, cyberun_client: CyberunClient
) -> None:
    """A stream that goes silent forever, and an action of the module of faults."""
    quiet = story().runs(seconds=60).goes_silent(after=3)
    odd = story().meets(faults.replay_after(events=3))
    cyberun_simulator.tell(quiet, odd)
    for _ in range(2):
        task = await cyberun_client.submit("text-to-image", {"prompt": "a fox"})
        assert (await cyberun_client.wait(task)).status == "completed"

    assert quiet.plan.faults != odd.plan.faults


async def test_a_task_may_wait_forever(
    cyberun_simulator: Simulator, cyberun_client: CyberunClient
) -> None:
    """Without an agent, a deadline is the only end."""
    cyberun_simulator.tell(story().waits_forever())
    task = await cyberun_client.submit("text-to-image", {"prompt": "a fox"})
    with pytest.raises(TimeoutError):
        await cyberun_client.wait(task, timeout=7200, cancel_on_timeout=True)

    cyberun_simulator.sent.assert_cancelled(task.id)


@pytest.mark.cyberun_trouble("no-streams")
async def test_a_mark_switches_trouble_on(
    cyberun_simulator: Simulator, cyberun_client: CyberunClient
) -> None:
    """With a name in a mark the service is in trouble from the start."""
    task = await cyberun_client.submit("text-to-image", {"prompt": "a fox"})
    async with cyberun_client.watch(task) as events:
        found = [event async for event in events]

    assert {event.origin for event in found if isinstance(event, StatusEvent)} == {"poll"}
    assert cyberun_simulator.faults.fired["refuse"] >= 1


HARMLESS = sorted(set(TROUBLES) - {"submission-lost", "no-result", "uploads-break"})


@pytest.mark.parametrize("name", HARMLESS)
async def test_a_run_survives_each_trouble(
    cyberun_simulator: Simulator, cyberun_client: CyberunClient, name: str
) -> None:
    """Each trouble by itself is one that this library lives with."""
    cyberun_simulator.tell(story().waits(3).runs(steps=10, seconds=30))
    cyberun_simulator.trouble(name)
    if name == "proxy-errors":
        # Whether a proxy's page means that the run was accepted cannot be known.
        with pytest.raises(SubmissionUncertainError):
            await cyberun_client.run("text-to-image", {"prompt": "a fox"})
        cyberun_simulator.sent.assert_nothing_run()
        return
    seen: list[object] = []
    result = await cyberun_client.run("text-to-image", {"prompt": "a fox"}, on_progress=seen.append)

    assert (await result[0].read()).startswith(b"\x89PNG")
    cyberun_simulator.sent.assert_no_run_twice()
    cyberun_simulator.sent.assert_keys_stayed_home()


async def test_a_lost_submission_is_uncertain(
    cyberun_simulator: Simulator, cyberun_client: CyberunClient
) -> None:
    """Accepted without an answer, it is not sent again."""
    cyberun_simulator.trouble("submission-lost")
    with pytest.raises(SubmissionUncertainError):
        await cyberun_client.submit("text-to-image", {"prompt": "a fox"})

    cyberun_simulator.sent.assert_run_once("text-to-image")


async def test_a_trouble_nobody_knows_is_refused(cyberun_simulator: Simulator) -> None:
    """A misspelt name says which there are."""
    with pytest.raises(ValueError, match="no trouble 'no-stream'; there are no-streams"):
        cyberun_simulator.trouble("no-stream")


async def test_assertions_say_what_was_received(
    cyberun_simulator: Simulator, cyberun_client: CyberunClient
) -> None:
    """A failed assertion names what the service really got."""
    for _ in range(2):
        await cyberun_client.submit("text-to-image", {"prompt": "a fox"})
    sent = cyberun_simulator.sent

    with pytest.raises(AssertionError, match=r"2 runs of 'text-to-image'.*a fox"):
        sent.assert_run_once("text-to-image")
    with pytest.raises(AssertionError, match="submitted more than once"):
        sent.assert_no_run_twice()
    with pytest.raises(AssertionError, match="2 runs were accepted"):
        sent.assert_nothing_run()
    with pytest.raises(AssertionError, match="was not asked to cancel"):
        sent.assert_cancelled("0197a1b2-0000-7000-8000-00000000abcd")
    with pytest.raises(AssertionError, match="2 requests to 'run'"):
        sent.assert_asked_at_most("run", 1)
    sent.assert_asked_at_most("run", 2)


class TestOptions:
    """A test class with a client of its own making."""

    @pytest.fixture
    def cyberun_client_options(self) -> Mapping[str, Any]:
        return {"watch_policy": WatchPolicy(poll_interval=60.0)}

    @pytest.fixture
    def cyberun_simulator_options(self) -> Mapping[str, Any]:
        return {"default_plan": TaskPlan(outcome="failed", error="by default")}

    async def test_the_simulator_takes_options(self, cyberun_client: CyberunClient) -> None:
        """Another overridden fixture says how all tasks of the tests live."""
        with pytest.raises(TaskFailedError, match="by default"):
            await cyberun_client.run("text-to-image", {"prompt": "a fox"})

    async def test_the_client_takes_options(
        self, cyberun_simulator: Simulator, cyberun_client: CyberunClient
    ) -> None:
        """An overridden fixture gives the client further arguments."""
        cyberun_simulator.tell(story().runs(seconds=300).has_no_stream().fails("x"))
        task = await cyberun_client.submit("text-to-image", {"prompt": "a fox"})
        async with cyberun_client.watch(task) as events:
            assert isinstance([event async for event in events][-1], FailedEvent)

        cyberun_simulator.sent.assert_asked_at_most("task", 20)


class TestRealSockets:
    """On an ordinary loop the simulator serves on loopback."""

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> Any:
        return request.param

    async def test_it_serves_on_loopback(
        self, cyberun_environment: Simulator, cyberun_client: CyberunClient
    ) -> None:
        """The environment names it, so that programs with their own client find it."""
        cyberun_environment.tell(story().runs(steps=2, seconds=0.1))
        async with CyberunClient() as own:
            await own.submit("text-to-image", {"prompt": "a fox"})
        await cyberun_client.submit("text-to-image", {"prompt": "a hare"})

        assert cyberun_environment.url.startswith("http://127.0.0.1:")
        assert cyberun_environment.sent.count("run") == 2


def test_it_serves_tests_that_are_not_asynchronous(cyberun_environment: Simulator) -> None:
    """A program that runs its own loop finds the service through the environment."""

    async def program() -> None:
        async with CyberunClient() as client:
            await client.submit("text-to-image", {"prompt": "a fox"})

    asyncio.run(program())
    cyberun_environment.sent.assert_run_once("text-to-image")


def test_the_tests_of_the_how_to_page_pass(tmp_path: Path) -> None:
    """The page's own tests run as a user's would: one file, the plugin, anyio."""
    page = (Path(__file__).parents[2] / "docs" / "howto" / "testing.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    shown = [block for block in blocks if "async def test_" in block]
    assert len(shown) == 2
    imports = "import pytest\nfrom cyberun_async import TaskFailedError\n"
    (tmp_path / "test_page.py").write_text(imports + "\n".join(shown), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\n", encoding="utf-8")

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "6 passed" in run.stdout, run.stdout + run.stderr
