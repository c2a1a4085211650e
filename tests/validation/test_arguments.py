"""What may come in: identifiers, paths, addresses, headers, durations."""

import math
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given, strategies as st

from cyberun_async._model import ConfigurationError, CyberunError, InvalidInputError
from cyberun_async._validation import (
    WorkflowRef,
    base_url_of,
    header_text,
    management_path,
    method_of,
    parameters_of,
    path_for,
    positive_seconds,
    quote_segment,
    raw_path_of,
    sends_in_clear,
    task_id_of,
    workflow_path,
    workflow_ref,
)


TASK = "0197a1b2-0000-7000-8000-00000000abcd"
SECRETS = ("sk-live-4f9a", "dk-1234567890", "ak-agent", "eyJhbGciOi.payload.sig", "whsec_abc")
ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(max_size=5),
    st.text(),
    st.dates(),
)


def _label(value: object) -> str:
    return ascii(value)[:40]


BAD_IDS = [
    pytest.param("", "empty", id="empty"),
    pytest.param("x" * 201, "201 characters", id="huge"),
    pytest.param("x" * 1_000_000, "1000000 characters", id="a-million"),
    pytest.param("a\r\nHost: b", "control", id="crlf"),
    pytest.param("a\x00b", "control", id="nul"),
    pytest.param("a\x7fb", "control", id="del"),
    pytest.param("a b", "blank", id="blank"),
    pytest.param(".", "path step", id="dot"),
    pytest.param("..", "path step", id="dots"),
    pytest.param("../../admin", "'/'", id="traversal"),
    pytest.param("..\\admin", r"'\\'", id="backslash"),
    pytest.param("%2e%2e", "'%'", id="encoded-dots"),
    pytest.param("a?b=c", "'?'", id="query"),
    pytest.param("a#b", "'#'", id="fragment"),
    pytest.param("https://evil.example/", "'/'", id="url"),
    pytest.param("tâche", "ASCII", id="unicode"),
    pytest.param("\ud800", "ASCII", id="half-a-surrogate-pair"),
    pytest.param(None, "NoneType", id="none"),
    pytest.param(5, "int", id="number"),
    pytest.param(b"abc", "bytes", id="bytes"),
    pytest.param(["abc"], "list", id="list"),
]


@pytest.mark.parametrize(("value", "fault"), BAD_IDS)
def test_what_cannot_be_a_task_id_is_refused_with_its_fault(value: object, fault: str) -> None:
    """A malformed id is refused, the message names the fault and stays short."""
    with pytest.raises(InvalidInputError) as caught:
        task_id_of(value)

    assert fault in str(caught.value)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "_"), BAD_IDS)
@pytest.mark.parametrize("slug", [None, True, False])
def test_what_cannot_be_a_workflow_is_refused(value: object, _: str, slug: bool | None) -> None:
    """What is no task id is no workflow either, however it is to be read."""
    with pytest.raises(InvalidInputError):
        workflow_ref(value, slug)


CHECKS: dict[str, Callable[[str], object]] = {
    "task id": task_id_of,
    "workflow": lambda text: workflow_ref(text + "/"),
    "base URL": lambda text: base_url_of(f"ftp://{text}"),
    "user": lambda text: base_url_of(f"https://{text}@host"),
    "path": lambda text: raw_path_of(f"/r?key={text}"),
    "header": lambda text: header_text("X-Key", text + "\n"),
    "header name": lambda text: header_text(f"X {text}", "a"),
    "parameter name": lambda text: parameters_of({text: object()}),
    "seconds": lambda text: positive_seconds("timeout", text),
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_no_message_repeats_a_credential(secret: str, check: Callable[[str], object]) -> None:
    """Whatever is given a key by mistake does not print it."""
    with pytest.raises(CyberunError) as caught:
        check(secret)

    assert secret[3:] not in str(caught.value)


def test_a_long_random_part_makes_a_slug_a_key() -> None:
    """A key of lower-case letters has the form of a slug, but is not sent as one."""
    with pytest.raises(InvalidInputError, match="API key"):
        workflow_ref("sk-live-0123456789abcdef0123456789abcdef")

    assert WorkflowRef("slug", "ak-47-poster") == workflow_ref("ak-47-poster")


@pytest.mark.parametrize(
    ("given_id", "canonical"),
    [
        (UUID(TASK), TASK),
        (TASK, TASK),
        (TASK.upper(), TASK),
        ("Task_7:b@c;d", "Task_7:b@c;d"),
        ("x" * 200, "x" * 200),
    ],
)
def test_ids_are_canonical(given_id: object, canonical: str) -> None:
    """A UUID is written in lower case, so that one task is followed once; others are opaque."""
    assert canonical == task_id_of(given_id)


@pytest.mark.parametrize(
    ("text", "slug", "expected"),
    [
        ("text-to-image", None, WorkflowRef("slug", "text-to-image")),
        ("text-to-image@2", None, WorkflowRef("slug", "text-to-image", 2)),
        ("ab", None, WorkflowRef("slug", "ab")),
        ("a" * 100, None, WorkflowRef("slug", "a" * 100)),
        (TASK, None, WorkflowRef("id", TASK)),
        (TASK.upper(), None, WorkflowRef("id", TASK)),
        (UUID(TASK), None, WorkflowRef("id", TASK)),
        (TASK, False, WorkflowRef("id", TASK)),
        (TASK, True, WorkflowRef("slug", TASK)),
        (f"{TASK}@3", True, WorkflowRef("slug", TASK, 3)),
        ("Opaque_Id", False, WorkflowRef("id", "Opaque_Id")),
    ],
)
def test_a_workflow_is_named_by_id_or_slug(
    text: object, slug: bool | None, expected: WorkflowRef
) -> None:
    """UUID-shaped texts are ids and others slugs, unless the caller says otherwise."""
    assert expected == workflow_ref(text, slug)


@pytest.mark.parametrize(
    "text",
    ["a", "a" * 101, "Text-To-Image", "-a", "a-", "a--b", "a_b", "a@", "ab@0", "ab@01", "ab@-1",
     "ab@latest", "ab@2@3", "ab@1_0", "ab@9999999999", "ab@\u0662", f"{TASK}@2", "a b", "ab\n"],
    ids=_label,
)  # fmt: skip
def test_what_is_no_slug_is_refused(text: str) -> None:
    """A slug is 2 to 100 characters of lower-case words, a version a whole number from 1."""
    with pytest.raises(InvalidInputError):
        workflow_ref(text)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (path_for("tasks", "a", "events"), "/r/tasks/a/events"),
        (path_for("tasks", "a/../b"), "/r/tasks/a%2F..%2Fb"),
        (path_for("tasks", "a?b#c\r\n é"), "/r/tasks/a%3Fb%23c%0D%0A%20%C3%A9"),
        (management_path("webhooks", "x"), "/webhooks/x"),
        (workflow_path(workflow_ref("ab@2"), "run"), "/r/workflows/slug/ab@2/run"),
        (workflow_path(workflow_ref(TASK)), f"/r/workflows/{TASK}"),
    ],
)
def test_paths_are_made_of_encoded_segments(path: str, expected: str) -> None:
    """Each segment stays one segment, whatever is in it."""
    assert expected == path


@pytest.mark.parametrize("segment", ["", ".", "..", "\ud800"], ids=_label)
def test_a_segment_that_no_encoding_saves_is_refused(segment: str) -> None:
    """Servers and clients resolve dots even where they are encoded."""
    with pytest.raises(InvalidInputError):
        quote_segment(segment)


@given(st.text())
def test_a_quoted_segment_cannot_leave_its_place(text: str) -> None:
    """Nothing in a quoted segment has a meaning in a request line."""
    try:
        quoted = quote_segment(text)
    except InvalidInputError:
        return
    assert quoted.isascii()
    assert not set(quoted) & set("/\\?# \r\n\x00")


@pytest.mark.parametrize(
    "path",
    ["", "r/tasks", "//evil.example/x", "https://evil.example/", "/a/../b", "/a/./b", "/%2e%2E/x",
     "/a/.%2e", "/a%2fb", "/a%5Cb", "/a\\b", "/a b", "/a\r\nX: y", "/a?b=c", "/a#b", "/é",
     "/" + "a" * 3000, None, 5, b"/r"],
    ids=_label,
)  # fmt: skip
def test_a_raw_path_cannot_leave_the_service(path: object) -> None:
    """A path for what is not wrapped yet stays below the base URL."""
    with pytest.raises(InvalidInputError):
        raw_path_of(path)


@pytest.mark.parametrize("path", ["/", "/r/tasks", "/r/workflows/slug/ab@2", "/a...b", "/a%20b"])
def test_a_plain_raw_path_passes(path: str) -> None:
    """A path is taken as it is, already encoded."""
    assert path == raw_path_of(path)


@pytest.mark.parametrize("method", ["", "GET /", "G\r\n", "gét", None, 5, "X" * 21], ids=_label)
def test_what_is_no_method_is_refused(method: object) -> None:
    """A method is letters."""
    with pytest.raises(InvalidInputError):
        method_of(method)


def test_a_method_is_written_in_upper_case() -> None:
    """``get`` and ``GET`` are the same for a user, not for a server."""
    assert method_of("get") == "GET"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://core.cyberun.cloud/api/v1", "https://core.cyberun.cloud/api/v1"),
        ("https://core.cyberun.cloud/api/v1//", "https://core.cyberun.cloud/api/v1"),
        ("HTTPS://Core.Cyberun.Cloud/Api", "https://core.cyberun.cloud/Api"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://[::1]:8000/api", "http://[::1]:8000/api"),
        ("https://gpu_box:8443", "https://gpu_box:8443"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ],
)
def test_a_base_url_is_brought_to_one_form(text: str, expected: str) -> None:
    """Paths are appended to the result, so it has no slash at its end."""
    assert expected == base_url_of(text)


@pytest.mark.parametrize(
    "text",
    ["", " ", "core.cyberun.cloud", "localhost:8000", "ftp://a.example", "file:///etc/passwd",
     "https://", "https:///api", "https://:80", "https://u:p@a.example", "https://u@a.example",
     "https://a.example?x=1", "https://a.example/#x", "https://a.example:0", "https://a.example:x",
     "https://a.example:65536", "https://[::1", "https://[nonsense]", "https://[fe80::1%25eth0]",
     "https://a b.example", "https://a.example\n", "\thttps://a.example", "https://a\x00.example",
     "https://bücher.example", "https://a.example\\@evil.example", "https://a..example",
     "https://-a.example", "https://a.example/../x", "https://a.example/%2e%2e/x",
     "https://" + "a" * 64 + ".example", "https://a.example/" + "x" * 3000, "https://%61.example",
     "javascript:alert(1)", None, 5, b"https://a.example", ["https://a.example"]],
    ids=_label,
)  # fmt: skip
def test_what_is_no_base_url_is_refused(text: object) -> None:
    """A wrong base URL is a matter of configuration, found before anything is sent."""
    with pytest.raises(ConfigurationError, match="base URL"):
        base_url_of(text)


@pytest.mark.parametrize(
    ("url", "clear"),
    [
        ("https://a.example", False),
        ("http://a.example", True),
        ("http://10.0.0.1", True),
        ("http://localhost:1", False),
        ("http://sim.localhost", False),
        ("http://127.9.9.9", False),
        ("http://[::1]:8000", False),
        ("http://[::2]", True),
        ("http://localhost.evil.example", True),
    ],
)
def test_a_key_in_the_clear_is_reported(url: str, clear: bool) -> None:
    """Only http to another machine exposes the key."""
    assert clear is sends_in_clear(url)


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-A", "a\r\nX-B: c"), ("X-A", "a\nb"), ("X-A", "a\x00"), ("X-A", " a"), ("X-A", "a "),
     ("X-A", "a\t"), ("X-A", "é"), ("X-A", None), ("X-A", 5), ("X-A", b"a"), ("X-A", "\x7f"),
     ("", "a"), ("X A", "a"), ("X:A", "a"), ("X-\n", "a"), ("Ä", "a"), (None, "a"), (5, "a")],
    ids=_label,
)  # fmt: skip
def test_what_no_header_can_carry_is_refused(name: object, value: object) -> None:
    """Neither a name nor a value can end its line or begin another header."""
    with pytest.raises(InvalidInputError, match="header"):
        header_text(name, value)


@pytest.mark.parametrize("value", ["", "a", "a b", "a\tb", "~!@#$%^&*()"])
def test_a_plain_header_passes(value: str) -> None:
    """Printable ASCII is sent as it is."""
    assert value == header_text("X-A", value)


@pytest.mark.parametrize(
    "value",
    [0, -1, 0.0, -0.0, math.nan, math.inf, -math.inf, True, False, None, "5", b"5", [5], 10**400,
     timedelta(0), timedelta(seconds=-1), 1j],
    ids=_label,
)  # fmt: skip
def test_what_is_no_duration_is_refused(value: object) -> None:
    """A duration is a finite number of seconds above 0."""
    with pytest.raises(InvalidInputError, match="timeout"):
        positive_seconds("timeout", value)


@pytest.mark.parametrize(
    ("value", "seconds"), [(5, 5.0), (0.25, 0.25), (timedelta(minutes=2), 120.0), (5e-324, 5e-324)]
)
def test_durations_become_seconds(value: object, seconds: float) -> None:
    """Numbers and timedeltas mean the same."""
    assert seconds == positive_seconds("timeout", value)


@given(ANYTHING)
def test_any_argument_gives_a_value_or_a_typed_error(value: object) -> None:
    """No check fails with an error other than the documented ones."""
    checks: list[Callable[[object], object]] = [
        task_id_of, workflow_ref, raw_path_of, method_of, base_url_of, parameters_of,
        lambda one: header_text("X-A", one), lambda one: positive_seconds("timeout", one),
    ]  # fmt: skip
    for check in checks:
        with suppress(InvalidInputError, ConfigurationError):
            check(value)
