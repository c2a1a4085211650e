"""The ledger as the batch uses it: steps that are on disk when their call returns."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import anyio
import anyio.to_thread
import attrs

from .._errors import LedgerError
from .file import BUSY_SECONDS, connect, hold, note, translated


P = ParamSpec("P")
T = TypeVar("T")

# The database comes first, as in all functions of `queries`.
Step = Callable[Concatenate[sqlite3.Connection, P], T]


@attrs.define(eq=False)
class _Entry:
    """A step on its way to disk."""

    step: Callable[[sqlite3.Connection], Any]
    result: Any = None
    error: Exception | None = None
    is_done: bool = False


class Ledger:
    """
    One open ledger.

    One thread at a time works with the database, never the event loop's. Steps that are
    asked for while another is being written share the next transaction.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durable: bool = False,
        patience: float = BUSY_SECONDS,
        shared: bool = False,
    ) -> None:
        # Two names of one file are one ledger.
        self.path: Path = Path(os.path.realpath(path))
        # Another machine has to see what this one wrote, also when this one is lost.
        self._durable = durable or shared
        self._shared = shared
        self._patience = patience
        self._limiter = anyio.CapacityLimiter(1)
        self._turn = anyio.Lock()
        self._waiting: list[_Entry] = []
        self._connection: sqlite3.Connection | None = None
        self._lock: sqlite3.Connection | None = None
        self.transactions: int = 0

    async def open(self) -> Self:
        """
        Open and hold the ledger; make it if it is missing.

        Raises:
            LedgerBusyError: Another batch has it.
            LedgerDamagedError: It is cut, overwritten, or no ledger.
            LedgerVersionError: It is of a newer version.
        """
        await self._in_thread(self._open)
        return self

    async def aclose(self) -> None:
        """Close the ledger; another batch may have it then."""
        with anyio.CancelScope(shield=True):
            await self._in_thread(self._close)

    async def write(self, step: Step[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        Do *step* in a transaction and return its result once that is safe.

        A cancellation does not interrupt it: what it records has happened already.

        Raises:
            LedgerError: It could not be written; nothing of it was.
        """
        entry = _Entry(lambda connection: step(connection, *args, **kwargs))
        self._waiting.append(entry)
        with anyio.CancelScope(shield=True):
            async with self._turn:
                if not entry.is_done:
                    entries, self._waiting = self._waiting, []
                    await self._in_thread(partial(self._commit, entries))
        if entry.error is not None:
            raise entry.error
        result: T = entry.result
        return result

    async def read(self, step: Step[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what *step* reads."""
        async with self._turn:
            return await self._in_thread(
                lambda: self._translated(lambda connection: step(connection, *args, **kwargs))
            )

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(function, limiter=self._limiter)

    # In the thread

    def _open(self) -> None:
        # In a shared folder a lease holds it: locks of a machine that hangs would stay.
        self._lock = None if self._shared else hold(self.path)
        try:
            self._connection = connect(
                self.path, durable=self._durable, patience=self._patience, shared=self._shared
            )
            self._translated(_introduce)
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        with ExitStack() as stack:
            for connection in (self._lock, self._connection):
                if connection is not None:
                    stack.callback(connection.close)
        self._lock = self._connection = None

    def _translated(self, step: Callable[[sqlite3.Connection], T]) -> T:
        if self._connection is None:
            raise LedgerError(self.path, "is closed")
        with translated(self.path):
            return step(self._connection)

    def _commit(self, entries: list[_Entry]) -> None:
        try:
            self._translated(partial(self._transact, entries))
        except Exception as error:  # noqa: BLE001 - each entry's caller raises it
            for entry in entries:
                entry.error, entry.is_done = error, True

    def _transact(self, entries: list[_Entry], connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for entry in entries:
                entry.result = entry.step(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self.transactions += 1
        for entry in entries:
            entry.is_done = True


def _introduce(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    note(connection, "process", str(os.getpid()))
    note(connection, "opened_at", datetime.now(UTC).isoformat(timespec="seconds"))
    connection.execute("COMMIT")
