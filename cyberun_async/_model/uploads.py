"""Files as parameters of runs: one that is to be sent along, and one that was sent."""

import os
from collections.abc import AsyncIterable
from typing import ClassVar

import attrs

from .redaction import Described


Source = str | os.PathLike[str] | bytes | bytearray | memoryview | AsyncIterable[bytes]


@attrs.frozen(eq=False)
class Upload:
    """
    A file to be sent along with a run, where a plain path does not say enough.

    Attributes:
        source: A path, bytes, or an asynchronous iterator of bytes.
        name: What the service calls it; None takes the path's last part.
        content_type: None takes it from the end of the name, by a table of the library.
        size: In bytes; needed with an iterator, which is then read once and closed.
    """

    source: Source = attrs.field(repr=False)
    name: str | None = attrs.field(default=None, kw_only=True)
    content_type: str | None = attrs.field(default=None, kw_only=True)
    size: int | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(kw_only=True, repr=False)
class UploadedFile(Described):
    """
    A file that the service has, for about a day; pass it for a parameter of type ``file``.

    Attributes:
        key: The service's name for it, which means nothing else.
        name, size, content_type: As they were sent.
        raw: The reply to the request for its place; never in ``repr``.
    """

    _whole: ClassVar[frozenset[str]] = frozenset({"key", "name"})

    key: str
    name: str
    size: int
    content_type: str
    raw: bytes = attrs.field(default=b"", repr=False, eq=False)


# What may stand for a file among the parameters of a run, besides its key.
FILE_TYPES = (os.PathLike, Upload, UploadedFile)
