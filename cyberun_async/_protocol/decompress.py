"""Compressed bodies, unpacked within limits."""

import zlib
from collections.abc import Callable, Iterator

from .._model import shown


_PIECE_BYTES = 256 * 1024

# Of what unpacks to less, nobody asks how small it was.
_RATIO_FREE_BYTES = 1024 * 1024


class Decompressor:
    """
    Undoes gzip or deflate in small pieces, and stops where a little becomes too much.

    Args:
        what: The body, in messages.
        fail: Makes the error of a message.
        max_ratio: How many times its size it may unpack to.
    """

    def __init__(
        self, what: str, fail: Callable[[str], Exception], max_ratio: int | None = None
    ) -> None:
        self._what = what
        self._fail = fail
        self._max_ratio = max_ratio
        self._zlib = zlib.decompressobj(47)  # gzip or zlib, by its head
        self._read = 0
        self._made = 0
        self._holds_more = False

    @property
    def is_complete(self) -> bool:
        """Whether the end was seen; nothing at all is complete, too."""
        return self._zlib.eof or not self._read

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what *chunk* holds."""
        self._read += len(chunk)
        while chunk or self._holds_more:
            if self._zlib.eof:
                self._zlib = zlib.decompressobj(47)
            try:
                piece = self._zlib.decompress(chunk, _PIECE_BYTES)
            except zlib.error as error:
                raise self._fail(f"{self._what} is not compressed as it says") from error
            chunk = self._zlib.unconsumed_tail or self._zlib.unused_data
            # Of input that is all taken, output may wait for room.
            self._holds_more = len(piece) == _PIECE_BYTES and not self._zlib.eof
            self._made += len(piece)
            most = self._max_ratio
            if most is not None and self._made > max(_RATIO_FREE_BYTES, most * self._read):
                raise self._fail(f"{self._what} unpacks to more than {most} times its size")
            yield piece


def decompressor_for(
    encoding: str | None,
    what: str,
    fail: Callable[[str], Exception],
    max_ratio: int | None = None,
) -> Decompressor | None:
    """Return what undoes *encoding*, or None where there is nothing to undo."""
    encoding = (encoding or "").strip().lower()
    if encoding in {"", "identity"}:
        return None
    if encoding in {"gzip", "x-gzip", "deflate"}:
        return Decompressor(what, fail, max_ratio)
    raise fail(f"{what} is compressed as {shown(encoding)}, which was not asked for")
