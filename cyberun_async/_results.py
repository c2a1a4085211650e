"""What a completed task made: its output and its files, and how they are fetched."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import anyio
import anyio.to_thread

from ._errors import CyberunError, TransferError
from ._exchange import ExchangeFailedError, FailureKind
from ._filenames import filename_of
from ._models import ArtifactLink, ResultRecord


# Each try begins with a link of its own; links expire, and connections break.
_TRIES = 4
_LINK_REFUSALS = frozenset({400, 401, 403, 404, 410})
_READ_LIMIT = 64 * 1024 * 1024
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Download(Protocol):
    """An answer from the object store."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    def aiter_bytes(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


class Fetcher(Protocol):
    """What fetching files needs of the client."""

    async def fetch(self, url: str, headers: Mapping[str, str], /) -> Download: ...
    async def result_record(self, task_id: str, /) -> ResultRecord: ...


class Artifact:
    """
    One file that a task made.

    The link behind it is short-lived; it is minted anew whenever the store refuses it.
    """

    def __init__(self, fetcher: Fetcher, task_id: str, link: ArtifactLink) -> None:
        self._fetcher = fetcher
        self._task_id = task_id
        self._link = link

    def __repr__(self) -> str:
        return f"<Artifact {self.output_id!r} {self.name!r}>"

    @property
    def output_id(self) -> str:
        """The service's name for this output, such as ``9.images.0``."""
        return self._link.output_id

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What the service says about this output."""
        return self._link.metadata

    @property
    def name(self) -> str:
        """A safe file name, taken from what the service calls the file."""
        source = self._link.storage_key or unquote(urlsplit(self._link.url).path)
        return filename_of(source, fallback=f"{self._task_id}.bin")

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        """
        Yield the file's bytes as they come. Close the iterator when leaving early.

        Raises:
            TransferError: The store refused a freshly minted link, or the file was cut.
        """
        async with self._open(0) as download:
            async for chunk in download.aiter_bytes():
                yield chunk

    async def read(self, *, limit: int = _READ_LIMIT) -> bytes:
        """
        Return the whole file.

        Args:
            limit: Most bytes to hold in memory; a larger file raises.

        Raises:
            TransferError: It is larger than *limit*, or could not be fetched.
        """
        held = bytearray()
        await self._copy(_Memory(held, limit))
        return bytes(held)

    async def download_to(
        self, directory: str | os.PathLike[str], *, overwrite: bool = False
    ) -> Path:
        """
        Stream the file into *directory* and return its path.

        It appears under its name only when complete; a name that is taken is
        numbered unless *overwrite*. Cancelled or failed, nothing is left behind.

        Raises:
            TransferError: It could not be fetched whole.
        """
        folder = Path(directory)
        await anyio.to_thread.run_sync(lambda: folder.mkdir(parents=True, exist_ok=True))
        part = _PartFile(folder, self.name)
        try:
            await self._copy(part)
            return await anyio.to_thread.run_sync(lambda: part.publish(overwrite=overwrite))
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(part.discard)

    async def _copy(self, sink: "_Sink") -> None:
        for tries_left in reversed(range(_TRIES)):
            try:
                async with self._open(sink.size) as download:
                    if download.status == 200 and sink.size:
                        await sink.restart()
                    expected = _expected_size(download, sink.size)
                    async for chunk in download.aiter_bytes():
                        await sink.write(chunk)
                    if expected is not None and sink.size != expected:
                        raise ExchangeFailedError(
                            FailureKind.LOST, maybe_sent=True, reason="the file was cut"
                        )
                return
            except ExchangeFailedError as error:
                if not tries_left:
                    raise TransferError(
                        f"{self.name!r} could not be fetched whole: {error.reason}"
                    ) from error
                await anyio.sleep(0.2 * (_TRIES - tries_left))

    @asynccontextmanager
    async def _open(self, offset: int) -> AsyncGenerator[Download]:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        download = await self._fetcher.fetch(self._link.url, headers)
        if download.status in _LINK_REFUSALS:
            with anyio.CancelScope(shield=True):
                await download.aclose()
            await self._renew_link()
            download = await self._fetcher.fetch(self._link.url, headers)
        try:
            if download.status not in (200, 206):
                raise TransferError(
                    f"the store refused {self.name!r} with HTTP {download.status}, "
                    "with a fresh link too; it may have been removed",
                    status=download.status,
                )
            yield download
        finally:
            with anyio.CancelScope(shield=True):
                await download.aclose()

    async def _renew_link(self) -> None:
        record = await self._fetcher.result_record(self._task_id)
        for link in record.links:
            if link.output_id == self._link.output_id:
                self._link = link
                return
        raise TransferError(f"the service no longer offers {self.name!r}")


class TaskResult:
    """
    What a completed task made. A sequence of its :class:`Artifact` objects.

    Attributes:
        task_id: The task.
        output: The runtime's own report, or None.
        expires_at: When the present links expire; they are renewed as needed.
    """

    def __init__(self, fetcher: Fetcher, record: ResultRecord, *, parallel: int = 4) -> None:
        self.task_id = record.id
        self.output = record.output
        self.record = record
        self._parallel = parallel
        self.artifacts: Sequence[Artifact] = tuple(
            Artifact(fetcher, record.id, link) for link in record.links
        )

    def __repr__(self) -> str:
        return f"<TaskResult of {self.task_id}: {len(self.artifacts)} artifacts>"

    def __len__(self) -> int:
        return len(self.artifacts)

    def __iter__(self) -> Iterator[Artifact]:
        return iter(self.artifacts)

    def __getitem__(self, index: int) -> Artifact:
        return self.artifacts[index]

    @property
    def expires_at(self) -> datetime | None:
        """When the links this came with expire."""
        return self.record.expires_at

    async def download_to(
        self, directory: str | os.PathLike[str], *, overwrite: bool = False
    ) -> list[Path]:
        """
        Download every artifact into *directory*, a few at a time; return their paths in order.

        Raises:
            TransferError: One could not be fetched; those that were complete stay.
        """
        paths: list[Path | None] = [None] * len(self.artifacts)
        failures: list[CyberunError] = []
        limiter = anyio.CapacityLimiter(self._parallel)

        async def fetch(index: int, artifact: Artifact) -> None:
            async with limiter:
                try:
                    paths[index] = await artifact.download_to(directory, overwrite=overwrite)
                except CyberunError as error:
                    failures.append(error)

        async with anyio.create_task_group() as group:
            for index, artifact in enumerate(self.artifacts):
                group.start_soon(fetch, index, artifact)
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise ExceptionGroup("several artifacts could not be downloaded", failures)
        return [path for path in paths if path is not None]


class _Sink(Protocol):
    size: int

    async def write(self, chunk: bytes) -> None: ...
    async def restart(self) -> None: ...


class _Memory:
    def __init__(self, held: bytearray, limit: int) -> None:
        self._held = held
        self._limit = limit
        self.size = 0

    async def write(self, chunk: bytes) -> None:
        self._held += chunk
        self.size = len(self._held)
        if self.size > self._limit:
            raise TransferError(f"the file is larger than the limit of {self._limit} bytes")

    async def restart(self) -> None:
        self._held.clear()
        self.size = 0


class _PartFile:
    """A file in the making, in the target folder so that the final rename is atomic."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._path = folder / f".{name}.{os.urandom(4).hex()}.part"
        self.size = 0

    async def write(self, chunk: bytes) -> None:
        await anyio.to_thread.run_sync(self._append, chunk)

    def _append(self, chunk: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(chunk)
        self.size += len(chunk)

    async def restart(self) -> None:
        await anyio.to_thread.run_sync(self.discard)
        self.size = 0

    def publish(self, *, overwrite: bool) -> Path:
        if not self._path.exists():
            self._path.touch()
        target = self._folder / self._name
        if overwrite:
            self._path.replace(target)
            return target
        for candidate in _numbered(target):
            try:
                os.link(self._path, candidate)  # fails where the name is taken, unlike rename
            except FileExistsError:
                continue
            return candidate
        raise TransferError(f"no free name like {self._name!r}")

    def discard(self) -> None:
        self._path.unlink(missing_ok=True)


def _numbered(target: Path) -> Iterator[Path]:
    yield target
    for number in range(1, 10_000):
        yield target.with_name(f"{target.stem} ({number}){target.suffix}")


def _expected_size(download: Download, offset: int) -> int | None:
    length = download.headers.get("content-length", "")
    if not length.isascii() or not length.isdigit():
        return None
    return int(length) + (offset if download.status == 206 else 0)


def may_fetch(url: str, *, insecure: bool) -> bool:
    """Return whether *url* may be fetched: https, or http to loopback or where allowed."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return True
    return parts.scheme == "http" and (insecure or parts.hostname in _LOOPBACK)
