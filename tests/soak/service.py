"""
The misbehaving service, in a process of its own, so that what is counted is the client's.

It gets what to do over a pipe: a method's name and its arguments, one answer each.
"""

import contextlib
import logging
import multiprocessing
import random
import ssl
import threading
from collections import Counter
from collections.abc import Iterable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import anyio.to_thread
import attrs
import httpx
import trustme

from cyberun_async.testing import LiveTask, Simulator, TaskPlan
from cyberun_async.testing._simulator.faults import FaultRule
from cyberun_async.testing._simulator.state import RunRequest

from ..contract.tls import Cutter, cutting
from .weather import (
    ACROSS,
    HANDSHAKE,
    LAGGING,
    OUTPUT,
    REVOKE,
    UNKNOWN_END,
    UNKNOWN_STATE,
    Weather,
    doom_of,
)


if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

_RECORDS: Final = 5000

Scheme: TypeAlias = Literal["http", "https"]


@attrs.frozen
class Truth:
    """How a task really ended, and after how many attempts."""

    state: str
    attempts: int
    doom: int | None
    output: Any = attrs.field(factory=lambda: dict(OUTPUT))


class Service:
    """What can be asked of the service from outside."""

    def __init__(
        self, sim: Simulator, seed: int, cutter: Cutter | None = None, authority: str | None = None
    ) -> None:
        self._sim = sim
        self._cutter = cutter
        self._authority = authority
        self._weather = Weather(random.Random(seed))
        self._counts: Counter[str] = Counter()
        self._rules: list[FaultRule] = []
        self._accepted: Counter[str] = Counter()
        self._revoked = ("", 0.0)
        self._troubles = 0
        sim.plan_by(self._planned)

    def _planned(self, run: RunRequest) -> Any:
        nonce = str(run.parameters["prompt"])
        self._accepted[nonce] += 1
        return self._weather.plan()

    def where(self) -> tuple[str, str, str | None]:
        """Return the base URL, a new key, and over TLS the certificate to trust."""
        url = self._sim.url
        if self._cutter is not None:
            url = self._cutter.url + httpx.URL(url).path
        return url, self.issue(), self._authority

    def accepted(self, nonces: Iterable[str]) -> dict[str, int]:
        """Return how many tasks each submission became."""
        return {nonce: self._accepted[nonce] for nonce in nonces}

    def trouble(self) -> None:
        """Let something happen to some submission, and now and then to a page of the list."""
        book = self._sim.faults
        with book._lock:
            # Each request looks at all of them.
            book._general[:] = [rule for rule in book._general if rule.remaining]
        self._rules.append(book.add("run", *self._weather.run_fault()))
        self._troubles += 1
        if self._troubles % 5 == 0:
            self._rules.append(book.add("tasks", *self._weather.list_fault()))
        if self._cutter is not None and not self._cutter.decided:
            # Never all of them: few clients left would get nowhere.
            self._cutter.cut_next(None, self._weather.cut())

    def kill(self) -> None:
        """Be gone."""
        self._sim.kill()

    def restart(self) -> None:
        """Be back."""
        self._sim.restart()

    def drop_streams(self, reset: bool) -> int:
        """Cut all streams and return how many there were."""
        count = self._sim.open_streams
        self._sim.drop_streams(reset=reset)
        return count

    def issue(self) -> str:
        """Return another key."""
        return self._sim.issue_key("sk")

    def revoke(self, key: str) -> None:
        """Refuse *key* from now on."""
        self._count_refused()
        self._sim.revoke(key)
        self._revoked = (f"Bearer {key}", self._sim.now)

    def _count_refused(self) -> None:
        """Count the last revocation if a request came with the old key."""
        key, since = self._revoked
        self._counts[REVOKE] += any(
            request.at > since and request.headers.get("authorization") == key
            for request in self._sim.requests
        )

    def settle(self, task_ids: Iterable[str]) -> dict[str, Truth]:
        """Return how these tasks ended, and forget them: nobody follows them any more."""
        return {task_id: self._settled(task_id) for task_id in task_ids}

    def _settled(self, task_id: str) -> Truth:
        live = self._sim.task(task_id)
        plan = live._task.plan
        truth = Truth(live.state, live.attempt, doom_of(plan))
        self._counts[UNKNOWN_END] += live.state == UNKNOWN_STATE
        self._counts[ACROSS] += self._was_replayed_across(live)
        self._counts[LAGGING] += self._lagged(live)
        self._forget(live)
        return truth

    def _was_replayed_across(self, live: LiveTask) -> bool:
        """Return whether a stream began in a later attempt, with the whole life before."""
        task = live._task
        habit = task.plan.behaviour
        if not live.attempt or habit is None or habit.on_connect != "history" or habit.event_ids:
            return False
        since = task.created + next(mark.at for mark in task.marks if mark.attempt)
        streams = self._sim.requests_to("events", task.id)
        return any(since < request.at < (task.ends_at or since) for request in streams)

    def _lagged(self, live: LiveTask) -> bool:
        """Return whether the result was asked for after the end and before it was there."""
        task = live._task
        habit, ends_at = task.plan.behaviour, task.ends_at
        if habit is None or ends_at is None:
            return False
        results = self._sim.requests_to("result", task.id)
        return any(ends_at <= request.at < ends_at + habit.result_lag for request in results)

    def _forget(self, live: LiveTask) -> None:
        book = self._sim.faults
        with book._lock:
            self._count(book._by_task.pop(live.id, ()))
        store, task = self._sim._state.tasks, live._task
        with store.lock:
            store._tasks.pop(task.id)
            store._unsettled.pop(task.id, None)
        if not live.open_streams:  # a reader that was cut off may not have gone yet
            task.rewrite(task.marks[-1:])
            task.plan = TaskPlan()

    def _count(self, rules: Iterable[FaultRule]) -> None:
        for rule in rules:
            name = self._weather.name_of(rule.fault)
            if name is not None:
                self._counts[name] += rule.fired
                if not rule.fired:
                    self._weather.missed(name)

    def counts(self) -> Counter[str]:
        """Return how often each kind of fault has struck."""
        done = [rule for rule in self._rules if not rule.remaining and rule.fired]
        self._rules = [rule for rule in self._rules if rule not in done]
        self._count(done)
        if self._cutter is not None:
            made = Counter(self._cutter.struck)
            self._counts |= Counter({name: made[cut] for name, cut in HANDSHAKE.items()})
        return self._counts

    def streams(self) -> int:
        """Return how many streams are open."""
        return self._sim.open_streams


def serve(pipe: Connection, seed: int, scheme: Scheme) -> None:
    """Do what comes over *pipe* until it is closed."""
    # Writing to a connection that was just cut is the service's daily bread here.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    with contextlib.ExitStack() as stack:
        if scheme == "http":
            sim = stack.enter_context(Simulator(seed=seed, record_limit=_RECORDS))
            service = Service(sim, seed)
        else:
            authority = trustme.CA()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("127.0.0.1").configure_cert(context)
            sim = stack.enter_context(Simulator(seed=seed, record_limit=_RECORDS, tls=context))
            port = httpx.URL(sim.url).port
            assert port is not None
            cutter = stack.enter_context(cutting(port))
            service = Service(sim, seed, cutter, authority.cert_pem.bytes().decode())
        while True:
            try:
                name, args = pipe.recv()
            except EOFError:
                return
            pipe.send(getattr(service, name)(*args))


class Control:
    """The client's end of the pipe."""

    def __init__(self, seed: int, scheme: Scheme) -> None:
        self.scheme = scheme
        spawning = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawning.Pipe()
        self._lock = threading.Lock()
        self._process: BaseProcess = spawning.Process(target=serve, args=(theirs, seed, scheme))
        self._process.start()
        theirs.close()

    def call(self, name: str, *args: Any) -> Any:
        """Call a method of the service and return its answer."""
        with self._lock:
            self._pipe.send((name, args))
            return self._pipe.recv()

    async def acall(self, name: str, *args: Any) -> Any:
        """Do the same without holding up the event loop."""
        return await anyio.to_thread.run_sync(self.call, name, *args)

    def close(self) -> None:
        """End the service."""
        self._pipe.close()
        self._process.join(10)
        self._process.kill()
