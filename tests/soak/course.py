"""A soak: 150 tasks at once against services that misbehave, and what is left of it."""

import asyncio
import random
import ssl
import time
from collections import Counter
from typing import Any, Final

import attrs

from cyberun_async import (
    CyberunClient,
    CyberunError,
    Limits,
    RateLimitedError,
    RetryPolicy,
    ServiceUnavailableError,
    SubmissionUncertainError,
    TaskHandle,
    Timeouts,
    WatchPolicy,
)

from . import weather
from .readers import WAYS
from .service import Control, Truth
from .stories import Story
from .weather import FROM_OUTSIDE, Deck, none_hit


POLICY: Final = WatchPolicy(
    tries_before_polling=4,
    backoff_base=0.05,
    backoff_cap=1.0,
    hint_cap=2.0,
    check_after=1.0,
    settle_after=0.3,
    idle_timeout=2.5,
    open_timeout=2.0,
    stale_grace=0.5,
    confirm_after=2.0,
    steady_after=3.0,
    poll_interval=0.4,
    poll_interval_waiting=1.0,
    climb_base=0.3,
    climb_cap=4.0,
    max_outage=60.0,
    connect_within=60.0,
    not_found_grace=3.0,
    linger=0.2,
)
RETRIES: Final = RetryPolicy(
    backoff_base=0.05, backoff_cap=0.4, retry_after_cap=2.0, quota=100_000, max_attempts=4
)
LIMITS: Final = Limits(
    max_streams=100,
    poll_rate=100.0,
    max_line_bytes=8192,
    max_event_bytes=8192,
    reader_capacity=16,
    reconnect_spread=0.5,
)
TIMEOUTS: Final = Timeouts(connect=1.0, read=1.0)

_SETTLING: Final = 0.5
_A_WATCH_AT_MOST: Final = 120.0


@attrs.define
class Ledger:
    """
    What happened in a soak, in numbers; and every promise that was broken.

    *by_us* are the faults that the soak made itself, *struck* those that each service counts.
    """

    by_us: Counter[str] = attrs.field(factory=Counter[str])
    struck: dict[str, Counter[str]] = attrs.field(factory=dict[str, Counter[str]])
    ways: Counter[str] = attrs.field(factory=Counter[str])
    ends: Counter[str] = attrs.field(factory=Counter[str])
    submissions: Counter[str] = attrs.field(factory=Counter[str])
    events: int = 0
    problems: list[str] = attrs.field(factory=list[str])

    @property
    def hit(self) -> Counter[str]:
        """How often each kind of fault struck."""
        return sum(self.struck.values(), self.by_us)


class Keys:
    """A provider that still returns the old key once after it was replaced, as a cache would."""

    def __init__(self, key: str) -> None:
        self.key = key
        self._old: str | None = None

    def replace(self, key: str) -> str:
        self._old, self.key = self.key, key
        return self._old

    async def __call__(self) -> str:
        await asyncio.sleep(0)
        old, self._old = self._old, None
        return old or self.key


class Course:
    """One run of a client against one service."""

    def __init__(
        self,
        control: Control,
        seed: int,
        ledger: Ledger,
        *,
        tasks: int,
        lap: int,
        overtime: float = 0.0,
    ) -> None:
        self._control = control
        self._seed = f"{control.scheme}/{seed}/{lap}"
        self._tasks = tasks
        self._ledger = ledger
        self._ended: list[tuple[str, Story]] = []
        self._overtime = overtime
        self._stop = False

    async def run(self, seconds: float) -> dict[str, Any]:
        """
        Follow tasks for so long, and return what the client says of itself.

        While a kind of fault has not struck yet it goes on for the overtime.
        """
        url, key, authority = await self._control.acall("where")
        self._keys = Keys(key)
        async with CyberunClient(
            self._keys,
            base_url=url,
            watch_policy=POLICY,
            retries=RETRIES,
            limits=LIMITS,
            timeouts=TIMEOUTS,
            verify=True if authority is None else ssl.create_default_context(cadata=authority),
        ) as self._client:
            troubles = [asyncio.create_task(work()) for work in (self._outside, self._settle)]
            until = time.monotonic() + seconds
            await asyncio.gather(*(self._work(n, until) for n in range(self._tasks)))
            self._stop = True
            await asyncio.gather(*troubles)
            await self._settle_once()
            return attrs.asdict(await self._quiet())

    async def _work(self, number: int, until: float) -> None:
        dice = random.Random(f"{self._seed}/{number}")
        await asyncio.sleep(dice.random())
        count = 0
        while self._goes_on(until):
            count += 1
            nonce = f"{self._seed}/{number}/{count}"
            task = await self._submit(nonce)
            if task is not None:
                await self._follow(task, nonce, dice)

    def _goes_on(self, until: float) -> bool:
        late = time.monotonic() - until
        return late < 0 or (late < self._overtime and bool(none_hit(self._ledger.hit)))

    async def _submit(self, nonce: str) -> TaskHandle | None:
        may_be: tuple[int, ...] = (0,)
        task: TaskHandle | None = None
        try:
            task = await self._client.submit("text-to-image", {"prompt": nonce})
        except SubmissionUncertainError:
            outcome, may_be = "uncertain", (0, 1)
        except (RateLimitedError, ServiceUnavailableError):
            outcome = "declined"
        except CyberunError as error:
            outcome = "refused"
            self._ledger.problems.append(f"{nonce}: submission: {error!r}")
        else:
            outcome, may_be = "accepted", (1,)
        self._ledger.submissions[outcome] += 1
        became = (await self._control.acall("accepted", [nonce]))[nonce]
        if became not in may_be:
            self._ledger.problems.append(f"{nonce}: {outcome}, and became {became} tasks")
        return task

    async def _follow(self, task: TaskHandle, nonce: str, dice: random.Random) -> None:
        way = dice.choice(list(WAYS))
        story = Story(task.id, way)
        try:
            async with asyncio.timeout(_A_WATCH_AT_MOST):
                await WAYS[way](self._client, task, story, dice, self._ledger.by_us)
        except CyberunError as error:
            story.error = error
        except TimeoutError:
            self._ledger.problems.append(f"{nonce}: {way}: no end within {_A_WATCH_AT_MOST:g} s")
        self._ended.append((nonce, story))

    async def _settle(self) -> None:
        while not self._stop:
            await asyncio.sleep(_SETTLING)
            await self._settle_once()

    async def _settle_once(self) -> None:
        ended, self._ended = self._ended, []
        truths = await self._control.acall("settle", [story.task_id for _, story in ended])
        self._ledger.struck[self._control.scheme] = await self._control.acall("counts")
        for nonce, story in ended:
            self._judge(nonce, story, truths[story.task_id])

    def _judge(self, nonce: str, story: Story, truth: Truth) -> None:
        ledger = self._ledger
        ledger.ways[story.way] += 1
        ledger.events += len(story.events)
        if story.error is not None:
            ledger.ends[type(story.error).__name__] += 1
        else:
            ledger.ends[str(story.end)] += 1
            ledger.ends["(of these, output not read)"] += story.output_unread
        ledger.problems += [f"{nonce}: {story.way}: {each}" for each in story.problems(truth)]

    # What happens from outside.

    async def _outside(self) -> None:
        dice = random.Random(f"{self._seed}/outside")
        deck = Deck(FROM_OUTSIDE, dice)
        while not self._stop:
            for _ in range(8):
                await self._control.acall("trouble")
                await asyncio.sleep(0.3)
            await self._happen(deck.deal(), dice)

    async def _happen(self, name: str, dice: random.Random) -> None:
        match name:
            case weather.RESTART:
                await self._control.acall("kill")
                await asyncio.sleep(0.2 + dice.random())
                await self._control.acall("restart")
                self._ledger.by_us[name] += 1
            case weather.REVOKE:
                # Counted by the service, once it refuses a request with the old one.
                old = self._keys.replace(await self._control.acall("issue"))
                await self._control.acall("revoke", old)
            case _:
                self._ledger.by_us[name] += await self._control.acall(
                    "drop_streams", name == weather.RESET
                )

    async def _quiet(self) -> Any:
        """Wait until nothing is followed any more."""
        statistics = self._client.statistics()
        for _ in range(50):
            if not statistics.open_streams and not statistics.followed_tasks:
                break
            await asyncio.sleep(0.1)
            statistics = self._client.statistics()
        else:
            self._ledger.problems.append(f"the client does not come to rest: {statistics}")
        if open_streams := await self._control.acall("streams"):
            self._ledger.problems.append(f"{open_streams} streams are open at the service")
        return statistics
