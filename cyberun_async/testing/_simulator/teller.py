"""Telling events to one reader, with the faults that come between."""

from collections.abc import Awaitable, Callable

import anyio

from ..faults import Close, Corrupt, Drip, Drop, Foreign, Raw, Repeat, Replay, Stall
from .behaviour import Behaviour
from .faults import Claim
from .frames import COMMENT, Frame, block, encoded, payload_bytes
from .spoil import spoilt
from .wire import ConnectionCutError, StreamEndError


_FOREIGN_TASK = "0197ffff-ffff-7fff-bfff-ffffffffffff"


class Teller:
    """Writes events, counts them, and lets the faults of this request strike."""

    def __init__(
        self, behaviour: Behaviour, claim: Claim, write: Callable[[bytes], Awaitable[None]]
    ) -> None:
        self._behaviour = behaviour
        self._claim = claim
        self._write = write
        self._replays = any(isinstance(action, Replay) for action in claim.actions)
        self._told: list[bytes] = []
        self._count = 0
        self._size = 0
        self._close = next((a for a in claim.actions if isinstance(a, Close)), None)
        self._drip = next((a for a in claim.actions if isinstance(a, Drip)), None)
        self._drips = False
        self.last_write = anyio.current_time()

    async def write(self, data: bytes) -> None:
        """
        Write bytes that count as no event.

        Raises:
            StreamEndError: A fault closes the stream here.
        """
        rest = self._until_end()
        self._size += len(data)
        await self._put(data[:rest])
        self.last_write = anyio.current_time()
        if self._close is not None and rest is not None and len(data) >= rest:
            self._claim.fire(self._close)
            raise StreamEndError

    def _until_end(self) -> int | None:
        """Return how many bytes may still be written."""
        if self._close is None or self._close.bytes is None:
            return None
        return max(0, self._close.bytes - self._size)

    async def _put(self, data: bytes) -> None:
        drip = self._drip
        if drip is None or self._count < drip.events:
            await self._write(data)
            return
        if not self._drips:
            self._drips = True
            self._claim.fire(drip)
        for start in range(len(data)):
            await self._write(data[start : start + 1])
            await anyio.sleep(drip.every)

    async def tell(self, frame: Frame) -> None:
        """
        Tell one event, as often and as well as the faults let it through.

        Raises:
            StreamEndError: A fault closes the stream.
            ConnectionCutError: A fault cuts the connection.
        """
        data = self._worded(frame)
        for _ in range(self._copies()):
            await self.write(data)
            self._count += 1
            if self._replays:
                self._told.append(data)
            await self.strike()

    async def strike(self) -> None:
        """Let the faults strike that wait for as many events as were told."""
        for action in self._claim.actions:
            match action:
                case Drop(events=self._count):
                    self._claim.fire(action)
                    raise ConnectionCutError(reset=action.reset)
                case Close(events=self._count):
                    self._claim.fire(action)
                    raise StreamEndError
                case Stall(events=self._count):
                    self._claim.fire(action)
                    await self._stall(action)
                case Replay() | Foreign() | Raw() if action.events == self._count:
                    self._claim.fire(action)
                    await self.write(self._extra(action))
                case _:
                    pass

    def _copies(self) -> int:
        for action in self._claim.actions:
            if isinstance(action, Repeat):
                if self._count == 0:
                    self._claim.fire(action)
                return action.copies
        return 1

    def _worded(self, frame: Frame) -> bytes:
        for action in self._claim.actions:
            if isinstance(action, Corrupt) and action.events == self._count:
                self._claim.fire(action)
                return encoded(frame, self._behaviour, spoilt(payload_bytes(frame), action.how))
        return encoded(frame, self._behaviour)

    def _extra(self, action: Replay | Foreign | Raw) -> bytes:
        match action:
            case Replay():
                return b"".join(self._told)
            case Raw(data=data):
                return data
            case Foreign(name=name):
                payload: dict[str, object] = {
                    "task_id": _FOREIGN_TASK,
                    "status": name,
                    "output": {},
                }
                return encoded(Frame(name, payload, 0), self._behaviour)

    async def _stall(self, action: Stall) -> None:
        seconds = float("inf") if action.seconds is None else action.seconds
        with anyio.move_on_after(seconds):
            while True:
                await _sleep(action.heartbeat)
                await self.write(block([COMMENT], self._behaviour))


async def _sleep(seconds: float | None) -> None:
    if seconds is None:
        await anyio.sleep_forever()
    else:
        await anyio.sleep(seconds)
