"""When a page learns that progress is live, and when that it is not."""

import pytest

from cyberun_async import (
    Connected,
    Event,
    Gap,
    Notice,
    PollingStarted,
    StatusEvent,
    StreamingResumed,
    StreamLost,
)
from cyberun_async.relay._follower import Liveness


CONNECTED = Connected(task_id="t")
LOST = StreamLost(task_id="t", cause="cut", delay=1.0)
POLLING = PollingStarted(task_id="t", cause="refused")
RESUMED = StreamingResumed(task_id="t")
GAP = Gap(task_id="t", seconds=1.0)
STATUS = StatusEvent(task_id="t", status="running")


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([CONNECTED, STATUS], [True]),
        ([CONNECTED, LOST, GAP, CONNECTED, STATUS], [True, False, True]),
        ([LOST, LOST, POLLING, STATUS], [False]),
        ([CONNECTED, LOST, POLLING, CONNECTED, RESUMED, STATUS], [True, False, True]),
        ([POLLING, CONNECTED, LOST], [False]),
        ([STATUS, STATUS], []),
    ],
    ids=["plain", "cut", "refused", "polled-for-a-while", "never-proved", "nothing-known"],
)
def test_a_page_is_notified_of_changes(items: list[Event | Notice], expected: list[bool]) -> None:
    """Each change is reported once, and a stream after polling has to prove itself first."""
    liveness = Liveness()
    reported = [
        liveness.is_live
        for item in items
        if liveness.changed(item, is_live=False, phase="connecting")
    ]

    assert reported == expected


@pytest.mark.parametrize(
    ("is_live", "phase", "expected"),
    [(True, "reading", True), (False, "polling", False), (False, "done", None)],
)
def test_a_watch_that_others_began_says_itself(
    is_live: bool, phase: str, expected: bool | None
) -> None:
    """Its notices came before this reader, so it is asked at the first event."""
    liveness = Liveness()
    liveness.changed(STATUS, is_live=is_live, phase=phase)

    assert liveness.is_live is expected


def test_what_is_known_is_not_overtaken() -> None:
    """A watch that has read the end already is not live any more; the progress before it was."""
    liveness = Liveness()
    liveness.changed(CONNECTED, is_live=True, phase="reading")

    assert not liveness.changed(STATUS, is_live=False, phase="done")
