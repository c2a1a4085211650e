"""The package's public names: one list, what it holds, and what loading it costs."""

import subprocess
import sys

import pytest

import cyberun_async
from cyberun_async import _public


def test_the_list_of_public_names_is_sorted_and_complete() -> None:
    """What is listed can be had, and what the module of public names holds is listed."""
    held = {name for name in vars(_public) if not name.startswith(("_", "@"))}
    assert cyberun_async.__all__ == sorted(held)
    assert all(getattr(cyberun_async, name) is getattr(_public, name) for name in held)
    assert set(dir(cyberun_async)) >= held | {"__version__"}


def test_other_names_are_refused() -> None:
    """A misspelt name is an `AttributeError` that says so."""
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        cyberun_async.Cleint  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    "module",
    [
        pytest.param("cyberun_async", id="package"),
        pytest.param("cyberun_async.testing.plugin", id="pytest-plugin"),
    ],
)
def test_naming_the_package_loads_no_network(module: str) -> None:
    """Neither the package nor its pytest plugin loads HTTP or the simulator before use."""
    code = (
        f"import sys, {module};"
        "print(*sorted({'httpx', 'anyio', 'starlette', 'uvicorn'} & set(sys.modules)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert loaded.stdout.split() == []
