"""Whether list pages or single requests are asked for, from what pages cost before."""

import attrs
import pytest

from cyberun_async._following import ListMemory, is_worth_going_on, pages_of


@attrs.define
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    "due, expected",
    [
        pytest.param({}, [], id="nothing-due"),
        pytest.param({"running": 10}, [], id="few-are-asked-singly"),
        pytest.param({"running": 11}, ["running"], id="more-than-few-by-pages"),
        pytest.param({"running": 11, "queued": 3}, ["running"], id="each-state-by-itself"),
        pytest.param({"running": 50, "queued": 50}, ["running", "queued"], id="several-states"),
        pytest.param({None: 10}, [], id="few-of-which-nothing-is-known"),
        pytest.param(
            {None: 11}, ["pending", "waiting", "queued", "running"], id="many-of-unknown-state"
        ),
        pytest.param(
            {None: 11, "provisioning": 20},
            ["provisioning", "pending", "waiting", "queued", "running"],
            id="unknown-beside-known",
        ),
    ],
)
def test_the_states_that_are_listed(due: dict[str | None, int], expected: list[str]) -> None:
    """A state is listed where more than a few tasks are due in it, or may be."""
    assert sorted(ListMemory(Clock()).states_to_list(due)) == sorted(expected)


@pytest.mark.parametrize(
    "status, rest",
    [
        pytest.param(400, 3600, id="state-unknown"),
        pytest.param(422, 3600, id="state-not-valid"),
        pytest.param(401, 30, id="key-refused"),
        pytest.param(403, 30, id="by-a-firewall"),
        pytest.param(404, 30, id="not-found"),
    ],
)
def test_a_refused_state_is_asked_for_again_after_a_rest(status: int, rest: float) -> None:
    """A filter that the list does not take is left alone for long, all else for a while."""
    clock = Clock()
    memory = ListMemory(clock)
    memory.note_refusal("provisioning", status)
    due: dict[str | None, int] = {"provisioning": 100, "running": 100}

    clock.now = rest - 1
    assert memory.states_to_list(due) == ["running"]

    clock.now = rest
    assert memory.states_to_list(due) == ["provisioning", "running"]


@pytest.mark.parametrize(
    "total, read, due, listed",
    [
        pytest.param(100, 1, 11, True, id="one-page"),
        pytest.param(1000, 1, 11, True, id="ten-pages-for-eleven-tasks"),
        pytest.param(1100, 1, 11, False, id="as-many-pages-as-tasks"),
        pytest.param(50_000, 1, 499, False, id="a-busy-team"),
        pytest.param(50_000, 1, 501, True, id="a-busy-team-and-many-tasks"),
        pytest.param(None, 30, 20, False, id="no-total-but-many-pages-were-read"),
        pytest.param(None, 1, 20, True, id="no-total"),
    ],
)
def test_the_cheaper_way_is_taken(total: int | None, read: int, due: int, listed: bool) -> None:
    """Foreign tasks make pages dear: what they cost last time decides."""
    memory = ListMemory(Clock())

    memory.note_pages("running", total, read)

    assert memory.states_to_list({"running": due}) == (["running"] if listed else [])


@pytest.mark.parametrize(
    ("total", "expected"), [(None, 0), (0, 0), (1, 1), (100, 1), (101, 2), (10_000, 100)]
)
def test_pages_are_counted(total: int | None, expected: int) -> None:
    """A page has a hundred rows, and an unknown number of rows counts as none."""
    assert pages_of(total) == expected


@pytest.mark.parametrize(
    "total, read, missing, expected",
    [
        pytest.param(1000, 1, 0, False, id="all-found"),
        pytest.param(1000, 1, 10, True, id="nine-pages-for-ten"),
        pytest.param(1000, 1, 9, False, id="nine-pages-for-nine"),
        pytest.param(None, 1, 2, True, id="unknown-total-costs-one-more-page"),
        pytest.param(None, 1, 1, False, id="a-single-one-is-asked-singly"),
    ],
)
def test_pages_are_read_on_while_they_are_cheaper(
    total: int | None, read: int, missing: int, expected: bool
) -> None:
    """The rest is asked for singly as soon as that costs fewer requests."""
    assert is_worth_going_on(total, read, missing) is expected
