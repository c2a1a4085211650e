"""Troubles by name: what a test switches on to see whether a program can live with it."""

from types import MappingProxyType
from typing import Final

from . import faults
from .faults import Fault


_PROXY_PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"

TROUBLES: Final = MappingProxyType(
    {
        "no-streams": (faults.on("events", faults.refuse(403), times=None),),
        "streams-drop": (faults.on("events", faults.drop_after(events=5), times=None),),
        "streams-end-early": (faults.on("events", faults.close_after(events=3), times=None),),
        "streams-go-silent": (faults.on("events", faults.stall_after(events=3), times=None),),
        "heartbeats-only": (faults.on("events", faults.heartbeats_after(events=1), times=None),),
        "events-repeat": (faults.on("events", faults.repeat(copies=2), times=None),),
        "events-garbled": (faults.on("events", faults.corrupt_after(events=2), times=None),),
        "status-slow": (faults.on("task", faults.hold(before=2.0), times=None),),
        "status-fails": (faults.on("task", faults.refuse(503), times=5),),
        "rate-limited": (faults.on("*", faults.refuse(429, retry_after=1), times=3),),
        "proxy-errors": (faults.on("*", faults.refuse(502, body=_PROXY_PAGE), times=3),),
        "submission-lost": (faults.on("run", faults.abandon()),),
        "submission-refused": (faults.on("run", faults.refuse(503, "try again later")),),
        "no-result": (faults.on("result", faults.refuse(404), times=None),),
        "downloads-break": (faults.on("download", faults.drop_after(bytes=100), times=2),),
        "uploads-break": (faults.on("upload", faults.hang_up(), times=1),),
        "cancel-fails": (faults.on("cancel", faults.refuse(503), times=1),),
    }
)
"""What each name stands for; :meth:`Simulator.trouble` switches it on."""


def trouble_named(name: str) -> tuple[Fault, ...]:
    """
    Return the faults that *name* stands for.

    Raises:
        ValueError: There is no such trouble; the message names all there are.
    """
    if name not in TROUBLES:
        message = f"there is no trouble {name!r}; there are {', '.join(TROUBLES)}"
        raise ValueError(message)
    return TROUBLES[name]
