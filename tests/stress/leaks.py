"""What a client may have left behind: descriptors, tasks, connection objects."""

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator
from pathlib import Path

import anyio.lowlevel

from cyberun_async import EventStream
from cyberun_async._following import EventBuffer, Follower
from cyberun_async._http import Body, Connection


_KINDS = ("AsyncHTTP11Connection", "AsyncConnectionPool", "SocketStream", "TLSStream")
_OURS = (Connection, Body, Follower, EventBuffer, EventStream)


def sockets() -> int:
    """Return how many sockets this process has open."""
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(path.readlink()).startswith("socket:")
    return count


def connection_objects() -> list[object]:
    """Return what is left of connections after the collector has run."""
    gc.collect()
    return [
        found
        for found in gc.get_objects()
        if isinstance(found, _OURS) or type(found).__name__ in _KINDS
    ]


def other_tasks() -> set[object]:
    """Return asyncio's tasks but the current one."""
    try:
        current = asyncio.current_task()
    except RuntimeError:
        return set()
    return {task for task in asyncio.all_tasks() if task is not current}


@contextlib.asynccontextmanager
async def nothing_left(*, counting_sockets: bool = True) -> AsyncGenerator[None]:
    """
    Fail if the block leaves a socket, a task or an object of a connection behind.

    Where the server lives in the same process, its sockets cannot be reported from the client's.
    """
    tasks, sockets_before = other_tasks(), sockets()
    objects = len(connection_objects())
    yield
    # Closed transports let go of their sockets in the next turns of the loop.
    for _ in range(5):
        await anyio.lowlevel.checkpoint()
    assert other_tasks() - tasks == set()
    if counting_sockets:
        assert sockets() == sockets_before
    left = connection_objects()
    assert len(left) == objects, left[:10]
