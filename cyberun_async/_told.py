"""The observer of a client, called so that its faults stay its own."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ._errors import CyberunError
from ._events import Event, Notice, TerminalEvent
from ._inputs import header_text
from ._observer import Observer


logger = logging.getLogger("cyberun_async")


class Told:
    """Calls an observer and a callback for notices; either may be missing."""

    __slots__ = ("_observer", "_on_notice", "received")

    def __init__(
        self, observer: Observer | None, on_notice: Callable[[Notice], None] | None
    ) -> None:
        self._observer = observer
        self._on_notice = on_notice
        # None where nobody listens: the one question asked for each event.
        self.received: Callable[[Event], None] | None = None if observer is None else self._received

    def watch_began(self, task_id: str) -> None:
        """Pass it on."""
        if self._observer is not None:
            _call(self._observer.watch_began, task_id)

    def noticed(self, notice: Notice) -> None:
        """Pass it on."""
        if self._observer is not None:
            _call(self._observer.noticed, notice)
        if self._on_notice is not None:
            _call(self._on_notice, notice)

    def watch_ended(self, task_id: str, outcome: TerminalEvent | CyberunError | None) -> None:
        """Pass it on."""
        if self._observer is not None:
            _call(self._observer.watch_ended, task_id, outcome)

    def headers(self, task_id: str | None = None) -> dict[str, str]:
        """Return the observer's headers, as far as they are headers at all."""
        if self._observer is None:
            return {}
        try:
            found: Mapping[str, str] = self._observer.headers(task_id)
            return {header_text("name", n): header_text(n, v) for n, v in found.items()}
        except Exception:
            logger.exception("the observer's headers failed")
            return {}

    def _received(self, event: Event) -> None:
        if self._observer is not None:
            _call(self._observer.received, event)


def _call(function: Callable[..., object], *args: Any) -> None:
    try:
        function(*args)
    except Exception:
        logger.exception("%s failed", getattr(function, "__qualname__", function))
