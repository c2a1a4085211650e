"""What a message may quote: no credential, no presigned link, one short line."""

import pytest

from cyberun_async._model import redacted, shown, told


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://s3.example/a.png?X-Amz-Signature=abc", "https://s3.example/a.png?<redacted>"),
        (r"https:\/\/s3.example\/a?sig=1", r"https:\/\/s3.example\/a?<redacted>"),
        ('"http://s3/a\\u003fsig=1\\u0026b=2" x', '"http://s3/a?<redacted>" x'),
        ("Bearer sk-live-abc.", "Bearer sk-<redacted>"),
        ("whsec_abcdef", "whsec_<redacted>"),
        ("no task-one? here", "no task-one? here"),
    ],
)
def test_excerpts_hold_no_key_and_no_link(text: str, expected: str) -> None:
    """What a message may quote of a reply lacks what gives access."""
    assert expected == redacted(text)


def test_quoted_values_are_escaped_and_cut() -> None:
    """A message stays on one line and short."""
    assert shown("a\n" * 100) == repr("a\n" * 30) + "..."


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(5, "5", id="integer"),
        pytest.param(-1.5, "-1.5", id="fraction"),
        pytest.param(None, "None", id="none"),
        pytest.param(10**5000, "a number so large", id="too-long-to-print"),
        pytest.param([10**5000], "a list", id="list"),
        pytest.param("a\n", repr("a\n"), id="text"),
        pytest.param("sk-live-abc", shown("sk-live-abc"), id="key"),
    ],
)
def test_any_value_can_be_named(value: object, expected: str) -> None:
    """What was given in place of something else is named, whatever it is."""
    assert told(value) == expected
