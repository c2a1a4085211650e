"""
Sending one file: what is known of it, its bytes piece by piece, and the attempts it takes.

The store takes a file whole or not at all, under a key that nobody else has. So the
answer "there already" to a second attempt means that the first one did arrive.
"""

import os
import re
import stat
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
)
from inspect import isawaitable
from pathlib import Path
from typing import Self, TypeVar, cast

import anyio
import anyio.to_thread
import attrs

from .._http import Caller
from .._model import InvalidInputError, RetryPolicy, TransferError, Upload, UploadedFile, shown
from .._protocol import (
    ExchangeFailedError,
    FailureKind,
    PresignedUpload,
    decode_presign,
    parse_retry_after,
)
from .._validation import path_for
from .content_types import ANY_TYPE, content_type_of
from .downloads import Transfers, pause_after
from .filenames import filename_of


T = TypeVar("T")

OnSent = Callable[[int, int], Awaitable[None] | None]

_PIECE_BYTES = 256 * 1024
_MEGABYTE = 1024 * 1024
_FOR_NOW = frozenset({408, 429, *range(500, 600)})
_SIGNATURE_REFUSALS = frozenset({400, 401, 403})
_ALREADY_THERE = 412
_CONTENT_TYPE = re.compile(
    r"[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}(;[ -~]{0,200})?"
)


# What is to be sent


@attrs.frozen(kw_only=True)
class Parcel:
    """A file that was looked at: all that is said of it, and how its bytes are had."""

    name: str
    content_type: str
    size: int
    pieces: Callable[[], AsyncGenerator[bytes, None]] = attrs.field(repr=False)
    is_repeatable: bool = True


async def parcel_of(upload: Upload, *, max_bytes: int) -> Parcel:
    """
    Look at a file without sending anything.

    Raises:
        InvalidInputError: It is described wrongly.
        TransferError: It cannot be read, or is larger than *max_bytes*.
    """
    parcel = _described(upload, await _found(upload))
    if parcel.size > max_bytes:
        raise TransferError(
            f"{shown(parcel.name)} has {parcel.size / _MEGABYTE:.0f} MiB, more than the limit of "
            f"{max_bytes / _MEGABYTE:.0f} MiB for one file; larger ones need the multipart upload, "
            "which the service does not offer to API keys (sk-). Where your deployment takes "
            "larger files at once, raise Limits.max_upload_bytes"
        )
    return parcel


async def _found(upload: Upload) -> Parcel:
    source = upload.source
    if isinstance(source, bytes | bytearray | memoryview):
        return _of_bytes(bytes(source))
    if isinstance(source, str | os.PathLike):
        return await _of_path(source)
    if isinstance(source, AsyncIterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        return _of_iterator(source, upload.size)
    raise InvalidInputError(
        "a file is given as a path, as bytes, or as an asynchronous iterator of bytes, "
        f"not {type(source).__name__}"
    )


def _described(upload: Upload, found: Parcel) -> Parcel:
    if upload.size is not None and _size(upload.size) != found.size:
        raise InvalidInputError(f"size says {upload.size} bytes, but there are {found.size}")
    name = found.name if upload.name is None else _name(upload.name)
    content_type = _content_type(upload.content_type, name)
    return attrs.evolve(found, name=name, content_type=content_type)


def _name(name: object) -> str:
    if not isinstance(name, str) or not name.strip():
        raise InvalidInputError("name must be a string that is not empty")
    return filename_of(name, "upload.bin")


def _content_type(given: object, name: str) -> str:
    if given is None:
        return content_type_of(name)
    if not isinstance(given, str) or not _CONTENT_TYPE.fullmatch(given):
        raise InvalidInputError("content_type must be like image/png")
    return given


def _size(size: object) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**63:
        raise InvalidInputError("size must be a number of bytes from 0 on")
    return size


def _of_bytes(content: bytes) -> Parcel:
    async def pieces() -> AsyncGenerator[bytes, None]:
        view = memoryview(content)
        for start in range(0, len(view), _PIECE_BYTES):
            yield bytes(view[start : start + _PIECE_BYTES])

    return Parcel(name="upload.bin", content_type=ANY_TYPE, size=len(content), pieces=pieces)


def _of_iterator(source: AsyncIterable[bytes], size: int | None) -> Parcel:
    if size is None:
        raise InvalidInputError("an iterator needs its size, as the store takes no chunked upload")

    async def pieces() -> AsyncGenerator[bytes, None]:
        iterator = aiter(source)
        try:
            async for piece in iterator:
                if not isinstance(piece, bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
                    kind = type(piece).__name__
                    raise InvalidInputError(f"the iterator must yield bytes, not {kind}")
                if piece:
                    yield bytes(piece)
        finally:
            # A generator that was begun here is closed here.
            if isinstance(iterator, AsyncGenerator):
                with anyio.CancelScope(shield=True):
                    await cast("AsyncGenerator[bytes, None]", iterator).aclose()

    return Parcel(
        name="upload.bin",
        content_type=ANY_TYPE,
        size=_size(size),
        pieces=pieces,
        is_repeatable=False,
    )


async def _of_path(source: str | os.PathLike[str]) -> Parcel:
    fspath = cast("object", os.fspath(source))
    if not isinstance(fspath, str) or not fspath or "\0" in fspath:
        raise InvalidInputError("a path must be text, not empty, without NUL")
    path = Path(fspath)

    async def pieces() -> AsyncGenerator[bytes, None]:
        file = await _in_thread(lambda: path.open("rb"), path.name)
        try:
            while piece := await _in_thread(lambda: file.read(_PIECE_BYTES), path.name):
                yield piece
        finally:
            with anyio.CancelScope(shield=True):
                await _in_thread(file.close, path.name)

    status = await _in_thread(path.stat, path.name)
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInputError(f"{shown(path.name)} is no regular file")
    name = filename_of(path.name, "upload.bin")
    return Parcel(name=name, content_type=ANY_TYPE, size=status.st_size, pieces=pieces)


async def _in_thread(function: Callable[[], T], name: str) -> T:
    try:
        return await anyio.to_thread.run_sync(function)
    except (OSError, UnicodeError) as error:
        said = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise TransferError(f"{shown(name)} cannot be read: {said}") from error


class _Body:
    """One attempt's bytes on their way, reported to whoever watches."""

    def __init__(self, parcel: Parcel, on_sent: OnSent | None) -> None:
        self._parcel = parcel
        self._on_sent = on_sent
        self._pieces = parcel.pieces()
        self._sent = 0
        self.is_begun = False
        self.error: Exception | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self.is_begun = True
        try:
            # That more is wanted says that what came before is on its way.
            if self._on_sent is not None and self._sent:
                answer = self._on_sent(self._sent, self._parcel.size)
                if isawaitable(answer):
                    await answer
            piece = await anext(self._pieces, b"")
        except Exception as error:
            # The network layer would take some of these for failures of its own.
            self.error = error
            raise
        if not piece:
            raise StopAsyncIteration
        self._sent += len(piece)
        return piece

    async def aclose(self) -> None:
        await self._pieces.aclose()


# Sending it


@attrs.frozen
class _Answer:
    """How one attempt ended: a status, or a failure, and for how long to wait."""

    status: int | None
    reason: str
    may_have_landed: bool
    may_repeat: bool
    retry_after: float | None = None


async def send(
    client: Transfers, parcel: Parcel, *, retries: RetryPolicy, on_sent: OnSent | None = None
) -> UploadedFile:
    """
    Ask where the file is to go, send it there, and return what the service calls it.

    Raises:
        TransferError: The store did not take it.
        RequestRejectedError: The service did not want it.
    """
    signed = await _presigned(client.caller, parcel)
    is_signed_anew = may_have_landed = False
    failures = 0
    while True:
        body = _Body(parcel, on_sent)
        answer = await _try(client, signed, parcel, body)
        if answer.status is not None and _is_done(answer.status, landed=may_have_landed):
            return UploadedFile(
                key=signed.file_key,
                name=parcel.name,
                size=parcel.size,
                content_type=parcel.content_type,
                raw=signed.raw,
            )
        if body.is_begun and not parcel.is_repeatable:
            raise _not_taken(parcel, answer, "; an iterator cannot be read a second time")
        if not is_signed_anew and answer.status in {*_SIGNATURE_REFUSALS, _ALREADY_THERE}:
            # Expired, or a key that somebody has: a new one fixes both.
            signed, is_signed_anew, may_have_landed = (
                await _presigned(client.caller, parcel),
                True,
                False,
            )
            continue
        failures += 1
        if not answer.may_repeat or failures >= retries.max_attempts:
            raise _not_taken(parcel, answer)
        may_have_landed = may_have_landed or answer.may_have_landed
        await anyio.sleep(pause_after(failures, retries, answer.retry_after))


def _is_done(status: int, *, landed: bool) -> bool:
    return 200 <= status < 300 or (status == _ALREADY_THERE and landed)


def _not_taken(parcel: Parcel, answer: _Answer, why: str = "") -> TransferError:
    name = shown(parcel.name)
    return TransferError(
        f"{name} could not be uploaded: {answer.reason}{why}", status=answer.status
    )


async def _presigned(caller: Caller, parcel: Parcel) -> PresignedUpload:
    body = {
        "file_name": parcel.name,
        "file_size": parcel.size,
        "content_type": parcel.content_type,
    }
    return decode_presign(await caller.call("POST", path_for("files", "presign"), json_body=body))


async def _try(client: Transfers, signed: PresignedUpload, parcel: Parcel, body: _Body) -> _Answer:
    headers = _headers(signed, parcel)
    try:
        answer = await client.transfer("PUT", signed.url, headers, body)
    except ExchangeFailedError as error:
        if body.error is not None:
            raise body.error from None
        return _Answer(
            status=None,
            reason=error.reason,
            may_have_landed=error.maybe_sent,
            may_repeat=not (error.kind.is_lasting or error.kind is FailureKind.PROTOCOL),
        )
    finally:
        await body.aclose()
    with anyio.CancelScope(shield=True):
        await answer.aclose()
    return _Answer(
        status=answer.status,
        reason=f"the store answered HTTP {answer.status}",
        may_have_landed=answer.status >= 500,
        may_repeat=answer.status in _FOR_NOW,
        retry_after=parse_retry_after(
            answer.headers.get("retry-after"), answer.headers.get("date")
        ),
    )


def _headers(signed: PresignedUpload, parcel: Parcel) -> dict[str, str]:
    length = str(parcel.size)
    for name, value in signed.headers.items():
        if name.lower() == "content-length":
            if value.strip() != length:
                raise TransferError(
                    f"{shown(parcel.name)} has {length} bytes, but the service signed {value!r}"
                )
            return dict(signed.headers)
    return {**signed.headers, "Content-Length": length}
