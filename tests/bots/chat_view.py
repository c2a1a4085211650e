"""A chat as a person sees it, kept while a bot runs and drawn by a browser afterwards."""

import base64
import html
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import attrs


@attrs.frozen
class Bubble:
    """One message of the bot, as it looks at a moment."""

    text: str
    button: str | None = None
    picture: bytes | None = attrs.field(default=None, repr=False)


@attrs.define
class ChatView:
    """What stands in a chat, after each call that the bot made."""

    name: str
    asked: str
    began: float = attrs.field(factory=time.monotonic)
    moments: list[tuple[float, tuple[Bubble, ...]]] = attrs.field(
        factory=list[tuple[float, tuple[Bubble, ...]]]
    )

    @property
    def now(self) -> tuple[Bubble, ...]:
        """The bot's messages at present."""
        return self.moments[-1][1] if self.moments else ()

    def post(self, bubble: Bubble) -> None:
        """Add a message."""
        self._is_now((*self.now, bubble))

    def edit(self, bubble: Bubble) -> None:
        """Replace the last message, or post it where there is none."""
        self._is_now((*self.now[:-1], bubble))

    def _is_now(self, bubbles: tuple[Bubble, ...]) -> None:
        self.moments.append((time.monotonic() - self.began, bubbles))

    def telling(self) -> list[tuple[float, tuple[Bubble, ...]]]:
        """Return four moments: the first progress, one half-way, one near the end, the last."""
        progress = [moment for moment in self.moments if "%" in moment[1][-1].text]
        return [progress[0], progress[len(progress) // 2], progress[-1], self.moments[-1]]


def draw(chats: Sequence[ChatView], chromium: str, path: Path) -> None:
    """Let a headless browser draw *chats*, one row each, into the file *path*."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "chats.html")
        page.write_text(_page(chats), encoding="utf-8")
        options = ("--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu")
        subprocess.run(
            [
                *(chromium, *options, f"--user-data-dir={folder}/profile"),
                *("--window-size=1120,612", f"--screenshot={path}", page.as_uri()),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )


def _page(chats: Sequence[ChatView]) -> str:
    rows = "".join(f"<h2>{chat.name}</h2><div class=row>{_panels(chat)}</div>" for chat in chats)
    return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>{rows}"


def _panels(chat: ChatView) -> str:
    return "".join(
        f"<figure><div class=chat><p class=asked>{html.escape(chat.asked)}</p>"
        f"{''.join(map(_bubble, bubbles))}</div><figcaption>{seconds:.0f} s</figcaption></figure>"
        for seconds, bubbles in chat.telling()
    )


def _bubble(bubble: Bubble) -> str:
    picture = button = ""
    if bubble.picture is not None:
        picture = f'<img src="data:image/png;base64,{base64.b64encode(bubble.picture).decode()}">'
    if bubble.button is not None:
        button = f"<span class=button>{html.escape(bubble.button)}</span>"
    return f"<div class=bubble>{picture}<p>{html.escape(bubble.text)}</p></div>{button}"


STYLE = """
body { margin: 16px; font: 13.5px/1.35 "DejaVu Sans", system-ui, sans-serif; color: #1c2733; }
h2 { font-size: 16px; margin: 0 0 6px; }
.row { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; margin-bottom: 14px; }
figure { margin: 0; }
figcaption { text-align: center; color: #5d6b79; font-size: 13px; padding-top: 3px; }
.chat { height: 216px; background: #dfe7ee; border-radius: 8px; padding: 10px; overflow: hidden; }
p { margin: 0; }
.asked { background: #c9efc0; border-radius: 9px; padding: 6px 9px; margin: 0 0 8px auto;
  width: fit-content; }
.bubble { background: #fff; border-radius: 9px; padding: 6px 9px; margin-bottom: 5px;
  width: fit-content; }
.bubble img { display: block; height: 96px; border-radius: 6px; margin: 2px 0 5px; }
.button { display: inline-block; background: #b3382c; color: #fff; border-radius: 6px;
  padding: 4px 14px; font-size: 13px; }
"""
