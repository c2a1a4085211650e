"""The Telegram example, unmodified: aiogram's own dispatcher between fakes of both services."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import pytest

from cyberun_async import CyberunClient
from cyberun_async.testing import Simulator, story

from .kit import example


aiogram = pytest.importorskip("aiogram", reason="aiogram is installed by `nox -s bots`")
types = pytest.importorskip("aiogram.types")
TelegramRetryAfter: Any = pytest.importorskip("aiogram.exceptions").TelegramRetryAfter
BaseSession: Any = pytest.importorskip("aiogram.client.session.base").BaseSession

TOKEN = "42:TEST"


class Chat(BaseSession):
    """Telegram as aiogram sees it: takes its real method objects, answers real messages."""

    def __init__(self) -> None:
        super().__init__()
        self.methods: list[Any] = []
        self.floods = 0

    async def make_request(self, bot: Any, method: Any, timeout: Any = None) -> Any:
        if self.floods and isinstance(method, aiogram.methods.EditMessageText):
            self.floods -= 1
            raise TelegramRetryAfter(method, "Too Many Requests", retry_after=0.5)
        self.methods.append(method)
        if method.__returning__ is bool:
            return True
        message = message_of(user=1, text=getattr(method, "text", None) or "")
        return message.as_(bot)

    async def stream_content(self, *args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        yield b""

    async def close(self) -> None:
        pass

    def texts(self) -> list[str]:
        """Return what was shown as text, in order."""
        return [m.text for m in self.methods if getattr(m, "text", None)]


def user_of(number: int) -> Any:
    return types.User(id=number, is_bot=False, first_name="Somebody")


def message_of(user: int, text: str) -> Any:
    return types.Message(
        message_id=7,
        date=datetime(2026, 3, 1, tzinfo=UTC),
        chat=types.Chat(id=5, type="private"),
        from_user=user_of(user),
        text=text,
    )


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param  # aiogram knows asyncio alone


@pytest.fixture
def bot_module() -> ModuleType:
    return example("telegram_bot")


class Telegram:
    """The bot, given with updates as if it had polled them."""

    def __init__(self, painter: Any, chat: Chat | None = None) -> None:
        self.chat = chat or Chat()
        self.bot = aiogram.Bot(TOKEN, session=self.chat)
        self.dispatcher = aiogram.Dispatcher()
        self.dispatcher.include_router(painter.router())
        self.painter = painter

    async def say(self, text: str, user: int = 1) -> None:
        """Let *user* send a message, and wait until it has been dealt with."""
        update = types.Update(update_id=1, message=message_of(user, text))
        await self.dispatcher.feed_update(self.bot, update)

    async def press(self, user: int = 1) -> None:
        """Let *user* press the button."""
        query = types.CallbackQuery(
            id="1", from_user=user_of(user), chat_instance="5", data="cancel"
        )
        await self.dispatcher.feed_update(self.bot, types.Update(update_id=2, callback_query=query))


@pytest.fixture
async def telegram(bot_module: ModuleType, cyberun_client: CyberunClient) -> Telegram:
    return Telegram(bot_module.Painter(cyberun_client))


async def test_a_picture_is_drawn(cyberun_simulator: Simulator, telegram: Telegram) -> None:
    """One message is edited as the run goes; the picture follows with its prompt."""
    cyberun_simulator.tell(story().runs(steps=20, seconds=5))
    await telegram.say("/draw a fox in the snow")

    photo = telegram.chat.methods[-1]
    assert photo.caption == "a fox in the snow"
    assert photo.photo.data.startswith(b"\x89PNG")
    assert any("%" in text for text in telegram.chat.texts())
    assert telegram.chat.texts()[-1] == "completed"
    assert telegram.painter.running == {}


async def test_a_failed_run_says_why(cyberun_simulator: Simulator, telegram: Telegram) -> None:
    """The service's words stand in the message."""
    cyberun_simulator.tell(story().runs(steps=2, seconds=0.1).fails("CUDA out of memory"))
    await telegram.say("/draw a fox")

    assert telegram.chat.texts()[-1] == "failed · CUDA out of memory"


async def test_a_flood_wait_is_sat_out(cyberun_simulator: Simulator, telegram: Telegram) -> None:
    """An edit that Telegram puts off is made again, so that the last word is reported."""
    cyberun_simulator.tell(story().runs(steps=2, seconds=0.1).fails("CUDA out of memory"))
    telegram.chat.floods = 1
    await telegram.say("/draw a fox")

    assert telegram.chat.floods == 0
    assert telegram.chat.texts()[-1] == "failed · CUDA out of memory"


async def test_a_long_prompt_is_cut(cyberun_simulator: Simulator, telegram: Telegram) -> None:
    """A caption has at most 1,024 characters; the picture was paid for."""
    cyberun_simulator.tell(story().runs(steps=2, seconds=0.1))
    await telegram.say("/draw " + "a fox " * 500)

    assert len(telegram.chat.methods[-1].caption) == 1024


async def test_without_a_prompt_the_bot_says_how(
    cyberun_simulator: Simulator, telegram: Telegram
) -> None:
    """A command without words costs nothing."""
    await telegram.say("/draw")

    assert telegram.chat.texts() == ["Say what: /draw a fox in the snow"]
    cyberun_simulator.sent.assert_nothing_run()


async def test_one_run_per_person_and_a_button_that_cancels(
    cyberun_simulator: Simulator, telegram: Telegram
) -> None:
    """A second run is declined, a stranger's press is, and the owner's cancels."""
    cyberun_simulator.tell(story().runs(steps=100, seconds=100))
    drawing = asyncio.create_task(telegram.say("/draw a fox"))
    while not any(telegram.painter.running.values()):
        await asyncio.sleep(0.05)
    await telegram.say("/draw a hare")
    await telegram.press(user=2)
    await telegram.press(user=1)
    await drawing

    texts = telegram.chat.texts()
    assert "One at a time, please." in texts
    assert "Not your picture." in texts
    assert texts[-1] == "cancelled"
    assert len(cyberun_simulator.submissions) == 1


async def test_the_bot_winds_down_cleanly(cyberun_simulator: Simulator, telegram: Telegram) -> None:
    """Shutting down names the run in the open message, and leaves it going."""
    cyberun_simulator.tell(story().runs(steps=100, seconds=100))
    drawing = asyncio.create_task(telegram.say("/draw a fox"))
    while len(telegram.chat.methods) < 2:
        await asyncio.sleep(0.05)
    await telegram.painter.wind_down()
    await drawing

    [live] = cyberun_simulator.tasks
    assert telegram.chat.texts()[-1] == f"I am going down. Your run goes on as {live.id}."
    assert live.state != "cancelled"
