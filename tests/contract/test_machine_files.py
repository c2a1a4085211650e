"""What is read from the machine's files: at opening, off the event loop, with clear errors."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final

import pytest

from cyberun_async import ConfigurationError, CyberunClient
from cyberun_async.testing import Simulator

from .test_tls_handshakes import listed, port_of
from .tls import Authority, over_tls


VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")

OPENING: Final = """
    import asyncio
    from cyberun_async import ConfigurationError, CyberunClient

    async def main():
        try:
            async with CyberunClient("sk-secret", base_url="https://127.0.0.1:9/api/v1"):
                print("opened")
        except ConfigurationError as error:
            print("refused:", error)

    asyncio.run(main())
"""

# A module that is imported on first use is no file of the machine's.
AUDITED: Final = """
    import asyncio, ssl, sys, threading, time
    from cyberun_async import CyberunClient
    from cyberun_async.testing import Simulator, TaskPlan

    WATCHED = {"open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove"}
    loop_thread, is_on = threading.get_ident(), False

    def seen(event, arguments):
        if not is_on or event not in WATCHED or threading.get_ident() != loop_thread:
            return
        if event == "os.listdir" or str(arguments[0]).endswith((".pyc", ".py", ".so")):
            return
        print("file:", event, arguments[0], flush=True)

    load = ssl.SSLContext.load_verify_locations
    def loaded(*args, **kwargs):
        if threading.get_ident() == loop_thread:
            print("file: certificates", flush=True)
        return load(*args, **kwargs)

    async def main(transport):
        global is_on
        steps = dict.fromkeys(("pending", "waiting", "queued", "step_seconds"), 0.02)
        with Simulator(default_plan=TaskPlan(steps=2, **steps)) as sim:
            is_on = True
            settings = {"base_url": sim.url, "transport": transport}
            async with CyberunClient(sim.key, **settings) as client:
                sibling = client.with_options(headers={"x-a": "b"})
                task = await sibling.submit("text-to-image", {"prompt": "a fox"})
                async with sibling.watch(task) as events:
                    async for _ in events:
                        pass
                await client.result(task)
                [agent async for agent in client.agents.list()]
                began = time.perf_counter()
                for _ in range(1000):
                    client.with_options(headers={"x-a": "b"})
                print("microseconds:", (time.perf_counter() - began) * 1000)
            is_on = False

    sys.addaudithook(seen)
    ssl.SSLContext.load_verify_locations = loaded
    asyncio.run(main(sys.argv[1]))
"""


def run(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize("variable", VARIABLES)
def test_a_variable_that_names_nothing_is_refused_at_opening(variable: str, tmp_path: Path) -> None:
    """The error names the variable and what it says; nothing fails later, and not as a bug."""
    missing = tmp_path / "missing" / "file.pem"
    done = run("-c", textwrap.dedent(OPENING), **{variable: str(missing)})
    assert done.stdout.startswith(f"refused: {variable} in the environment names"), done
    assert str(missing) in done.stdout
    assert done.stderr == ""


def test_a_file_without_a_certificate_is_refused_at_opening(tmp_path: Path) -> None:
    """So is a file that holds no certificate."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("no certificate\n")
    done = run("-c", textwrap.dedent(OPENING), SSL_CERT_FILE=str(bundle))
    assert done.stdout.startswith("refused: SSL_CERT_FILE in the environment names"), done


def test_a_folder_of_a_list_of_folders_is_enough(tmp_path: Path) -> None:
    """SSL_CERT_DIR may be a list, as OpenSSL takes it."""
    folders = os.pathsep.join((str(tmp_path / "missing"), str(tmp_path)))
    done = run("-c", textwrap.dedent(OPENING), SSL_CERT_DIR=folders)
    assert done.stdout == "opened\n", done


@pytest.mark.parametrize("variable", VARIABLES)
def test_the_command_line_ends_with_the_code_of_wrong_settings(
    variable: str, tmp_path: Path
) -> None:
    """One sentence and exit code 5, no traceback."""
    done = run(
        *("-m", "cyberun_async", "tasks"),
        **{
            variable: str(tmp_path / "missing" / "file.pem"),
            "CYBERUN_API_KEY": "sk-secret",
            "CYBERUN_BASE_URL": "https://127.0.0.1:9/api/v1",
        },
    )
    assert done.returncode == 5, done
    assert variable in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_path_may_say_what_is_verified(sim: Simulator, tmp_path: Path) -> None:
    """``verify`` takes a path as it takes its text, and one that is missing at opening."""
    authority = Authority()
    bundle = authority.write_bundle(tmp_path / "authority.pem")
    with over_tls(port_of(sim), authority) as service:
        base = f"{service.url}/api/v1"
        async with CyberunClient(sim.key, base_url=base, verify=bundle) as client:
            await listed(client)
        with pytest.raises(ConfigurationError, match=r"verify names no file.*missing\.pem"):
            async with CyberunClient(sim.key, base_url=base, verify=tmp_path / "missing.pem"):
                pass


@pytest.mark.parametrize("transport", ["httpx", "aiohttp"])
def test_the_event_loop_reads_no_file(transport: str) -> None:
    """Not for a client, sibling, submission, watch, result or list; siblings are cheap."""
    done = run("-c", textwrap.dedent(AUDITED), transport)
    assert done.returncode == 0, done.stderr
    assert "file:" not in done.stdout, done.stdout
    microseconds = float(done.stdout.partition("microseconds:")[2])
    # Some twenty on an idle machine; reading one file takes a thousand.
    assert microseconds < 400
