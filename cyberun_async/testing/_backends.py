"""Event loops whose clock jumps, in the form that anyio's pytest plugin takes."""

import asyncio
from typing import Any, Literal

from ._clock import VirtualClockLoop


def virtual_backend(
    name: Literal["asyncio", "trio"] = "asyncio",
) -> tuple[str, dict[str, Any]]:
    """
    Return a back end for the fixture ``anyio_backend`` on which an hour takes milliseconds.

    .. code-block:: python

        @pytest.fixture(params=["asyncio", "trio"])
        def anyio_backend(request):
            return virtual_backend(request.param)

    Nothing that goes through real sockets, threads or subprocesses fits on it: the clock of
    asyncio waits for threads and subprocesses for a second at a time, that of trio for none.
    """
    if name == "trio":
        import trio.testing

        return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}
    return "asyncio", {"loop_factory": VirtualClockLoop}


def is_virtual(backend: str | tuple[str, dict[str, Any]]) -> bool:
    """Return whether *backend*, a value of ``anyio_backend``, has a clock that jumps."""
    options = backend[1] if isinstance(backend, tuple) else {}
    return options.get("loop_factory") is VirtualClockLoop or "clock" in options


def runs_virtually() -> bool:
    """Return whether the running loop's clock jumps."""
    try:
        return isinstance(asyncio.get_running_loop(), VirtualClockLoop)
    except RuntimeError:
        return _trio_runs_virtually()


def _trio_runs_virtually() -> bool:
    import trio.lowlevel
    import trio.testing

    return isinstance(trio.lowlevel.current_clock(), trio.testing.MockClock)
