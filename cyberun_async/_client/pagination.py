"""Lists that come in pages."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, Self, TypeVar

from .._model import InvalidInputError
from .._protocol import Page, Response
from .session import Session


PAGE_SIZE = 100


# A list that grows at its front repeats rows; one that ignores the page number never ends.
_MOST_STALE_PAGES = 5


T = TypeVar("T")


class Pager(Generic[T]):
    """
    The items of a list, to be read once with ``async for``.

    A page is requested when its first item is wanted, so leaving early costs nothing
    and leaves nothing open. No item is repeated, even where the list grows while it
    is read; one may be missed where the list shrinks. Cancelled while a page is
    awaited, reading can continue with the same page.

    Raises:
        RequestRejectedError: The service refused a page.
        ServiceUnavailableError: It could not be reached or kept failing.
        UnexpectedResponseError: A page was not the protocol.
    """

    def __init__(
        self,
        session: Session,
        path: str,
        decode: Callable[[Response], Page[T]],
        *,
        key: Callable[[T], str],
        per_page: int,
        params: Mapping[str, Any] | None = None,
        keep: Callable[[T], bool] | None = None,
    ) -> None:
        self._session = session
        self._path = path
        self._decode = decode
        self._key = key
        self._per_page = _page_size(per_page)
        self._params = dict(params or {})
        self._keep = keep
        self._seen: set[str] = set()
        self._ready: list[T] = []
        self._next_page = 1
        self._stale_pages = 0
        self._is_over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._ready:
            if self._is_over:
                raise StopAsyncIteration
            await self._read_page()
        return self._ready.pop()

    async def _read_page(self) -> None:
        number = self._next_page
        params = {**self._params, "current_page": number, "per_page": self._per_page}
        page = self._decode(await self._session.caller.call("GET", self._path, params=params))
        if number != self._next_page:
            # Another task read this page meanwhile.
            return
        self._next_page += 1
        fresh = [item for item in page.items if self._is_new(item)]
        self._stale_pages = 0 if fresh else self._stale_pages + 1
        self._is_over = (
            page.is_last(number, self._per_page) or self._stale_pages >= _MOST_STALE_PAGES
        )
        self._ready = [item for item in reversed(fresh) if self._keep is None or self._keep(item)]

    def _is_new(self, item: T) -> bool:
        key = self._key(item)
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new


def _page_size(size: object) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= PAGE_SIZE:
        raise InvalidInputError(f"per_page must be a whole number from 1 to {PAGE_SIZE}")
    return size
