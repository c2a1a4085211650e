"""The public iterator over a task's events."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Self, TypeVar, cast

import attrs

from .._following import EventBuffer, Follower
from .._iteration import HeldIterator
from .._model import ClientStateError, CyberunError, ResumeToken, TaskSnapshot, TerminalEvent
from .._runtime import Runtime
from .session import Session


if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    from .._model import Event

    # Python itself knows defaults from 3.13 on.
    Delivered = TypeVarWithDefault("Delivered", default=Event)
    Delivered_co = TypeVarWithDefault("Delivered_co", covariant=True, default=Event)
else:
    Delivered = TypeVar("Delivered")
    Delivered_co = TypeVar("Delivered_co", covariant=True)

Item_co = TypeVar("Item_co", covariant=True)


class Subscription(HeldIterator[Item_co]):
    """What one reader sees of a task's follower, from its first item to the follower's end."""

    def __init__(
        self,
        session: Session,
        token: ResumeToken,
        *,
        reader: EventBuffer,
        cancel_on_exit: bool = False,
    ) -> None:
        self._reader = reader
        self._session = session
        self._token = token
        self._cancel_on_exit = cancel_on_exit
        self._follower: Follower | None = None

    def __repr__(self) -> str:
        phase = "closed" if self._is_closed else self.phase
        return f"<{type(self).__name__} of task {self._token.task_id}: {phase}>"

    # What is known.

    @property
    def task_id(self) -> str:
        """The task."""
        return self._token.task_id

    @property
    def phase(self) -> str:
        """Where the watch stands, in a word; for people and logs."""
        return "not begun" if self._follower is None else self._follower.watch.phase.value

    @property
    def progress_is_live(self) -> bool:
        """Whether progress arrives as it happens; not so while polling."""
        return self._follower is not None and self._follower.watch.progress_is_live

    @property
    def status(self) -> str | None:
        """The last known status, or None."""
        return self._token.status if self._follower is None else self._follower.watch.status

    @property
    def snapshot(self) -> TaskSnapshot | None:
        """The last full state that an ask brought, or None."""
        return None if self._follower is None else self._follower.watch.snapshot

    @property
    def ended_as(self) -> str | None:
        """How the task ended, from when that is known on; its end may not have been read yet."""
        outcome = None if self._follower is None else self._follower.outcome
        return outcome.status if isinstance(outcome, TerminalEvent) else None

    @property
    def dropped_progress(self) -> int:
        """How many progress events were overwritten by newer ones because this reader was slow."""
        return self._reader.dropped_progress

    def token(self) -> ResumeToken:
        """Return what another process needs to continue behind what was read here."""
        if self._follower is None or self._is_closed:
            return self._token
        return self._present_token(self._follower)

    # Reading.

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._start()
        return self

    async def aclose(self) -> None:
        """
        Stop watching and give the connection back. The task itself keeps running.

        A read in another task raises :class:`ClientStateError`, and so does reading on.
        Cancelled meanwhile, it is closed all the same. Closing again does
        nothing. With ``cancel_on_exit=True`` a task that has not ended is asked to cancel.

        Raises:
            WrongEventLoopError: On another event loop than the client's.
        """
        await super().aclose()

    async def _let_go(self) -> None:
        follower = self._follower
        if follower is None:
            return
        # The follower serves others on, but what was read here stays as it is.
        self._token = self._present_token(follower)
        # Whoever left right behind the end may read on, and learns that it was the end.
        self._is_over = self._is_over or self._reader.is_drained
        await self._session.unsubscribe(follower, self._reader)
        if not self._reader.is_finished:
            self._reader.finish(self._refusal())
        if self._cancel_on_exit and self.ended_as is None:
            await self._session.request_cancel(self.task_id)

    def _note_failure(self, error: Exception) -> None:
        if self._reader.has_lost and isinstance(error, CyberunError):
            # That of the watch may be behind what was dropped here.
            error.with_token(self.token())

    def _refusal(self) -> ClientStateError:
        return super()._refusal().with_token(self.token())

    def _present_token(self, follower: Follower) -> ResumeToken:
        token = follower.watch.token()
        return self._as_read(token) if self._reader.is_behind else token

    def _as_read(self, token: ResumeToken) -> ResumeToken:
        """Return *token* as it was before what waits for this reader."""
        last, first = self._reader.last_read_status, self._token
        attempt = first.attempt if last is None else last.attempt
        count = token.retry_count
        return attrs.evolve(
            token,
            status=first.status if last is None else last.status,
            attempt=attempt,
            retry_count=None if count is None else max(0, count - (token.attempt - attempt)),
            last_event_id=None,  # it may belong to what was not read
        )

    @property
    def _is_holding(self) -> bool:
        return not self._reader.is_finished

    def _check_unread(self) -> None:
        self._session.home()

    def _begin(self) -> Runtime:
        home = self._session.home()
        self._follower = self._session.subscribe(self._token, self._reader)
        return home


class EventStream(Subscription[Delivered_co]):
    """
    The events of one task, in order, up to and including its end.

    It yields :data:`Event`, and :data:`Notice` in between where the watch was made with
    ``notices=True``: ``EventStream`` alone is ``EventStream[Event]``, the other one is
    ``EventStream[Event | Notice]``.

    Use it as ``async with client.watch(task) as events: async for event in events``:
    the connection is then given back before the block is left, however it is left, and a
    read that is cancelled or times out inside loses nothing: the next one continues. A
    bare ``async for`` works too and closes itself at its end, on errors and on
    cancellation; left by ``break`` it stays open until it is closed or collected, and warns.
    Read on after it was closed, it raises :class:`ClientStateError`.

    One reader per stream: call :meth:`CyberunClient.watch` once for each.
    """

    _what = "event stream"
    _call = "client.watch(task)"

    def __init__(
        self,
        session: Session,
        token: ResumeToken,
        *,
        notices: bool = False,
        cancel_on_exit: bool = False,
    ) -> None:
        reader = EventBuffer(session.limits.reader_capacity, notices=notices)
        super().__init__(session, token, reader=reader, cancel_on_exit=cancel_on_exit)
        # Without notices nothing but events is pushed: the type says what the setting does.
        self._take = cast("Callable[[], Delivered_co | None]", reader.take)
        self._wait = cast("Callable[[], Awaitable[Delivered_co | None]]", reader.next)

    def _ready(self) -> Delivered_co | None:
        return self._take()

    def _next(self) -> Awaitable[Delivered_co | None]:
        return self._wait()
