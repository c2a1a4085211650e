"""
A Telegram bot that draws, with aiogram: one command, one message that follows, one picture.

Run it with `TELEGRAM_TOKEN` and `CYBERUN_API_KEY` set. One run per person at a time; a
button cancels it; when the bot is shut down the runs keep running, and their ids are sent.
"""

import asyncio
import contextlib
import os

from aiogram import Bot, Dispatcher, F, Router
from aiogram.exceptions import TelegramAPIError, TelegramRetryAfter
from aiogram.filters import Command, CommandObject
from aiogram.types import (
    BufferedInputFile,
    CallbackQuery,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    Message,
)

from cyberun_async import ClientClosedError, CyberunClient, CyberunError, ProgressUpdate, TaskHandle


WORKFLOW = "text-to-image"
# Telegram takes about one edit of a message per second, fewer in groups.
SECONDS_BETWEEN_EDITS = 2.0
LONGEST_RUN = 15 * 60.0
LONGEST_CAPTION = 1024


class Painter:
    """Runs of people in chats, one each."""

    def __init__(self, client: CyberunClient) -> None:
        self.client = client
        self.running: dict[int, TaskHandle | None] = {}
        self.idle = asyncio.Event()
        self.idle.set()

    def router(self) -> Router:
        """Return the handlers of the bot."""
        router = Router()
        router.message.register(self.draw, Command("draw"))
        router.callback_query.register(self.cancel, F.data == "cancel")
        return router

    async def draw(self, message: Message, command: CommandObject) -> None:
        """Answer `/draw a fox`."""
        if message.from_user is None or not command.args:
            await message.answer("Say what: /draw a fox in the snow")
            return
        user = message.from_user.id
        if user in self.running:
            await message.answer("One at a time, please.")
            return
        self.running[user] = None
        self.idle.clear()
        try:
            await self._paint(message, user, command.args)
        finally:
            del self.running[user]
            if not self.running:
                self.idle.set()

    async def wind_down(self) -> None:
        """End the watches, and let each say its last word in the chat."""
        await self.client.aclose()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await self.idle.wait()

    async def cancel(self, query: CallbackQuery) -> None:
        """Answer the button; it cancels only the run of whoever presses it."""
        task = self.running.get(query.from_user.id)
        if task is None:
            await query.answer("Not your picture.")
            return
        await task.cancel()  # the message says so once the service has done it
        await query.answer()

    async def _paint(self, message: Message, user: int, prompt: str) -> None:
        try:
            task = self.running[user] = await self.client.submit(WORKFLOW, {"prompt": prompt})
        except CyberunError as error:
            await message.answer(f"That did not work: {error}")
            return
        sent = await message.answer("submitted", reply_markup=CANCEL)
        try:
            await self._follow(message, sent, task, prompt)
        except ClientClosedError:
            await _say(sent, f"I am going down. Your run goes on as {task.id}.")
        except CyberunError as error:
            await _say(sent, f"I lost sight of run {task.id}: {error}")

    async def _follow(self, message: Message, sent: Message, task: TaskHandle, prompt: str) -> None:
        try:
            async with asyncio.timeout(LONGEST_RUN):
                last = await self._show_progress(sent, task)
        except TimeoutError:
            await task.cancel()
            await _say(sent, "That took too long; I have cancelled it.")
            return
        if last.status == "completed":
            await self._show_picture(message, task, prompt)

    async def _show_progress(self, sent: Message, task: TaskHandle) -> ProgressUpdate:
        last = ProgressUpdate(task_id=task.id)
        async with task.progress(min_interval=SECONDS_BETWEEN_EDITS) as updates:
            async for last in updates:
                await _say(sent, last.text, None if last.is_final else CANCEL)
        return last

    async def _show_picture(self, message: Message, task: TaskHandle, prompt: str) -> None:
        [artifact, *_] = await task.result()
        picture = await artifact.read(limit=10 * 1024 * 1024)
        await message.answer_photo(
            BufferedInputFile(picture, artifact.name), caption=prompt[:LONGEST_CAPTION]
        )


async def _say(sent: Message, text: str, keyboard: InlineKeyboardMarkup | None = None) -> None:
    """Edit the message; that it cannot be edited is no reason to lose the picture."""
    with contextlib.suppress(TelegramAPIError):
        try:
            await sent.edit_text(text, reply_markup=keyboard)
        except TelegramRetryAfter as refusal:
            # Updates that come meanwhile are dropped_progress.
            await asyncio.sleep(refusal.retry_after)
            await sent.edit_text(text, reply_markup=keyboard)


CANCEL = InlineKeyboardMarkup(
    inline_keyboard=[[InlineKeyboardButton(text="Cancel", callback_data="cancel")]]
)


async def main() -> None:
    """Poll Telegram until a signal ends it; aiogram lets it end in order."""
    bot = Bot(os.environ["TELEGRAM_TOKEN"])
    dispatcher = Dispatcher()
    async with CyberunClient() as client:
        painter = Painter(client)
        dispatcher.include_router(painter.router())
        # While a message can still be sent.
        dispatcher.shutdown.register(painter.wind_down)
        await dispatcher.start_polling(bot)


if __name__ == "__main__":
    asyncio.run(main())
