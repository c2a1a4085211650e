"""The ways in which a soak follows tasks: patiently, slowly, in parts, cancelled, many at once."""

import asyncio
import contextlib
import gc
import random
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from cyberun_async import (
    CyberunClient,
    CyberunError,
    Event,
    ResumeToken,
    TaskCancelledError,
    TaskFailedError,
    TaskHandle,
    WaitTimeoutError,
)

from .stories import Story


Way = Callable[[CyberunClient, TaskHandle, Story, random.Random, Counter[str]], Awaitable[None]]


async def read(
    client: CyberunClient,
    task: TaskHandle | ResumeToken,
    story: Story,
    *,
    at_most: int | None = None,
    pause: float = 0.0,
    notices: bool = False,
) -> ResumeToken:
    """Read to the end or for some events, and return where to go on."""
    left = at_most
    async with client.watch(task, notices=notices) as events:
        async for event in events:
            if not isinstance(event, Event):
                continue
            story.events.append(event)
            if pause:
                await asyncio.sleep(pause)
            left = None if left is None else left - 1
            if left == 0:
                break
        return events.token()


async def patiently(
    client: CyberunClient, task: TaskHandle, story: Story, dice: random.Random, hit: Counter[str]
) -> None:
    await read(client, task, story)


async def with_notices(
    client: CyberunClient, task: TaskHandle, story: Story, dice: random.Random, hit: Counter[str]
) -> None:
    await read(client, task, story, notices=True)


async def slowly(
    client: CyberunClient, task: TaskHandle, story: Story, dice: random.Random, hit: Counter[str]
) -> None:
    hit["slow reader"] += 1
    await read(client, task, story, pause=0.2)


async def in_parts(
    client: CyberunClient, task: TaskHandle, story: Story, dice: random.Random, hit: Counter[str]
) -> None:
    token: TaskHandle | ResumeToken = task
    for _ in range(2):
        token = await read(client, token, story, at_most=dice.randrange(1, 5))
        if story.events and story.events[-1].is_terminal:
            return
        hit["reader left by break"] += 1
    await read(client, token, story)


async def cancelled(
    client: CyberunClient, task: TaskHandle, story: Story, dice: random.Random, hit: Counter[str]
) -> None:
    token: TaskHandle | ResumeToken = task
    for _ in range(2):
        events = client.watch(token)

        async def reading() -> None:
            async with events:  # noqa: B023 - awaited within the round
                async for event in events:  # noqa: B023
                    story.events.append(event)

        reader = asyncio.create_task(reading())
        await asyncio.wait([reader], timeout=dice.random() * 1.5)
        if reader.done():
            await reader
            return
        twice = dice.random() < 0.5
        hit["reader cancelled twice" if twice else "reader cancelled"] += 1
        for _ in range(1 + twice):
            reader.cancel()
            await asyncio.sleep(0)
        with contextlib.suppress(asyncio.CancelledError):
            await reader
        if story.events and story.events[-1].is_terminal:
            return
        token = events.token()
    await read(client, token, story)


async def with_timeouts(
    client: CyberunClient, task: TaskHandle, story: Story, dice: random.Random, hit: Counter[str]
) -> None:
    async with client.watch(task) as events:
        while True:
            try:
                if dice.random() < 0.5:
                    event = await asyncio.wait_for(anext(events), dice.random() * 0.3)
                else:
                    async with asyncio.timeout(dice.random() * 0.3):
                        event = await anext(events)
            except TimeoutError:
                hit["read that timed out"] += 1
            except StopAsyncIteration:
                return
            else:
                story.events.append(event)


async def abandoning(
    client: CyberunClient, task: TaskHandle, story: Story, dice: random.Random, hit: Counter[str]
) -> None:
    events = client.watch(task)
    async for event in events:
        story.events.append(event)
        break
    token = events.token()
    if story.events[-1].is_terminal:
        return
    hit["iterator abandoned"] += 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del events
        gc.collect(0)
    # The follower continues: the next watch shares its stream.
    await read(client, token, story)


async def waiting(
    client: CyberunClient, task: TaskHandle, story: Story, dice: random.Random, hit: Counter[str]
) -> None:
    token: TaskHandle | ResumeToken = task
    for _ in range(2):
        try:
            story.snapshot = await client.wait(token, timeout=0.1 + dice.random())
        except WaitTimeoutError as error:
            hit["deadline passed"] += 1
            token = error.resume_token or token
        else:
            return
    story.snapshot = await client.wait(token)


async def resulting(
    client: CyberunClient, task: TaskHandle, story: Story, dice: random.Random, hit: Counter[str]
) -> None:
    try:
        story.snapshot = await client.wait(task)
        await client.result(task)
    except (TaskFailedError, TaskCancelledError) as error:
        story.snapshot = error.snapshot
    except CyberunError as error:
        if story.snapshot is None:
            raise
        hit[f"(result not read: {type(error).__name__})"] += 1


async def viewing(
    client: CyberunClient, task: TaskHandle, story: Story, dice: random.Random, hit: Counter[str]
) -> None:
    async with client.progress(task, min_interval=0.2) as updates:
        async for update in updates:
            if update.end is not None:
                story.events.append(update.end)


WAYS: Final[dict[str, Way]] = {
    "watch": patiently,
    "watch with notices": with_notices,
    "watch slowly": slowly,
    "watch in parts": in_parts,
    "watch, cancelled": cancelled,
    "watch, reads with timeouts": with_timeouts,
    "watch, abandoned": abandoning,
    "wait": waiting,
    "result": resulting,
    "progress": viewing,
}
