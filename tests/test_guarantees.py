"""The page of promises names tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guarantees.md"
PROMISES = (
    *("Ordered", "Settled", "Not twice", "Never mute"),
    *("Switches by itself", "Server trouble is not task trouble", "Bounded"),
    "Yours to stop, and to read on",
)


def promises() -> dict[str, list[str]]:
    """Return the tests that the page names, by the title of the promise."""
    sections = re.split(r"^## \d\. ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {
        section.split("\n", 1)[0].strip(): re.findall(r"^- `([^`]+)`", section, re.MULTILINE)
        for section in sections
    }


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of the tests in a file, with their classes."""
    names: set[str] = set()
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{name}" for name in _functions(node)}
        elif isinstance(node, ast.Assign):  # hypothesis: `TestX = Machine.TestCase`
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return frozenset(name for name in names if name.split("::")[-1].lower().startswith("test"))


def _functions(node: ast.ClassDef) -> list[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [each.name for each in node.body if isinstance(each, functions)]


def test_there_are_eight_promises() -> None:
    """The page has one section for each promise, in order."""
    assert tuple(promises()) == PROMISES


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_names_its_tests(promise: str) -> None:
    """Each promise is shown by two tests at least, and each of them exists."""
    named = promises()[promise]
    missing = [
        node
        for node in named
        if not (ROOT / node.partition("::")[0]).is_file()
        or node.partition("::")[2] not in names_in(node.partition("::")[0])
    ]

    assert missing == []
    assert len(set(named)) >= 2
    assert len(set(named)) == len(named)


def test_the_relay_s_promises_name_tests_that_exist() -> None:
    """Whatever looks like the name of a test on the page is one."""
    relay = PAGE.read_text(encoding="utf-8").partition("## The relay")[2]
    named = re.findall(r"`(tests/[^`]+)::(\w+)`", relay)

    assert [name for path, name in named if name not in names_in(path)] == []
    assert len(named) >= 10
