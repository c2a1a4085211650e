"""What a batch has to respect where its ledger is one of many in a folder."""

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
            Whether the folder may be on a network: the ledger gets a rollback journal
            (SQLite's write-ahead log needs shared memory), reaches the disk with each
            step, and is held by a lease rather than by a lock of this machine.

        permit:
            Awaited after each intent was written and before its request leaves; raises
            if the request must not leave.

        claimed_elsewhere: Returns which of some tasks belong to other ledgers.

        run_marker:
            Names a run of the caller's that several batches work on in turn. None makes
            each run one of its own.
    """

    is_shared: bool = False
    permit: Callable[[], Awaitable[None]] = _always
    claimed_elsewhere: Callable[[Collection[str]], Awaitable[Collection[str]]] = _nowhere
    run_marker: str | None = None


ALONE = Environment()
