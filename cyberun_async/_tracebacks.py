"""
Exceptions without the variables of the calls that they came through.

Error reporters show the local variables of each frame of a traceback. Below the seams of
this library these hold keys, signed links and what the service sent, not least in the
frames of the HTTP libraries. A frame that has ended keeps its line and loses its variables.
"""

import sys
from contextlib import ContextDecorator, suppress
from types import TracebackType


class without_locals(ContextDecorator):  # noqa: N801 - written like a function
    """
    Let what is raised inside keep no variables of the frames that have ended.

    The frame in which it stands still runs, and so keeps its own. Whatever was being
    handled before is left as it is. As a decorator it is for plain functions only.
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
            forget_locals(exc, handled=self._handled)

    def _recreate_cm(self) -> "without_locals":
        return without_locals()


def forget_locals(error: BaseException, *, handled: BaseException | None = None) -> None:
    """Clear the ended frames of *error* and of all below it, up to what was *handled* before."""
    seen = {id(handled)}
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        _clear(one.__traceback__)
        left += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]


def _clear(traceback: TracebackType | None) -> None:
    while traceback is not None:
        with suppress(RuntimeError):  # where it still runs
            traceback.tb_frame.clear()
        traceback = traceback.tb_next
