"""What is about to travel is looked through for credentials, text by text."""

import pickle
from typing import Any

import pytest

from cyberun_async.cluster._credentials import brings_credential


LENGTHS = range(40, 131)


def carried(value: Any, protocol: int) -> bool:
    return brings_credential(pickle.dumps({"connect": [value]}, protocol=protocol))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("start", ["sk-", "dk-", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx."])
def test_a_credential_of_any_length_is_seen(start: str, protocol: int) -> None:
    """Also where the byte that tells its length in the pickle looks like a letter."""
    keys = [start.ljust(length, "x") for length in LENGTHS]

    assert [key for key in keys if not carried(key, protocol)] == []


@pytest.mark.parametrize("length", [40, 90, 130, 300])
def test_a_credential_is_seen_wherever_it_lies(length: int) -> None:
    """Within a longer text, as bytes, and in what was pickled before."""
    key = "sk-".ljust(length, "x")
    for value in (f"Bearer {key}", key.encode(), bytearray(key.encode()), pickle.dumps([key])):
        assert carried(value, pickle.HIGHEST_PROTOCOL)


def test_other_texts_may_travel() -> None:
    """Names that end as a key begins, short texts, and bytes that begin as a pickle does."""
    for value in ("task-0123456789abcdef", "sk-short", b"\x80\xff\xff", "/run/secrets/cyberun"):
        assert not carried(value, pickle.HIGHEST_PROTOCOL)
