"""The recorded mutations fit the package as it is; ``nox -s mutations`` runs them."""

from pathlib import Path

import pytest

from .mutations import MUTATIONS, PACKAGE, ROOT, Mutation
from .test_guarantees import PROMISES, names_in


def test_each_promise_has_a_mutation() -> None:
    """No promise goes without a mechanism whose absence is noticed."""
    assert {mutation.promise for mutation in MUTATIONS} == set(PROMISES)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_mutation_fits(mutation: Mutation) -> None:
    """The text that it replaces occurs exactly once, and its tests exist."""
    text = Path(ROOT / PACKAGE / mutation.file).read_text(encoding="utf-8")
    named = [test.partition("[")[0].removesuffix("::runTest") for test in mutation.tests]

    assert text.count(mutation.old) == 1
    assert mutation.new != mutation.old
    assert named
    assert [
        test for test in named if test.partition("::")[2] not in names_in(test.partition("::")[0])
    ] == []
