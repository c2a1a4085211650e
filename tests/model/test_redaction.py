"""What a message may quote: no credential, no presigned link, one short line."""

import pytest

from cyberun_async._model import quoted, redacted, shown


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


SECRET = "ZQ12345678abcdefghijkl"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"postgres://user:{SECRET}@db/tasks", id="password-of-a-database"),
        pytest.param(f"s3://reader:{SECRET}@bucket/key", id="password-of-a-store"),
        pytest.param(f"aws_secret_access_key={SECRET}", id="profile"),
        pytest.param(f'{{"SecretAccessKey": "{SECRET}"}}', id="json"),
        pytest.param(f'"{{\\"SessionToken\\": \\"{SECRET}\\"}}"', id="json-in-json"),
        pytest.param(f"AccountName=a;AccountKey={SECRET}==;EndpointSuffix=b", id="azure"),
        pytest.param(f"SharedKey account:{SECRET}=", id="azure-header"),
        pytest.param(f"AWS4-HMAC-SHA256 Credential={SECRET}/s3, Signature={SECRET}", id="aws4"),
        pytest.param(f"x-api-key: {SECRET}", id="api-key-header"),
        pytest.param(f"api_key={SECRET}&x=1", id="api-key-parameter"),
        pytest.param(f"Set-Cookie: session={SECRET}; path=/", id="cookie"),
        pytest.param(f"token hf_{SECRET}", id="model-store"),
        pytest.param(f"ghp_{SECRET} has expired", id="forge"),
        pytest.param(f"-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----", id="pem"),
    ],
)
def test_the_spellings_of_other_services_are_known(text: str) -> None:
    """Errors of object stores and databases come through the service as its own words."""
    shown_text = redacted(text)

    assert SECRET not in shown_text
    assert redacted(shown_text) == shown_text


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
    assert quoted(value) == expected
