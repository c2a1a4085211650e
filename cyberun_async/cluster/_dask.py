"""The few calls of Dask's client that a batch needs; each raises typed errors."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

import anyio

from .. import ConfigurationError, CyberunError
from ._errors import CONTINUES, ClusterError


# How long a stop waits for workers that do not answer.
_STOP_SECONDS = 20.0


def the_library() -> Any:
    """
    Return Dask's `distributed`.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        return import_module("distributed")
    except ImportError as error:
        raise ConfigurationError(
            "a batch over a cluster needs Dask: install cyberun_async[dask]"
        ) from error


class Cluster:
    """
    The cluster behind a client of Dask's.

    Raises:
        ConfigurationError: It is something else, or it is not asynchronous.
    """

    def __init__(self, dask: Any, resources: Mapping[str, float] | None = None) -> None:
        if not isinstance(dask, the_library().Client) or not dask.asynchronous:
            raise ConfigurationError(
                "give an asynchronous client: `async with distributed.Client(..., "
                "asynchronous=True) as dask:`"
            )
        self._dask: Any = dask
        self._resources = None if resources is None else dict(resources)

    async def workers(self) -> list[str]:
        """Return the addresses of the workers that there are now."""
        return list(await self._typed(self._dask.nthreads))

    async def register(self, plugin: object, name: str) -> None:
        """Put *plugin* on every worker, also on those to come."""
        await self._typed(lambda: self._dask.register_plugin(plugin, name=name))

    async def run_beside(self, function: Callable[..., Any], *args: object) -> Any:
        """
        Return the result of the coroutine function on some worker, beside its tasks.

        Raises:
            ClusterError: There is no worker that answers.
        """
        failure = ClusterError("the cluster has no workers")
        for worker in await self.workers():
            run = partial(self._dask.run, function, *args, workers=[worker], on_error="raise")
            try:
                return (await self._typed(run))[worker]
            except ClusterError as error:
                failure = error
        raise failure

    async def call(self, function: Callable[..., Any], *args: object, key: str) -> Any:
        """Return what *function* returns on some worker."""
        return await self._typed(lambda: self.submit(function, *args, key=key))

    def submit(self, function: Callable[..., Any], *args: object, key: str) -> Any:
        """Have *function* run on some worker; return the future."""
        return self._dask.submit(function, *args, key=key, pure=False, resources=self._resources)

    async def result(self, future: Any) -> Any:
        """Return what the future brings."""
        return await self._typed(lambda: future)

    async def _typed(self, start: Callable[[], Any]) -> Any:
        try:
            return await start()
        except CyberunError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise ClusterError(f"Dask could not do it: {said}; {CONTINUES}") from error

    async def stop(self, futures: list[Any], stop: Callable[..., Any], *args: object) -> None:
        """Release *futures*, and run *stop* on each worker that answers in time."""
        with anyio.CancelScope(shield=True), anyio.move_on_after(_STOP_SECONDS):
            if futures:
                await self._typed(lambda: self._dask.cancel(futures))
            await self._typed(lambda: self._dask.run(stop, *args, on_error="ignore"))

    async def unregister(self, name: str, run_id: str, run_of: Callable[..., Any]) -> None:
        """
        Remove the plugin of that run from each worker that answers in time.

        Another program may have put its own under that name meanwhile, which stays: on
        each worker *run_of* returns whose it is.
        """
        with anyio.CancelScope(shield=True), anyio.move_on_after(_STOP_SECONDS):
            found = await self._typed(lambda: self._dask.run(run_of, name, on_error="ignore"))
            if set(found.values()) - {None} == {run_id}:
                await self._typed(lambda: self._remove(name))

    async def _remove(self, name: str) -> None:
        # It may be gone already.
        with suppress(ValueError):
            await self._dask.unregister_worker_plugin(name)

    def subscribe(self, topic: str, handle: Callable[[Mapping[str, Any]], None]) -> None:
        """Call *handle* with each message of *topic* from now on."""

        def handler(event: tuple[float, Mapping[str, Any]]) -> None:
            handle(event[1])

        self._dask.subscribe_topic(topic, handler)

    def unsubscribe(self, topic: str) -> None:
        """End the subscription to *topic*."""
        self._dask.unsubscribe_topic(topic)
