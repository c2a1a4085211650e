"""Pages of lists, and the light row that many tasks are watched by."""

from typing import Generic, NamedTuple, TypeVar

import attrs


T = TypeVar("T")


class TaskRow(NamedTuple):
    """A task on a page of the list: no more than following it needs."""

    id: str
    status: str
    retry_count: int | None


@attrs.frozen(kw_only=True)
class Page(Generic[T]):
    """
    One page of a list.

    Attributes:
        items: What could be read, in the order of the service.
        current_page, per_page, total_count: As the service says, or None.
        row_count: How many rows were sent, those that could not be read included.
    """

    items: tuple[T, ...]
    current_page: int | None = None
    per_page: int | None = None
    total_count: int | None = None
    row_count: int = 0

    def is_last(self, asked_page: int, asked_size: int) -> bool:
        """Return whether nothing can follow the page that was asked for with these numbers."""
        size = min(asked_size, self.per_page or asked_size)
        if self.row_count < size:
            return True
        return self.total_count is not None and asked_page * size >= self.total_count
