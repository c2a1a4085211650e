"""The consoles of a page, played again: what a reader would see after each command."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs


UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Step:
    """One command of a page and the output that the page has below it."""

    command: str
    output: str

    def arguments(self, ids: dict[str, str]) -> list[str]:
        """Return what stands behind the program's name, with the ids of this time."""
        _, *rest = shlex.split(re.sub(UUID, lambda match: ids[match[0]], self.command))
        return rest


def steps_of(page: Path) -> Iterator[Step]:
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield Step(command, output)


def played(page: Path, run: Callable[[list[str]], str]) -> Iterator[tuple[Step, str]]:
    """Run each command of *page*; yield it with what came of it, in the ids of the page."""
    known: dict[str, str] = {}
    for step in steps_of(page):
        output = run(step.arguments(known))
        for written, real in zip(_new(step.output), _new(output), strict=False):
            known.setdefault(written, real)
        for written, real in known.items():
            output = output.replace(real, written)
        yield step, output


def _new(text: str) -> list[str]:
    return list(dict.fromkeys(re.findall(UUID, text)))
