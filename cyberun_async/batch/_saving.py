"""Where a job's files go, and what an earlier try may have left there."""

import hashlib
import os
import re
from pathlib import Path

import anyio.to_thread


_SAFE = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?")


def folder_of(base: str | os.PathLike[str], key: str) -> Path:
    """
    Return the folder for the job *key*: its own, on any file system, and inside *base*.

    A key that is no plain name in lower case gets a number behind what is left of it.
    """
    if _SAFE.fullmatch(key) and not key.endswith(".") and not _RESERVED.fullmatch(key):
        return Path(base, key)
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", key).strip("-")[:60]
    return Path(base, f"{plain}~{hashlib.sha256(key.encode()).hexdigest()[:12]}")


async def remove_parts(folder: Path) -> None:
    """Remove files in the making, which a killed process left in a job's folder."""
    await anyio.to_thread.run_sync(_remove_parts, folder)


def _remove_parts(folder: Path) -> None:
    if folder.is_dir():
        for part in folder.glob(".*.part"):
            part.unlink(missing_ok=True)
