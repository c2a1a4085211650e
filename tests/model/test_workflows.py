"""Parameters are checked against the workflow's definition: all faults at once, none invented."""

import pickle
from collections import UserDict
from pathlib import Path, PurePosixPath
from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from cyberun_async import (
    InvalidInputError,
    ParameterDef,
    ParameterError,
    Upload,
    UploadedFile,
    Workflow,
    validate,
)


UPLOAD = Upload(b"abc")
SENT = UploadedFile(key="inputs/a", name="a.png", size=3, content_type="image/png")


def workflow(*definitions: ParameterDef) -> Workflow:
    return Workflow(id="0197", slug="text-to-image", parameters=definitions)


def faults_of(parameters: object, *definitions: ParameterDef) -> tuple[str, ...]:
    try:
        validate(workflow(*definitions), cast("Any", parameters))
    except ParameterError as error:
        return error.faults
    return ()


def fault_of(value: object, **definition: Any) -> str | None:
    faults = faults_of({"a": value}, ParameterDef(key="a", **definition))
    assert len(faults) <= 1
    return faults[0] if faults else None


PROMPT = ParameterDef(key="prompt", type="string", required=True)
STEPS = ParameterDef(key="steps", type="number", min=1, max=150)
SAMPLER = ParameterDef(key="sampler", type="select", options=("euler", "dpmpp_2m"))


def test_what_fits_passes() -> None:
    """A run as the documentation shows it has no faults."""
    given_parameters = {"prompt": "a fox", "steps": 20, "sampler": "euler"}

    assert faults_of(given_parameters, PROMPT, STEPS, SAMPLER) == ()
    assert faults_of(UserDict(given_parameters), PROMPT, STEPS, SAMPLER) == ()


def test_all_faults_are_reported_at_once() -> None:
    """The error lists every fault, names the workflow, and survives a pickle."""
    wrong: dict[Any, Any] = {"promt": "a fox", "steps": 0, "sampler": "eular", 5: 1}
    with pytest.raises(ParameterError) as caught:
        validate(workflow(PROMPT, STEPS, SAMPLER), wrong)

    assert caught.value.faults == (
        "'prompt' is required",
        "'steps' must be at least 1, not 0",
        "'sampler' cannot be 'eular' (did you mean 'euler'?); options: 'euler', 'dpmpp_2m'",
        "'promt' is not known (did you mean 'prompt'?)",
        "a key is of type int, keys are strings",
    )
    assert caught.value.workflow == "text-to-image"
    assert "'text-to-image'" in str(caught.value)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.faults, str(again)) == (caught.value.faults, str(caught.value))


@pytest.mark.parametrize(
    "parameters", [None, 5, "a", [("a", 1)], [], {"a"}, b"a", object], ids=repr
)
def test_parameters_are_a_mapping(parameters: object) -> None:
    """Anything else is a malformed argument, also where no definition is known."""
    for known in (workflow(), Workflow(id="a")):
        with pytest.raises(InvalidInputError, match="mapping"):
            known.validate(cast("Any", parameters))


def test_a_workflow_checks_the_parameters_of_its_runs() -> None:
    """The method and the function report the same faults, and take the same files."""
    flow = workflow(ParameterDef(key="image", type="file", required=True), STEPS)
    for fitting in ("inputs/a", Path("a.png"), UPLOAD, SENT):
        flow.validate({"image": fitting})
        validate(flow, {"image": fitting})

    wrong = {"image": b"abc", "steps": UPLOAD, "strength": 1}
    with pytest.raises(ParameterError) as by_method:
        flow.validate(wrong)
    with pytest.raises(ParameterError) as by_function:
        validate(flow, wrong)

    assert by_method.value.faults == by_function.value.faults
    assert by_method.value.faults == (
        "'image' must be a path or the key of an uploaded file, not bytes",
        "'steps' is not of type file, so it takes no Upload",
        "'strength' is not known; known: 'image', 'steps'",
    )


def test_only_a_workflow_can_be_asked() -> None:
    """A name given in place of the workflow is reported as such."""
    with pytest.raises(InvalidInputError, match="must be a Workflow, not str"):
        validate(cast("Any", "text-to-image"), {})


def test_without_a_definition_nothing_is_a_fault() -> None:
    """What the service did not send cannot be checked."""
    validate(Workflow(id="a"), {"anything": object()})


def test_an_empty_definition_takes_nothing() -> None:
    """A workflow that says it has no parameters refuses all."""
    assert faults_of({}) == ()
    assert faults_of({"a": 1}) == ("'a' is not known; the workflow takes no parameters",)


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ({"required": True}, "'a' is required"),
        ({"required": True, "default": 5}, None),
        ({"required": False}, None),
        ({}, None),
    ],
)
def test_only_what_is_required_must_be_given(
    definition: dict[str, Any], expected: str | None
) -> None:
    """A default stands in for a value that is left out."""
    faults = faults_of({}, ParameterDef(key="a", **definition))

    assert faults == (() if expected is None else (expected,))


@pytest.mark.parametrize("kind", ["string", "number", "boolean", "select", "file", None])
def test_none_is_no_value_for_what_is_required(kind: str | None) -> None:
    """Null counts as left out where that is allowed, and is a fault where it is not."""
    assert fault_of(None, type=kind) is None
    assert fault_of(None, type=kind, required=True) == "'a' is required, but is None"
    assert fault_of(None, type=kind, required=True, default=5) is not None


ANYTHING: list[object] = ["a", 5, [], True]
OF_TYPE: list[tuple[str | None, list[object], list[object]]] = [
    ("string", ["", "a", "ä"], [5, True, 1.5, [], {}]),
    ("number", [0, -1, 1.5, 10**30], [True, False, "5", [], {}]),
    ("integer", [0, -1, 2.0, 10**30], [True, "5", 1.5, []]),
    ("boolean", [True, False], [0, 1, "true", "", []]),
    ("file", ["inputs/a.png", Path("a.png"), PurePosixPath("a"), UPLOAD, SENT], ["", 5, [], b"a"]),
    ("tensor", ANYTHING, []),
    ("", ANYTHING, []),
    (None, ANYTHING, []),
]


@pytest.mark.parametrize(("kind", "good", "bad"), OF_TYPE, ids=[repr(row[0]) for row in OF_TYPE])
def test_values_are_of_their_type(kind: str | None, good: list[object], bad: list[object]) -> None:
    """A value of a wrong type is reported with it; an unknown type is left to the service."""
    assert [value for value in good if fault_of(value, type=kind) is not None] == []
    for value in bad:
        fault = fault_of(value, type=kind)
        assert fault is not None
        assert fault.startswith("'a' ")


@pytest.mark.parametrize("kind", ["string", "number", "boolean", "select", None])
@pytest.mark.parametrize("value", [Path("a.png"), UPLOAD, SENT], ids=repr)
def test_a_file_goes_only_to_a_file(kind: str | None, value: object) -> None:
    """A path for another parameter would be uploaded for nothing."""
    fault = fault_of(value, type=kind, options=("a",))

    assert fault is not None
    assert "not of type file" in fault


@pytest.mark.parametrize("kind", ["number", "integer"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1, None),
        (150, None),
        (0, "at least 1, not 0"),
        (151, "at most 150, not 151"),
        (-(10**400), "a number so large"),
        (10**5000, "a number so large"),
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        (float("-inf"), "finite"),
    ],
    ids=lambda value: hex(value)[:20] if isinstance(value, int) else str(value),
)
def test_numbers_have_bounds(kind: str, value: float, words: str | None) -> None:
    """Both bounds are allowed values; what is no JSON number is reported, however large."""
    fault = fault_of(value, type=kind, min=1, max=150)

    assert fault is None if words is None else words in (fault or "")


@pytest.mark.parametrize("value", [10**5000, 1e300], ids=["int", "float"])
def test_without_bounds_any_finite_number_will_do(value: float) -> None:
    """Only the service knows more."""
    assert fault_of(value, type="number") is None


def test_bounds_are_for_numbers_only() -> None:
    """The documentation gives them a meaning for numbers, and for nothing else."""
    assert fault_of("abc", type="string", min=1, max=2) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("euler", None),
        ("EULER", "did you mean 'euler'"),
        ("zzz", "options: 'euler', 'dpmpp_2m'"),
        ("", "cannot be ''"),
        (5, "not int"),
        (["euler"], "not list"),
        ({}, "not dict"),
    ],
)
def test_a_selection_is_one_of_its_options(value: object, words: str | None) -> None:
    """The options are listed, and the nearest is named."""
    fault = fault_of(value, type="select", options=("euler", "dpmpp_2m"))

    assert fault is None if words is None else words in (fault or "")


def test_without_options_any_selection_will_do() -> None:
    """Options that were not given, or could not be read, refuse nothing."""
    assert fault_of("a", type="select") is None
    assert fault_of(5, type="select") is None


def test_many_options_are_cut() -> None:
    """A message stays short, however many options there are."""
    fault = fault_of("zzz", type="select", options=tuple(f"option-{n}" for n in range(1000)))

    assert fault is not None
    assert fault.endswith("'option-9' and 990 more")


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    """Without a near name, all names are listed."""
    assert faults_of({"prompt": "a", "zzz": 1}, PROMPT, STEPS) == (
        "'zzz' is not known; known: 'prompt', 'steps'",
    )
    assert "did you mean 'prompt'" in faults_of({"prompt": "a", "Prompt": 1}, PROMPT)[0]


def test_no_fault_repeats_a_credential() -> None:
    """A key given as a name or a value by mistake is not printed."""
    faults = faults_of(
        {"prompt": "a", "sampler": "sk-live-abcdef", "sk-live-ghijkl": 1}, PROMPT, SAMPLER
    )

    assert len(faults) == 2
    assert "live" not in "".join(faults)


def test_huge_names_and_values_are_cut_and_quick() -> None:
    """A text of a million characters is neither printed nor compared."""
    faults = faults_of({"x" * 1_000_000: 1, "sampler": "y" * 1_000_000}, SAMPLER)

    assert len(faults) == 2
    assert len("".join(faults)) < 500


def test_faults_stay_on_one_line() -> None:
    """Names from both sides are escaped."""
    faults = faults_of({"a\r\nb": 1}, ParameterDef(key="c\nd", required=True))

    assert "\n" not in "".join(faults)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.integers(), max_size=2),
    st.builds(object),
)
DEFINITIONS = st.builds(
    ParameterDef,
    key=st.text(max_size=5),
    type=st.none() | st.sampled_from(["string", "number", "integer", "boolean", "select", "file"]),
    required=st.booleans(),
    default=VALUES,
    min=st.none() | st.integers() | st.floats(allow_nan=False),
    max=st.none() | st.integers() | st.floats(allow_nan=False),
    options=st.lists(st.text(), max_size=3).map(tuple),
)


@given(
    st.lists(DEFINITIONS, max_size=3),
    st.dictionaries(st.text(max_size=5) | st.integers() | st.none(), VALUES, max_size=3),
)
def test_any_parameters_fit_or_have_faults(
    definitions: list[ParameterDef], parameters: dict[object, object]
) -> None:
    """Whatever is given and defined, the only error is the one that lists faults."""
    for fault in faults_of(parameters, *definitions):
        assert fault.isprintable()
