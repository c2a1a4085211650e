"""A program on a real pseudo-terminal, and the screen that a person would see."""

import contextlib
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from fcntl import ioctl
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyte


PATIENCE = 30.0
# Makes the terminal the one that Ctrl-C comes from, then becomes the program.
_START = (
    "import fcntl, os, sys, termios;"
    "fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.executable, [sys.executable, '-m', 'cyberun_async', *sys.argv[1:]])"
)


class Terminal:
    """Runs ``cyberun-async`` with *arguments* on a terminal of *rows* and *columns*."""

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str],
        cwd: Path | None = None,
        rows: int = 24,
        columns: int = 100,
    ) -> None:
        self._master, self._slave = pty.openpty()
        ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.attributes: list[Any] = termios.tcgetattr(self._slave)
        self.screen = pyte.HistoryScreen(columns, rows, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self.sent = b""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, *arguments],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            env={**env, "TERM": "xterm-256color"},
            cwd=cwd,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        os.close(self._master)
        os.close(self._slave)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def text(self) -> str:
        """What the screen shows now."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    @property
    def scrolled(self) -> int:
        """How many lines have left the screen at its top."""
        return len(self.screen.history.top)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, what: str | Callable[[str], bool]) -> str:
        """Return the screen as soon as it shows *what*."""
        is_there = what if callable(what) else (lambda text: what in text)
        deadline = time.monotonic() + PATIENCE
        while not is_there(self.text):
            assert time.monotonic() < deadline, f"never seen: {what}\n{self.text}"
            self._read(0.05)
        return self.text

    def wait_until_unseen(self) -> None:
        """Wait until what is typed is not shown; what came before is thrown away by the prompt."""
        deadline = time.monotonic() + PATIENCE
        while termios.tcgetattr(self._slave)[3] & termios.ECHO:
            assert time.monotonic() < deadline, f"still shown\n{self.text}"
            self._read(0.01)

    def wait_until_read(self) -> None:
        """Wait until the program has taken what was typed."""
        deadline = time.monotonic() + PATIENCE
        while select.select([self._slave], [], [], 0.0)[0]:
            assert time.monotonic() < deadline, f"not read\n{self.text}"
            self._read(0.01)

    def wait(self) -> int:
        """Return the exit code, having read everything."""
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"does not end\n{self.text}"
            self._read(0.05)
        self._read(0.0)
        return self._process.returncode

    def is_as_before(self) -> bool:
        """Return whether cursor and terminal settings are what they were."""
        return not self.screen.cursor.hidden and termios.tcgetattr(self._slave) == self.attributes

    def _read(self, seconds: float) -> None:
        while select.select([self._master], [], [], seconds)[0]:
            data = b""
            with contextlib.suppress(OSError):
                data = os.read(self._master, 65536)
            if not data:
                return
            self.sent += data
            self._stream.feed(data)
            seconds = 0.0
