"""What evaluates annotations - dependency injection, FastAPI, documentation - can, everywhere."""

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Iterator

import pytest

import cyberun_async


def public_modules() -> Iterator[str]:
    """Yield the package and its modules that have a list of public names."""
    found = pkgutil.walk_packages(cyberun_async.__path__, f"{cyberun_async.__name__}.")
    names = [cyberun_async.__name__, *(each.name for each in found)]
    for name in names:
        if any(part.startswith("_") for part in name.split(".")):
            continue
        if hasattr(importlib.import_module(name), "__all__"):
            yield name


MODULES = sorted(public_modules())


def annotated(thing: object) -> Iterator[object]:
    """Yield *thing* and, of a class, what it has of public functions, inherited ones too."""
    yield thing
    if not isinstance(thing, type):
        return
    for cls in thing.__mro__:
        if cls.__module__.startswith(cyberun_async.__name__):
            yield cls
            for name, member in vars(cls).items():
                function = member.fget if isinstance(member, property) else member
                function = getattr(function, "__func__", function)
                is_public = not name.startswith("_") or name.startswith("__")
                if is_public and inspect.isfunction(function):
                    yield function
                    yield from typing.get_overloads(function)


def test_every_public_module_is_looked_at() -> None:
    """The list of modules is found; these are among them."""
    expected = {"batch", "cluster", "otel", "relay", "testing", "webhooks"}
    assert {f"cyberun_async.{name}" for name in expected} | {"cyberun_async"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_annotations_can_be_evaluated(module: str) -> None:
    """`typing.get_type_hints` works on every public class, method, property and function."""
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        thing = getattr(loaded, name)
        if not isinstance(thing, type) and not inspect.isfunction(thing):
            continue
        for each in annotated(thing):
            typing.get_type_hints(each)


def test_annotations_of_faults_can_be_evaluated() -> None:
    """So it does on the faults of the simulator, a module without a list of its names."""
    loaded = importlib.import_module("cyberun_async.testing.faults")
    for thing in vars(loaded).values():
        if getattr(thing, "__module__", None) == loaded.__name__:
            for each in annotated(thing):
                if isinstance(each, type) or inspect.isfunction(each):
                    typing.get_type_hints(each)


@pytest.mark.parametrize("module", MODULES)
def test_what_is_exported_reports_a_public_module(module: str) -> None:
    """Classes and functions say where users find them, so that pickles and logs do, too."""
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        thing = getattr(loaded, name)
        if isinstance(thing, type) or inspect.isfunction(thing):
            assert "._" not in thing.__module__, name
            assert getattr(importlib.import_module(thing.__module__), name) is thing
