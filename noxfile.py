"""
Everything that is run on this project, by name.

``nox -s demo`` shows the library at work, ``nox -s tests`` tests it; both need nothing but
nox. ``nox -l`` lists the rest, and ``nox -s full`` runs all of it and writes the record.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import nox
from nox.command import CommandFailed


nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_external_run = True
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
CONSTRAINTS = ROOT / "tests" / "constraints.txt"
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PROJECT = PYPROJECT["project"]
PYTHONS = nox.project.python_versions(PYPROJECT)
TESTED = ".[testing,cli,asgi,otel,fast]"

MAX_WHEEL_KIB = 400

# The folders of the tests that serve on loopback, and the proxies that some of them need.
SERVING = ("tests/wire", "tests/whole", "tests/contract", "tests/relay", "tests/stress")
PROXIES = ("nginx", "haproxy", "squid", "tinyproxy")

# Each a folder in tests/benchmarks/ with a program `run.py`.
BENCHMARKS = ("events", "opening", "many", "batch")


def _group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PYPROJECT, name)


def _pinned(session: nox.Session, *what: str) -> None:
    """Install *what* in the versions the project is developed with."""
    session.install("--constraint", str(CONSTRAINTS), *what)


def _run_each(session: nox.Session, *commands: tuple[str, ...]) -> None:
    """Run all *commands*, and fail afterwards if one did: one round tells everything."""
    failed: list[str] = []
    for command in commands:
        try:
            session.run(*command)
        except CommandFailed:
            failed.append(" ".join(command))
    if failed:
        session.error(f"failed: {', '.join(failed)}")


def _pytest(session: nox.Session, *args: str, **env: str) -> None:
    # Not `python -m pytest`, which would find the checkout before the installed package.
    session.run("pytest", *args, *session.posargs, env=env)


def _suite(session: nox.Session, *args: str, **env: str) -> None:
    """Run the whole suite on all cores."""
    _pytest(session, "--numprocesses=auto", *args, **env)


@nox.session
def demo(session: nox.Session) -> None:
    """Show three runs against the local service, with progress, a cut and a fallback."""
    _pinned(session, TESTED)
    session.run("python", "docs/examples/demo.py", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Test the installed package on asyncio, and measure branch coverage."""
    _pinned(session, TESTED, *_group("tests"))
    session.run("coverage", "erase")
    session.run("coverage", "run", str(Path(session.bin) / "pytest"), *session.posargs)
    session.run("coverage", "combine", "--quiet")
    # A part of the tests says nothing about the whole.
    session.run("coverage", "report", *(["--fail-under=0"] if session.posargs else []))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, and who imports whom."""
    _pinned(session, ".", *_group("lint"))
    _run_each(session, ("ruff", "check"), ("ruff", "format", "--check"), ("lint-imports",))


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy and pyright, both strict, and the tour of the API with a third."""
    _pinned(session, TESTED, *_group("typing"), *_group("bench"))
    complete = ("pyright", "--verifytypes", PROJECT["name"], "--ignoreexternal")
    tour = ("pyrefly", "check", "tests/typing")
    _run_each(session, ("mypy",), ("pyright",), complete, tour)


@nox.session
def backends(session: nox.Session) -> None:
    """Run on trio and uvloop every test that depends on the event loop."""
    _pinned(session, TESTED, *_group("tests"))
    _suite(session, CYBERUN_TEST_BACKENDS="trio,uvloop")


@nox.session
def walks(session: nox.Session) -> None:
    """Play some thousand arbitrary lives through the decision core of a watch."""
    _pinned(session, TESTED, *_group("tests"))
    _pytest(
        session, "-o", "timeout=0", "tests/watch/test_machine_properties.py", CYBERUN_WALKS="3000"
    )


@nox.session
def httpx2(session: nox.Session) -> None:
    """Run the tests with httpx2, the maintained fork, in the place of httpx."""
    _pinned(session, TESTED, *_group("tests"), *_group("httpx2"))
    _suite(session, "-p", "on_httpx2", PYTHONPATH="tests")


@nox.session
def bots(session: nox.Session) -> None:
    """Test the example bots, with stand-ins for the chats, and draw what they show."""
    _pinned(session, TESTED, *_group("tests"), *_group("bots"))
    _pytest(session, "tests/bots", CYBERUN_BROWSER=_found_chromium() or "")


@nox.session
def airflow(session: nox.Session) -> None:
    """Run the example DAG in Airflow, and kill a triggerer; `-- --record` for the how-to page."""
    # Not among the constraints, as Airflow asks for other versions of some of what is there.
    session.install(".[testing]", *_group("airflow"))
    record = "1" if "--record" in session.posargs else ""
    session.run("pytest", "tests/pipelines", env={"CYBERUN_RECORD": record})
    session.run("python", "tests/pipelines/triggerer.py")


@nox.session
def cluster(session: nox.Session) -> None:
    """Run batches on a Dask cluster of three processes; one is killed, one stopped."""
    _pinned(session, ".[testing,dask]", *_group("tests"), *_group("cluster"))
    _pytest(session, "tests/cluster")


@nox.session
def fast(session: nox.Session) -> None:
    """Run the tests with every connection over aiohttp and the fast JSON decoder."""
    _pinned(session, TESTED, *_group("tests"))
    _suite(session, CYBERUN_TEST_TRANSPORT="aiohttp")


@nox.session
def tls(session: nox.Session) -> None:
    """Run over TLS all tests that serve something on loopback; `-- tests/wire` for less."""
    _pinned(session, TESTED, *_group("tests"))
    _suite(session, *(() if session.posargs else SERVING), CYBERUN_TEST_TLS="1")


@nox.session
def proxies(session: nox.Session) -> None:
    """Run clients behind real nginx and haproxy, and through squid and tinyproxy."""
    for name in PROXIES:
        if shutil.which(name) is None and shutil.which(name, path="/usr/sbin") is None:
            session.warn(f"{name} is not installed: its tests are skipped")
    _pinned(session, TESTED, *_group("tests"))
    # They wait most of the time.
    _pytest(session, "--numprocesses=4", "tests/proxies", CYBERUN_PROXIES="1")


@nox.session
def mutations(session: nox.Session) -> None:
    """Switch off one mechanism after the other; the tests named beside it have to notice."""
    _pinned(session, TESTED, *_group("tests"))
    session.run("python", "tests/mutations.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; every broken reference is an error."""
    _pinned(session, TESTED, *_group("docs"))
    session.run("sphinx-build", "-nWTq", "--keep-going", "docs", "docs/_build/html")
    session.log("read docs/_build/html/index.html")


@nox.session
def resources(session: nox.Session) -> None:
    """Run demo and tests in Python's development mode: nothing is left unclosed."""
    _pinned(session, TESTED, *_group("tests"))
    output = session.run(
        *("python", "-W", "error", "-X", "dev", "docs/examples/demo.py"), silent=True
    )
    if found := re.findall(r".*(?:Warning|never awaited|Exception ignored).*", str(output)):
        session.error("the demo leaves something behind:", *found)
    # asyncio remembers where each of its objects was made, which takes its time.
    _suite(session, "--timeout=600", PYTHONDEVMODE="1")


@nox.session
def browser(session: nox.Session) -> None:
    """Drive the example service in headless Chromium, and make its picture for the docs."""
    chromium = _chromium(session)
    if chromium is None:
        session.skip(
            "no Chromium was found, nor could Debian's be installed; "
            "install one, or name it in CYBERUN_BROWSER"
        )
    _pinned(session, TESTED, *_group("browser"))
    _pytest(session, "tests/browser", CYBERUN_BROWSER=chromium)


def _chromium(session: nox.Session) -> str | None:
    """Return the path of a Chromium; on a Debian where that is allowed, install it first."""
    if named := os.environ.get("CYBERUN_BROWSER"):
        return shutil.which(named)
    if found := _found_chromium():
        return found
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        with suppress(CommandFailed):
            session.run("apt-get", "update", "-qq", external=True)
            session.run(
                *("apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium"),
                external=True,
            )
    return _found_chromium()


def _found_chromium() -> str | None:
    named = os.environ.get("CYBERUN_BROWSER")
    names = [named] if named else ["chromium", "chromium-browser", "google-chrome"]
    return next((path for name in names if (path := shutil.which(name))), None)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure beside its peers, in an hour, and write docs/performance.md; --quick."""
    _pinned(session, ".[testing,fast]", *_group("bench"))
    found = [name for name in BENCHMARKS if (ROOT / "tests" / "benchmarks" / name).is_dir()]
    # With -m, as they share a harness; all of them run, also when one fails.
    commands = [("python", "-m", f"tests.benchmarks.{name}.run") for name in found]
    _run_each(session, *((*command, *session.posargs) for command in commands))


@nox.session
def kills(session: nox.Session) -> None:
    """Kill a batch over TLS at 20 moments and take it up each time; `-- --kills 3` for less."""
    _pinned(session, TESTED, *_group("tests"))
    session.run("python", "tests/kills/run.py", *session.posargs)


@nox.session(python=PYTHONS)
def pythons(session: nox.Session) -> None:
    """Run the tests on each Python that the package's classifiers name."""
    _pinned(session, TESTED, *_group("tests"))
    _suite(session)


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest version of each dependency that the package allows."""
    direct = list(_dependencies("testing", "cli", "asgi", "otel", "fast"))
    floors = [re.sub(r">=([^,;]+).*", r"==\1", requirement) for requirement in direct]
    # The tools as always. These two want a Starlette and an API of their own time, and what
    # the dependencies themselves depend on is whatever they take.
    tools = {_normal(tool) for tool in _group("tests")} - {"fastapi", "opentelemetry-sdk"}
    with tempfile.TemporaryDirectory() as folder:
        pins = Path(folder, "constraints.txt")
        lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
        pins.write_text("".join(f"{line}\n" for line in lines if _normal(line) in tools), "utf-8")
        session.install("--constraint", str(pins), TESTED, *floors, *_group("tests"))
    _suite(session)


@nox.session
def newest(session: nox.Session) -> None:
    """Run the tests with whatever is the newest of everything today."""
    session.install("--upgrade", TESTED, *_group("tests"))
    _suite(session)


def _dependencies(*extras: str) -> Iterator[str]:
    yield from PROJECT["dependencies"]
    for extra in extras:
        yield from PROJECT["optional-dependencies"][extra]


def _normal(requirement: str) -> str:
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


@nox.session
def soak(session: nox.Session) -> None:
    """Follow 150 tasks at once under random faults: 10 min, or `-- --seconds 30`."""
    _pinned(session, TESTED, *_group("tests"))
    session.run("python", "tests/soak", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """Build wheel and sdist, check them, and import the wheel where nothing else is."""
    wheel = _wheel(session)
    session.run("twine", "check", "--strict", *map(str, wheel.parent.iterdir()))
    if wheel.stat().st_size > MAX_WHEEL_KIB * 1024:
        session.error(f"the wheel has grown to {wheel.stat().st_size // 1024} KiB")
    _import_alone(session, str(wheel))


@nox.session
def extras(session: nox.Session) -> None:
    """Install the wheel with each extra alone, and import what the extra is for."""
    wheel = _wheel(session)
    for extra in PROJECT["optional-dependencies"]:
        _import_alone(session, f"{wheel}[{extra}]", *NEEDING[extra])


# What each extra is installed for: its modules import with it alone.
NEEDING = {
    "testing": ("testing", "testing.simulator", "testing.__main__"),
    "cli": ("cli", "cli._app", "cli._batch", "cli._live_table", "cli._runs"),
    "asgi": ("relay", "relay._app"),
    "otel": ("otel",),
    "fast": ("_transport_aiohttp",),
    "dask": ("cluster",),
}


def _wheel(session: nox.Session) -> Path:
    _pinned(session, *_group("build"), "virtualenv")
    dist = Path(session.create_tmp(), "dist").resolve()
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist), silent=True)
    [wheel] = dist.glob("*.whl")
    return wheel


def _import_alone(session: nox.Session, what: str, *modules: str) -> None:
    """Install *what* into an empty environment, away from the checkout, and import it."""
    with tempfile.TemporaryDirectory() as folder, session.chdir(folder):
        session.run("virtualenv", "--quiet", "alone")
        python = str(Path(folder, "alone", "bin", "python"))
        install = (python, "-m", "pip", "install", "--constraint", str(CONSTRAINTS), what)
        session.run(*install, external=True, silent=True)
        session.run(python, "-W", "error", "-c", IMPORT_EVERYTHING, *modules, external=True)


IMPORT_EVERYTHING = """
import importlib, sys, cyberun_async as package
assert package.__file__.startswith(sys.prefix), package.__file__
for name in package.__all__: getattr(package, name)
for name in sys.argv[1:]: importlib.import_module(f"cyberun_async.{name}")
print(package.__name__, package.__version__, *sys.argv[1:])
"""


# Longer runs (soak, kills, bench, mutations) come here, each with the script it runs, and
# into the list below.
EVERYTHING = (
    *(
        "lint",
        "types",
        "docs",
        "build",
        "extras",
        "tests",
        "backends",
        "walks",
        "mutations",
        "resources",
    ),
    *("fast", "bench"),
    # Those that `tests` has not run.
    *(f"pythons-{python}" for python in PYTHONS[1:]),
    *("lowest", "newest", "demo", "bots", "airflow", "cluster", "kills", "tls", "proxies"),
    *("browser", "httpx2"),
    "soak",
)
RECORD = ROOT / "docs" / "full-run.md"


@nox.session(venv_backend="none")
def full(session: nox.Session) -> None:
    """Run every session, the long ones too, and write down in docs/ how each went."""
    chosen = session.posargs or EVERYTHING
    failed = [name for name in chosen if not _recorded(name)]
    if failed:
        session.error(f"failed: {', '.join(failed)}; see {RECORD.relative_to(ROOT)}")


def _recorded(name: str) -> bool:
    """Run one session in a process of its own, write its line, and return whether it passed."""
    print(f"{name} ...", flush=True)
    began, start = datetime.now(UTC), time.monotonic()
    command = [sys.executable, "-m", "nox", "--error-on-missing-interpreters", "-s", name]
    run = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    seconds = time.monotonic() - start
    if run.returncode:
        print(run.stdout)
    words = _last_words(run.stdout)
    verdict = "**failed**" if run.returncode else "passed"
    if words.startswith("skipped"):
        verdict = "**skipped**"
    cells = (f"`{name}`", verdict, f"{began:%Y-%m-%d %H:%M}", _revision(), f"{seconds:.0f}", words)
    _write_down(name, f"| {' | '.join(cells)} |")
    return not run.returncode


def _last_words(output: str) -> str:
    summaries = re.findall(
        r"^(?:=+ )?(\d+ passed.*? in [\d.]+s)|Session \S+ (skipped: .*)", output, re.MULTILINE
    )
    return "".join(summaries[-1]) if summaries else ""


def _revision() -> str:
    """Return which commit was run; the record itself is no change."""
    git = ("git", "-C", str(ROOT))
    revision = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True).strip()
    others = [".", ":!docs/full-run.md", ":!docs/performance*.md", ":!docs/pictures"]
    is_changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *others], check=False)
    return f"{revision} and changes" if is_changed.returncode else revision


def _write_down(name: str, line: str) -> None:
    """Put *line* into the record, in the place of what the session left there before."""
    lines = RECORD.read_text(encoding="utf-8").splitlines() if RECORD.exists() else []
    known = {found[1]: each for each in lines if (found := re.match(r"\| `(\S+)` ", each))}
    known[name] = line
    RECORD.write_text(
        RECORD_TEMPLATE.format(
            system=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            pythons=", ".join(PYTHONS),
            versions=", ".join(_pinned_versions()),
            table="\n".join(known[each] for each in EVERYTHING if each in known),
        ),
        encoding="utf-8",
    )


def _pinned_versions() -> Iterator[str]:
    shown = {
        _normal(requirement) for requirement in _dependencies("testing", "cli", "asgi", "otel")
    }
    for line in CONSTRAINTS.read_text(encoding="utf-8").splitlines():
        if _normal(line) in shown | {"trio", "uvloop", "pytest", "mypy", "pyright", "ruff"}:
            yield line.replace("==", " ")


RECORD_TEMPLATE = """\
# The last full run

`nox -s full` runs every session, the long ones too, and writes here how each went.
`nox -s full -- NAME` runs one of them, and replaces its line alone.
The moment is UTC, and the commit is the one that was run.

- On {system}.
- Pythons that the package names: {pythons}.
- Pinned for all but `airflow`, `lowest` and `newest`: {versions}.

| session | result | begun | commit | seconds | tests |
| --- | --- | --- | --- | --: | --- |
{table}
"""
