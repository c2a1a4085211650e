"""The simulator shares nothing with the client."""

import ast
from pathlib import Path

import pytest

import cyberun_async.testing.simulator


FOLDER = Path(cyberun_async.testing.simulator.__file__).parent
SOURCES = [*FOLDER.glob("_sim_*.py"), FOLDER / "faults.py", FOLDER / "simulator.py"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_only_the_testing_package_is_imported(source: Path) -> None:
    """No module of the simulator imports anything of the client or an HTTP client."""
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level <= 1
            assert not (node.module or "").startswith(("cyberun_async", "httpx"))
        elif isinstance(node, ast.Import):
            assert not any(one.name.startswith(("cyberun_async", "httpx")) for one in node.names)
