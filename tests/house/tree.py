"""
Print the folders of the package with what stands in each, as docs/explanation.md shows them.

``python tests/house/tree.py --write`` brings the page up to date; a test compares the two.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path


ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "cyberun_async"
PAGE = ROOT / "docs" / "explanation.md"
BEGIN, END = "```text\ncyberun_async/\n", "```\n"
WIDTH = 96

# From what users see down to what knows nothing of the others.
ORDER = (
    *("cli", "cluster", "batch", "relay", "testing", "webhooks"),
    *("_client", "_transfer", "_following", "_watch", "_http", "_protocol", "_validation"),
    "_model",
)


def tree() -> str:
    """Return the block of text that the page shows."""
    lines = list(_folder(PACKAGE, 2))
    return BEGIN + "".join(f"{line}\n" for line in lines) + END


def _folder(folder: Path, indent: int) -> Iterator[str]:
    yield from _modules(folder, indent)
    for inner in sorted((each for each in folder.iterdir() if _is_package(each)), key=_place):
        doc = ast.get_docstring(ast.parse((inner / "__init__.py").read_text(encoding="utf-8")))
        summary = (doc or "").partition("\n")[0]
        yield f"{' ' * indent}{inner.name}/".ljust(20) + summary
        yield from _folder(inner, indent + 4)


def _modules(folder: Path, indent: int) -> Iterator[str]:
    line = " " * indent
    for path in sorted(folder.glob("*.py")):
        if path.stem == "__init__":
            continue
        if len(line) + len(path.stem) + 2 > WIDTH:
            yield line.rstrip()
            line = " " * indent
        line += f"{path.stem}, "
    if line.strip():
        yield line.rstrip(", ")


def _is_package(path: Path) -> bool:
    return (path / "__init__.py").is_file()


def _place(folder: Path) -> tuple[int, str]:
    known = folder.name in ORDER
    return (ORDER.index(folder.name) if known else len(ORDER), folder.name)


def shown() -> str:
    """Return the block that the page has."""
    page = PAGE.read_text(encoding="utf-8")
    begin = page.index(BEGIN)
    return page[begin : page.index(END, begin + len(BEGIN)) + len(END)]


def main() -> None:
    if "--write" in sys.argv:
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(page.replace(shown(), tree()), encoding="utf-8")
    else:
        print(tree())


if __name__ == "__main__":
    main()
