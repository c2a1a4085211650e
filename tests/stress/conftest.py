import gc
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
