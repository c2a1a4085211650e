import gc
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def only_what_is_new() -> Iterator[None]:
    """
    Let the collector look at nothing that was there before.

    A suite has imported and kept millions of objects, and each look at them would take
    longer than what is tested.
    """
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def unmeasured() -> Iterator[None]:
    """
    Switch the measurement of coverage off, where there is one.

    Thousands of cancellations pass the same lines as a few do elsewhere, and
    counting them takes longer than they take themselves.
    """
    module = sys.modules.get("coverage")
    measuring = None if module is None else module.Coverage.current()
    if measuring is None:
        yield
        return
    measuring.stop()
    yield
    measuring.start()
