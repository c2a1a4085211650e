"""
A Dask without processes: workers and client on the test's own event loop.

It knows what batches over a cluster ask of the real one, no more; `nox -s cluster` has
the real one.
"""

import asyncio
import pickle
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from inspect import iscoroutinefunction, signature
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


CURRENT: ContextVar[Any] = ContextVar("CURRENT")


class Reschedule(Exception):  # noqa: N818 - Dask's name
    """Asks for the task to be run elsewhere."""


class WorkerPlugin:
    pass


class Worker:
    def __init__(self, cluster: "Client", number: int) -> None:
        self.address = f"tcp://worker-{number}"
        self.plugins: dict[str, Any] = {}
        self._cluster = cluster

    def log_event(self, topic: str, message: Mapping[str, Any]) -> None:
        # As the real one, which takes nothing but plain data.
        if topic in self._cluster.handlers:
            self._cluster.handlers[topic]((0.0, message))


class Client:
    """The client, and the whole cluster behind it."""

    asynchronous = True

    def __init__(self, workers: int = 2) -> None:
        self.workers = [Worker(self, number) for number in range(workers)]
        self.handlers: dict[str, Callable[[Any], None]] = {}
        self.submitted: list[str] = []
        self.registered: set[str] = set()
        self.ran: list[str] = []
        self.peak = 0
        # Whether the worker is lost each time just after it had finished a task.
        self.loses_workers = False
        self._running: set[asyncio.Future[Any]] = set()

    async def nthreads(self) -> dict[str, int]:
        return {worker.address: 1 for worker in self.workers}

    async def register_plugin(self, plugin: Any, name: str) -> None:
        self.registered.add(name)
        for worker in self.workers:
            await self._remove(worker, name)
            worker.plugins[name] = plugin
            await plugin.setup(worker=worker)
            # Real workers have one each; here all share what was opened once.
            break
        for worker in self.workers[1:]:
            worker.plugins[name] = plugin

    async def join(self) -> None:
        """Have a worker join, in the place of the first, with a plugin as it was registered."""
        [(name, plugin)] = self.workers[0].plugins.items()
        fresh = type(plugin)(plugin.run_id, plugin._connect, plugin._limits)
        await plugin.teardown(worker=self.workers[0])
        self.workers[0].plugins[name] = fresh
        # Dask logs what goes wrong.
        with suppress(Exception):
            await fresh.setup(worker=self.workers[0])

    async def unregister_worker_plugin(self, name: str) -> None:
        if name not in self.registered:
            raise ValueError(f"The worker plugin {name} does not exist")
        self.registered.remove(name)
        await self._remove(self.workers[0], name)
        for worker in self.workers[1:]:
            worker.plugins.pop(name, None)

    async def _remove(self, worker: Worker, name: str) -> None:
        plugin = worker.plugins.pop(name, None)
        if plugin is not None:
            await plugin.teardown(worker=worker)

    def submit(
        self, function: Any, *args: Any, key: str, pure: bool, resources: Any
    ) -> "asyncio.Future[Any]":
        self.submitted.append(key)
        future = asyncio.ensure_future(self._on_a_worker(function, args))
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        self.peak = max(self.peak, len(self._running))
        # Whoever stops waiting does not stop the work, which runs elsewhere.
        return asyncio.shield(future)

    async def _on_a_worker(self, function: Any, args: Any) -> Any:
        worker = self.workers[len(self.submitted) % len(self.workers)]
        token = CURRENT.set(worker)
        try:
            result = function(*pickle.loads(pickle.dumps(args)))
            found = await result if iscoroutinefunction(function) else result
            if self.loses_workers and iscoroutinefunction(function):
                found = await function(*pickle.loads(pickle.dumps(args)))
            return pickle.loads(pickle.dumps(found))
        except Reschedule:
            # Nobody waits any more: only what was let go is stopped.
            return None
        finally:
            CURRENT.reset(token)

    async def cancel(self, futures: list[Any]) -> None:
        # As the real one: what runs on a worker already goes on there.
        pass

    async def run(
        self, function: Any, *args: Any, on_error: str, workers: list[str] | None = None
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for worker in self.workers:
            if workers is not None and worker.address not in workers:
                continue
            # As the real one, which hands the worker to whoever asks for it by that name.
            asks = "dask_worker" in signature(function).parameters
            result = function(*args, dask_worker=worker) if asks else function(*args)
            found[worker.address] = await result if iscoroutinefunction(function) else result
        self.ran.append(function.__name__)
        return found

    def subscribe_topic(self, topic: str, handler: Callable[[Any], None]) -> None:
        self.handlers[topic] = handler

    def unsubscribe_topic(self, topic: str) -> None:
        del self.handlers[topic]


def install(patch: pytest.MonkeyPatch) -> None:
    """Put the fake in the place of `distributed`."""
    fake = ModuleType("distributed")
    names = SimpleNamespace(
        Client=Client,
        WorkerPlugin=WorkerPlugin,
        Reschedule=Reschedule,
        get_worker=CURRENT.get,
        protocol=SimpleNamespace(pickle=SimpleNamespace(dumps=_dumps)),
    )
    vars(fake).update(vars(names))
    patch.setitem(sys.modules, "distributed", fake)
    # Its base class would be that of the library which was there when it was loaded.
    patch.delitem(sys.modules, "cyberun_async.cluster._plugin", raising=False)


def _dumps(plugin: Any) -> bytes:
    # Functions within functions do not pickle; what they hold does.
    closure = getattr(plugin._connect, "__closure__", None) or ()
    return pickle.dumps([str(cell.cell_contents) for cell in closure])
