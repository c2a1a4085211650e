"""A signal to stop reaches the relay, and still reaches whoever handled it before."""

import signal
import threading
from collections.abc import Iterator
from types import FrameType

import anyio
import pytest

from cyberun_async import CyberunClient
from cyberun_async.relay import TaskRelay
from cyberun_async.relay._signals import StopSignals


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def passed_on(as_before: None) -> list[int]:
    """What a server's own handler of SIGTERM has got."""
    got: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _stack: got.append(number))
    return got


def test_a_signal_is_noted_and_passed_on(passed_on: list[int]) -> None:
    """Both are notified; afterwards the handler is the one from before."""
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGTERM)

    assert (signals.received, passed_on) == (True, [signal.SIGTERM])
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_nobody_handles_is_left_alone() -> None:
    """Otherwise SIGTERM would no longer end the process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopSignals() as signals:
        kept = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    assert kept == (signal.SIG_DFL, signal.SIG_IGN)
    assert not signals.is_listening


def test_a_handler_that_came_later_stays(passed_on: list[int]) -> None:
    """What somebody put in place within the block is theirs."""

    def later(number: int, stack: FrameType | None) -> None: ...

    with StopSignals():
        signal.signal(signal.SIGTERM, later)

    assert signal.getsignal(signal.SIGTERM) is later


def test_other_threads_touch_no_signals() -> None:
    """Python allows handlers in the main thread only."""
    listening: list[bool] = []

    def enter() -> None:
        with StopSignals() as signals:
            listening.append(signals.is_listening)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()

    assert listening == [False]


async def test_a_relay_closes_upon_a_signal(passed_on: list[int]) -> None:
    """Nobody but the relay has to know that browsers are connected."""
    async with TaskRelay(CyberunClient("sk-0123456789abcdef")) as relay:
        signal.raise_signal(signal.SIGTERM)
        with anyio.fail_after(10):
            while not relay._is_closed:
                await anyio.sleep(0.01)

    assert passed_on == [signal.SIGTERM]
