"""What a completed task made: its output and its files, and how they come to memory or disk."""

import os
import unicodedata
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from inspect import isawaitable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast, overload
from urllib.parse import unquote, urlsplit

import anyio
import anyio.to_thread

from .._model import (
    ArtifactLink,
    CyberunError,
    InvalidInputError,
    RawResult,
    RetryPolicy,
    TransferError,
    shown,
)
from .._validation import callable_of
from .downloads import ArtifactStream, Links, Transfers
from .filenames import filename_of


T = TypeVar("T")

OnBytes = Callable[[int, "int | None"], "Awaitable[None] | None"]
OnArtifactBytes = Callable[["Artifact", int, "int | None"], "Awaitable[None] | None"]

_READ_LIMIT = 64 * 1024 * 1024
# One hop to a thread costs as much as writing this.
_WRITE_BYTES = 256 * 1024
_MOST_NUMBERED = 10_000


class Artifact:
    """
    One file that a task made.

    The link behind it is short-lived; it is minted anew whenever the store refuses it.
    """

    def __init__(self, links: Links, output_id: str, *, retries: RetryPolicy) -> None:
        self._links = links
        self._retries = retries
        self.output_id = output_id

    def __repr__(self) -> str:
        return f"<Artifact {self.output_id!r} {self.name!r}>"

    @property
    def _link(self) -> ArtifactLink:
        return self._links.link(self.output_id)

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the service says about this output."""
        return self._link.metadata

    @property
    def name(self) -> str:
        """A safe file name, taken from what the service calls the file."""
        link = self._link
        source = link.storage_key or unquote(urlsplit(link.url).path)
        return filename_of(source, fallback=f"{self._links.task_id}.bin")

    def aiter_bytes(self, *, max_bytes: int | None = None) -> ArtifactStream:
        """
        Return the file's bytes as they come, to be passed on.

        A connection that breaks is replaced, and a link that is refused is minted anew.
        Use it with ``async with``: a read that is cancelled inside may be followed by the
        next, and the connection is given back however the block is left. A bare ``async
        for`` that is left early holds it until the iterator is closed or collected, and warns.

        Args:
            max_bytes: A larger file raises; None takes any.

        Raises:
            TransferError: While reading: the file could not be fetched whole, or is too large.
            InvalidInputError: *max_bytes* is no size.
        """
        limit = None if max_bytes is None else _size("max_bytes", max_bytes)
        return ArtifactStream(
            self._links, self.output_id, self.name, retries=self._retries, max_bytes=limit
        )

    async def read(self, *, limit: int = _READ_LIMIT) -> bytes:
        """
        Return the whole file. Cancelled, what was read is dropped.

        Args:
            limit: Most bytes to hold in memory; a larger file raises.

        Raises:
            TransferError: It is larger than *limit*, or could not be fetched whole.
            ResultExpiredError: The link has expired, and the result is no longer kept.
            InvalidInputError: *limit* is no size.
        """
        held = bytearray()
        async with self.aiter_bytes(max_bytes=_size("limit", limit)) as stream:
            async for piece in stream:
                held += piece
        return bytes(held)

    async def download_to(
        self,
        directory: str | os.PathLike[str],
        *,
        name: str | None = None,
        overwrite: bool = False,
        max_bytes: int | None = None,
        on_progress: OnBytes | None = None,
    ) -> Path:
        """
        Stream the file into *directory* and return its path.

        It appears under its name only when it is complete. Cancelled or failed,
        nothing is left behind but the folder.

        Args:
            directory: Made if need be.
            name: In place of the service's; only its last part counts.
            overwrite: Replace a file of that name; otherwise this one is numbered.
            max_bytes: A larger file raises; None takes any.

            on_progress:
                Called with the bytes so far and those of the whole file, or None where
                that is not known; may be a coroutine function. What it raises ends
                the download.

        Raises:
            TransferError: It could not be fetched whole, or not be written.
            ResultExpiredError: The link has expired, and the result is no longer kept.
            InvalidInputError: An argument is malformed.
        """
        if name is not None and not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInputError(f"name must be a string, not {type(name).__name__}")
        callable_of("on_progress", on_progress)
        folder = await _made(_folder(directory))
        stream = self.aiter_bytes(max_bytes=max_bytes)
        part = _PartFile(folder, self.name if name is None else filename_of(name, self.name))
        try:
            await part.call(part.create)
            await _copy(stream, part, on_progress)
            return await part.call(lambda: part.publish(overwrite=overwrite))
        finally:
            with anyio.CancelScope(shield=True):
                try:
                    await stream.aclose()
                finally:
                    await part.call(part.discard)


class TaskResult(Sequence[Artifact]):
    """
    What a completed task made. A sequence of its :class:`Artifact` objects.

    Attributes:
        task_id: The task.
        output: The runtime's own report, or None.
        record: The response it was read from.
        artifacts: The files, whichever form of links the service used.
    """

    def __init__(
        self,
        client: Transfers,
        record: RawResult,
        *,
        parallel: int = 4,
        retries: RetryPolicy | None = None,
    ) -> None:
        self.task_id: str = record.id
        self.output: Mapping[str, Any] | None = record.output
        self.record = record
        self._parallel = parallel
        links = Links(client, record)
        self.artifacts: Sequence[Artifact] = tuple(
            Artifact(links, link.output_id, retries=retries or RetryPolicy())
            for link in record.links
        )

    def __repr__(self) -> str:
        return f"<TaskResult of {self.task_id}: {len(self.artifacts)} artifacts>"

    def __len__(self) -> int:
        return len(self.artifacts)

    def __iter__(self) -> Iterator[Artifact]:
        return iter(self.artifacts)

    @overload
    def __getitem__(self, index: int) -> Artifact: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Artifact]: ...
    def __getitem__(self, index: int | slice) -> Artifact | Sequence[Artifact]:
        return self.artifacts[index]

    @property
    def expires_at(self) -> datetime | None:
        """When the links this came with expire; they are renewed as needed."""
        return self.record.expires_at

    async def download_to(
        self,
        directory: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        max_bytes: int | None = None,
        on_progress: OnArtifactBytes | None = None,
    ) -> list[Path]:
        """
        Download every artifact into *directory*, a few at a time; return their paths in order.

        Artifacts of the same name are numbered. Cancelled, what was complete stays.

        Args:
            directory: Made if need be.
            overwrite: Replace files that were there before; otherwise these are numbered.
            max_bytes: A larger file raises; None takes any.

            on_progress:
                Called with the artifact, its bytes so far, and those of the whole file or
                None; may be a coroutine function.

        Raises:
            TransferError: One or more could not be fetched; those that were complete stay.
            ResultExpiredError: The links have expired, and the result is no longer kept.
            InvalidInputError: An argument is malformed.
        """
        _folder(directory)
        callable_of("on_progress", on_progress)
        paths: dict[int, Path] = {}
        failures: list[Exception] = []
        limiter = anyio.CapacityLimiter(self._parallel)

        async def fetch(index: int, artifact: Artifact, name: str) -> None:
            async with limiter:
                try:
                    paths[index] = await artifact.download_to(
                        directory,
                        name=name,
                        overwrite=overwrite,
                        max_bytes=max_bytes,
                        on_progress=_for_artifact(artifact, on_progress),
                    )
                except CyberunError as error:
                    failures.append(error)
                except Exception as error:  # noqa: BLE001 - the caller's own, raised below
                    failures.insert(0, error)
                    group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for index, name in enumerate(_distinct([one.name for one in self.artifacts])):
                group.start_soon(fetch, index, self.artifacts[index], name)
        if failures:
            for other in failures[1:]:
                failures[0].add_note(f"another artifact failed as well: {other}")
            raise failures[0]
        return [paths[index] for index in range(len(self.artifacts))]


def _for_artifact(artifact: Artifact, on_progress: OnArtifactBytes | None) -> OnBytes | None:
    if on_progress is None:
        return None
    return lambda done, total: on_progress(artifact, done, total)


def _distinct(names: Sequence[str]) -> list[str]:
    """Number what would be the same file on a system that folds case or accents."""
    taken: set[str] = set()
    distinct: list[str] = []
    for name in names:
        free = next(one for one in _numbered(name) if _folded(one) not in taken)
        taken.add(_folded(free))
        distinct.append(free)
    return distinct


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _numbered(name: str) -> Iterator[str]:
    yield name
    path = Path(name)
    for number in range(1, _MOST_NUMBERED):
        yield f"{path.stem} ({number}){path.suffix}"


def _size(what: str, size: object) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise InvalidInputError(f"{what} must be a number of bytes from 0 on")
    return size


def _folder(directory: object) -> Path:
    if not isinstance(directory, str | os.PathLike):
        kind = type(directory).__name__
        raise InvalidInputError(f"directory must be a string or a path, not {kind}")
    path = cast("object", os.fspath(cast("os.PathLike[str]", directory)))
    if not isinstance(path, str) or not path or "\0" in path:
        raise InvalidInputError("directory must be a path of text, not empty, without NUL")
    return Path(path)


async def _made(folder: Path) -> Path:
    try:
        await anyio.to_thread.run_sync(lambda: folder.mkdir(parents=True, exist_ok=True))
    except (OSError, UnicodeError) as error:
        raise TransferError(f"the folder cannot be made: {_said(error)}") from error
    return folder


def _said(error: OSError | UnicodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


async def _copy(stream: ArtifactStream, part: "_PartFile", on_progress: OnBytes | None) -> None:
    waiting: list[bytes] = []
    size = 0
    async for piece in stream:
        waiting.append(piece)
        size += len(piece)
        if size >= _WRITE_BYTES:
            await part.write(waiting)
            waiting, size = [], 0
        if on_progress is not None:
            answer = on_progress(stream.done, stream.total)
            if isawaitable(answer):
                await answer
    await part.write(waiting)


class _PartFile:
    """A file in the making, in the target folder so that the final rename is atomic."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._path = folder / f".{name}.{os.urandom(4).hex()}.part"
        self._file: BinaryIO | None = None

    async def call(self, function: Callable[[], T]) -> T:
        """Call *function* in a thread; cancelled, it is still waited for."""
        try:
            return await anyio.to_thread.run_sync(function)
        except (OSError, UnicodeError) as error:
            name = shown(self._name)
            raise TransferError(f"{name} cannot be written: {_said(error)}") from error

    async def write(self, pieces: list[bytes]) -> None:
        if pieces:
            await self.call(lambda: self._write(pieces))

    # In a thread

    def create(self) -> None:
        # "x" follows no link that somebody else has put there.
        self._file = self._path.open("xb", buffering=0)

    def _write(self, pieces: list[bytes]) -> None:
        left = memoryview(b"".join(pieces))
        while left and self._file is not None:
            left = left[self._file.write(left) :]

    def publish(self, *, overwrite: bool) -> Path:
        self._close()
        target = self._folder / self._name
        if overwrite:
            self._path.replace(target)
            return target
        for name in _numbered(self._name):
            if self._take(self._folder / name):
                return self._folder / name
        raise TransferError(f"no free name like {shown(self._name)}")

    def _take(self, target: Path) -> bool:
        """Give the file the name *target* unless it is taken; a rename would not notice."""
        try:
            os.link(self._path, target)
        except FileExistsError:
            return False
        except OSError:
            return self._take_without_link(target)
        return True

    def _take_without_link(self, target: Path) -> bool:
        # Some network and FAT file systems have no hard links.
        try:
            target.open("xb").close()
        except FileExistsError:
            return False
        try:
            self._path.replace(target)
        except OSError:
            target.unlink()
            raise
        return True

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def discard(self) -> None:
        try:
            self._close()
        finally:
            self._path.unlink(missing_ok=True)
