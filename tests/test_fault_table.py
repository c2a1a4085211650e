"""The table of faults names tests that exist, and no row goes without."""

import re
from pathlib import Path

import pytest

from .test_guarantees import names_in


TABLE = Path(__file__).with_name("faults.md")


def rows() -> dict[str, tuple[str, list[str]]]:
    """Return what is done and the tests, by the fault, of every row but the headings."""
    found: dict[str, tuple[str, list[str]]] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| ") and not line.startswith(("| fault |", "| --- |")):
            fault, answer, tests = (cell.strip() for cell in line.strip("|").split("|"))
            assert fault not in found, fault
            found[fault] = answer, re.findall(r"`([^`]+)`", tests)
    return found


def test_the_table_is_read() -> None:
    """The reader of this test sees all of the table, so that the others cannot pass on nothing."""
    text = TABLE.read_text(encoding="utf-8")

    assert len(rows()) == text.count("\n| ") - 2 * text.count("| fault |")
    assert len(rows()) > 40


@pytest.mark.parametrize("fault", rows())
def test_a_fault_names_its_tests(fault: str) -> None:
    """Each row says what is done, and names tests that exist, each once."""
    answer, tests = rows()[fault]

    missing = [
        test
        for test in tests
        if test.partition("::")[2] not in names_in(f"tests/{test.partition('::')[0]}")
    ]
    assert missing == []
    assert answer
    assert tests
    assert len(set(tests)) == len(tests)
