"""The public module that each exported class and function reports as its own."""

import inspect
from collections.abc import Iterable, Mapping


def publish(module: str, namespace: Mapping[str, object], names: Iterable[str]) -> None:
    """
    Let classes and functions of *namespace* report *module*, unless they have a public one.

    A pickle then names no private module, and survives every later move.
    """
    for name in names:
        thing = namespace[name]
        if (isinstance(thing, type) or inspect.isfunction(thing)) and "._" in thing.__module__:
            thing.__module__ = module
