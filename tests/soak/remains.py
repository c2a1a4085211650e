"""What a process holds: sockets, asyncio tasks, objects of the library and of httpx, memory."""

import asyncio
import contextlib
import gc
import os
from collections import Counter
from pathlib import Path
from typing import Final

import attrs


_LIBRARIES: Final = ("cyberun_async.", "httpx", "httpcore", "anyio.")
# The threads over which the soak speaks to the service come and go.
_OF_THE_SOAK: Final = ("anyio._backends._asyncio.WorkerThread", "anyio.lowlevel.EventLoopToken")


@attrs.frozen
class Remains:
    """A count of everything that could leak, at a moment of rest."""

    sockets: int
    tasks: int
    objects: Counter[str]
    resident: float

    def more_than(self, before: "Remains") -> list[str]:
        """Say what there is more of than *before*; memory is judged apart."""
        found = [
            f"{after - then} {what} left"
            for what, then, after in (
                ("sockets", before.sockets, self.sockets),
                ("asyncio tasks", before.tasks, self.tasks),
            )
            if after != then
        ]
        left = self.objects - before.objects
        return found + [f"{number} of {name} left" for name, number in left.items()]


def remains() -> Remains:
    """Count what there is after the collector has run."""
    for _ in range(3):
        gc.collect()
    return Remains(
        sockets=_sockets(), tasks=len(asyncio.all_tasks()), objects=_objects(), resident=_resident()
    )


def _sockets() -> int:
    count = 0
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += str(path.readlink()).startswith("socket:")
    return count


def _objects() -> Counter[str]:
    counts: Counter[str] = Counter()
    for found in gc.get_objects():
        kind = type(found)
        if kind.__module__.startswith(_LIBRARIES):
            counts[f"{kind.__module__}.{kind.__qualname__}"] += 1
    for name in _OF_THE_SOAK:
        del counts[name]
    return counts


def _resident() -> float:
    """Return the memory that is really used, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
