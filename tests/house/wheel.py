"""
Build wheel and sdist, check them, and import the wheel where nothing else is.

With ``--extras`` it is also installed with each extra alone, and what the extra is for is
imported.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path


ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "tests" / "constraints.txt"
MAX_WHEEL_KIB = 460

# What each extra is installed for: its modules import with it alone.
NEEDING = {
    "testing": ("testing", "testing.simulator", "testing.__main__"),
    "cli": ("cli", "cli._app", "cli._batch", "cli._live_table", "cli._runs"),
    "asgi": ("relay", "relay._app"),
    "otel": ("otel",),
    "fast": ("_http.aiohttp_backend",),
    "dask": ("cluster",),
}

IMPORT_EVERYTHING = """
import importlib, sys, cyberun_async as package
assert package.__file__.startswith(sys.prefix), package.__file__
for name in package.__all__: getattr(package, name)
for name in sys.argv[1:]: importlib.import_module(f"cyberun_async.{name}")
print(package.__name__, package.__version__, *sys.argv[1:])
"""


def run(*command: str, cwd: Path = ROOT, silent: bool = False) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL if silent else None)


def build(folder: Path) -> Path:
    run(sys.executable, "-m", "build", "--outdir", str(folder), silent=True)
    [wheel] = folder.glob("*.whl")
    return wheel


def import_alone(what: str, *modules: str) -> None:
    """Install *what* into an empty environment, away from the checkout, and import it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(sys.executable, "-m", "virtualenv", "--quiet", "alone", cwd=folder)
        python = str(folder / "alone" / "bin" / "python")
        install = ("-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS), what)
        run(python, *install, cwd=folder)
        run(python, "-W", "error", "-c", IMPORT_EVERYTHING, *modules, cwd=folder)


def main() -> None:
    os.environ.pop("PYTHONPATH", None)
    with tempfile.TemporaryDirectory() as name:
        wheel = build(Path(name))
        files = [str(path) for path in sorted(Path(name).iterdir())]
        run(sys.executable, "-m", "twine", "check", "--strict", *files)
        if wheel.stat().st_size > MAX_WHEEL_KIB * 1024:
            sys.exit(f"the wheel has grown to {wheel.stat().st_size // 1024} KiB")
        import_alone(str(wheel))
        if "--extras" in sys.argv:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
            for extra in project["project"]["optional-dependencies"]:
                import_alone(f"{wheel}[{extra}]", *NEEDING[extra])


if __name__ == "__main__":
    main()
