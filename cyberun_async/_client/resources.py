"""What the service lists: workflows, tasks, agents."""

from uuid import UUID

import attrs

from .._model import Agent, InvalidInputError, TaskSnapshot, Workflow, shown
from .._protocol import decode_agents, decode_task_page, decode_workflow, decode_workflows
from .._validation import WorkflowRef, path_for, reference_of, workflow_path
from .handle import TaskRef, starting_point
from .pagination import PAGE_SIZE, Pager
from .session import Session


_LONGEST_STATUS = 100


class Workflows:
    """The team's workflows: ``client.workflows``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def list(self, *, per_page: int = PAGE_SIZE) -> Pager[Workflow]:
        """
        List the workflows; see :class:`Pager` for how and what it raises.

        Args:
            per_page: Rows to ask for at once, 1 to 100.

        Raises:
            InvalidInputError: *per_page* is out of range.
        """
        return Pager(
            self._session,
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
        found = decode_workflow(await self._session.caller.call("GET", workflow_path(ref)))
        return attrs.evolve(found, pinned=ref.version is not None)


class Tasks:
    """The team's tasks: ``client.tasks``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def list(self, *, status: str | None = None, per_page: int = PAGE_SIZE) -> Pager[TaskSnapshot]:
        """
        List the team's tasks; see :class:`Pager` for how and what it raises.

        The service documents no order, and that it shows only tasks in *status*; where it
        does not, the others are left out here.

        Args:
            status: Only tasks in this state, such as :attr:`TaskStatus.RUNNING`.
            per_page: Rows to ask for at once, 1 to 100.

        Raises:
            InvalidInputError: An argument is malformed.
        """
        wanted = None if status is None else _status_filter(status)
        return Pager(
            self._session,
            path_for("tasks"),
            decode_task_page,
            key=lambda task: task.id,
            per_page=per_page,
            params=None if wanted is None else {"status": wanted},
            # A service that knows no such filter lists all.
            keep=None if wanted is None else lambda task: task.status == wanted,
        )

    async def get(self, task: TaskRef) -> TaskSnapshot:
        """
        Return a task's present state, with one request, made again where it fails.

        Cancelled, nothing has changed. To wait for the end,
        :meth:`~cyberun_async.CyberunClient.wait` takes fewer requests.

        Args:
            task: A handle, an id or a resume token.

        Raises:
            TaskNotFoundError: No such task, or not yours.
            RequestRejectedError: The service refused to answer.
            ServiceUnavailableError: It could not be reached or kept failing.
            UnexpectedResponseError: Its answer was not the protocol.
            InvalidInputError: *task* is no task.
        """
        return await self._session.get_task(starting_point(task).task_id)


class Agents:
    """The GPU agents that are connected: ``client.agents``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def list(self, *, per_page: int = PAGE_SIZE) -> Pager[Agent]:
        """
        List the connected agents; see :class:`Pager` for how and what it raises.

        The service documents that one that disconnects vanishes from the list.

        Args:
            per_page: Rows to ask for at once, 1 to 100.

        Raises:
            InvalidInputError: *per_page* is out of range.
        """
        return Pager(
            self._session,
            path_for("agents"),
            decode_agents,
            key=lambda agent: agent.id,
            per_page=per_page,
        )


def _status_filter(status: object) -> str:
    if not isinstance(status, str):
        raise InvalidInputError(f"status must be a string, not {type(status).__name__}")
    text = str(status)
    if not (text.isascii() and text.isidentifier() and len(text) <= _LONGEST_STATUS):
        raise InvalidInputError(f"status is no state of a task: {shown(text)}")
    return text
