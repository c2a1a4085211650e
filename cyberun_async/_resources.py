"""What the service lists: workflows, tasks, agents."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, Self, TypeVar, cast
from uuid import UUID

import attrs

from ._codec import decode_agents, decode_task_page, decode_workflow, decode_workflows
from ._errors import InvalidInputError
from ._exchange import Reply
from ._handle import TaskHandle
from ._inputs import WorkflowRef, path_for, workflow_path, workflow_ref
from ._json_values import parameters_of
from ._models import Agent, ResumeToken, TaskSnapshot
from ._pages import Page
from ._redaction import shown
from ._workflow import Workflow


PAGE_SIZE = 100
MAX_OPTION = 200
_LONGEST_STATUS = 100
# A list that grows at its front repeats rows; one that ignores the page number never ends.
_MOST_STALE_PAGES = 5

T = TypeVar("T")


class Asks(Protocol):
    """Makes one plain request of the API, with its retries."""

    async def __call__(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json_body: Any = None,
        repeatable: bool = True,
    ) -> Reply:
        """Return the successful reply."""
        ...


class TaskDesk(Protocol):
    """What single tasks are asked of."""

    async def get_task(self, task: TaskHandle | ResumeToken | UUID | str, /) -> TaskSnapshot: ...
    async def cancel(self, task: TaskHandle | ResumeToken | UUID | str, /) -> None: ...


class Listing(Generic[T]):
    """
    The items of a list, to be read once with ``async for``.

    A page is asked for when its first item is wanted, so leaving early costs nothing
    and leaves nothing open. No item comes twice, even where the list grows while it
    is read; one may be missed where the list shrinks. Cancelled while a page is
    awaited, reading can go on with the same page.

    Raises:
        RequestRejectedError: The service refused a page.
        ServiceUnavailableError: It could not be reached or kept failing.
        UnexpectedResponseError: A page was not the protocol.
    """

    def __init__(
        self,
        ask: Asks,
        path: str,
        decode: Callable[[Reply], Page[T]],
        *,
        key: Callable[[T], str],
        per_page: int,
        params: Mapping[str, Any] | None = None,
        keep: Callable[[T], bool] | None = None,
    ) -> None:
        self._ask = ask
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
        page = self._decode(await self._ask("GET", self._path, params=params))
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


class Workflows:
    """The team's workflows: ``client.workflows``."""

    def __init__(self, ask: Asks) -> None:
        self._ask = ask

    def list(self, *, per_page: int = PAGE_SIZE) -> Listing[Workflow]:
        """
        List the workflows; see :class:`Listing` for how and what it raises.

        Args:
            per_page: Rows to ask for at once, 1 to 100.

        Raises:
            InvalidInputError: *per_page* is out of range.
        """
        return Listing(
            self._ask,
            path_for("workflows"),
            decode_workflows,
            key=lambda workflow: workflow.id,
            per_page=per_page,
        )

    async def get(
        self, workflow: str | UUID | WorkflowRef | Workflow, *, slug: bool | None = None
    ) -> Workflow:
        """
        Return a workflow and the parameters it takes.

        Of one fetched as ``slug@version``, later submissions run that version. Cancelled,
        nothing has changed.

        Args:
            workflow: A slug, ``slug@version``, an id, or a workflow to fetch anew.
            slug: True takes a UUID-shaped *workflow* for a slug.

        Raises:
            NotFoundError: No such workflow, or not yours.
            ServiceUnavailableError: The service could not be reached or kept failing.
            InvalidInputError: *workflow* is malformed.
        """
        ref = reference_of(workflow, slug=slug)
        found = decode_workflow(await self._ask("GET", workflow_path(ref)))
        return attrs.evolve(found, pinned=ref.version is not None)


class Tasks:
    """The team's tasks: ``client.tasks``."""

    def __init__(self, ask: Asks, desk: TaskDesk) -> None:
        self._ask = ask
        self._desk = desk

    def list(
        self, *, status: str | None = None, per_page: int = PAGE_SIZE
    ) -> Listing[TaskSnapshot]:
        """
        List the team's tasks; see :class:`Listing` for how and what it raises.

        The service documents no order, and that it shows only tasks in *status*; where it
        does not, the others are left out here.

        Args:
            status: Only tasks in this state, such as :attr:`TaskStatus.RUNNING`.
            per_page: Rows to ask for at once, 1 to 100.

        Raises:
            InvalidInputError: An argument is malformed.
        """
        wanted = None if status is None else _status_filter(status)
        return Listing(
            self._ask,
            path_for("tasks"),
            decode_task_page,
            key=lambda task: task.id,
            per_page=per_page,
            params=None if wanted is None else {"status": wanted},
            # A service that knows no such filter lists all.
            keep=None if wanted is None else lambda task: task.status == wanted,
        )

    async def get(self, task: TaskHandle | ResumeToken | UUID | str) -> TaskSnapshot:
        """
        Return a task's present state; see :meth:`~cyberun_async.CyberunClient.get_task`.

        Cancelled, nothing has changed.

        Args:
            task: A handle, an id or a resume token.

        Raises:
            TaskNotFoundError: No such task, or not yours.
            ServiceUnavailableError: The service could not be reached or kept failing.
            InvalidInputError: *task* is no task.
        """
        return await self._desk.get_task(task)

    async def cancel(self, task: TaskHandle | ResumeToken | UUID | str) -> None:
        """
        Ask the service to cancel a task; success means only that it was asked.

        See :meth:`~cyberun_async.CyberunClient.cancel`. Cancelled here while the answer is
        awaited, the service may have taken it.

        Args:
            task: A handle, an id or a resume token.

        Raises:
            TaskNotFoundError: No such task, or not yours.
            ServiceUnavailableError: The service could not be reached or kept failing.
            InvalidInputError: *task* is no task.
        """
        await self._desk.cancel(task)


class Agents:
    """The GPU agents that are connected: ``client.agents``."""

    def __init__(self, ask: Asks) -> None:
        self._ask = ask

    def list(self, *, per_page: int = PAGE_SIZE) -> Listing[Agent]:
        """
        List the connected agents; see :class:`Listing` for how and what it raises.

        The service documents that one that disconnects vanishes from the list.

        Args:
            per_page: Rows to ask for at once, 1 to 100.

        Raises:
            InvalidInputError: *per_page* is out of range.
        """
        return Listing(
            self._ask,
            path_for("agents"),
            decode_agents,
            key=lambda agent: agent.id,
            per_page=per_page,
        )


def reference_of(workflow: object, *, slug: bool | None = None) -> WorkflowRef:
    """
    Return which workflow is meant; one fetched with its version pinned stays pinned.

    Raises:
        InvalidInputError: It names none.
    """
    if slug is not None and not isinstance(slug, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"slug must be True, False or None, not {type(slug).__name__}")
    if isinstance(workflow, WorkflowRef):
        return workflow
    if not isinstance(workflow, Workflow):
        return workflow_ref(workflow, slug)
    if workflow.pinned and workflow.slug is not None and workflow.version is not None:
        return workflow_ref(f"{workflow.slug}@{workflow.version}", slug=True)
    return workflow_ref(workflow.id, slug=False)


def _page_size(size: object) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= PAGE_SIZE:
        raise InvalidInputError(f"per_page must be a whole number from 1 to {PAGE_SIZE}")
    return size


def _status_filter(status: object) -> str:
    if not isinstance(status, str):
        raise InvalidInputError(f"status must be a string, not {type(status).__name__}")
    text = str(status)
    if not (text.isascii() and text.isidentifier() and len(text) <= _LONGEST_STATUS):
        raise InvalidInputError(f"status is no state of a task: {shown(text)}")
    return text


def json_of(value: object) -> Any:
    """
    Return a copy of *value* that JSON can hold.

    Raises:
        InvalidInputError: JSON cannot hold it.
    """
    return parameters_of({"json": value})["json"]


def query_of(params: object) -> dict[str, Any]:
    """
    Return what a query can hold: texts, numbers, truth values, and lists of these.

    Raises:
        InvalidInputError: It is something else.
    """
    checked = parameters_of(params)
    for name, value in checked.items():
        parts = cast("list[object]", value) if isinstance(value, list) else [value]
        if any(isinstance(part, dict | list) for part in parts):
            raise InvalidInputError(f"params has a structure under {shown(name)}")
    return checked


def run_options(**options: object) -> dict[str, str]:
    """
    Return the optional fields of a run that are given.

    Raises:
        InvalidInputError: One is not a short text.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if (
            not isinstance(value, str)
            or not 1 <= len(value) <= MAX_OPTION
            or not value.isprintable()
        ):
            raise InvalidInputError(f"{name} must be a string of 1 to {MAX_OPTION} characters")
    return {name: str(value) for name, value in given.items()}
