"""Where a ledger lies: by itself, or among those of other programs in a shared folder."""

from collections.abc import Awaitable, Callable, Collection

import attrs


async def _always() -> None:
    pass


async def _nowhere(_: Collection[str]) -> Collection[str]:
    return ()


@attrs.frozen(kw_only=True)
class Environment:
    """
    What the batch has to respect beside its own ledger.

    Attributes:
        is_shared:
            Whether the folder may be one of a network: the ledger gets a rollback journal
            (SQLite's write-ahead log needs shared memory) and reaches the disk with each
            step, and it is held by a lease rather than by a lock of this machine.

        permit:
            Awaited after each intent was written and before its request leaves; raises
            if the request must not leave.

        claimed_elsewhere: Returns which of some tasks other ledgers know to be theirs.

        sitting:
            Names the run of the caller's that several batches in turn may work on; None
            where each run is one of its own.
    """

    is_shared: bool = False
    permit: Callable[[], Awaitable[None]] = _always
    claimed_elsewhere: Callable[[Collection[str]], Awaitable[Collection[str]]] = _nowhere
    sitting: str | None = None


ALONE = Environment()
