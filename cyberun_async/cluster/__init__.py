"""
A batch over a Dask cluster: shards of jobs, each run by a worker that keeps a ledger of it.

Needs the extra ``dask``.
"""

from ._errors import ClusterError, LeaseLostError


__all__ = ["ClusterError", "LeaseLostError"]
