"""The parameters of a run become JSON, or a typed error that says where they cannot."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from cyberun_async._model import InvalidInputError
from cyberun_async._validation import MAX_DEPTH, parameters_of


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(max_size=5),
    st.text(),
    st.dates(),
)


def _nested(depth: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def _cycle() -> dict[str, object]:
    value: dict[str, object] = {"list": []}
    value["list"] = [value]
    return value


@pytest.mark.parametrize(
    ("parameters", "where"),
    [
        pytest.param({"a": math.nan}, "parameters.a is nan", id="nan"),
        pytest.param({"a": [1, {"b": math.inf}]}, "parameters.a[1].b is inf", id="inf"),
        pytest.param({1: "a"}, "parameters has a key of type int", id="key"),
        pytest.param({"a": {None: 1}}, "parameters.a has a key", id="inner-key"),
        pytest.param({"a": {1, 2}}, "parameters.a is of type set", id="set"),
        pytest.param({"a": b"x"}, "upload it", id="bytes"),
        pytest.param({"a": Path("x")}, "type file", id="path"),
        pytest.param({"a": object()}, "of type object", id="object"),
        pytest.param({"a": 1j}, "of type complex", id="complex"),
        pytest.param({"a": "\ud800"}, "surrogate", id="surrogate"),
        pytest.param({"\ud800": 1}, "surrogate", id="surrogate-key"),
        pytest.param({"a": 10**5000}, "4096 bits", id="huge-integer"),
        pytest.param({"a b\n": object()}, r"parameters['a b\n']", id="odd-key"),
        pytest.param(_nested(MAX_DEPTH), "nested deeper", id="deep"),
        pytest.param(_nested(50_000), "nested deeper", id="very-deep"),
        pytest.param(_cycle(), "parameters.list[0] contains itself", id="cycle"),
        pytest.param([("a", 1)], "mapping", id="pairs"),
        pytest.param("a", "mapping", id="text"),
        pytest.param(5, "mapping", id="number"),
    ],
)
def test_parameters_that_are_no_json_are_refused_with_their_place(
    parameters: object, where: str
) -> None:
    """The message says where in the parameters the fault is."""
    with pytest.raises(InvalidInputError) as caught:
        parameters_of(parameters)

    assert where in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_structure_that_unfolds_without_end_is_refused() -> None:
    """Lists that share their items may be small in memory and endless as JSON."""
    value: object = "lol"
    for _ in range(30):
        value = [value] * 10

    with pytest.raises(InvalidInputError, match="more than"):
        parameters_of({"a": value})


def test_parameters_are_copied() -> None:
    """What the caller changes afterwards is not sent."""
    inner: list[object] = [1]
    given_parameters = {"a": inner, "b": (1, 2), "c": inner}

    copied = parameters_of(given_parameters)
    inner.append(2)

    assert copied == {"a": [1], "b": [1, 2], "c": [1]}
    assert parameters_of(None) == {}


def test_allowed_types_are_left_for_later() -> None:
    """Files are exchanged for their keys by the upload, so they pass here."""
    path = Path("x.png")

    assert {"a": path, "b": [path]} == parameters_of({"a": path, "b": [path]}, allow=(Path,))


@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            ANYTHING,
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=3,
    )
)
def test_what_passes_is_json_and_what_does_not_is_reported(parameters: dict[str, object]) -> None:
    """Any structure is either refused with a typed error or can be written as strict JSON."""
    try:
        copied = parameters_of(parameters)
    except InvalidInputError:
        return
    assert copied == json.loads(json.dumps(copied, allow_nan=False).encode("utf-8"))
