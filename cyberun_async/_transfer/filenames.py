"""
A server's name for a file, made safe to write to a folder on any system.

Only the last part counts; what is left cannot leave the folder, name a device, hide
itself or turn a listing around.
"""

import re
import unicodedata


# Most file systems allow 255 bytes; temporary names and numbers need room.
MAX_NAME_BYTES = 200
_MAX_SUFFIX_CHARACTERS = 16
_LAST_RESORT = "file"

_FORBIDDEN = re.compile(r'[<>:"|?*]')
_DEVICE = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])", re.IGNORECASE)
_SUFFIX = re.compile(r"(?:\.tar)?\.[A-Za-z0-9]+")

# Controls, format characters (which reverse the order of letters), lone surrogates,
# private and unassigned ones, and the separators of lines.
_DROPPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def filename_of(server_name: str | None, fallback: str) -> str:
    """Return a safe name made of *server_name*, or of *fallback* where nothing is left of it."""
    return _safe(server_name) or _safe(fallback) or _LAST_RESORT


def _safe(name: str | None) -> str:
    if not isinstance(name, str):
        return ""
    last = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(
        letter for letter in last if unicodedata.category(letter) not in _DROPPED_CATEGORIES
    )
    return _shortened(_unreserved(_trimmed(_FORBIDDEN.sub("_", kept))))


def _trimmed(name: str) -> str:
    # Windows drops dots and blanks at the end, so two names could become one.
    return name.lstrip(". \t\u00a0\u3000").strip().rstrip(". ").strip()


def _unreserved(name: str) -> str:
    stem = name.partition(".")[0].rstrip()
    return f"_{name}" if _DEVICE.fullmatch(stem) else name


def _shortened(name: str) -> str:
    if len(name.encode()) <= MAX_NAME_BYTES:
        return name
    suffix = _suffix_of(name)
    room = MAX_NAME_BYTES - len(suffix)
    stem = name[: len(name) - len(suffix)].encode()[:room].decode(errors="ignore")
    return stem.rstrip(". ") + suffix


def _suffix_of(name: str) -> str:
    stem, dot, last = name.rpartition(".")
    suffix = f".tar.{last}" if stem.endswith(".tar") else dot + last
    fits = len(suffix) <= _MAX_SUFFIX_CHARACTERS and _SUFFIX.fullmatch(suffix)
    return suffix if fits and stem else ""
