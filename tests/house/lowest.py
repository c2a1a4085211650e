"""Write constraints that pin each dependency of the package to the lowest version it allows."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = ("testing", "cli", "asgi", "otel", "fast")

# These two want a Starlette and an API of their own time, not the lowest ones.
FOLLOWERS = {"fastapi", "opentelemetry-sdk"}


def normal(requirement: str) -> str:
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


def direct() -> Iterator[str]:
    project = PYPROJECT["project"]
    yield from project["dependencies"]
    for extra in EXTRAS:
        yield from project["optional-dependencies"][extra]


def pins() -> Iterator[str]:
    """Yield the floor of each dependency, and the usual pins of the tools that run the tests."""
    for requirement in dict.fromkeys(direct()):
        yield re.sub(r">=([^,;]+).*", r"==\1", requirement)
    tools = {normal(tool) for tool in PYPROJECT["dependency-groups"]["tests"]} - FOLLOWERS
    for line in (ROOT / "tests" / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if normal(line) in tools:
            yield line


if __name__ == "__main__":
    Path(sys.argv[1]).write_text("".join(f"{pin}\n" for pin in pins()), encoding="utf-8")
