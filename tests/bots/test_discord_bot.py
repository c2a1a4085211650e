"""The Discord example, unmodified, between stand-ins for Discord and the simulator."""

import asyncio
from types import ModuleType
from typing import Any

import pytest

from cyberun_async import CyberunClient
from cyberun_async.testing import Simulator, story

from .kit import example
from .stubs import Recorder


discord = pytest.importorskip("discord", reason="discord.py is installed by `nox -s bots`")

EDIT = "Interaction.edit_original_response"


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param  # discord.py knows asyncio alone


@pytest.fixture
def bot_module() -> ModuleType:
    return example("discord_bot")


@pytest.fixture
async def painter(bot_module: ModuleType, cyberun_client: CyberunClient) -> Any:
    return bot_module.Painter(cyberun_client)


def interaction_of(recorder: Recorder, user: int = 1) -> Any:
    """Return a stand-in for what Discord hands over with a command."""
    return recorder.stub(
        discord.Interaction,
        user=recorder.stub(discord.User, id=user),
        response=recorder.stub(discord.InteractionResponse, "response"),
        followup=recorder.stub(discord.Webhook, "followup"),
    )


async def test_a_picture_is_drawn(cyberun_simulator: Simulator, painter: Any) -> None:
    """One message is edited as the run goes, and shows the picture in the end."""
    cyberun_simulator.tell(story().runs(steps=20, seconds=4))
    chat = Recorder()
    await painter.draw(interaction_of(chat), "a fox")

    edits = chat.made(EDIT)
    assert any("%" in str(edit.get("content")) for edit in edits)
    assert edits[-1]["content"] == "a fox"
    [picture] = edits[-1]["attachments"]
    assert picture.fp.read().startswith(b"\x89PNG")
    assert edits[-1]["view"] is None
    assert painter.busy == set()


async def test_a_network_time_out_is_no_end_of_the_run(
    cyberun_simulator: Simulator, painter: Any
) -> None:
    """Edits that do not reach Discord are left out: the run goes on, and its picture is shown."""
    cyberun_simulator.tell(story().runs(steps=20, seconds=4))
    chat = Recorder()
    failures = [TimeoutError("connect"), ConnectionResetError(104, "reset")]

    def edit(**_: Any) -> None:
        if failures:
            raise failures.pop()

    chat.answers[EDIT] = edit
    await painter.draw(interaction_of(chat), "a fox")

    [live] = cyberun_simulator.tasks
    assert failures == []
    assert live.state == "completed"
    assert chat.made(EDIT)[-1]["attachments"]


async def test_a_deleted_message_does_not_lose_the_picture(
    cyberun_simulator: Simulator, painter: Any
) -> None:
    """Where the message is gone, the picture comes in one of its own; long prompts are cut."""
    cyberun_simulator.tell(story().runs(steps=2, seconds=0.1))
    chat = Recorder()
    gone = type("Response", (), {"status": 404, "reason": "Not Found"})()

    def edit(**_: Any) -> None:
        raise discord.NotFound(gone, "Unknown Message")

    chat.answers[EDIT] = edit
    await painter.draw(interaction_of(chat), "a fox" * 1000)

    [sent] = chat.made("followup.send")
    assert sent["file"].fp.read().startswith(b"\x89PNG")
    assert len(sent["content"]) == 2000


async def test_a_failed_run_says_why(cyberun_simulator: Simulator, painter: Any) -> None:
    """The service's words stand in the message."""
    cyberun_simulator.tell(story().runs(steps=2, seconds=0.1).fails("CUDA out of memory"))
    chat = Recorder()
    await painter.draw(interaction_of(chat), "a fox")

    assert chat.contents()[-1] == "failed · CUDA out of memory"


@pytest.mark.cyberun_trouble("submission-lost")
async def test_a_run_that_cannot_be_submitted_is_reported(painter: Any) -> None:
    """A submission without an answer is not repeated, but reported."""
    chat = Recorder()
    await painter.draw(interaction_of(chat), "a fox")

    assert chat.contents()[-1].startswith("That did not work")
    assert painter.busy == set()


async def test_one_run_per_person(cyberun_simulator: Simulator, painter: Any) -> None:
    """While one is drawn for a person, a second is declined, and another person's is not."""
    cyberun_simulator.tell(*[story().runs(steps=5, seconds=1)] * 2)
    chat = Recorder()
    first = asyncio.create_task(painter.draw(interaction_of(chat), "a fox"))
    await asyncio.sleep(0)
    again = Recorder()
    await painter.draw(interaction_of(again), "a hare")
    other = Recorder()
    await painter.draw(interaction_of(other, user=2), "an owl")
    await first

    assert again.contents() == ["One at a time, please."]
    assert other.contents()[-1] == "an owl"
    assert len(cyberun_simulator.submissions) == 2


async def test_the_button_cancels(cyberun_simulator: Simulator, painter: Any) -> None:
    """Its owner cancels the run; somebody else is reported off."""
    cyberun_simulator.tell(story().runs(steps=100, seconds=100))
    chat = Recorder()
    drawing = asyncio.create_task(painter.draw(interaction_of(chat), "a fox"))
    while not (shown := [edit for edit in chat.made(EDIT) if edit.get("view")]):
        await asyncio.sleep(0.05)
    [button] = shown[0]["view"].children
    stranger = Recorder()
    await button.callback(interaction_of(stranger, user=2))
    assert stranger.contents() == ["Not your picture."]
    await button.callback(interaction_of(Recorder()))
    await drawing

    assert chat.contents()[-1] == "cancelled"


async def test_the_bot_shuts_down_cleanly(
    cyberun_environment: Simulator, bot_module: ModuleType
) -> None:
    """Closing says goodbye in the open message, names the run, and leaves it going."""
    cyberun_environment.tell(story().runs(steps=100, seconds=100))
    bot = bot_module.Bot()
    library = Recorder()
    bot.tree.sync = library.stub(discord.app_commands.CommandTree).sync
    await bot.setup_hook()
    chat = Recorder()
    command = bot.tree.get_command("draw")
    drawing = asyncio.create_task(command.callback(interaction_of(chat), "a fox"))
    while not chat.made(EDIT):
        await asyncio.sleep(0.05)
    await bot.close()
    await drawing

    [live] = cyberun_environment.tasks
    assert chat.contents()[-1] == f"I am going down. Your run goes on as {live.id}."
    assert live.state != "cancelled"
    assert len(library.made("CommandTree.sync")) == 1
