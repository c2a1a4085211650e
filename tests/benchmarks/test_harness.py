"""The harness itself: rows in turn, broken ones reported, ratios within a round."""

from pathlib import Path

import pytest

from . import harness
from .harness import Bar, Results, Row, Sample, alternate, finish, serving, table, write_section


REPORT = "from tests.benchmarks.harness import report; report({problems}, cpu={cpu})"


def _row(name: str, cpu: float, *problems: str) -> Row:
    return Row(name, ("-c", REPORT.format(problems=problems, cpu=cpu)))


def _results(**rows: list[float]) -> Results:
    return Results({name: [Sample({"cpu": v}) for v in values] for name, values in rows.items()})


def test_rows_run_in_processes_of_their_own_and_report(capsys: pytest.CaptureFixture[str]):
    """Each row is run as often as asked, and a row that is broken is named once."""
    results = alternate([_row("a", 2), _row("b", 3, "an event is missing")], repeats=2, core=None)

    assert results.samples == {
        "a": [Sample({"cpu": 2}, [])] * 2,
        "b": [Sample({"cpu": 3}, ["an event is missing"])] * 2,
    }
    assert finish(results) == 1
    assert capsys.readouterr().err == "BROKEN b: an event is missing\n"


def test_a_row_that_fails_is_broken():
    """A program that ends with an error, or says nothing, is a problem and no figure."""
    results = alternate([Row("a", ("-c", "raise SystemExit('no server')"))], repeats=1, core=None)

    assert results.problems == ["a: ended with 1: no server"]
    assert results.figure("a", "cpu") is None


def test_ratios_are_taken_within_a_round():
    """A machine that slows down for a round changes no ratio."""
    results = _results(ours=[1, 10, 1], plain=[2, 20, 2])

    assert results.ratio("ours", "plain", "cpu") == 0.5
    assert table(results, [("cpu", "CPU", ".1f")], against="plain").splitlines() == [
        "|  | CPU | times better |",
        "| --- | --: | --: |",
        "| ours | 1.0 (1.0 - 10.0) | 2.00 |",
        "| plain | 2.0 (2.0 - 20.0) | 1.00 |",
    ]


@pytest.mark.parametrize(
    "bar, said",
    [
        (Bar("a", "b", "cpu", at_most=1.05), "- **missed**: a against b, cpu: 2.00, wanted at "),
        (Bar("a", "b", "cpu", at_most=2), "- holds: a against b, cpu: 2.00, wanted at most 2"),
        (Bar("b", "a", "cpu", times_better=2), "- holds: b against a, cpu: 2.00, wanted better "),
        (Bar("b", "a", "cpu", times_better=3), "- **missed**: b against a, cpu: 2.00, wanted "),
        (Bar("c", "a", "cpu", times_better=3), "- not measured: c against a (cpu)"),
    ],
)
def test_a_bar_says_whether_it_holds(bar: Bar, said: str):
    """A missed bar is marked, and one that could not be judged is not called held."""
    assert bar.judge(_results(a=[4], b=[2])).startswith(said)


def test_a_section_is_replaced_and_the_rest_kept(tmp_path: Path):
    """A run writes its own part of the page only."""
    page = tmp_path / "page.md"
    write_section("one", "## One", page=page)
    write_section("two", "## Two", page=page)
    write_section("one", "## Uno", page=page)

    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Performance\n")
    assert text.partition("<!-- one -->")[2] == (
        "\n\n## Uno\n\n<!-- end of one -->\n\n<!-- two -->\n\n## Two\n\n<!-- end of two -->\n"
    )


def test_a_server_runs_as_long_as_its_block():
    """What the server says first is had, and it has ended after the block."""
    program = "import sys, json; print(json.dumps({'port': 7}), flush=True); sys.stdin.read()"
    with serving("-c", program, core=None) as server:
        assert server["port"] == 7
        assert harness.cpu_seconds_of(server["pid"]) >= 0

    assert not Path(f"/proc/{server['pid']}").exists()
