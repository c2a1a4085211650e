"""How a relay notices that its server is stopped."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self


Handler = Callable[[int, FrameType | None], Any]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """
    Notes the first signal to stop, and passes each on to the earlier handler.

    A server waits for open responses before it ends its application, and a stream
    to a browser stays open; so the signal itself has to be seen. Within the block, in the
    main thread only. A signal that no Python code handles is left alone.
    """

    def __init__(self) -> None:
        self.received: bool = False
        self._previous: dict[int, Handler] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                previous = signal.getsignal(number)
                if callable(previous):
                    self._previous[number] = previous
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, previous in self._previous.items():
            # A later handler passes on to ours, or does not: either way it stays.
            if signal.getsignal(number) == self._note:
                signal.signal(number, previous)

    @property
    def is_listening(self) -> bool:
        """Whether there is a signal that would be noted."""
        return bool(self._previous)

    def _note(self, number: int, stack: FrameType | None) -> None:
        self.received = True
        self._previous[number](number, stack)
