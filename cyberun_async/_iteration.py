"""What every iterator that holds something of a client has in common: how it is read and left."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Generator,
    Iterable,
)
from types import TracebackType
from typing import ClassVar, Generic, Self, TypeVar, cast

import anyio

from ._model import ClientStateError, WrongEventLoopError
from ._runtime import Runtime


Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


class HeldIterator(ABC, Generic[Item_co]):
    """
    An iterator that holds a connection, or tasks, from its first item until it is closed.

    A read that is cancelled inside ``async with`` loses nothing, and the next one
    continues. A bare iterator is closed by it, since nobody else would do so. `StopAsyncIteration`
    means that the end was delivered, and nothing else.
    """

    _is_begun = False
    _is_entered = False
    _is_closed = False
    _is_over = False
    _is_reading = False
    _may_share: ClassVar[bool] = False
    _runtime: Runtime
    _failure: Exception | None = None
    _why = ""

    # What it is, and the call that makes another one.
    _what: str
    _call: str

    # What a kind of iterator does in its own way.

    @abstractmethod
    def _begin(self) -> Runtime:
        """Take hold of what is to be read, and return the event loop it belongs to."""

    @abstractmethod
    def _check_unread(self) -> None:
        """Raise unless an iterator that holds nothing yet may be used here and now."""

    def _ready(self) -> Item_co | None:
        """Return the next item if it is there already: spares most items a coroutine."""
        return None

    @abstractmethod
    def _next(self) -> Awaitable[Item_co | None]:
        """Return the next item, or None at the end; raise the failure that ended it."""

    @abstractmethod
    async def _let_go(self) -> None:
        """Give everything back; shielded, and called once."""

    def _note_failure(self, error: Exception) -> None:
        """Complete *error*, which a read is about to raise."""

    @property
    def _is_holding(self) -> bool:
        """Whether something is held that nobody gives back when this is forgotten."""
        return self._is_begun

    # What all do alike.

    async def __aenter__(self) -> Self:
        if self._is_begun:
            self._runtime.check()
        if self._is_closed:
            raise self._refusal()
        self._is_entered = True
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
        if self._is_begun:
            self._runtime.check_loop()
        if self._is_reading and not self._may_share:
            raise ClientStateError(
                f"two tasks read one {self._what}; call {self._call} once for each"
            )
        if self._is_closed:
            if self._is_over:
                raise StopAsyncIteration
            failure, self._failure = self._failure, None
            raise failure or self._refusal()
        if not self._is_begun:
            self._start()
        if (item := self._ready()) is not None:
            return item
        self._runtime.check_process()
        self._is_reading = True
        try:
            item = await self._next()
        except BaseException as error:
            self._is_reading = False
            await self._after(error)
            raise
        self._is_reading = False
        if item is None:
            self._is_over = True
            await self.aclose()
            raise StopAsyncIteration
        return item

    async def _after(self, error: BaseException) -> None:
        """Close what a read has failed of, or what nobody else would close."""
        if isinstance(error, Exception):
            self._note_failure(error)
            if self._is_closed:
                return
            # Until it was raised: this read may be cancelled while it closes.
            self._failure = error
            self._why = f" after {type(error).__name__}"
            await self.aclose()
            self._failure = None
        elif not self._is_entered:
            self._why = self._why or ", as a read outside of `async with` was cancelled"
            await self.aclose()

    async def aclose(self) -> None:
        """Give back what is held."""
        if self._is_closed:
            return
        if not self._is_begun:
            try:
                self._check_unread()
            except WrongEventLoopError:
                raise
            except ClientStateError:
                pass  # the client is not open, and nothing is held
            self._is_closed = True
            return
        self._runtime.check()
        self._is_closed = True
        with anyio.CancelScope(shield=True):
            await self._let_go()

    def _start(self) -> None:
        if not self._is_begun:
            self._runtime = self._begin()
            self._is_begun = True

    def _refusal(self) -> ClientStateError:
        return ClientStateError(f"this {self._what} is closed{self._why}; call {self._call} again")

    def __del__(self) -> None:
        if not self._is_begun or self._is_closed or not self._is_holding:
            return
        # Before the warning, which may be an error. It lives on until this has run.
        self._runtime.spawn_soon(self.aclose)
        warnings.warn(
            f"{self!r} was left without being closed; use `async with {self._call}`",
            ResourceWarning,
            source=self,
            stacklevel=2,
        )


async def each(
    source: Iterable[Item] | AsyncIterable[Item], *, in_one_go: int = 1
) -> AsyncGenerator[Item, None]:
    """
    Yield the items of either kind of iterable; a generator among them is closed with this one.

    After each *in_one_go* items of a plain one, other tasks run.
    """
    if isinstance(source, AsyncIterable):
        items = aiter(source)
        try:
            async for item in items:
                yield item
        finally:
            if isinstance(items, AsyncGenerator):
                await cast("AsyncGenerator[Item, None]", items).aclose()
    else:
        iterator = iter(source)
        try:
            for number, item in enumerate(iterator, 1):
                yield item
                if number % in_one_go == 0:
                    await anyio.lowlevel.checkpoint()
        finally:
            if isinstance(iterator, Generator):
                cast("Generator[Item, None, None]", iterator).close()
