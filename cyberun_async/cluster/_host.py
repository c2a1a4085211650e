"""
What lives on each worker: one client, and the shards that use it.

It travels there pickled and holds no credential: the client is made on the worker.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.to_thread

from .. import ConfigurationError, CyberunClient, CyberunError, Limits
from ._errors import ClusterError
from ._messages import News, ShardResult, ShardTask, to_plain
from ._shard import ShardRun, take


Connect = Callable[[Limits], CyberunClient]
Call = Callable[[CyberunClient], Awaitable[Any]]


def from_environment(limits: Limits) -> CyberunClient:
    """Return a client with the key and the base URL of the worker's own environment."""
    return CyberunClient(limits=limits)


class WorkerHost:
    """
    One client on a worker, opened and closed with it.

    Args:
        run_id: Of the client program that registered it; shards of others are refused.
        connect: Makes the client, on the worker.
        limits: What this worker may use.
    """

    def __init__(self, run_id: str, connect: Connect, limits: Limits) -> None:
        self.run_id: str = run_id
        self._connect = connect
        self._limits = limits
        self._client: CyberunClient | None = None
        self._failure: CyberunError | None = None
        self._running: dict[anyio.CancelScope, anyio.Event] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.run_id}>"

    async def setup(self, worker: Any) -> None:  # noqa: ARG002 - the interface's
        """
        Make the client in a thread, and open it on the worker's event loop.

        Raises:
            ConfigurationError: *connect* could not make one.
        """
        try:
            # In a thread, since it may ask a vault or read a file.
            client = await anyio.to_thread.run_sync(self._connect, self._limits)
            self._client = await client.__aenter__()
        except Exception as error:
            self._failure = _typed(error)
            raise self._failure from error

    async def teardown(self, worker: Any) -> None:  # noqa: ARG002 - the interface's
        """Stop what runs, and close the client."""
        client, self._client = self._client, None
        await self.stop()
        if client is not None:
            await client.aclose()

    async def stop(self) -> None:
        """Stop the shards and wait until they have; their ledgers say how far they came."""
        running = list(self._running.items())
        for scope, _ in running:
            scope.cancel()
        for _, has_ended in running:
            await has_ended.wait()

    async def run(self, task: ShardTask, worker: Any) -> ShardResult | None:
        """
        Work a shard through; None means that it was stopped.

        Raises:
            CyberunError: What stops a batch.
        """

        def report(news: News) -> None:
            worker.log_event(task.topic, to_plain(news))

        async def work(client: CyberunClient) -> ShardResult:
            lease = await take(task, str(worker.address))
            return await ShardRun(client, task, lease, report).run()

        result: ShardResult | None = await self.call(task, work)
        return result

    async def call(self, task: ShardTask, function: Call) -> Any:
        """Return the result of *function* for this worker's client; None if it was stopped."""
        if self.run_id == task.setup.run_id and self._failure is not None:
            # A worker that came later: its failure has not been reported yet.
            raise self._failure
        if self.run_id != task.setup.run_id or self._client is None:
            raise ClusterError(
                f"the folder {task.setup.folder} is that of another program now; "
                "let one program at a time work on it"
            )
        has_ended = anyio.Event()
        result: Any = None
        with anyio.CancelScope() as scope:
            self._running[scope] = has_ended
            try:
                result = await function(self._client)
            finally:
                del self._running[scope]
                has_ended.set()
        return result


def _typed(error: Exception) -> CyberunError:
    if isinstance(error, CyberunError):
        return error
    said = f"{type(error).__name__}: {error}"
    return ConfigurationError(f"connect could not make a client on a worker: {said}")
