"""
Exceptions without the variables of the calls that they came through.

Error reporters show the local variables of each frame of a traceback. Below the seams of
this library these hold keys, signed links and what the service sent, not least in the
frames of the HTTP libraries. So a traceback ends at the seam; where below it an exception
that nobody foresaw came from is said in a note. The frames themselves are not touched:
one that is still suspended would be closed with that.
"""

import sys
from contextlib import ContextDecorator
from types import TracebackType

from .._model import CyberunError
from .exchange import ExchangeFailedError


class without_locals(ContextDecorator):  # noqa: N801 - written like a function
    """
    Let the traceback of what is raised inside end here, with the frame in which this stands.

    Whatever was being handled before is left as it is. As a decorator it is for plain
    functions only.
    """

    __slots__ = ("_handled",)

    def __enter__(self) -> None:
        self._handled = sys.exc_info()[1]

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc is not None:
            end = exc.__traceback__
            _note_places(exc, None if end is None else end.tb_next)
            forget_locals(exc, handled=self._handled)
            if end is not None:
                end.tb_next = None
                exc.__traceback__ = end

    def _recreate_cm(self) -> "without_locals":
        return without_locals()


def forget_locals(error: BaseException, *, handled: BaseException | None = None) -> None:
    """Drop the tracebacks of *error* and of all below it, up to what was *handled* before."""
    seen = {id(handled)}
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        left += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


def _note_places(error: BaseException, traceback: TracebackType | None) -> None:
    """Say where an exception comes from that is neither the library's own nor a cancellation."""
    if not isinstance(error, Exception) or isinstance(error, CyberunError | ExchangeFailedError):
        return
    places: list[str] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        places.append(f"{code.co_filename}:{traceback.tb_lineno} in {code.co_qualname}")
        traceback = traceback.tb_next
    if places:
        error.add_note("raised through " + ", ".join(places))
