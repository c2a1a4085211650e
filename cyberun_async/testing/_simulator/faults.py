"""Which faults are due: rules, the requests that claim them, what fired, and corrupted payloads."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import cast

import attrs

from ..faults import Action, Endpoint, Fault, Spoiling
from .records import RecordedRequest


@attrs.define(eq=False)
class FaultRule:
    """A fault that was added, how often it is still due and how often it fired."""

    fault: Fault
    remaining: int | None
    to_skip: int
    fired: int = 0

    def claim(self, request: RecordedRequest) -> bool:
        """Return whether *request* is hit, and count it if so."""
        if self.remaining == 0 or not self._concerns(request):
            return False
        if self.to_skip > 0:
            self.to_skip -= 1
            return False
        if self.remaining is not None:
            self.remaining -= 1
        return True

    def give_back(self) -> None:
        """Make the fault due again, after a request that ended before it struck."""
        if self.remaining is not None:
            self.remaining += 1

    def _concerns(self, request: RecordedRequest) -> bool:
        fault = self.fault
        return (
            fault.endpoint in {"*", request.endpoint}
            and (fault.task is None or fault.task == request.task_id)
            and (fault.when is None or fault.when(request))
        )


@attrs.define(eq=False)
class Claim:
    """The actions that one request meets."""

    _book: "FaultBook"
    _rule: FaultRule | None = None
    _fired: bool = False

    @property
    def actions(self) -> tuple[Action, ...]:
        """What happens to this request, in order."""
        return () if self._rule is None else self._rule.fault.actions

    def fire(self, action: Action) -> None:
        """Count *action* as having taken effect."""
        if self._rule is not None:
            self._book.note(self._rule, action, first=not self._fired)
        self._fired = True

    def release(self) -> None:
        """Give the fault back if the request ended before it took effect."""
        if self._rule is not None and not self._fired:
            self._book.give_back(self._rule)
        self._rule = None


class FaultBook:
    """
    The faults that a simulator has.

    Of the faults that concern a request, the first one added that is still due
    applies, a task's own before the general ones; faults added to the same
    endpoint therefore happen one after the other. A fault that had no chance to
    strike, because its stream ended first, stays due. Safe to use from any
    thread.
    """

    def __init__(self) -> None:
        # A rule's `when` may look at what has fired, or add to the rules.
        self._lock = threading.RLock()
        self._general: list[FaultRule] = []
        self._by_task: dict[str, list[FaultRule]] = {}
        self._fired: Counter[str] = Counter()

    def add(
        self,
        endpoint: Endpoint,
        *actions: Action,
        task: str | None = None,
        times: int | None = 1,
        skip: int = 0,
        when: Callable[[RecordedRequest], bool] | None = None,
    ) -> FaultRule:
        """
        Make *actions* happen together to coming requests.

        Args:
            endpoint: Which requests are hit; `*` hits all.
            actions: What happens, from :mod:`cyberun_async.testing.faults`.
            task: Only requests about this task's id.
            times: How many requests are hit; None hits all of them.
            skip: Matching requests that pass unharmed first.
            when: Only requests for which this returns True.

        Returns:
            The rule, whose `fired` counts the requests it really struck.
        """
        fault = Fault(
            endpoint=endpoint, actions=actions, task=task, times=times, skip=skip, when=when
        )
        return self.add_fault(fault)

    def add_fault(self, fault: Fault) -> FaultRule:
        """Add a fault that exists as a value, and return its rule."""
        rule = FaultRule(fault, fault.times, fault.skip)
        with self._lock:
            self._rules(fault.task).append(rule)
        return rule

    def clear(self) -> None:
        """Forget all faults, keeping the counters."""
        with self._lock:
            self._general.clear()
            self._by_task.clear()

    @property
    def fired(self) -> Counter[str]:
        """How often each kind of action took effect, by its constructor's name."""
        with self._lock:
            return Counter(self._fired)

    def claim(self, request: RecordedRequest) -> Claim:
        """Return what *request* meets; its claim must be released."""
        with self._lock:
            own = self._by_task.get(request.task_id or "", [])
            for rule in (*own, *self._general):
                if rule.claim(request):
                    return Claim(self, rule)
        return Claim(self)

    def note(self, rule: FaultRule, action: Action, *, first: bool) -> None:
        """Count an action that took effect."""
        with self._lock:
            self._fired[action.kind] += 1
            rule.fired += first

    def give_back(self, rule: FaultRule) -> None:
        """Make a rule due once more."""
        with self._lock:
            rule.give_back()

    def _rules(self, task: str | None) -> list[FaultRule]:
        return self._general if task is None else self._by_task.setdefault(task, [])


def corrupted(data: bytes, how: Spoiling) -> bytes:
    """Return what is left of a JSON object after *how* has happened to it."""
    match how:
        case "json":
            return b'{"task_id": oops, ' + data[1:]
        case "truncated":
            return data[: len(data) // 2]
        case "types":
            return _mistyped(data)
        case "scalar":
            return b"42"
        case "utf8":
            return data[:-1] + b', "note": "\xff\xfe"}'
        case "empty":
            return b""
        case "html":
            return b"<html><body><h1>502 Bad Gateway</h1></body></html>"


def _mistyped(data: bytes) -> bytes:
    fields = cast("dict[str, object]", json.loads(data))
    return json.dumps({name: _other(value) for name, value in fields.items()}).encode()


def _other(value: object) -> object:
    match value:
        case str():
            return 7
        case dict() | list():
            return "not an object"
        case None:
            return [None]
        case _:
            return {"value": value}
