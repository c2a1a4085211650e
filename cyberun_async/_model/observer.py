"""Hooks for everything a client's watches do: the base of tracing and metrics."""

import functools
import inspect
from collections.abc import Mapping
from typing import cast

from .errors import ConfigurationError, CyberunError
from .events import Event, Notice, TerminalEvent


class Observer:
    """
    Notified of what the watches of a client do. Override what is of interest.

    All of it is called in the event loop, so nothing may block, and nothing may be ``async
    def``: the client refuses that when it is made. What raises is logged, the first, the
    tenth, the hundredth time and so on, and otherwise ignored: an observer never disturbs a
    watch. Watches and waits of one task at the same time are one watch here, as they share
    one stream.
    """

    def submit_began(self, workflow: str) -> object:
        """
        A run of *workflow* is about to be sent, its files first.

        Runs in the context of its caller, in which the requests are made, too. What it
        returns is handed to :meth:`submit_ended`.
        """

    def submit_ended(self, submission: object, outcome: str | CyberunError | None) -> None:
        """
        The task has this id, or submitting failed, or (None) it was left.

        Called in the same context, with what :meth:`submit_began` returned.
        """

    def watch_began(self, task_id: str) -> None:
        """The first reader or waiter of the task came. Runs in the context of its caller."""

    def received(self, event: Event) -> None:
        """The watch delivers *event*, to however many readers."""

    def noticed(self, notice: Notice) -> None:
        """Something happened to the watch."""

    def watch_ended(self, task_id: str, outcome: TerminalEvent | CyberunError | None) -> None:
        """The watch ended with its task, with an error, or (None) was left by its last reader."""

    def headers(self, task_id: str | None) -> Mapping[str, str]:
        """
        Return headers for a request to the API, made for one task's watch or (None) not.

        Those that the library or the connection set themselves, such as ``Host``,
        ``Content-Length`` or ``Authorization``, are left out and logged.
        """
        del task_id
        return {}

    def closed(self) -> None:
        """The client has been closed; nothing more is reported."""


_METHODS = tuple(name for name in vars(Observer) if not name.startswith("_"))


def observer_of(value: object) -> Observer | None:
    """
    Return an observer as it was given, where it can be one.

    Raises:
        ConfigurationError: It lacks a method, or one of them would have to be awaited.
    """
    if value is None:
        return None
    for name in _METHODS:
        method = getattr(value, name, None)
        if isinstance(value, type) or not callable(method):
            what = "a class" if isinstance(value, type) else type(value).__name__
            raise ConfigurationError(f"observer must be an instance of Observer, not {what}")
        if is_asynchronous(method):
            raise ConfigurationError(
                f"the observer's {name} is asynchronous, and nobody awaits it; write it with "
                "`def`, and let it hand on to a task of yours what takes time"
            )
    # What has all of its methods is as good as one.
    return cast("Observer", value)


def is_asynchronous(value: object) -> bool:
    """Return whether calling *value* gives something to await, as far as can be seen."""
    while isinstance(value, functools.partial):
        value = cast("functools.partial[object]", value).func
    called = getattr(value, "__call__", None)  # noqa: B004 - an object may be callable so
    return any(
        inspect.iscoroutinefunction(one) or inspect.isasyncgenfunction(one)
        for one in (value, called)
    )
