"""
Bytes in, Server-Sent Events out: the framing of an event stream, without I/O.

The rules are those of the HTML standard, section "Server-sent events"; the
limits are ours, because a stream that never ends a line or an event would
otherwise fill the memory. Between two blocks nothing is kept, so the common
case (whole blocks in a chunk) is split and decoded at once; only what is left
over after the last blank line is taken line by line.

Lines are read as soon as they are complete, not when their block is: an event
is out the moment its blank line is complete, also when that ends with a lone
CR, and comments may follow each other for days without being stored.
"""

from collections.abc import Callable
from typing import Final, Generic, Literal, TypeVar


T = TypeVar("T")

DEFAULT_MAX_BYTES: Final = 1024 * 1024

_CR: Final = 13  # as a number, the search is several times faster
_BOM: Final = b"\xef\xbb\xbf"

# A run of digits may be a mebibyte long, and int() takes quadratic time for
# it; what is beyond 30,000 years needs no distinction.
_RETRY_DIGITS: Final = 15
_RETRY_CEILING: Final = 10**_RETRY_DIGITS - 1


class FramingError(Exception):
    """
    The stream went past a limit and cannot be read on.

    Attributes:
        reason: Which limit: that of one line or that of one event.

        limit: The limit in bytes.

    """

    def __init__(self, reason: Literal["line", "event"], limit: int) -> None:
        super().__init__(reason, limit)
        self.reason: Final = reason
        self.limit: Final = limit

    def __str__(self) -> str:
        what = {"line": "a line", "event": "an event"}[self.reason]
        return f"the stream sent {what} longer than {self.limit} bytes"


class Framer(Generic[T]):
    """
    Turn the chunks of one event stream into messages.

    The result does not depend on where the chunks are cut. A last block
    without its blank line is never dispatched, as the standard demands, so
    there is nothing to flush when the stream ends.

    Args:
        factory:
            Makes a message from event name, data, last event id and the
            block's retry time in milliseconds or None.

        max_line_bytes: Longest line, without its end.

        max_event_bytes:
            Longest block: its lines with one byte for each end, comments not
            counted, as they are not kept.

        last_event_id: The id that events carry until the stream sends one.

    Attributes:
        failure: The limit that was passed: nothing more can be read.
        last_event_id: The id as of the last complete block; empty if none or cleared.
        retry: The last valid reconnection time in milliseconds, unclamped.

    """

    def __init__(
        self,
        factory: Callable[[str, str, str, int | None], T],
        *,
        max_line_bytes: int = DEFAULT_MAX_BYTES,
        max_event_bytes: int = DEFAULT_MAX_BYTES,
        last_event_id: str = "",
    ) -> None:
        self._factory = factory
        self._max_line_bytes = max_line_bytes
        self._max_event_bytes = max_event_bytes
        # What is taken in one piece can hold no line or event above a limit.
        self._step = min(max_line_bytes, max_event_bytes)
        self.failure: FramingError | None = None
        self._is_plain = False

        # How far the bytes have been read
        self._head: bytes | None = b""
        self._after_cr = False
        self._line = bytearray()
        self._in_block = False

        # The block being read
        self._event = ""
        self._data: list[str] = []
        self._id = last_event_id
        self._retry_of_block: int | None = None
        self._block_bytes = 0

        # What outlives a block
        self.last_event_id = last_event_id
        self.retry: int | None = None

    def feed(self, chunk: bytes) -> list[T]:
        """
        Return the messages that *chunk* completes, in order.

        Messages in front of a violation are never lost: they are returned
        first, and the next call raises.

        Raises:
            FramingError: A limit was passed. Every later call raises too.

        """
        found: list[T] = []
        # The short way: whole blocks only, nothing left over from before.
        if (
            self._is_plain
            and chunk[-2:] == b"\n\n"
            and len(chunk) <= self._step
            and _CR not in chunk
        ):
            text = chunk[:-1].decode("utf-8", "replace")
            self._interpret(text.split("\n"), found)
            return found
        if self.failure is not None:
            raise self.failure
        try:
            for start in range(0, len(chunk), self._step):
                self._take(chunk[start : start + self._step], found)
        except FramingError as failure:
            self.failure = failure
            if not found:
                raise
        finally:
            self._is_plain = self._can_take_the_short_way()
        return found

    def _can_take_the_short_way(self) -> bool:
        return not (
            self.failure is not None or self._head is not None or self._after_cr or self._in_block
        )

    def _take(self, piece: bytes, found: list[T]) -> None:
        if self._head is not None:
            piece = self._without_bom(self._head + piece)
        if self._after_cr or _CR in piece:
            piece = self._with_lf_only(piece)
        if self._in_block:
            piece = self._resume_block(piece, found)
        end = piece.rfind(b"\n\n")
        if end >= 0:
            text = piece[: end + 1].decode("utf-8", "replace")
            self._interpret(text.split("\n"), found)
            piece = piece[end + 2 :]
        if piece:
            self._read_lines(piece, found)

    def _without_bom(self, head: bytes) -> bytes:
        """Hold back what may be the beginning of a byte-order mark."""
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _with_lf_only(self, piece: bytes) -> bytes:
        """End each line with one LF, also where a CRLF was cut in two."""
        if self._after_cr:
            self._after_cr = False
            if piece.startswith(b"\n"):
                piece = piece[1:]
        if _CR in piece:
            self._after_cr = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return piece

    def _resume_block(self, piece: bytes, found: list[T]) -> bytes:
        """Read on to the end of the open block and return what follows it."""
        if piece.startswith(b"\n") and not self._line:
            end = 1
        else:
            last_line = piece.find(b"\n\n")
            end = last_line + 2 if last_line >= 0 else len(piece)
        self._read_lines(piece[:end], found)
        return piece[end:]

    def _read_lines(self, piece: bytes, found: list[T]) -> None:
        lines = piece.split(b"\n")
        rest = lines.pop()
        for line in lines:
            self._read_line(self._with_beginning(line), found)
        if rest:
            self._in_block = True
            self._line += rest
            self._check_line(len(self._line))

    def _with_beginning(self, line: bytes) -> bytes:
        """Put what earlier chunks held of this line in front of its end."""
        if self._line:
            line = bytes(self._line) + line
            self._line.clear()
        return line

    def _read_line(self, line: bytes, found: list[T]) -> None:
        self._check_line(len(line))
        self._in_block = bool(line)
        if not line:
            self._block_bytes = 0
        elif not line.startswith(b":"):
            self._block_bytes += len(line) + 1
            if self._block_bytes > self._max_event_bytes:
                raise FramingError("event", self._max_event_bytes)
        self._interpret([line.decode("utf-8", "replace")], found)

    def _check_line(self, size: int) -> None:
        if size > self._max_line_bytes:
            raise FramingError("line", self._max_line_bytes)

    def _interpret(self, lines: list[str], found: list[T]) -> None:
        """Obey the lines; the usual form of the usual fields comes first."""
        data = self._data
        factory = self._factory
        for line in lines:
            if not line:
                self.last_event_id = self._id
                if data:
                    event = self._event or "message"
                    datum = "\n".join(data)
                    retry = self._retry_of_block
                    found.append(factory(event, datum, self._id, retry))
                    data.clear()
                self._event = ""
                self._retry_of_block = None
                continue
            name, _, value = line.partition(": ")
            if name == "data":
                data.append(value)
            elif name == "event":
                self._event = value
            else:
                self._read_field(line)

    def _read_field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id":
            self._id = self._id if "\0" in value else value
        elif name == "retry":
            self._read_retry(value)

    def _read_retry(self, value: str) -> None:
        if value.isascii() and value.isdigit():
            digits = value.lstrip("0") or "0"
            long = len(digits) > _RETRY_DIGITS
            self.retry = _RETRY_CEILING if long else int(digits)
            self._retry_of_block = self.retry
