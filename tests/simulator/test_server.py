"""The server: its thread, its ports, its end, and the program that runs it alone."""

import re
import signal
import subprocess
import sys
import textwrap
import threading

import anyio
import anyio.to_thread
import httpx
import pytest

from cyberun_async.testing import Simulator, TaskPlan

from .conftest import Reader
from .test_stream import wait_until


def ask(sim: Simulator) -> int:
    headers = {"Authorization": f"Bearer {sim.key}"}
    return httpx.get(
        f"{sim.url}/r/tasks", headers=headers, trust_env=False, verify=False
    ).status_code


async def test_the_simulator_works_under_any_event_loop() -> None:
    """As an async context manager it serves whatever loop its user runs."""
    async with Simulator(speed=50) as sim:
        headers = {"Authorization": f"Bearer {sim.key}"}
        live = sim.create_task(TaskPlan(steps=1))
        async with (
            httpx.AsyncClient(
                base_url=sim.url, headers=headers, trust_env=False, verify=False
            ) as client,
            client.stream("GET", f"/r/tasks/{live.id}/events") as answer,
        ):
            lines = [line async for line in answer.aiter_lines()]

    assert "event: completed" in lines


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_both_back_ends_are_served(backend: str) -> None:
    """Asyncio and trio can both enter it."""

    async def main() -> int:
        async with Simulator() as sim:
            return await anyio.to_thread.run_sync(ask, sim)

    assert anyio.run(main, backend=backend) == 200


def test_a_killed_server_refuses_connections_and_comes_back(sim: Simulator, reader: Reader) -> None:
    """After a restart the same port serves the same tasks."""
    live, url = sim.create_task(manual=True), sim.url
    killer = threading.Timer(0.1, sim.kill)
    killer.start()
    reader.read(live.id)
    cut = reader.error
    killer.join()
    with pytest.raises(httpx.ConnectError):
        ask(sim)
    sim.restart()

    assert isinstance(cut, httpx.TransportError)
    assert (url, 200) == (sim.url, ask(sim))
    assert reader.get(f"/r/tasks/{live.id}")["id"] == live.id


def test_time_goes_on_while_the_server_is_down(sim: Simulator) -> None:
    """A task may end while nobody can see it."""
    live = sim.create_task(TaskPlan(pending=1, steps=1))
    sim.kill()
    wait_until(lambda: live.state == "completed")
    sim.restart()

    assert ask(sim) == 200


def test_connections_are_counted(sim: Simulator) -> None:
    """Accepted connections are counted per window of time, open ones now."""
    for _ in range(3):
        ask(sim)
    wait_until(lambda: sim.open_connections == 0)

    assert sum(sim.accepts_per_window(0.1)) == 3


def test_what_was_recorded_can_be_forgotten(sim: Simulator) -> None:
    """Records can be cleared between two parts of a test."""
    ask(sim)
    sim.forget()

    assert sim.requests == []
    assert sim.accepts_per_window() == []


def test_a_taken_port_is_reported(sim: Simulator) -> None:
    """A second simulator cannot take the port of the first."""
    port = int(sim.url.split(":")[2].partition("/")[0])

    with pytest.raises(OSError, match="in use"), Simulator(port=port):
        pass


def test_nothing_is_left_open() -> None:
    """Leaving with streams open, requests held and faults due warns of nothing."""
    program = textwrap.dedent("""
        import gc, threading
        import httpx
        from cyberun_async.testing import Simulator, faults

        with Simulator() as sim:
            sim.faults.add("task", faults.hold(before=60))
            sim.faults.add("events", faults.stall_after(events=1), skip=1)
            live = sim.create_task(manual=True)
            client = httpx.Client(
                base_url=sim.url, headers={"Authorization": f"Bearer {sim.key}"}, trust_env=False
            )
            urls = [f"/r/tasks/{live.id}/events"] * 2
            opened = [client.send(client.build_request("GET", u), stream=True) for u in urls]
            try:
                client.get(f"/r/tasks/{live.id}", timeout=0.2)
            except httpx.ReadTimeout:
                pass
        for answer in opened:
            answer.close()
        client.close()
        del sim, live
        gc.collect()
        assert threading.active_count() == 1, threading.enumerate()
    """)
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout, complaints(done.stderr)) == (0, "", "")


def test_it_runs_alone() -> None:
    """The program prints an address and a key that work, and stops at Ctrl-C."""
    command = [sys.executable, "-W", "error", "-X", "dev", "-m", "cyberun_async.testing"]
    with subprocess.Popen(
        [*command, "--speed", "10"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        greeting = ""
        while "events" not in greeting:
            greeting += program.stdout.readline()
        url = re.findall(r"CYBERUN_BASE_URL=(\S+)", greeting)[0]
        key = re.findall(r"CYBERUN_API_KEY=(\S+)", greeting)[0]
        code = httpx.get(
            url + "/r/agents", headers={"Authorization": f"Bearer {key}"}, trust_env=False
        ).status_code
        program.send_signal(signal.SIGINT)
        _, errors = program.communicate(timeout=20)

    assert (code, program.returncode, complaints(errors)) == (200, 0, "")


def complaints(errors: str) -> str:
    """Return what a program wrote to stderr but for asyncio's remarks that a step was slow."""
    return re.sub(r"^Executing <.*> took [\d.]+ seconds\n", "", errors, flags=re.MULTILINE)


async def test_a_request_that_breaks_off_does_not_count() -> None:
    """Whose body does not come whole, as of a client that was killed, is quietly left alone."""
    sim = Simulator()
    sent: list[object] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    async def send(message: object) -> None:
        sent.append(message)

    path = f"{httpx.URL(sim.url).path}/r/workflows/slug/text-to-image/run"
    scope: dict[str, object] = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"cyberun.test"), (b"content-length", b"100")],
        "server": ("cyberun.test", 80),
        "scheme": "http",
    }

    await sim.app(scope, receive, send)

    assert sent == []
    assert sim.requests == []
