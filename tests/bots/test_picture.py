"""The picture of the documentation: what a person sees of both example bots, as they ran."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cyberun_async import CyberunClient
from cyberun_async.testing import Simulator, story

from ..browser.chromium import found
from .chat_view import Bubble, ChatView, draw
from .kit import example
from .stubs import Recorder
from .test_telegram_bot import Chat, Telegram


discord = pytest.importorskip("discord", reason="discord.py is installed by `nox -s bots`")
pytest.importorskip("aiogram", reason="aiogram is installed by `nox -s bots`")

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "bots.png"
PROMPT = "a fox in the snow"
LIFE = story().runs(steps=20, seconds=14).completes("fox.png")


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param  # both libraries know asyncio alone


class SeenChat(Chat):
    """Telegram, which shows what it is asked to show."""

    def __init__(self, view: ChatView) -> None:
        super().__init__()
        self.view = view

    async def make_request(self, bot: Any, method: Any, timeout: Any = None) -> Any:
        keyboard = getattr(method, "reply_markup", None)
        button = keyboard.inline_keyboard[0][0].text if keyboard else None
        match type(method).__name__:
            case "SendMessage":
                self.view.post(Bubble(method.text, button))
            case "EditMessageText":
                self.view.edit(Bubble(method.text, button))
            case "SendPhoto":
                self.view.post(Bubble(method.caption, button, method.photo.data))
            case _:
                pass
        return await super().make_request(bot, method, timeout)


async def on_telegram(client: CyberunClient) -> ChatView:
    view = ChatView("Telegram", f"/draw {PROMPT}")
    telegram = Telegram(example("telegram_bot").Painter(client), SeenChat(view))
    await telegram.say(view.asked)
    return view


async def on_discord(client: CyberunClient) -> ChatView:
    view = ChatView("Discord", f"/draw prompt: {PROMPT}")

    def edited(content: str, view: Any = None, attachments: Any = ()) -> None:
        button = view.children[0].label if view else None
        picture = attachments[0].fp.read() if attachments else None
        seen.edit(Bubble(content, button, picture))

    seen = view
    recorder = Recorder(answers={"Interaction.edit_original_response": edited})
    interaction = recorder.stub(
        discord.Interaction,
        user=recorder.stub(discord.User, id=1),
        response=recorder.stub(discord.InteractionResponse, "response"),
    )
    await example("discord_bot").Painter(client).draw(interaction, PROMPT)
    return view


async def test_both_bots_show_one_live_message_and_the_picture(
    cyberun_simulator: Simulator, cyberun_client: CyberunClient
) -> None:
    """Progress rises in one message, the button is there until the end, and the picture comes."""
    cyberun_simulator.tell(LIFE, LIFE)
    chats = await asyncio.gather(on_telegram(cyberun_client), on_discord(cyberun_client))

    for chat in chats:
        first, half, late, last = chat.telling()
        texts = [moment[1][-1].text for moment in (first, half, late)]
        assert [len(moment[1]) for moment in (first, half, late)] == [1, 1, 1]
        assert texts == sorted(texts, key=lambda text: int(text.split()[0]))
        assert len(set(texts)) == 3
        assert "s left" in texts[1]
        assert {moment[1][-1].button for moment in (first, half, late)} == {"Cancel"}
        assert (last[1][-1].text, last[1][-1].button) == (PROMPT, None)
        assert (last[1][-1].picture or b"").startswith(b"\x89PNG")
    chromium = found()
    if chromium is None:
        pytest.skip("the picture was not drawn: name a Chromium in CYBERUN_BROWSER")
    await asyncio.to_thread(draw, chats, chromium, PICTURE)
