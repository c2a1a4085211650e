"""Loading the examples as they are."""

import importlib.util
from pathlib import Path
from types import ModuleType


EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "bots"


def example(name: str) -> ModuleType:
    """Return the example called *name*, imported unmodified."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
