"""The service's clock, and the event loop of the caller."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import attrs


@attrs.frozen
class RunningLoop:
    """The event loop of the calling task: its identity, its clock, and how to post to it."""

    identity: object
    time: Callable[[], float]
    post: Callable[[Callable[[], object]], object]


def running_loop() -> RunningLoop | None:
    """Return the loop that runs the caller, or None outside of any loop."""
    return _asyncio_loop() or _trio_loop()


def _asyncio_loop() -> RunningLoop | None:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return RunningLoop(loop, loop.time, loop.call_soon_threadsafe)


def _trio_loop() -> RunningLoop | None:
    # A program that runs trio has imported it already.
    if "trio" not in sys.modules:
        return None
    import trio

    try:
        token = trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None
    return RunningLoop(token, trio.current_time, token.run_sync_soon)


class ServiceClock:
    """
    Count the seconds since the service began.

    In process the clock is that of the running event loop, virtual or not; once
    a server thread has been started it is the machine's monotonic clock, which
    every thread reads alike. It never runs backwards, also when the source
    changes.
    """

    def __init__(self, starts_at: datetime | None = None) -> None:
        self._starts_at = starts_at or datetime.now(UTC)
        self._lock = threading.Lock()
        self._threaded = False
        self._source: object = None
        self._shift = 0.0
        self._last = 0.0

    def follow_threads(self) -> None:
        """Read the machine's clock from now on, in every thread."""
        self._threaded = True

    def now(self) -> float:
        """Return the seconds since the service began."""
        with self._lock:
            source, reading = self._read()
            if source is not self._source and source is not None:
                self._source, self._shift = source, self._last - reading
            if source is not None:
                self._last = max(self._last, reading + self._shift)
            return self._last

    def advance(self, seconds: float) -> None:
        """Move the clock forward by *seconds* at once."""
        self.now()
        with self._lock:
            self._shift += seconds
            self._last += seconds

    def datetime_at(self, at: float) -> datetime:
        """Return the date and time of the service second *at*."""
        return self._starts_at + timedelta(seconds=at)

    def stamp(self, at: float) -> str:
        """Write the timestamp of second *at* as the service does: UTC, whole seconds, ``Z``."""
        return self.datetime_at(at).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _read(self) -> tuple[object, float]:
        if self._threaded:
            return self, time.monotonic()
        loop = running_loop()
        return (None, 0.0) if loop is None else (loop.identity, loop.time())
