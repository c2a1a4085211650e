"""
A local Cyberun Cloud for tests, and a clock and a transport to run it in process.

The simulator needs the extra ``testing``. It shares no code with the client, so
that a misreading of the API cannot be made on both sides at once.
"""

import importlib
from typing import TYPE_CHECKING

from .._names import publish
from . import faults
from ._sent import Sent
from ._simulator.behaviour import Behaviour
from ._simulator.faults import FaultBook, FaultRule
from ._simulator.plan import Attempt, TaskPlan
from ._simulator.records import Delivery, RecordedRequest, Submission
from ._story import Story, story
from .faults import TROUBLES


if TYPE_CHECKING:
    from ._asgi.transport import StreamingASGITransport
    from ._clock import DeadlockError, VirtualClockLoop, virtual_backend
    from ._simulator.live import LiveTask
    from ._simulator.state import RunRequest
    from .simulator import Simulator


__all__ = [
    "TROUBLES",
    "Attempt",
    "Behaviour",
    "DeadlockError",
    "Delivery",
    "FaultBook",
    "FaultRule",
    "LiveTask",
    "RecordedRequest",
    "RunRequest",
    "Sent",
    "Simulator",
    "Story",
    "StreamingASGITransport",
    "Submission",
    "TaskPlan",
    "VirtualClockLoop",
    "faults",
    "story",
    "virtual_backend",
]
publish(__name__, globals(), [name for name in __all__ if name in globals()])

_OF_THE_EXTRA = frozenset({"starlette", "uvicorn"})
# Imported on first use: pytest loads this package with the plugin, and no network with it;
# the clock and the transport work without the extra.
_LAZY = {
    "DeadlockError": "_clock",
    "LiveTask": "_simulator.live",
    "RunRequest": "_simulator.state",
    "Simulator": "simulator",
    "StreamingASGITransport": "_asgi.transport",
    "VirtualClockLoop": "_clock",
    "virtual_backend": "_clock",
}


# Hidden from type checkers, which would take any misspelt name for an object.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            module = importlib.import_module(f".{_LAZY[name]}", __name__)
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing not in _OF_THE_EXTRA:
                raise
            message = (
                f"{__name__}.{name} needs {missing}, which the extra `testing` brings: "
                "pip install 'cyberun_async[testing]'"
            )
            raise ModuleNotFoundError(message, name=error.name) from error
        value: object = getattr(module, name)
        publish(__name__, {name: value}, [name])
        return value
