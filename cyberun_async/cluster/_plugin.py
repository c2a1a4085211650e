"""
The worker plugin as Dask wants it.

Imported only by workers, and by a client program that registers it.
"""

from typing import TYPE_CHECKING

from ._host import WorkerHost


if TYPE_CHECKING:
    # Whether Dask is installed or not where types are checked.
    WorkerPlugin = object
else:
    from distributed import WorkerPlugin


class ClusterPlugin(WorkerHost, WorkerPlugin):
    """One client on a worker, opened and closed with it."""
