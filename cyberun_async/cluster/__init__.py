"""
A batch over a Dask cluster: shards of jobs, each run by a worker that keeps a ledger of it.

Needs the extra ``dask``, on the workers too.
"""

from .._names import publish
from ._cluster import ClusterBatch
from ._errors import ClusterError, LeaseLostError
from ._other_ledgers import OvertakenSubmission
from ._reports import ClusterReport


__all__ = [
    "ClusterBatch",
    "ClusterError",
    "ClusterReport",
    "LeaseLostError",
    "OvertakenSubmission",
]

publish(__name__, globals(), __all__)
