"""
Everything that is run on this project, by name.

``nox -s demo`` shows the library at work, ``nox -s tests`` tests it; both need nothing but
nox. ``nox -l`` lists the rest, and ``.ci/run`` runs what every change has to pass.
"""

import sys
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
PYTHONS = nox.project.python_versions(PYPROJECT)
TESTED = ".[testing,cli,asgi,otel,fast]"

# The folders of the tests that serve on loopback.
SERVING = ("tests/wire", "tests/whole", "tests/contract", "tests/relay", "tests/stress")
# Each a folder in tests/benchmarks/ with a program `run.py`, and all share a harness there.
BENCHMARKS = ("events", "opening", "many", "batch")


def _group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PYPROJECT, name)


def _pinned(session: nox.Session, *what: str) -> None:
    """Install *what* in the versions the project is developed with."""
    session.install("--constraint", str(CONSTRAINTS), *what)


def _run_each(session: nox.Session, *commands: tuple[str, ...]) -> None:
    """Run all *commands*, and fail afterwards if one did: one round shows everything."""
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


# Some tests take a thousand times as long as others: an idle core takes over what waits elsewhere.
SUITE = ("--numprocesses=auto", "--dist=worksteal", "-m", "not slow")


def _suite(session: nox.Session, *args: str, groups: tuple[str, ...] = (), **env: str) -> None:
    """Run on all cores the suite without what `slow` runs, or other tests that *args* name."""
    _pinned(session, TESTED, *_group("tests"), *groups)
    _pytest(session, *SUITE, *args, **env)


def _program(session: nox.Session, path: str) -> None:
    """Run a program of the tests with what follows `--`."""
    _pinned(session, TESTED, *_group("tests"))
    session.run("python", path, *session.posargs)


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
    programs = (session.bin_paths or [str(Path(sys.executable).parent)])[0]
    session.run("coverage", "run", str(Path(programs, "pytest")), *SUITE, *session.posargs)
    session.run("coverage", "combine", "--quiet")
    # A part of the tests says nothing about the whole.
    session.run("coverage", "report", *(("--fail-under=0",) if session.posargs else ()))


@nox.session
def backends(session: nox.Session) -> None:
    """Run on trio and uvloop every test that depends on the event loop."""
    _suite(session, CYBERUN_TEST_BACKENDS="trio,uvloop")


@nox.session
def slow(session: nox.Session) -> None:
    """Run what takes long: storms of cancellations, `python -OO`, the programs of the docs."""
    _suite(session, "-m", "slow")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, formatting, who imports whom, and the words."""
    _pinned(session, ".", *_group("lint"))
    checks = ("ruff check", "ruff format --check", "lint-imports", "python tests/house/words.py")
    _run_each(session, *(tuple(check.split()) for check in checks))


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy and pyright, both strict, and the tour of the API with a third."""
    _pinned(session, TESTED, *_group("typing"), *_group("bench"))
    complete = ("pyright", "--verifytypes", "cyberun_async", "--ignoreexternal")
    _run_each(session, ("mypy",), ("pyright",), complete, ("pyrefly", "check", "tests/typing"))


@nox.session
def walks(session: nox.Session) -> None:
    """Play some thousand arbitrary lives through the decision core of a watch."""
    _suite(session, "-otimeout=0", "tests/watch/test_machine_properties.py", CYBERUN_WALKS="3000")


@nox.session
def httpx2(session: nox.Session) -> None:
    """Run the tests with httpx2, the maintained fork, in the place of httpx."""
    _suite(session, "-p", "on_httpx2", groups=_group("httpx2"), PYTHONPATH="tests")


@nox.session
def bots(session: nox.Session) -> None:
    """Test the example bots, with stand-ins for the chats, and draw what they show."""
    _pinned(session, TESTED, *_group("tests"), *_group("bots"))
    _pytest(session, "tests/bots")


@nox.session
def airflow(session: nox.Session) -> None:
    """Run the example DAG in Airflow, and kill a triggerer; `-- --record` for the how-to page."""
    # Not among the constraints, as Airflow asks for other versions of some of what is there.
    session.install(".[testing]", *_group("airflow"))
    session.run("python", "tests/pipelines/run.py", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """Run batches on a Dask cluster of three processes; one is killed, one stopped."""
    _pinned(session, ".[testing,dask]", *_group("tests"), *_group("cluster"))
    _pytest(session, "tests/cluster")


@nox.session
def fast(session: nox.Session) -> None:
    """Run the tests with every connection over aiohttp and the fast JSON decoder."""
    _suite(session, CYBERUN_TEST_TRANSPORT="aiohttp")


@nox.session
def tls(session: nox.Session) -> None:
    """Run over TLS all tests that serve something on loopback; `-- tests/wire` for less."""
    _suite(session, *(() if session.posargs else SERVING), CYBERUN_TEST_TLS="1")


@nox.session
def proxies(session: nox.Session) -> None:
    """Run clients behind real nginx and haproxy, and through squid and tinyproxy."""
    _pinned(session, TESTED, *_group("tests"))
    # They wait most of the time.
    _pytest(session, "--numprocesses=4", "tests/proxies", CYBERUN_PROXIES="1")


@nox.session
def mutations(session: nox.Session) -> None:
    """Switch off one mechanism after the other; the tests named beside it have to notice."""
    _program(session, "tests/mutations.py")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; every broken reference is an error."""
    _pinned(session, TESTED, *_group("docs"))
    session.run("sphinx-build", "-nWTq", "--keep-going", "docs", "docs/_build/html")


@nox.session
def resources(session: nox.Session) -> None:
    """Run demo and tests in Python's development mode: nothing is left unclosed."""
    # asyncio remembers where each of its objects was made, which takes its time.
    _suite(session, "--timeout=600", PYTHONDEVMODE="1")
    session.run("python", "tests/house/unclosed.py")


@nox.session
def browser(session: nox.Session) -> None:
    """Drive the example service in headless Chromium, and make its picture for the docs."""
    _pinned(session, TESTED, *_group("browser"))
    session.run("python", "tests/browser/chromium.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure beside its peers, in an hour, and write docs/performance.md; --quick."""
    _pinned(session, ".[testing,fast]", *_group("bench"))
    runs = [("python", "-m", f"tests.benchmarks.{name}.run") for name in BENCHMARKS]
    _run_each(session, *((*run, *session.posargs) for run in runs))


@nox.session
def kills(session: nox.Session) -> None:
    """Kill a batch over TLS at 20 moments and take it up each time; `-- --kills 3` for less."""
    _program(session, "tests/kills/run.py")


@nox.session
def soak(session: nox.Session) -> None:
    """Follow 150 tasks at once under random faults: 10 min, or `-- --seconds 30`."""
    _program(session, "tests/soak")


@nox.session(python=PYTHONS)
def pythons(session: nox.Session) -> None:
    """Run the tests on each Python of the classifiers; one that is missing is skipped, loudly."""
    _suite(session)


@nox.session
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest version of each dependency that the package allows."""
    pins = str(Path(session.create_tmp(), "lowest.txt"))
    session.run("python", "tests/house/lowest.py", pins)
    session.install("--constraint", pins, TESTED, *_group("tests"))
    _pytest(session, *SUITE)


@nox.session
def newest(session: nox.Session) -> None:
    """Run the tests with whatever is the newest of everything today."""
    session.install("--upgrade", TESTED, *_group("tests"))
    _pytest(session, *SUITE)


@nox.session
def build(session: nox.Session) -> None:
    """Build wheel and sdist, and import the wheel alone; `-- --extras` with each extra."""
    _pinned(session, *_group("build"), "virtualenv")
    session.run("python", "tests/house/wheel.py", *session.posargs)
