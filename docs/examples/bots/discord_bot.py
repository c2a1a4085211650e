"""
A Discord bot that draws: one command, one message edited as it goes, one picture.

Run it with `DISCORD_TOKEN` and `CYBERUN_API_KEY` set. One run per person at a time; a
button cancels it; when the bot is shut down the runs keep running, and their ids are sent.
"""

import asyncio
import contextlib
import io
import os
from typing import Any

import aiohttp
import discord
from discord import app_commands

from cyberun_async import ClientClosedError, CyberunClient, CyberunError, ProgressUpdate, TaskHandle


WORKFLOW = "text-to-image"
# Discord takes about one edit of a message per second.
SECONDS_BETWEEN_EDITS = 1.5
# Discord lets a command be answered for fifteen minutes.
LONGEST_RUN = 14 * 60.0
LONGEST_TEXT = 2000


class CancelButton(discord.ui.View):
    """One button, for whoever asked for the picture."""

    def __init__(self, task: TaskHandle, owner_id: int) -> None:
        super().__init__(timeout=None)
        self.task = task
        self.owner_id = owner_id

    @discord.ui.button(label="Cancel", style=discord.ButtonStyle.danger)
    async def cancel(self, interaction: discord.Interaction, _button: Any) -> None:
        if interaction.user.id != self.owner_id:
            await interaction.response.send_message("Not your picture.", ephemeral=True)
            return
        await interaction.response.defer()
        await self.task.cancel()  # the message says so once the service has done it


class Painter:
    """Runs of people in a chat, one each."""

    def __init__(self, client: CyberunClient) -> None:
        self.client = client
        self.busy: set[int] = set()
        self.idle = asyncio.Event()
        self.idle.set()

    async def draw(self, interaction: discord.Interaction, prompt: str) -> None:
        user = interaction.user.id
        if user in self.busy:
            await interaction.response.send_message("One at a time, please.", ephemeral=True)
            return
        self.busy.add(user)
        self.idle.clear()
        try:
            await interaction.response.defer()  # submitting may take longer than Discord waits
            await self._paint(interaction, prompt)
        finally:
            self.busy.discard(user)
            if not self.busy:
                self.idle.set()

    async def wind_down(self) -> None:
        """End the watches, and let each say its last word in the chat."""
        await self.client.aclose()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await self.idle.wait()

    async def _paint(self, interaction: discord.Interaction, prompt: str) -> None:
        try:
            task = await self.client.submit(WORKFLOW, {"prompt": prompt})
        except CyberunError as error:
            await _say(interaction, f"That did not work: {error}")
            return
        try:
            await self._follow(interaction, task, prompt)
        except ClientClosedError:
            await _say(interaction, f"I am going down. Your run goes on as {task.id}.")
        except CyberunError as error:
            await _say(interaction, f"I lost sight of run {task.id}: {error}")

    async def _follow(
        self, interaction: discord.Interaction, task: TaskHandle, prompt: str
    ) -> None:
        try:
            async with asyncio.timeout(LONGEST_RUN):
                last = await self._show_progress(interaction, task)
        except TimeoutError:
            await task.cancel()
            await _say(interaction, "That took too long; I have cancelled it.")
            return
        if last.status == "completed":
            await self._show_picture(interaction, task, prompt)
        else:
            await _say(interaction, last.text)

    async def _show_progress(
        self, interaction: discord.Interaction, task: TaskHandle
    ) -> ProgressUpdate:
        view = CancelButton(task, interaction.user.id)
        last = ProgressUpdate(task_id=task.id)
        async with task.progress(min_interval=SECONDS_BETWEEN_EDITS) as updates:
            async for last in updates:
                await _say(interaction, last.text, view=view)
        return last

    async def _show_picture(
        self, interaction: discord.Interaction, task: TaskHandle, prompt: str
    ) -> None:
        [artifact, *_] = await task.result()
        picture = await artifact.read(limit=8 * 1024 * 1024)

        def file() -> discord.File:
            return discord.File(io.BytesIO(picture), artifact.name)

        text = prompt[:LONGEST_TEXT]
        try:
            await interaction.edit_original_response(content=text, attachments=[file()], view=None)
        except UNREACHABLE:
            # The message may have been deleted; the picture was paid for.
            with contextlib.suppress(*UNREACHABLE):
                await interaction.followup.send(text, file=file())


# A network timeout is no end of the run: discord.py passes it on as it is.
UNREACHABLE = (discord.DiscordException, aiohttp.ClientError, OSError)


async def _say(
    interaction: discord.Interaction, text: str, view: CancelButton | None = None
) -> None:
    """Edit the message; that it cannot be edited is no reason to lose the picture."""
    with contextlib.suppress(*UNREACHABLE):
        await interaction.edit_original_response(content=text[:LONGEST_TEXT], view=view)


class Bot(discord.Client):
    """The bot; it opens the client of Cyberun with itself and closes it before itself."""

    def __init__(self) -> None:
        super().__init__(intents=discord.Intents.default())
        self.cyberun = CyberunClient()
        self.painter = Painter(self.cyberun)
        self.tree = app_commands.CommandTree(self)

    async def setup_hook(self) -> None:
        await self.cyberun.__aenter__()

        @self.tree.command(name="draw", description="Draw a picture.")
        @app_commands.describe(prompt="What to draw")
        async def draw(interaction: discord.Interaction, prompt: str) -> None:
            await self.painter.draw(interaction, prompt)

        await self.tree.sync()

    async def close(self) -> None:
        # While a message can still be sent.
        await self.painter.wind_down()
        await super().close()


if __name__ == "__main__":
    Bot().run(os.environ["DISCORD_TOKEN"])
