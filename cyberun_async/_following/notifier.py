"""The observer of a client, called so that its faults stay its own."""

import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from inspect import iscoroutine
from typing import Any, cast

import attrs

from .._model import (
    CyberunError,
    Event,
    Gap,
    GaveUp,
    InvalidInputError,
    Notice,
    Observer,
    PollingStarted,
    StreamingResumed,
    StreamLost,
    TerminalEvent,
)
from .._validation import HOP_HEADERS, OWN_HEADERS, header_text


logger = logging.getLogger("cyberun_async")

# What the library sets itself, or says of the message or the connection.
_NOT_THEIRS = (
    OWN_HEADERS
    | HOP_HEADERS
    | {
        *("accept", "accept-encoding", "content-encoding", "content-type", "expect"),
        "last-event-id",
    }
)
# Of kinds of faults that are counted apart; all others are one more kind.
_MOST_KINDS = 100


class Faults:
    """Logs faults of an observer: of each kind the first, the tenth, the hundredth, ..."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}

    def note(self, what: str, fault: str, error: Exception | None = None) -> None:
        """Log that *what* had this *fault*, if it is one of those that are logged."""
        kind = (what, fault if error is None else type(error).__qualname__)
        if kind not in self._counts and len(self._counts) >= _MOST_KINDS:
            kind = ("", "")
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if count == 1:
            logger.error("%s %s", what, fault, exc_info=error)
        elif str(count).strip("0") == "1":
            logger.error("%s %s, for the %dth time", what, fault, count)


@attrs.define
class SentRun:
    """A run that is being sent; its task once it is known."""

    task_id: str | None = None


class Notifier:
    """Calls an observer and a callback for notices; either may be missing."""

    __slots__ = ("_faults", "_observer", "_on_notice", "received")

    def __init__(
        self,
        observer: Observer | None,
        on_notice: Callable[[Notice], None] | None,
        faults: Faults | None = None,
    ) -> None:
        self._observer = observer
        self._on_notice = on_notice
        self._faults = faults or Faults()
        # None where nobody listens: all that is looked at for each event.
        self.received: Callable[[Event], None] | None = None if observer is None else self._received

    @contextmanager
    def submitting(self, workflow: str) -> Generator[SentRun]:
        """Notify of what is sent within the block, and what became of it."""
        run = SentRun()
        if self._observer is None:
            yield run
            return
        theirs = self._call("submit_began", workflow)
        outcome: CyberunError | None = None
        try:
            yield run
        except CyberunError as error:
            outcome = error
            raise
        finally:
            self._call("submit_ended", theirs, outcome or run.task_id)

    def watch_began(self, task_id: str) -> None:
        """Pass it on."""
        self._call("watch_began", task_id)

    def noticed(self, notice: Notice) -> None:
        """Log it, and pass it on."""
        match notice:
            case StreamLost(cause=cause, delay=delay):
                logger.info(
                    "task %s: stream lost (%s), again in %.1f s", notice.task_id, cause, delay
                )
            case PollingStarted(cause=cause):
                logger.info("task %s: polling (%s)", notice.task_id, cause)
            case StreamingResumed():
                logger.info("task %s: streaming again", notice.task_id)
            case Gap(seconds=seconds):
                logger.info("task %s: reconnected after %.1f s", notice.task_id, seconds)
            case GaveUp(cause=cause):
                logger.info("task %s: gave up (%s)", notice.task_id, cause)
            case _:
                logger.debug("task %s: %s", notice.task_id, type(notice).__name__)
        self._call("noticed", notice)
        if self._on_notice is not None:
            self._guarded("on_notice", self._on_notice, notice)

    def watch_ended(self, task_id: str, outcome: TerminalEvent | CyberunError | None) -> None:
        """Pass it on."""
        self._call("watch_ended", task_id, outcome)

    def closed(self) -> None:
        """Pass it on."""
        self._call("closed")

    def headers(self, task_id: str | None = None) -> dict[str, str]:
        """Return the observer's headers, as far as they are headers, and for it to set."""
        found = self._call("headers", task_id)
        if found is None:
            return {}
        if not isinstance(found, Mapping):
            self._faults.note(_named("headers"), f"returned {type(found).__name__}, no mapping")
            return {}
        given = cast("Mapping[object, object]", found)
        headers: dict[str, tuple[str, str]] = {}
        for name, value in given.items():
            try:
                text = header_text(name, value)
            except InvalidInputError as error:
                self._faults.note(_named("headers"), f"failed: {error}")
                continue
            if (lower := str(name).lower()) in _NOT_THEIRS:
                self._faults.note(_named("headers"), f"returned {lower}, which is left out")
                continue
            headers[lower] = (str(name), text)
        return dict(headers.values())

    def _received(self, event: Event) -> None:
        self._call("received", event)

    def _call(self, method: str, *args: Any) -> Any:
        if self._observer is None:
            return None
        return self._guarded(method, getattr(self._observer, method), *args)

    def _guarded(self, name: str, function: Callable[..., object], *args: Any) -> Any:
        try:
            answer = function(*args)
        except Exception as error:  # noqa: BLE001 - it is logged
            self._faults.note(_named(name), "failed", error)
            return None
        if iscoroutine(answer):
            # What is asynchronous was refused as far as it could be seen.
            answer.close()
            self._faults.note(_named(name), "returned a coroutine, which nobody awaits")
            return None
        return answer


def _named(name: str) -> str:
    return "the callback on_notice" if name == "on_notice" else f"the observer's {name}"
