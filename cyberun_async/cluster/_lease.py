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
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import attrs

from ..batch import LedgerWriteError
from ._errors import LeaseLostError
from ._folder import make_once, write


_MOST_CLAIMS = 1000


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
        return self.folder / f"{stem(self.shard, self.epoch)}.lease"

    @property
    def ledger(self) -> Path:
        """The ledger of this epoch, which nobody else writes to."""
        return ledger_path(self.folder, self.shard, self.epoch)

    def check(self) -> None:
        """
        Raise unless this is the newest epoch.

        Raises:
            LeaseLostError: It is not, or that cannot be known.
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
        try:
            Lease(self.folder, self.shard, self.epoch + 1).path.stat()
        except FileNotFoundError:
            return
        except OSError as error:
            problem = f"whether there is a newer one cannot be seen ({error.strerror})"
            raise LeaseLostError(self.path, self.epoch, problem) from error
        raise LeaseLostError(self.path, self.epoch, "there is a newer one")


def _ended_by(content: bytes) -> str | None:
    try:
        successor: object = json.loads(content)["ended_by"]
    except (ValueError, TypeError, KeyError):
        return "it is damaged"
    return None if successor is None else f"the shard is that of {successor} now"


def stem(shard: int, epoch: int) -> str:
    """Return the name of the files of a shard's epoch, without a suffix."""
    return f"shard-{shard:05}.{epoch:04}"


def ledger_path(folder: Path, shard: int, epoch: int) -> Path:
    """Return the path of an epoch's ledger."""
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


def claim(folder: Path, shard: int, worker: str) -> Lease:
    """
    Make the next epoch of the shard for the worker of that address, and end all before it.

    Raises:
        LedgerWriteError: The folder cannot be used.
    """
    try:
        return _claim(folder, shard, worker)
    except OSError as error:
        where = folder / stem(shard, 0)
        raise LedgerWriteError(where, f"cannot be claimed: {error.strerror}") from error


def _claim(folder: Path, shard: int, worker: str) -> Lease:
    # A lease that somebody removed must not bring its ledger's epoch a second time.
    known = (*epochs(folder, shard, ".lease"), *epochs(folder, shard, ".sqlite"))
    epoch = max(known, default=0)
    for _ in range(_MOST_CLAIMS):
        epoch += 1
        lease = Lease(folder, shard, epoch)
        try:
            make_once(lease.path, _content(epoch, worker))
        except FileExistsError:
            continue
        _end_all_before(lease, worker)
        return lease
    raise FileExistsError(0, "others claim it all the time")


def _end_all_before(lease: Lease, worker: str) -> None:
    # Not only the last: whoever claimed that one may have died before it ended another.
    for epoch in epochs(lease.folder, lease.shard, ".lease"):
        path = Lease(lease.folder, lease.shard, epoch).path
        if epoch < lease.epoch and _ended_by(path.read_bytes()) is None:
            # Overwritten in place: whoever opens it again reads this, over a network too.
            ended = {"epoch": epoch, "ended_by": f"epoch {lease.epoch} on {worker}"}
            write(path, ended, os.O_TRUNC)


def _content(epoch: int, worker: str) -> dict[str, object]:
    return {
        "epoch": epoch,
        "worker": worker,
        "host": platform.node(),
        "process": os.getpid(),
        "claimed_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "ended_by": None,
    }
