"""A client on another loop than its own, after its loop, or in a forked process says so at once."""

import asyncio
import gc
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import trio

from cyberun_async import Artifact, CyberunClient, TaskHandle, TaskResult, WrongEventLoopError
from cyberun_async.testing import Simulator, TaskPlan

from ..whole.kit import virtual_client


PLAN: Final = TaskPlan(pending=0, waiting=0, queued=0, steps=1, step_seconds=0)


@attrs.define
class Begun:
    """What one loop began, and others get hold of."""

    client: CyberunClient
    handle: TaskHandle
    result: TaskResult
    iterators: dict[str, Any] = attrs.field(factory=dict[str, Any])
    unread: dict[str, Any] = attrs.field(factory=dict[str, Any])

    @property
    def artifact(self) -> Artifact:
        return self.result[0]


async def begin(sim: Simulator) -> Begun:
    """Open a client and read one item of everything that can be read."""
    client = virtual_client(sim)
    await client.__aenter__()
    done = sim.create_task(attrs.evolve(PLAN, file_content=bytes(10_000_000)))
    await asyncio.sleep(0.1)
    result = await client.result(done.id)
    live = sim.create_task(manual=True)
    begun = Begun(client, client.handle(live.id), result)
    begun.iterators = {
        "watch": client.watch(live.id),
        "progress": client.progress(live.id),
        "watch_many": client.watch_many([live.id]),
        "as_completed": client.as_completed([done.id, live.id]),
        "submit_many": client.submit_many("text-to-image", [{"prompt": "a"}] * 20),
        "download": begun.artifact.aiter_bytes(),
    }
    begun.unread = {
        "watch": client.watch(live.id),
        "progress": client.progress(live.id),
        "watch_many": client.watch_many([live.id]),
        "as_completed": client.as_completed([live.id]),
        "submit_many": client.submit_many("text-to-image", [{"prompt": "a"}]),
        "download": begun.artifact.aiter_bytes(),
    }
    live.status("running")
    for iterator in begun.iterators.values():
        await anext(iterator)
    return begun


def _of(name: str, call: Callable[[Any], Any]) -> Callable[[Begun, Path], Any]:
    return lambda begun, _: call(begun.iterators[name])


def _of_unread(name: str) -> Callable[[Begun, Path], Any]:
    return lambda begun, _: begun.unread[name].aclose()


def _without_folder(call: Callable[[Begun], Any]) -> Callable[[Begun, Path], Any]:
    return lambda begun, _: call(begun)


CALLS: Final[dict[str, Callable[[Begun, Path], Any]]] = {
    **{
        f"read {name}": _of(name, lambda iterator: anext(iterator))
        for name in ("watch", "progress", "watch_many", "as_completed", "submit_many", "download")
    },
    **{
        f"close {name}": _of(name, lambda iterator: iterator.aclose())
        for name in ("watch", "progress", "watch_many", "as_completed", "submit_many", "download")
    },
    **{
        f"close unread {name}": _of_unread(name)
        for name in ("watch", "progress", "watch_many", "as_completed", "submit_many", "download")
    },
    **{
        f"enter {name}": _of(name, lambda iterator: iterator.__aenter__())
        for name in ("watch", "progress", "watch_many", "as_completed", "submit_many", "download")
    },
    "begin a watch": lambda b, _: anext(b.client.watch(b.handle)),
    "begin progress": lambda b, _: anext(b.client.progress(b.handle)),
    "begin a download": lambda b, _: anext(b.artifact.aiter_bytes()),
    "read a file": lambda b, _: b.artifact.read(),
    "save a file": lambda b, folder: b.artifact.download_to(folder),
    "save all": lambda b, folder: b.result.download_to(folder),
    "await a handle": lambda b, _: b.handle.result(),
    "handle.wait": lambda b, _: b.handle.wait(timeout=1),
    "handle.refresh": lambda b, _: b.handle.refresh(),
    "handle.cancel": lambda b, _: b.handle.cancel(),
    "submit": lambda b, _: b.client.submit("text-to-image", {"prompt": "x"}),
    "run": lambda b, _: b.client.run("text-to-image", {"prompt": "x"}, timeout=1),
    "wait": lambda b, _: b.client.wait(b.handle, timeout=1),
    "wait_many": lambda b, _: b.client.wait_many([b.handle], return_exceptions=False),
    "result": lambda b, _: b.client.result(b.handle, timeout=1),
    "result_many": lambda b, _: b.client.result_many([b.handle]),
    "cancel": lambda b, _: b.client.cancel(b.handle),
    "cancel_and_wait": lambda b, _: b.client.cancel_and_wait(b.handle, timeout=1),
    "tasks.get": lambda b, _: b.client.tasks.get(b.handle),
    "raw_result": lambda b, _: b.client.raw_result(b.handle),
    "request": lambda b, _: b.client.request("GET", "/r/containers"),
    "list tasks": lambda b, _: anext(aiter(b.client.tasks.list())),
    "list workflows": lambda b, _: anext(aiter(b.client.workflows.list())),
    "upload": lambda b, _: b.client.files.upload(b"content", name="a.png"),
    "aclose": lambda b, _: b.client.aclose(),
    "aclose, draining": lambda b, _: b.client.aclose(drain=5),
}
SYNCHRONOUS: Final[dict[str, Callable[[Begun], Any]]] = {
    "watch_many": lambda b: b.client.watch_many([b.handle]),
    "as_completed": lambda b: b.client.as_completed([b.handle]),
    "submit_many": lambda b: b.client.submit_many("text-to-image", []),
    "statistics": lambda b: b.client.statistics(),
    "add": lambda b: b.iterators["watch_many"].add(b.handle),
}


async def refused(begun: Begun, folder: Path, match: str) -> list[str]:
    """Return which calls did not raise the error at once."""
    wrong = []
    for name, call in {
        **CALLS,
        **{n: _without_folder(c) for n, c in SYNCHRONOUS.items()},
    }.items():
        try:
            awaitable = call(begun, folder)
            if name in CALLS:
                await awaitable
        except WrongEventLoopError as error:
            if match not in str(error):
                wrong.append(f"{name}: {error}")
        except Exception as error:  # noqa: BLE001 - named in the failure
            wrong.append(f"{name}: {error!r}")
        else:
            wrong.append(f"{name}: no error")
    return wrong


@pytest.fixture
def sim() -> Simulator:
    return Simulator(seed=7)


@pytest.fixture
def home() -> Iterator[asyncio.AbstractEventLoop]:
    """The loop that the client belongs to."""
    loop = asyncio.new_event_loop()
    yield loop
    if not loop.is_closed():
        loop.close()


@pytest.mark.parametrize("other", ["asyncio", "trio"])
def test_every_call_on_another_loop_is_refused_at_once(
    sim: Simulator, home: asyncio.AbstractEventLoop, tmp_path: Path, other: str
) -> None:
    """Nothing hangs, nothing is sent, and on its own loop the client goes on."""
    begun = home.run_until_complete(begin(sim))
    sent = len(sim.requests)

    async def main() -> list[str]:
        # Long enough for all of them, too short for one that waits.
        return await refused(begun, tmp_path, "one client per loop")

    wrong = asyncio.run(main()) if other == "asyncio" else trio.run(main)
    assert wrong == []
    assert len(sim.requests) == sent
    assert list(tmp_path.iterdir()) == []

    async def go_on() -> None:
        for iterator in begun.iterators.values():
            await iterator.aclose()
        await begun.client.aclose()

    home.run_until_complete(go_on())


def test_every_call_after_the_loop_is_gone_is_refused_at_once(
    sim: Simulator, home: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    """A program that calls `asyncio.run` twice learns that the first loop is closed."""
    begun = home.run_until_complete(begin(sim))
    home.close()

    assert asyncio.run(refused(begun, tmp_path, "is closed")) == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        begun.iterators.clear()
        del begun
        gc.collect()


FORKING: Final = """
import asyncio, os, sys
from cyberun_async import CyberunClient, WrongEventLoopError
from cyberun_async.testing import Simulator, StreamingASGITransport

sim = Simulator(seed=7)
live = sim.create_task(manual=True)
live.status("running")
client = CyberunClient(
    sim.key, base_url=sim.url, transport_factory=lambda: StreamingASGITransport(sim.app)
)
events = client.watch(live.id)
calls = {
    "read": lambda: anext(events),
    "close": lambda: events.aclose(),
    "submit": lambda: client.submit("text-to-image", {"prompt": "a fox"}),
    "wait": lambda: client.wait(live.id, timeout=1),
    "aclose": lambda: client.aclose(),
}

async def begin():
    await client.__aenter__()
    await anext(events)

async def use():
    for name, call in calls.items():
        try:
            await call()
        except WrongEventLoopError as error:
            print(name, "forked" in str(error))
        except Exception as error:
            print(name, repr(error))

async def fork_inside():
    if os.fork() == 0:
        await use()
        sys.stdout.flush()
        os._exit(0)
    os.wait()

loop = asyncio.new_event_loop()
loop.run_until_complete(begin())
if sys.argv[1] == "inside":
    loop.run_until_complete(fork_inside())
elif os.fork() == 0:
    loop.run_until_complete(use())
    sys.stdout.flush()
    os._exit(0)
else:
    os.wait()

async def end():
    await events.aclose()
    await client.aclose()

loop.run_until_complete(end())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no os.fork() on Windows")
@pytest.mark.parametrize("where", ["inside", "between"])
def test_a_forked_child_gets_a_clear_error(where: str) -> None:
    """A child that goes on inside its parent's loop, or runs it again, gets a clear error."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, where],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    expected = [f"{name} True" for name in ("read", "close", "submit", "wait", "aclose")]
    assert done.stdout.splitlines() == expected, done.stderr
    assert done.returncode == 0, done.stderr
