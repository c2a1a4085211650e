"""
What a batch over a cluster raises beside what a batch does.

::

    CyberunError
    ├── ClusterError       the cluster cannot do it: no worker, or a shard was lost too often
    └── LedgerError
        └── LeaseLostError another worker has the shard now; this one may not submit any more
"""

from pathlib import Path

from .. import CyberunError
from ..batch import LedgerError


CONTINUES = "what is done is in the ledgers, so run again with the same folder to continue"


class ClusterError(CyberunError):
    """The cluster cannot do the work. What is done is in the ledgers; run again."""


class LeaseLostError(LedgerError):
    """
    A newer epoch of the shard exists, so that this one may not submit any more.

    Either Dask took this worker for lost and runs the shard elsewhere, or a second program
    works on the same folder. No submission was begun after that was seen; a request that
    was waiting for a connection then may have left, and its intent is in the ledger.

    Attributes:
        path: The lease.
        epoch: The epoch that has ended.
    """

    def __init__(self, path: Path, epoch: int, problem: str) -> None:
        self.epoch: int = epoch
        super().__init__(path, f"is of epoch {epoch}, which has ended: {problem}")

    def __str__(self) -> str:
        """Say that it is a lease."""
        return super().__str__().replace("the ledger", "the lease", 1)
