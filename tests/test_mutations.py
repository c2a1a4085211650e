"""The recorded mutations fit the package as it is; ``nox -s mutations`` runs them."""

import pytest

from .mutations import MUTATIONS, Mutation
from .test_guarantees import PROMISES, names_in


def test_each_promise_has_a_mutation() -> None:
    """No promise goes without a mechanism whose absence is noticed."""
    assert {mutation.promise for mutation in MUTATIONS} == set(PROMISES)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.what)
def test_a_mutation_fits(mutation: Mutation) -> None:
    """The function that it replaces exists, and so do its tests."""
    owner, name = mutation.target()
    named = [test.partition("[")[0].removesuffix("::runTest") for test in mutation.tests]

    assert hasattr(owner, name)
    assert named
    assert [
        test for test in named if test.partition("::")[2] not in names_in(test.partition("::")[0])
    ] == []
