"""
Who may submit the jobs of a shard: the holder of its highest epoch.

An epoch is claimed by making a file, which only one can make. Whoever claims one writes
into the lease of the epoch before that it has ended, and takes the ledger over only then.
So a holder that wrote an intent, and found its lease standing afterwards, has that intent
in the ledger of whoever comes after it.

Both marks are needed over a network: that a file has come to be may be seen late, while a
file that is opened anew is read as it is. In doubt a lease has ended.
"""

import json
import os
import platform
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, cast

import attrs

from ..batch import LedgerWriteError
from ._errors import LeaseLostError


_MOST_CLAIMS = 1000


@attrs.frozen
class Holder:
    """
    Who holds a lease.

    Attributes:
        worker: The worker's address.
        host: Its machine.
        process: Its process there.
    """

    worker: str
    host: str
    process: int

    @classmethod
    def here(cls, worker: str) -> Self:
        """Return this process."""
        return cls(worker, platform.node(), os.getpid())


@attrs.frozen
class Lease:
    """
    The right to submit the jobs of one shard, until a newer epoch ends it.

    Attributes:
        folder: The folder that all workers share.
        shard: The shard's number.
        epoch: Counted from 1.
    """

    folder: Path
    shard: int
    epoch: int

    @property
    def path(self) -> Path:
        """The lease's own file."""
        return lease_path(self.folder, self.shard, self.epoch)

    @property
    def ledger(self) -> Path:
        """The ledger of this epoch, which nobody else writes to."""
        return ledger_path(self.folder, self.shard, self.epoch)

    def check(self) -> None:
        """
        Raise unless this is the newest epoch.

        Raises:
            LeaseLostError: It is not, or that cannot be told.
        """
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise LeaseLostError(
                self.path, self.epoch, f"it cannot be read ({error.strerror})"
            ) from error
        ended_by = _ended_by(content)
        if ended_by is not None:
            raise LeaseLostError(self.path, self.epoch, ended_by)
        if self._has_successor():
            raise LeaseLostError(self.path, self.epoch, "there is a newer one")

    def _has_successor(self) -> bool:
        try:
            lease_path(self.folder, self.shard, self.epoch + 1).stat()
        except FileNotFoundError:
            return False
        except OSError as error:
            problem = f"whether there is a newer one cannot be told ({error.strerror})"
            raise LeaseLostError(self.path, self.epoch, problem) from error
        return True


def _ended_by(content: bytes) -> str | None:
    try:
        found: object = json.loads(content)
    except ValueError:
        return "it is damaged"
    if not isinstance(found, dict):
        return "it is damaged"
    successor = cast("dict[str, Any]", found).get("ended_by")
    return None if successor is None else f"the shard is that of {successor} now"


def stem(shard: int, epoch: int) -> str:
    """Return how the files of a shard's epoch are called."""
    return f"shard-{shard:05}.{epoch:04}"


def lease_path(folder: Path, shard: int, epoch: int) -> Path:
    """Return where the lease of an epoch lies."""
    return folder / f"{stem(shard, epoch)}.lease"


def ledger_path(folder: Path, shard: int, epoch: int) -> Path:
    """Return where the ledger of an epoch lies."""
    return folder / f"{stem(shard, epoch)}.sqlite"


def epochs(folder: Path, shard: int, suffix: str) -> list[int]:
    """Return the epochs of a shard that have a file of this kind, the newest first."""
    start = f"shard-{shard:05}."
    found: list[int] = []
    for path in folder.iterdir():
        if path.name.startswith(start) and path.name.endswith(suffix):
            with suppress(ValueError):
                found.append(int(path.name[len(start) : -len(suffix)]))
    return sorted(found, reverse=True)


def claim(folder: Path, shard: int, holder: Holder) -> Lease:
    """
    Make the next epoch of the shard, and end all before it.

    Raises:
        LedgerWriteError: The folder cannot be used.
    """
    try:
        return _claim(folder, shard, holder)
    except OSError as error:
        where = folder / stem(shard, 0)
        raise LedgerWriteError(where, f"cannot be claimed: {error.strerror}") from error


def _claim(folder: Path, shard: int, holder: Holder) -> Lease:
    # A lease that somebody removed must not bring its ledger's epoch a second time.
    known = (*epochs(folder, shard, ".lease"), *epochs(folder, shard, ".sqlite"))
    epoch = max(known, default=0)
    for _ in range(_MOST_CLAIMS):
        epoch += 1
        lease = Lease(folder, shard, epoch)
        try:
            _make(lease.path, {"epoch": epoch, **_told(holder), "ended_by": None})
        except FileExistsError:
            continue
        _end_all_before(lease, holder)
        return lease
    raise FileExistsError(0, "others claim it all the time")


def _end_all_before(lease: Lease, holder: Holder) -> None:
    # Not only the last: whoever claimed that one may have died before it ended another.
    for epoch in epochs(lease.folder, lease.shard, ".lease"):
        path = lease_path(lease.folder, lease.shard, epoch)
        if epoch < lease.epoch and _ended_by(path.read_bytes()) is None:
            # Overwritten in place: whoever opens it again reads this, over a network too.
            ended = {"epoch": epoch, "ended_by": f"epoch {lease.epoch} on {holder.worker}"}
            _write(path, ended, os.O_TRUNC)


def _make(path: Path, content: Mapping[str, object]) -> None:
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        _write(fresh, content, os.O_EXCL)
        # Whole or not at all, and only if nobody else was first.
        os.link(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


def _told(holder: Holder) -> dict[str, object]:
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    return {**attrs.asdict(holder), "claimed_at": moment}


def _write(path: Path, content: Mapping[str, object], flag: int) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | flag, 0o644)
    try:
        os.write(descriptor, json.dumps(content).encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
