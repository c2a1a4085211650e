"""The documentation is true: its programs run, its promises have tests, its reference is whole."""

import ast
import asyncio
import inspect
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import sybil
from sybil.parsers.myst import CodeBlockParser

import cyberun_async
import cyberun_async.batch
import cyberun_async.cluster
import cyberun_async.relay
import cyberun_async.testing
import cyberun_async.webhooks
from cyberun_async.testing import Simulator


ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
FAST = 10.0

# A directive of the reference that documents one name.
DOCUMENTED = re.compile(
    r"^\.\. auto(?:class|exception|function|data):: (\S+)$|^\.\. py:data:: (\S+)$", re.MULTILINE
)


def pages() -> list[Path]:
    """Return what a reader may open, the README first."""
    written = [path for path in DOCS.rglob("*.md") if "_build" not in path.parts]
    return [ROOT / "README.md", *sorted(written)]


def page_name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


class Evaluator:
    """Run the Python blocks of one page in order, in one namespace and on one event loop."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner

    def __call__(self, example: sybil.Example) -> None:
        # Blank lines in front make the line numbers of a traceback those of the page.
        source = "\n" * (example.line + example.parsed.line_offset - 1) + example.parsed
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code = compile(source, example.path, "exec", flags=flags, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE:
            self._runner.run(_awaited(eval(code, example.namespace)))
        else:
            exec(code, example.namespace)


async def _awaited(coroutine: object) -> None:
    assert inspect.iscoroutine(coroutine)
    await coroutine


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """The service that the environment variables name, as the reader of a page has it."""
    with Simulator(seed=3, speed=FAST) as simulator:
        monkeypatch.setenv("CYBERUN_API_KEY", simulator.key)
        # The service lives ten times as fast, so it is asked ten times as often.
        brisk = partial(cyberun_async.WatchPolicy, poll_interval=3.0 / FAST)
        monkeypatch.setattr("cyberun_async._client.client.WatchPolicy", brisk)
        monkeypatch.setenv("CYBERUN_BASE_URL", simulator.url)
        monkeypatch.chdir(tmp_path)
        yield simulator


def with_programs() -> list[Path]:
    return [page for page in pages() if "```python" in page.read_text(encoding="utf-8")]


@pytest.mark.slow
@pytest.mark.parametrize("page", with_programs(), ids=page_name)
def test_the_programs_of_a_page_run(page: Path, service: Simulator) -> None:
    """Every Python block of the documentation runs, in the order of its page."""
    with asyncio.Runner() as runner:
        parser = CodeBlockParser(language="python", evaluator=Evaluator(runner))
        document = sybil.Sybil([parser], pattern="*").parse(page)
        document.namespace.update(service=service, __name__="__main__")
        examples = list(document.examples())
        for example in examples:
            example.evaluate()

    blocks = re.findall(r"^\s*(?:```|% invisible-code-block: )python", document.text, re.MULTILINE)
    assert len(examples) == len(blocks)


def test_every_page_can_be_reached() -> None:
    """Each page stands in the table of contents of the front page or of its folder."""
    listed = {
        (page.parent / entry).with_suffix(".md").resolve()
        for page in pages()
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
        for entry in re.findall(r"^([\w/-]+)$", tree, re.MULTILINE)
    }

    assert set(pages()) - listed == {ROOT / "README.md", DOCS / "index.md"}


def test_links_inside_the_repository_lead_somewhere() -> None:
    """What README links to is there (Sphinx checks the links between its own pages)."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#:]+)\)", text)

    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_readme_is_two_screens() -> None:
    """A newcomer reads it to its end."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()

    assert len(lines) <= 80


@pytest.mark.parametrize(
    ("module", "page"),
    [
        (cyberun_async, "index.md"),
        (cyberun_async.testing, "testing.md"),
        (cyberun_async.testing.faults, "testing.md"),
        (cyberun_async.webhooks, "webhooks.md"),
        (cyberun_async.batch, "batch.md"),
        (cyberun_async.cluster, "cluster.md"),
        (cyberun_async.relay, "relay.md"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_the_reference_is_complete(module: object, page: str) -> None:
    """The reference documents each public name once, and nothing else."""
    name = getattr(module, "__name__", "")
    text = (REFERENCE / page).read_text(encoding="utf-8")
    found = ["".join(groups) for groups in DOCUMENTED.findall(text)]
    own = sorted(each for each in found if re.fullmatch(re.escape(name) + r"\.\w+", each))

    elsewhere = set(cyberun_async.__all__) if module is cyberun_async.webhooks else set[str]()
    expected = set(public_names(module)) - elsewhere
    assert own == sorted(f"{name}.{each}" for each in expected)


def test_the_page_of_errors_names_every_error() -> None:
    """The drawn tree has each error once, and the table says what to do about it."""
    text = (DOCS / "errors.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^[│├└─ ]*(\w+Error)\b", text, re.MULTILINE)
    advised = set(re.findall(r"`(\w+Error)`", text))
    errors = {name for name in cyberun_async.__all__ if name.endswith("Error")}

    assert sorted(drawn) == sorted(errors)
    assert errors - advised == {"CyberunError", "TaskEndedError"}


def public_names(module: object) -> list[str]:
    """Return ``__all__`` but for modules, or the functions of a module that has none."""
    listed: list[str] | None = getattr(module, "__all__", None)
    if listed is not None:
        return [name for name in listed if not inspect.ismodule(getattr(module, name))]
    return [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and not name.startswith("_")
        and value.__module__ == getattr(module, "__name__", "")
    ]
