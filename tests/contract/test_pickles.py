"""What was pickled by an earlier version loads, and is equal to what it was made of."""

import pickle
import pickletools
from pathlib import Path
from typing import Any

import pytest

from cyberun_async import CyberunError

from .pickles.make import HERE, examples


EXAMPLES = examples()
FILES = sorted(HERE.glob("*.pickle"))


def test_every_example_has_its_file() -> None:
    """A class that becomes public gets a pickle, by `python tests/contract/pickles/make.py`."""
    assert {path.stem for path in FILES} >= set(EXAMPLES)


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_a_pickle_of_today_loads_forever(path: Path) -> None:
    """It comes back with the class, the values, and of an error the message it had."""
    again: Any = pickle.loads(path.read_bytes())
    example = EXAMPLES[path.stem]

    assert f"{type(again).__module__}.{type(again).__qualname__}" == path.stem
    if isinstance(again, CyberunError):
        assert (again.args, vars(again)) == (example.args, vars(example))
    else:
        assert again == example


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_pickle_names_no_private_module(name: str) -> None:
    """So that it does not matter where a class lives."""
    texts = [text for _, text, _ in pickletools.genops(pickle.dumps(EXAMPLES[name], 4)) if text]
    modules = [text for text in texts if str(text).startswith("cyberun_async")]

    assert modules
    assert [text for text in modules if "._" in str(text)] == []
