"""
The folder that all workers share: its plan is fixed forever by whoever comes first.

Everything here runs in a thread of a worker.
"""

import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import attrs

from ..batch import LedgerDamagedError, LedgerWriteError
from ._errors import ClusterError


_NAME = "batch.json"
_VERSION = 1


@attrs.frozen
class Plan:
    """
    What a folder is forever.

    Attributes:
        folder_id: Distinguishes this folder from one of the same name on another machine.
        shards: How many shards its jobs are split into.
    """

    folder_id: str
    shards: int


def settle(folder: str, shards: int) -> Plan:
    """
    Return the folder's plan; a folder without one gets one with so many shards.

    Raises:
        LedgerWriteError: The folder is missing or cannot be written to.
        LedgerDamagedError: Its plan cannot be read, or is missing though it has ledgers.
    """
    path = Path(folder, _NAME)
    try:
        if not path.exists():
            _refuse_ledgers_without(path)
            plan = Plan(uuid.uuid4().hex, shards)
            with suppress(FileExistsError):
                make_once(path, {"version": _VERSION, **attrs.asdict(plan)})
    except OSError as error:
        problem = f"cannot be made: {error.strerror}; give a folder that all workers share"
        raise LedgerWriteError(path, problem) from error
    return read(path)


def _refuse_ledgers_without(plan: Path) -> None:
    # With another number of shards their jobs would meet ledgers that do not know them.
    if any(plan.parent.glob("shard-*.sqlite")) and not plan.exists():
        problem = "is missing, though there are ledgers beside it; restore it to continue with them"
        raise LedgerDamagedError(plan, problem)


def known(folder: str) -> Plan:
    """
    Return the plan that the folder has.

    Raises:
        LedgerDamagedError: It has none.
    """
    return read(Path(folder, _NAME))


def make_once(path: Path, content: Mapping[str, object]) -> None:
    """
    Make a file of JSON, whole or not at all.

    Raises:
        FileExistsError: Somebody else was first.
    """
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        write(fresh, content, os.O_EXCL)
        os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def write(path: Path, content: Mapping[str, object], flag: int) -> None:
    """Write JSON to the disk itself."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | flag, 0o644)
    try:
        os.write(descriptor, json.dumps(content).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> Plan:
    """
    Return the plan that is written at *path*.

    Raises:
        LedgerDamagedError: It is not a plan.
    """
    try:
        found = cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
        plan = Plan(str(found["folder_id"]), int(found["shards"]))
        version = int(found["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerDamagedError(path, "cannot be read as the plan of a batch") from error
    if version > _VERSION:
        raise LedgerDamagedError(path, f"has version {version}; upgrade cyberun_async")
    return plan


def confirm(folder: Path, plan: Plan) -> None:
    """
    Raise unless *folder* is the one that has *plan*, seen from this machine too.

    Raises:
        ClusterError: It is another, so that a shard would begin anew on each machine.
    """
    path = folder / _NAME
    if not path.exists() or read(path) != plan:
        raise ClusterError(
            f"the folder {folder} is not shared: on this worker it is missing or another one; "
            "give a folder that is the same on all workers"
        )
