"""Which event loop is running here, what its clock says, and how to reach it from a thread."""

import asyncio
import sys
from collections.abc import Callable

import attrs


@attrs.frozen
class RunningLoop:
    """The event loop of the calling task: its identity, its clock, its post box."""

    identity: object
    time: Callable[[], float]
    post: Callable[[Callable[[], object]], object]


def running_loop() -> RunningLoop | None:
    """Return the loop that runs the caller, or None outside of any loop."""
    return _asyncio_loop() or _trio_loop()


def _asyncio_loop() -> RunningLoop | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return RunningLoop(loop, loop.time, loop.call_soon_threadsafe)


def _trio_loop() -> RunningLoop | None:
    # A program that runs trio has imported it already.
    if "trio" not in sys.modules:
        return None
    import trio

    try:
        token = trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None
    return RunningLoop(token, trio.current_time, token.run_sync_soon)
