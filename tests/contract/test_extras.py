"""Without the extra that something needs, it says which, and how it is installed."""

import subprocess
import sys

import pytest


def said_without(missing: str, code: str) -> tuple[int, str]:
    """Run *code* where *missing* is not installed."""
    hidden = f"import sys; sys.modules[{missing!r}] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", hidden + code],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "missing, code, extra",
    [
        ("starlette", "from cyberun_async.testing import Simulator", "testing"),
        ("uvicorn", "from cyberun_async.testing import Simulator", "testing"),
        ("starlette", "from cyberun_async.testing import LiveTask, RunRequest", "testing"),
        ("starlette", "import runpy; runpy.run_module('cyberun_async.testing')", "testing"),
        ("starlette", "import cyberun_async.relay", "asgi"),
        ("opentelemetry", "import cyberun_async.otel", "otel"),
        (
            "httpx_aiohttp",
            "import cyberun_async; cyberun_async.CyberunClient('sk-a', transport='aiohttp')",
            "fast",
        ),
        (
            "distributed",
            "import cyberun_async.cluster; cyberun_async.cluster.ClusterBatch(None, '.')",
            "dask",
        ),
    ],
)
def test_a_missing_extra_is_named(missing: str, code: str, extra: str) -> None:
    """The last line of the error has the name to install."""
    status, said = said_without(missing, code)

    assert status == 1
    assert f"cyberun_async[{extra}]" in said.strip().splitlines()[-1]


@pytest.mark.parametrize("missing", ["starlette", "uvicorn"])
def test_the_clock_and_the_transport_need_no_extra(missing: str) -> None:
    """They, and plans, stories and faults, work with what the client itself needs."""
    code = (
        "from cyberun_async.testing import StreamingASGITransport, VirtualClockLoop\n"
        "from cyberun_async.testing import story, faults\n"
        "import anyio\n"
        "async def app(scope, receive, send): pass\n"
        "async def main():\n"
        "    async with StreamingASGITransport(app): await anyio.sleep(3600)\n"
        "VirtualClockLoop.run(main())\n"
        "story().runs().meets(faults.repeat())\n"
    )
    assert said_without(missing, code) == (0, "")
