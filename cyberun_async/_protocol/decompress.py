"""Compressed bodies, unpacked within limits."""

import zlib
from collections.abc import Iterator

from .._model import TransferError, shown
from .exchange import ExchangeFailedError, FailureKind


_PIECE_BYTES = 256 * 1024


# gzip cannot exceed about 1000; pictures, scenes and logs stay far below this.
_MAX_RATIO = 200


_RATIO_FREE_BYTES = 1024 * 1024


class _Unpacker:
    """Undoes gzip or deflate in small pieces, and stops where a little becomes too much."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(47)  # gzip or zlib, by its head
        self._read = 0
        self._made = 0
        self._holds_more = False

    @property
    def is_complete(self) -> bool:
        """Whether the end was seen; nothing at all is complete, too."""
        return self._zlib.eof or not self._read

    def pieces(self, chunk: bytes, name: str) -> Iterator[bytes]:
        """
        Yield what *chunk* holds.

        Raises:
            TransferError: It is not packed as it says, or holds too much for its size.
        """
        self._read += len(chunk)
        while chunk or self._holds_more:
            if self._zlib.eof:
                self._zlib = zlib.decompressobj(47)
            try:
                piece = self._zlib.decompress(chunk, _PIECE_BYTES)
            except zlib.error as error:
                raise TransferError(f"{shown(name)} is not compressed as the store says") from error
            chunk = self._zlib.unconsumed_tail or self._zlib.unused_data
            # Of input that is all taken, output may wait for room.
            self._holds_more = len(piece) == _PIECE_BYTES and not self._zlib.eof
            self._made += len(piece)
            if self._made > max(_RATIO_FREE_BYTES, _MAX_RATIO * self._read):
                raise TransferError(
                    f"{shown(name)} unpacks to more than {_MAX_RATIO} times its size"
                )
            yield piece


def _unpacker_for(encoding: str, name: str) -> _Unpacker | None:
    if encoding in {"", "identity"}:
        return None
    if encoding in {"gzip", "x-gzip", "deflate"}:
        return _Unpacker()
    raise TransferError(
        f"{shown(name)} is compressed as {shown(encoding)}, which was not asked for"
    )


class _Inflater:
    """Undoes gzip and deflate without ever making more than was allowed for."""

    def __init__(self, limit: int, encoding: str | None) -> None:
        encoding = (encoding or "identity").strip().lower()
        if encoding not in {"identity", "", "gzip", "x-gzip", "deflate"}:
            raise _invalid("the answer is compressed in a way that was not asked for")
        self._limit = limit
        self._is_empty = True
        # 32 + 15: gzip or zlib, by its head.
        self._zlib = None if encoding in {"identity", ""} else zlib.decompressobj(47)

    def __call__(self, chunk: bytes, room: int) -> bytes:
        if self._zlib is None:
            return chunk
        self._is_empty = False
        try:
            return self._zlib.decompress(chunk, room)
        except zlib.error:
            raise _invalid("the answer is not compressed as it says") from None

    def end(self) -> None:
        if self._zlib is not None and not (self._is_empty or self._zlib.eof):
            raise _invalid("the compressed answer is cut")


def _invalid(problem: str) -> ExchangeFailedError:
    return ExchangeFailedError(FailureKind.PROTOCOL, maybe_sent=True, reason=problem)
