"""The page that shows where everything stands shows it as it is."""

from .house.tree import shown, tree


def test_the_tree_of_the_page_is_that_of_the_repository() -> None:
    """Run ``python tests/house/tree.py --write`` after moving a module."""
    assert shown() == tree()
