"""Whether something that is about to travel brings a credential along."""

import pickletools
import re
from collections.abc import Iterator
from contextlib import suppress


_CREDENTIAL = re.compile(
    r"\b(?:sk|dk)-[A-Za-z0-9_-]{12,}|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+\."
)


def brings_credential(pickled: bytes) -> bool:
    """Return whether a text that looks like a credential is among what was pickled."""
    return any(_CREDENTIAL.search(text) for text in _texts(pickled))


def _texts(pickled: bytes) -> Iterator[str]:
    # One by one: in the whole the length before a text may seem to be a letter of it.
    for _, argument, _ in pickletools.genops(pickled):
        if isinstance(argument, str):
            yield argument
        elif isinstance(argument, bytes | bytearray):
            yield argument.decode("latin-1")
            # What pickled itself into bytes; others that look like it are none.
            if argument[:1] == b"\x80":
                with suppress(ValueError):
                    yield from _texts(bytes(argument))
