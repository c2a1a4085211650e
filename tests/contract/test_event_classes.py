"""`Event` and `Notice`: unions of the public classes, closed, and good for `isinstance`."""

from typing import get_args

import attrs
import pytest

import cyberun_async
from cyberun_async import Event, Notice


EVENT_CLASSES = [
    getattr(cyberun_async, name)
    for name in cyberun_async.__all__
    if name.endswith("Event") and name != "Event"
]
NOTICE_CLASSES = [
    cyberun_async.Connected,
    cyberun_async.StreamLost,
    cyberun_async.PollingStarted,
    cyberun_async.StreamingResumed,
    cyberun_async.Gap,
    cyberun_async.GaveUp,
]


def made(cls: type) -> object:
    """Return a value of *cls*, its needed fields filled with any text."""
    needed = [field for field in attrs.fields(cls) if field.default is attrs.NOTHING]
    return cls(**{field.name: "text" for field in needed})


def test_the_unions_hold_every_public_class() -> None:
    """A class of event that is missing in its union would slip past `assert_never`."""
    assert set(get_args(Event)) == set(EVENT_CLASSES)
    assert set(get_args(Notice)) == set(NOTICE_CLASSES)


@pytest.mark.parametrize("cls", [*EVENT_CLASSES, *NOTICE_CLASSES])
def test_isinstance_tells_events_from_notices(cls: type) -> None:
    """`isinstance(item, Event)` and `isinstance(item, Notice)` exclude each other."""
    item = made(cls)
    assert isinstance(item, Event) is (cls in EVENT_CLASSES)
    assert isinstance(item, Notice) is (cls in NOTICE_CLASSES)
    assert attrs.has(cls)
