"""What holds for the project as a whole: its files, its metadata, what an import costs."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import metadata, requires
from importlib.resources import files
from pathlib import Path

import pytest

import cyberun_async


ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONSTRAINTS = ROOT / "tests" / "constraints.txt"

CORE = {"anyio", "attrs", "httpx", "httpx-sse"}
TOP_LEVEL = {
    *("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md"),
    *("cyberun_async", "docs", "noxfile.py", "pyproject.toml", "tests"),
}
# Put together, so that this file does not hold what it looks for.
REGISTRY = re.compile(
    "|".join(
        [
            r"https?://\S+(?:\.whl|\.tar\.gz|\.tgz|/simple/?)(?=[\s#\"')>]|$)",
            r"\b(?:" + "|".join(["pypi" + r"\.org", "python" + "hosted", "npm" + "js"]) + r")\b",
            r"\bdeb\." + r"debian\.org",
            r"\bindex" + r"[-_]url\b",
            r"\bfind" + r"[-_]links\b",
        ]
    ),
    re.IGNORECASE | re.MULTILINE,
)


@cache
def _project_files() -> tuple[Path, ...]:
    """Return what is tracked or about to be; in an unpacked sdist, all there is."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        return tuple(path for path in ROOT.rglob("*") if path.is_file())
    command = [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = (ROOT / name for name in listed.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def _texts() -> dict[str, str]:
    texts: dict[str, str] = {}
    for path in _project_files():
        content = path.read_bytes()
        if b"\0" not in content:
            texts[path.relative_to(ROOT).as_posix()] = content.decode("utf-8")
    return texts


def _normal(requirement: str) -> str:
    [name] = re.findall(r"^[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", str(name)).lower()


def test_no_file_names_a_package_registry() -> None:
    """Where packages come from is the matter of whoever installs, not of this project."""
    found = {name: REGISTRY.findall(text) for name, text in _texts().items()}

    assert {name: matches for name, matches in found.items() if matches} == {}


@pytest.mark.parametrize(
    "line",
    [
        "attrs @ https://files.example/attrs-26.1.0-py3-none-any" + ".whl#sha256=00",
        "--extra-" + "index" + "-url https://mirror.example/" + "simple",
        '"resolved": "https://registry.' + "npm" + 'js.example/x"',
    ],
    ids=["file", "option", "lock"],
)
def test_a_registry_would_be_found(line: str) -> None:
    """The pattern above finds what it is meant to find."""
    assert REGISTRY.search(line)


def test_no_file_names_the_folder_it_is_developed_in() -> None:
    """Nothing written down works on one machine only."""
    assert [name for name, text in _texts().items() if f"{ROOT}/" in text] == []


def test_top_level_is_as_agreed() -> None:
    """A reader of the file list sees the package, its tests, its docs, and little else."""
    names = {path.relative_to(ROOT).parts[0] for path in _project_files()}

    assert {name for name in names if not name.startswith(".")} <= TOP_LEVEL


def test_the_version_stands_in_one_place() -> None:
    """The installed metadata say the version, and no module repeats it."""
    assert cyberun_async.__version__ == metadata(PROJECT["name"])["Version"]
    assert PROJECT["version"] == cyberun_async.__version__
    assert [
        name
        for name, text in _texts().items()
        if name.startswith("cyberun_async/") and re.search(r"__version__\b[^=\n]*=[^=]", text)
    ] == []


def test_the_changelog_begins_with_this_version() -> None:
    """Whoever upgrades finds the newest version on top."""
    headings = re.findall(r"^## \[([^\]]+)\]", _texts()["CHANGELOG.md"], re.MULTILINE)

    assert headings[:1] == [PROJECT["version"]]


def test_the_package_says_that_it_is_typed() -> None:
    """Type checkers read the annotations of the installed package."""
    assert files("cyberun_async").joinpath("py.typed").is_file()


def test_four_packages_are_all_that_is_needed() -> None:
    """Everything beyond the core dependencies stands behind an extra."""
    needed = [name for name in requires(PROJECT["name"]) or [] if "extra ==" not in name]

    assert {_normal(name) for name in needed} == CORE


def test_every_dependency_has_a_floor() -> None:
    """The lowest versions are said, so that they can be tested."""
    extras = PROJECT["optional-dependencies"].values()
    everything = [*PROJECT["dependencies"], *(name for extra in extras for name in extra)]

    assert [name for name in everything if ">=" not in name] == []


def test_constraints_are_plain_pins() -> None:
    """Development tools are pinned by name and version alone."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()

    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert {_normal(line) for line in lines} >= CORE
    assert lines == sorted(lines, key=str.lower)


def test_ci_runs_the_commands_of_the_readme() -> None:
    """What a newcomer is reported to type is what every change has to pass."""
    texts = _texts()

    for command in ("nox -s demo", "nox -s tests"):
        assert command in texts["README.md"]
        assert command in texts[".ci/run"]


@pytest.mark.parametrize("flags", [(), ("-OO",)], ids=["plain", "without-docstrings"])
def test_an_import_loads_no_extra(flags: tuple[str, ...]) -> None:
    """`import cyberun_async` warns about nothing and leaves every optional package alone."""
    program = (
        "import sys, httpx\n"  # which loads a command line of its own, if it can
        "before = set(sys.modules)\n"
        "import cyberun_async as package\n"
        "for name in package.__all__: getattr(package, name)\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    command = [sys.executable, "-W", "error", *flags, "-c", program]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    optional = {"click", "distributed", "httpx_aiohttp", "msgspec", "rich", "starlette", "uvicorn"}
    assert optional & set(run.stdout.split()) == set()


def test_public_names_are_sorted_and_exist() -> None:
    """The list of public names is in order, without repetition, and true."""
    names = list(cyberun_async.__all__)

    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(cyberun_async, name)] == []


def test_every_test_states_its_rule() -> None:
    """Each test function carries the sentence it holds to."""
    silent = [
        f"{name}:{node.lineno} {node.name}"
        for name, text in _texts().items()
        if re.fullmatch(r"tests/(.+/)?test_\w+\.py", name)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]

    assert silent == []
