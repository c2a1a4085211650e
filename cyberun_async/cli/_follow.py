"""Following tasks to their ends, side by side, each for itself."""

from collections.abc import Awaitable, Callable, Sequence

import anyio

from .. import CyberunClient, CyberunError, TaskStatus, WaitTimeoutError
from ._exit_codes import Ending
from ._output import Output


Follower = Callable[[str], Awaitable[str | None]]


async def follow_all(task_ids: Sequence[str], follow: Follower, output: Output) -> list[Ending]:
    """
    Follow all tasks at once and return how each ended, in their order.

    An error of one does not disturb the others; it is told when it comes.
    """
    endings: dict[str, Ending] = {}

    async def one(task_id: str) -> None:
        try:
            endings[task_id] = Ending(task_id=task_id, status=await follow(task_id))
        except CyberunError as error:
            output.problem(error)
            endings[task_id] = Ending(task_id=task_id, error=error)

    async with anyio.create_task_group() as group:
        for task_id in dict.fromkeys(task_ids):
            group.start_soon(one, task_id)
    return [endings[task_id] for task_id in dict.fromkeys(task_ids)]


async def followed(
    client: CyberunClient,
    output: Output,
    task_id: str,
    *,
    timeout: float | None,
    cancel: bool,
) -> str | None:
    """
    Follow one task and return its final status.

    Raises:
        WaitTimeoutError: It did not end within *timeout* seconds; asked to be cancelled
            with *cancel*.
    """
    with anyio.move_on_after(timeout):
        return await output.follow(client, task_id, cancel_on_exit=cancel)
    token_holder = client.watch(task_id)
    raise WaitTimeoutError(
        task_id=token_holder.task_id, timeout=timeout or 0.0, cancel_requested=cancel
    ).with_token(token_holder.token())


def is_completed(status: str | None) -> bool:
    """Return whether there is a result to fetch."""
    return status == TaskStatus.COMPLETED
