"""Live progress for the tasks of a batch that stand on the screen, and for no others."""

import anyio
from anyio.abc import TaskGroup

from .. import CyberunClient, CyberunError, ProgressUpdate
from ._live_table import LiveTable


_VIEW_INTERVAL = 0.3


class Spotlight:
    """
    Follows whichever tasks a board shows, so that their bars move.

    A batch itself asks for no progress: streams cost, and its ledger needs none.
    """

    def __init__(self, client: CyberunClient, board: LiveTable) -> None:
        self._client = client
        self._table = board
        self._scopes: dict[str, anyio.CancelScope] = {}

    def turn(self, group: TaskGroup, room: int) -> None:
        """Follow what *room* lines of the board show now, with tasks of *group*."""
        rows, _ = self._table.visible(room)
        wanted = {row.update.task_id for row in rows if row.status == "running"}
        for task_id in self._scopes.keys() - wanted:
            self._scopes.pop(task_id).cancel()
        for task_id in wanted - self._scopes.keys():
            self._scopes[task_id] = anyio.CancelScope()
            group.start_soon(self._follow, task_id, self._scopes[task_id])

    def stop(self) -> None:
        """Follow nothing any more."""
        for scope in self._scopes.values():
            scope.cancel()
        self._scopes.clear()

    async def _follow(self, task_id: str, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                view = self._client.progress(task_id, min_interval=_VIEW_INTERVAL)
                async with view as updates:
                    async for update in updates:
                        self._show(update)
            except CyberunError:
                # The batch follows the task as well, and is the one that tells of errors.
                return

    def _show(self, update: ProgressUpdate) -> None:
        # A line that is gone is not brought back by the last word about it.
        if update.task_id in self._table.rows and not update.is_final:
            self._table.show(update, anyio.current_time())
