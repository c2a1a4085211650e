"""
Making of ticks, the one kind of event that comes by the hundred thousand.

attrs sets each field of a frozen class by its name, through ``object.__setattr__``; for
ten fields that takes longer than everything else that is done for a tick. The slots of
the class are set here instead, by the descriptors that Python has made for them.
"""

from collections.abc import Callable, Mapping
from typing import Any

from .._model import ProgressEvent


_new = object.__new__


def _setter(field: str) -> Callable[[ProgressEvent, object], None]:
    setter: Callable[[ProgressEvent, object], None] = getattr(ProgressEvent, field).__set__
    return setter


_task_id, _attempt, _origin, _raw = map(_setter, ("task_id", "attempt", "origin", "raw"))
_progress, _step_current, _step_total = map(_setter, ("progress", "step_current", "step_total"))
_current_node, _stage, _message = map(_setter, ("current_node", "stage", "message"))


def make_progress_event(
    task_id: str,
    attempt: int,
    raw: Mapping[str, Any],
    progress: float | None,
    step_current: int | None,
    step_total: int | None,
    current_node: str | None,
    stage: str | None,
    message: str | None,
) -> ProgressEvent:
    """Return what ``ProgressEvent`` makes of the same, from the stream."""
    tick = _new(ProgressEvent)
    _task_id(tick, task_id)
    _attempt(tick, attempt)
    _origin(tick, "stream")
    _raw(tick, raw)
    _progress(tick, progress)
    _step_current(tick, step_current)
    _step_total(tick, step_total)
    _current_node(tick, current_node)
    _stage(tick, stage)
    _message(tick, message)
    return tick
