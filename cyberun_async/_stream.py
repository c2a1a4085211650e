"""The public iterator over a task's events."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar, cast

import anyio
import attrs

from ._errors import ClientStateError
from ._feed import Feed
from ._models import ResumeToken, TaskSnapshot
from ._reader import Reader


if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    from ._events import Event

    # Python itself knows defaults from 3.13 on.
    Delivered = TypeVarWithDefault("Delivered", default=Event)
    Delivered_co = TypeVarWithDefault("Delivered_co", covariant=True, default=Event)
else:
    Delivered = TypeVar("Delivered")
    Delivered_co = TypeVar("Delivered_co", covariant=True)

Item_co = TypeVar("Item_co", covariant=True)


class Subscriptions(Protocol):
    """What a stream needs of its client."""

    def check_open(self) -> None:
        """Raise unless the client may be used here and now."""
        ...

    def subscribe(self, token: ResumeToken, reader: Reader) -> Feed:
        """Attach *reader* to the task's feed."""
        ...

    async def unsubscribe(self, feed: Feed, reader: Reader) -> None:
        """Detach it, and give the connection back."""
        ...

    async def request_cancel(self, task_id: str) -> bool:
        """Ask the service to cancel the task, within some seconds; return whether it took it."""
        ...


class Subscription(ABC, Generic[Item_co]):
    """What one reader sees of a task's feed, from its first item to the feed's end."""

    def __init__(
        self,
        client: Subscriptions,
        token: ResumeToken,
        *,
        reader: Reader,
        cancel_on_exit: bool = False,
    ) -> None:
        self._reader = reader
        self._client = client
        self._token = token
        self._cancel_on_exit = cancel_on_exit
        self._feed: Feed | None = None
        self._is_closed = False
        self._is_reading = False

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
        return "not begun" if self._feed is None else self._feed.watch.phase.value

    @property
    def progress_is_live(self) -> bool:
        """Whether progress arrives as it happens; not so while polling."""
        return self._feed is not None and self._feed.watch.progress_is_live

    @property
    def status(self) -> str | None:
        """The last known status, or None."""
        return self._token.status if self._feed is None else self._feed.watch.status

    @property
    def snapshot(self) -> TaskSnapshot | None:
        """The last full state that an ask brought, or None."""
        return None if self._feed is None else self._feed.watch.snapshot

    @property
    def coalesced(self) -> int:
        """How many ticks were overwritten by newer ones because this reader was slow."""
        return self._reader.coalesced

    def token(self) -> ResumeToken:
        """Return what another process needs to go on from what was read here."""
        if self._feed is None or self._is_closed:
            return self._token
        token = self._feed.watch.token()
        return self._as_read(token) if self._reader.is_behind else token

    # Reading.

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item_co:
        if self._is_reading:
            raise ClientStateError(
                "two tasks read one event stream; call client.watch(task) once for each"
            )
        if self._is_closed:
            raise StopAsyncIteration
        if self._feed is None:
            # Later on, what has been received is still delivered when the client closes.
            self._begin()
        if (item := self._ready()) is not None:
            return item
        self._is_reading = True
        try:
            item = await self._next()
        except BaseException:
            self._is_reading = False
            await self.aclose()
            raise
        self._is_reading = False
        if item is None:
            await self.aclose()
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """
        Stop watching and give the connection back. The task itself goes on.

        Cancelled meanwhile, it is closed all the same. Closing again does
        nothing. With ``cancel_on_exit=True`` a task that has not ended is asked to cancel.
        """
        if self._is_closed:
            return
        # The feed goes on for others, but what was read here does not.
        self._token = self.token()
        self._is_closed = True
        feed = self._feed
        if feed is None:
            return
        with anyio.CancelScope(shield=True):
            await self._client.unsubscribe(feed, self._reader)
            # One that waits in another task is at its end.
            if not self._reader.is_finished:
                self._reader.finish()
            if self._cancel_on_exit and feed.watch.terminal is None:
                await self._client.request_cancel(self.task_id)

    def _as_read(self, token: ResumeToken) -> ResumeToken:
        """Return *token* as it was before what waits for this reader."""
        told, first = self._reader.told, self._token
        attempt = first.attempt if told is None else told.attempt
        count = token.retry_count
        return attrs.evolve(
            token,
            status=first.status if told is None else told.status,
            attempt=attempt,
            retry_count=None if count is None else max(0, count - (token.attempt - attempt)),
            last_event_id=None,  # it may belong to what was not read
        )

    def _ready(self) -> Item_co | None:
        """Return the next item if it is there already: spares most items a coroutine."""
        return None

    @abstractmethod
    def _next(self) -> Awaitable[Item_co | None]:
        """Return the next item, or None at the end; raise the failure that ended it."""

    def _begin(self) -> None:
        if self._is_closed:
            raise ClientStateError("this event stream is closed; call client.watch(task) again")
        self._client.check_open()
        if self._feed is None:
            self._feed = self._client.subscribe(self._token, self._reader)

    def __del__(self) -> None:
        if self._feed is not None and not self._is_closed and not self._reader.is_finished:
            warnings.warn(
                f"{self!r} was left without being closed; use `async with client.watch(...)`",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )


class EventStream(Subscription[Delivered_co]):
    """
    The events of one task, in order, up to and including its end.

    It yields :data:`Event`, and :data:`Notice` in between where the watch was made with
    ``notices=True``: ``EventStream`` alone is ``EventStream[Event]``, the other one is
    ``EventStream[Event | Notice]``.

    Use it as ``async with client.watch(task) as events: async for event in events``:
    the connection is then given back before the block is left, however it is left. A
    bare ``async for`` works too and closes itself at its end, on errors and on
    cancellation; left by ``break`` it stays open until it is closed, and warns.

    One reader per stream: call :meth:`CyberunClient.watch` once for each.
    """

    def __init__(
        self,
        client: Subscriptions,
        token: ResumeToken,
        *,
        capacity: int,
        notices: bool = False,
        cancel_on_exit: bool = False,
    ) -> None:
        reader = Reader(capacity, notices=notices)
        super().__init__(client, token, reader=reader, cancel_on_exit=cancel_on_exit)
        # Without notices nothing but events is pushed: the type says what the setting does.
        self._take = cast("Callable[[], Delivered_co | None]", reader.take)
        self._wait = cast("Callable[[], Awaitable[Delivered_co | None]]", reader.next)

    def _ready(self) -> Delivered_co | None:
        return self._take()

    def _next(self) -> Awaitable[Delivered_co | None]:
        return self._wait()
