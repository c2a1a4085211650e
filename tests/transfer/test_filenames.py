"""A server's name for a file becomes one safe step of a path."""

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from cyberun_async._transfer import MAX_NAME_BYTES, filename_of


@pytest.mark.parametrize(
    ("server_name", "expected"),
    [
        ("out_00001_.png", "out_00001_.png"),
        ("tasks/0197/out.png", "out.png"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\Users\\x.png", "x.png"),
        ("C:x.png", "C_x.png"),
        ("x.png:stream", "x.png_stream"),
        (".bashrc", "bashrc"),
        ("...", "fallback.bin"),
        ("..", "fallback.bin"),
        ("a/", "fallback.bin"),
        ("", "fallback.bin"),
        (None, "fallback.bin"),
        ("   ", "fallback.bin"),
        ("CON", "_CON"),
        ("con.txt", "_con.txt"),
        ("nul .txt", "_nul .txt"),
        ("COM1.tar.gz", "_COM1.tar.gz"),
        ("lpt9", "_lpt9"),
        ("COM¹", "_COM¹"),
        ("console.png", "console.png"),
        ("a\x00b\r\nc.png", "abc.png"),
        ("cod\u202egnp.exe", "codgnp.exe"),
        ("a.png. . ", "a.png"),
        ("a<b>|c?*.png", "a_b__c__.png"),
        ("\ud800.png", "png"),
        ("картина.png", "картина.png"),
        (". .CON", "_CON"),
    ],
)
def test_file_names_are_made_safe(server_name: str | None, expected: str) -> None:
    """A server's name leads nowhere, names no device and hides nothing."""
    assert expected == filename_of(server_name, "fallback.bin")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a" * 5000 + ".png", ".png"), ("日" * 300 + ".tar.gz", ".tar.gz"), ("a." + "b" * 500, "")],
)
def test_long_names_keep_their_suffix(name: str, suffix: str) -> None:
    """A name is cut to what file systems take, in the middle."""
    short = filename_of(name, "x")

    assert len(short.encode()) <= MAX_NAME_BYTES
    assert short.endswith(suffix)


def test_a_bad_fallback_still_gives_a_name() -> None:
    """There is always a name."""
    assert filename_of("..", "..") == "file"


@settings(max_examples=400)
@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("./\\ :CONaux1\u202e"))))
def test_any_name_becomes_safe_and_stays_so(text: str) -> None:
    """Whatever the server says, the name is one safe step, and safe names do not change."""
    name = filename_of(text, "fallback")

    assert name
    assert name == Path(name).name
    assert not name.startswith(".")
    assert not name.endswith((".", " "))
    assert len(name.encode()) <= MAX_NAME_BYTES
    assert name.isprintable() or "\u00a0" in name or any(letter.isspace() for letter in name)
    assert name == filename_of(name, "other")
