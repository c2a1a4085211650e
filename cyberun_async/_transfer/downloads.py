"""
The bytes of one file, however often its connection breaks or its link expires.

A reader that has delivered some bytes continues behind them: with a range request where
the store honours it, else by reading again and leaving out what was delivered. So one
way of reading serves memory, files and whoever passes the bytes on.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping
from typing import NoReturn, Protocol
from urllib.parse import urlsplit

import anyio

from .._backoff import full_jitter
from .._http import Caller, ForeignResponse, sealed
from .._iteration import HeldIterator
from .._model import ArtifactLink, RawResult, RetryPolicy, TransferError, shown
from .._protocol import (
    Decompressor,
    ExchangeFailedError,
    FailureKind,
    decompressor_for,
    parse_retry_after,
)
from .._runtime import Runtime, draw


_LINK_REFUSALS = frozenset({400, 401, 403, 404, 410})


_FOR_NOW = frozenset({408, 429, *range(500, 600)})


# A connection that brought this much was worth it, so the next loss is counted anew.
_PROGRESS_BYTES = 64 * 1024


_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


# gzip cannot exceed about 1000; pictures, scenes and logs stay far below this.
_MAX_UNPACKED_RATIO = 200

_RANGE_OVER = re.compile(r"bytes \*/(\d{1,18})")


_NUMBER = re.compile(r"[0-9]{1,18}")


_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Transfers(Protocol):
    """What files need of the client."""

    @property
    def caller(self) -> Caller: ...
    def home(self) -> Runtime: ...
    async def raw_result(self, task_id: str, /, *, is_completed: bool = False) -> RawResult: ...
    async def transfer(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: AsyncIterable[bytes] | None = None,
        /,
    ) -> ForeignResponse: ...


class Links:
    """The links of one task's files, minted anew when one of them is refused."""

    def __init__(self, client: Transfers, record: RawResult) -> None:
        self.client = client
        self.task_id: str = record.id
        self._links = {link.output_id: link for link in record.links}
        self._lock = anyio.Lock()

    def link(self, output_id: str) -> ArtifactLink:
        """Return the present link."""
        return self._links[output_id]

    async def renew(self, output_id: str, refused: str) -> None:
        """
        Replace the link whose address was *refused*, and all others with it.

        Raises:
            TransferError: The service offers the file no longer.
            ResultExpiredError: It no longer keeps the whole result.
        """
        async with self._lock:
            if self._links[output_id].url != refused:
                # One answer brings the links of all files that are fetched at once.
                return
            record = await self.client.raw_result(self.task_id, is_completed=True)
            fresh = {link.output_id: link for link in record.links}
            if output_id not in fresh and len(fresh) == len(self._links) == 1:
                # The only file keeps no name where the service changes the form of its links.
                fresh = {output_id: next(iter(fresh.values()))}
            if output_id not in fresh:
                raise TransferError(f"the service no longer offers {shown(output_id)}")
            self._links.update({name: link for name, link in fresh.items() if name in self._links})


class ArtifactStream(HeldIterator[bytes]):
    """
    The bytes of one artifact, to be read once with ``async for``.

    A connection that breaks is replaced and the bytes continue where they stopped; a link
    that is refused is minted anew, also midway. The length is verified at the end.

    Use it with ``async with``: its connection is then given back however the block is
    left, and a read that is cancelled inside loses nothing, so that the next one continues.
    A bare ``async for`` closes itself at its end, on errors and on cancellation; left by
    ``break`` it holds its connection until it is closed or collected, and warns.

    Raises:
        TransferError: The file could not be fetched whole; bytes read before are sound.
    """

    _what = "download"
    _call = "artifact.aiter_bytes()"

    def __init__(
        self,
        links: Links,
        output_id: str,
        name: str,
        *,
        retries: RetryPolicy,
        max_bytes: int | None = None,
    ) -> None:
        self._links = links
        self._output_id = output_id
        self._name = name
        self._retries = retries
        self._max_bytes = max_bytes
        # What is open, and what of it has been read.
        self._download: ForeignResponse | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._unpacker: Decompressor | None = None
        self._ready_pieces: Iterator[bytes] = iter(())
        self._raw = 0
        self._skip = 0
        # What is known of the file.
        self._raw_size: int | None = None
        self._tag: str | None = None
        self._can_resume = True
        # How it goes.
        self._done = 0
        self._mark = 0
        self._failures = 0
        self._refusals = 0
        self._is_complete = False
        self._scope: anyio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<ArtifactStream of {shown(self._name)}: {self._done} bytes>"

    @property
    def done(self) -> int:
        """Bytes delivered so far."""
        return self._done

    @property
    def total(self) -> int | None:
        """Bytes of the whole file, or None while that is not known."""
        if self._is_complete:
            return self._done
        return None if self._unpacker is not None else self._raw_size

    @property
    def _is_holding(self) -> bool:
        return self._download is not None

    def _check_unread(self) -> None:
        self._links.client.home()

    def _begin(self) -> Runtime:
        return self._links.client.home()

    async def _next(self) -> bytes | None:
        with anyio.CancelScope() as self._scope:
            return await self._read_on()
        raise self._refusal()  # another task has closed it

    async def _read_on(self) -> bytes | None:
        while not self._is_complete:
            try:
                piece = await self._next_piece()
            except ExchangeFailedError as error:
                if self._is_closed:
                    raise self._refusal() from error
                await self._lost(error)
                continue
            except BaseException:
                await self._drop()
                raise
            if piece:
                return piece
        return None

    async def aclose(self) -> None:
        """
        Close the connection; to read on raises :class:`ClientStateError`.

        Raises:
            WrongEventLoopError: On another event loop than the client's.
        """
        await super().aclose()

    async def _let_go(self) -> None:
        self._is_over = self._is_over or self._is_complete
        if self._scope is not None:
            self._scope.cancel()
        await self._drop()

    async def _drop(self) -> None:
        download, self._download, self._chunks = self._download, None, None
        self._ready_pieces = iter(())
        if download is not None:
            with anyio.CancelScope(shield=True):
                await download.aclose()

    # One piece

    async def _next_piece(self) -> bytes:
        for piece in self._ready_pieces:
            return self._delivered(piece)
        if self._chunks is None:
            self._chunks = await self._open()
            return b""
        chunk = await anext(self._chunks, None)
        if chunk is None:
            await self._finish()
            return b""
        self._raw += len(chunk)
        if self._raw_size is not None and self._raw > self._raw_size:
            raise TransferError(f"{shown(self._name)} is longer than the store announced")
        if self._unpacker is None:
            return self._delivered(chunk)
        self._ready_pieces = self._unpacker.pieces(chunk)
        return b""

    def _delivered(self, piece: bytes) -> bytes:
        if self._skip:
            skipped = min(self._skip, len(piece))
            self._skip -= skipped
            piece = piece[skipped:]
        self._done += len(piece)
        if self._max_bytes is not None and self._done > self._max_bytes:
            raise self._too_large()
        return piece

    async def _finish(self) -> None:
        is_cut = self._raw_size is not None and self._raw != self._raw_size
        is_cut = is_cut or (self._unpacker is not None and not self._unpacker.is_complete)
        if is_cut or self._skip:
            raise ExchangeFailedError(FailureKind.LOST, maybe_sent=True, reason="the file was cut")
        self._is_complete = True
        await self._drop()

    # One connection

    async def _open(self) -> AsyncIterator[bytes] | None:
        """Open a connection and return what comes over it, or None to look again."""
        url: str = sealed(self._links.link(self._output_id).url)
        headers = {"Accept-Encoding": "identity"}
        resume = self._done > 0 and self._can_resume
        if resume:
            headers["Range"] = f"bytes={self._done}-"
        self._download = download = await self._links.client.transfer("GET", url, headers)
        if download.status in _LINK_REFUSALS:
            await self._refused(url, download.status)
            return None
        if download.status == 416 and resume:
            await self._no_such_range(download)
            return None
        if download.status == 200:
            self._from_start(download)
        elif download.status == 206 and resume:
            self._resume(download)
        else:
            self._answered_otherwise(download)
        self._refusals = 0
        return download

    def _from_start(self, download: ForeignResponse) -> None:
        self._check_tag(download)
        encoding = download.headers.get("content-encoding")
        self._unpacker = decompressor_for(
            encoding, shown(self._name), TransferError, _MAX_UNPACKED_RATIO
        )
        self._can_resume = self._can_resume and self._unpacker is None
        self._skip = self._done
        self._raw = 0
        self._know_size(_number(download.headers.get("content-length")))

    def _resume(self, download: ForeignResponse) -> None:
        self._check_tag(download)
        span = _CONTENT_RANGE.fullmatch(download.headers.get("content-range", "").strip())
        is_packed = download.headers.get("content-encoding", "identity").lower() != "identity"
        if span is None or int(span[1]) != self._done or is_packed:
            self._can_resume = False
            raise ExchangeFailedError(
                FailureKind.PROTOCOL, maybe_sent=True, reason="the store sent another range"
            )
        self._skip = 0
        self._raw = self._done
        self._know_size(None if span[3] == "*" else int(span[3]))

    def _know_size(self, size: int | None) -> None:
        if size is None:
            return
        if self._raw_size is not None and size != self._raw_size:
            raise self._changed()
        self._raw_size = size
        if self._unpacker is None and self._max_bytes is not None and size > self._max_bytes:
            raise self._too_large()

    def _check_tag(self, download: ForeignResponse) -> None:
        tag = download.headers.get("etag")
        if self._done and tag is not None and self._tag is not None and tag != self._tag:
            raise self._changed()
        self._tag = tag if tag is not None else self._tag

    async def _refused(self, url: str, status: int) -> None:
        await self._drop()
        self._refusals += 1
        if self._refusals > 1:
            raise TransferError(
                f"the store refused {shown(self._name)} with HTTP {status}, "
                "with a fresh link too; it may have been removed",
                status=status,
            )
        await self._links.renew(self._output_id, url)

    async def _no_such_range(self, download: ForeignResponse) -> None:
        size = _RANGE_OVER.fullmatch(download.headers.get("content-range", "").strip())
        await self._drop()
        if size is not None and int(size[1]) == self._done:
            # The connection broke after the last byte of a file of unknown length.
            self._is_complete = True
        self._can_resume = False

    def _answered_otherwise(self, download: ForeignResponse) -> NoReturn:
        status = download.status
        if status in _FOR_NOW:
            raise _BusyError(status, download.headers)
        raise TransferError(
            f"the store answered for {shown(self._name)} with HTTP {status}", status=status
        )

    # When it fails

    async def _lost(self, error: ExchangeFailedError) -> None:
        await self._drop()
        if self._done - self._mark >= _PROGRESS_BYTES:
            self._failures = 0
        self._mark = self._done
        self._failures += 1
        if self._failures >= self._retries.max_attempts or error.kind.is_lasting:
            of = "" if self._raw_size is None else f" of {self._raw_size}"
            raise TransferError(
                f"{shown(self._name)} could not be fetched whole, only {self._done}{of} bytes: "
                f"{error.reason}",
                status=getattr(error, "status", None),
            ) from error
        hint = error.retry_after if isinstance(error, _BusyError) else None
        await anyio.sleep(pause_after(self._failures, self._retries, hint))

    def _too_large(self) -> TransferError:
        return TransferError(
            f"{shown(self._name)} is larger than the limit of {self._max_bytes} bytes"
        )

    def _changed(self) -> TransferError:
        return TransferError(f"{shown(self._name)} changed while it was being fetched")


class _BusyError(ExchangeFailedError):
    """The store says that it cannot serve the file for now."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        reason = f"the store answered HTTP {status}"
        super().__init__(FailureKind.LOST, maybe_sent=True, reason=reason)
        self.status = status
        self.retry_after = parse_retry_after(headers.get("retry-after"), headers.get("date"))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and _NUMBER.fullmatch(text.strip()) else None


def pause_after(failures: int, policy: RetryPolicy, hint: float | None = None) -> float:
    """Return the seconds to wait after so many failures in a row."""
    pause = full_jitter(draw(), failures - 1, base=policy.backoff_base, cap=policy.backoff_cap)
    return max(pause, min(hint or 0.0, policy.retry_after_cap))


def may_fetch(url: str, *, insecure: bool) -> bool:
    """Return whether a file may come from or go to *url*: https, or http where *insecure*."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (insecure and parts.scheme == "http"))


def allows_http(base_url: str) -> bool:
    """Return whether the store may be without TLS: where the API is, or is this machine."""
    parts = urlsplit(base_url)
    return parts.scheme == "http" or parts.hostname in _LOOPBACK
