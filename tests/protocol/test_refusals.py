"""A refusal becomes the error that says what the caller can do, in the service's own words."""

import json
import pickle
from collections.abc import Mapping

import pytest
from hypothesis import given, strategies as st

from cyberun_async import (
    AuthenticationError,
    CyberunError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RequestRejectedError,
    ServiceUnavailableError,
    TaskNotFoundError,
    UnexpectedResponseError,
)
from cyberun_async._protocol import (
    MAX_MESSAGE_CHARACTERS,
    Response,
    decode_error_message,
    rejection,
)


NAMED: dict[int, type[CyberunError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: ServiceUnavailableError,
    410: NotFoundError,
    429: RateLimitedError,
}


def refusal(
    status: int,
    body: bytes = b"",
    *,
    kind: str | None = "application/json",
    headers: Mapping[str, str] | None = None,
) -> Response:
    sent = dict(headers or {})
    if kind is not None:
        sent["content-type"] = kind
    return Response(status=status, headers=sent, body=body, method="POST", path="/r/tasks/a/cancel")


def said(value: object) -> str | None:
    return decode_error_message(refusal(400, json.dumps(value).encode()))


@pytest.mark.parametrize("status", range(400, 600))
def test_each_status_has_its_error(status: int) -> None:
    """Named statuses have errors of their own, other 4xx are refusals, 5xx may be tried again."""
    default = RequestRejectedError if status < 500 else ServiceUnavailableError

    error = rejection(refusal(status, b'{"error_message": "no such thing"}'))

    assert type(error) is NAMED.get(status, default)
    assert getattr(error, "status", None) == status
    assert getattr(error, "error_message", None) == "no such thing"
    assert str(error).startswith("POST /r/tasks/a/cancel was ")
    assert f"HTTP {status}" in str(error)
    assert "no such thing" in str(error)


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_not_found_may_be_a_task(status: int) -> None:
    """Asked about a task, the error says that it is the task that is not there."""
    assert type(rejection(refusal(status), task=True)) is TaskNotFoundError
    assert type(rejection(refusal(403), task=True)) is PermissionDeniedError


@pytest.mark.parametrize("status", [100, 101, 199, 200, 204, 299, 300, 301, 302, 304, 307, 399])
def test_what_is_neither_done_nor_refused_is_unexpected(status: int) -> None:
    """A redirect or a success that was no use is not a refusal."""
    error = rejection(refusal(status, b"<html>", kind="text/html"))

    assert isinstance(error, UnexpectedResponseError)
    assert (error.status, error.content_type, error.excerpt) == (status, "text/html", "<html>")


@pytest.mark.parametrize("status", [600, 999])
def test_a_status_beyond_all_is_trouble_of_the_service(status: int) -> None:
    """Proxies invent statuses; none is a refusal of the caller's request."""
    assert isinstance(rejection(refusal(status)), ServiceUnavailableError)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1.5"}, 2.0),
        ({"retry-after": "9" * 400}, 1e12),
        ({"retry-after": "Sun, 01 Mar 2026 10:00:30 GMT"}, None),
        (
            {
                "retry-after": "Sun, 01 Mar 2026 10:00:30 GMT",
                "date": "Sun, 01 Mar 2026 10:00:00 GMT",
            },
            30.0,
        ),
    ],
)
@pytest.mark.parametrize("status", [408, 429, 503])
def test_the_services_pause_is_kept(
    status: int, headers: dict[str, str], seconds: float | None
) -> None:
    """``Retry-After`` is in seconds, by the service's own clock, or nothing."""
    error = rejection(refusal(status, headers=headers))

    assert getattr(error, "retry_after", "missing") == seconds


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"error_message": "a"}, "a"),
        ({"error_message": "a", "message": "b"}, "a"),
        ({"error_message": "", "message": "b"}, "b"),
        ({"error_message": None, "detail": "c"}, "c"),
        ({"message": "b"}, "b"),
        ({"error": "b"}, "b"),
        ({"detail": "b"}, "b"),
        ({"error": {"message": "b"}}, "b"),
        ({"error": {"error": {"message": "b"}}}, None),
        ({"error": {"code": 5}}, None),
        ({"error_message": 5, "error": ["a"]}, None),
        ({"error_message": "  "}, None),
        ("a", "a"),
        ("", None),
        ([], None),
        (5, None),
        (None, None),
        ({}, None),
    ],
)
def test_the_services_words_are_found(value: object, message: str | None) -> None:
    """The documented field first, then the usual others, one level down at most."""
    assert said(value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("two\nlines\r\n\tof it", "two lines of it"),
        ("a\x00b\x1b[31mc", "a b [31mc"),
        ("half \ud800 pair", "half pair"),
        ("turned \u202e round", "turned round"),
        ("x" * 5000, "x" * MAX_MESSAGE_CHARACTERS),
        ("key sk-live-abcdef is bad", "key sk-<redacted> is bad"),
        ("see https://s3.example/a?sig=1 there", "see https://s3.example/a?<redacted> there"),
        ("картина", "картина"),
    ],
)
def test_the_services_words_are_fit_to_print(text: str, message: str) -> None:
    """One short line, without control characters, keys and presigned links."""
    assert said({"error_message": text}) == message


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("text/plain", b"upstream request timeout", "upstream request timeout"),
        ("text/plain; charset=utf-8", b" no\nroom ", "no room"),
        ("TEXT/PLAIN", b"no sk-live-abcdef", "no sk-<redacted>"),
        ("text/plain", b"\xff\xfe", "\ufffd\ufffd"),
        ("text/plain", b"", None),
        ("text/plain", b"   ", None),
        ("text/plain", b'{"error_message": "a"}', "a"),
        ("text/html", b"<h1>Bad gateway</h1>", None),
        ("application/json", b"not JSON", None),
        (None, b"not JSON", None),
        ("text/plain-ish", b"a", None),
    ],
)
def test_plain_text_is_the_words_of_a_proxy(
    kind: str | None, body: bytes, message: str | None
) -> None:
    """What is sent as plain text was written to be read; a page of HTML was not."""
    assert decode_error_message(refusal(502, body, kind=kind)) == message


def test_a_page_without_end_is_not_searched() -> None:
    """An error body of megabytes holds no message worth the time."""
    body = json.dumps({"error_message": "a", "rest": "x" * 300_000}).encode()

    assert decode_error_message(refusal(500, body)) is None


@given(st.integers(100, 999), st.binary(), st.none() | st.text(), st.booleans())
def test_any_reply_gives_an_error_of_the_tree(
    status: int, body: bytes, kind: str | None, task: bool
) -> None:
    """Nothing that comes can make another error of a refusal."""
    error = rejection(refusal(status, body, kind=kind), task=task)

    assert isinstance(error, CyberunError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
    assert len(str(error)) < 2000


def test_the_way_is_not_needed() -> None:
    """An answer whose request is not known still reads well."""
    error = rejection(Response(status=503, method="", path=""))

    assert str(error).startswith("was answered with HTTP 503")
