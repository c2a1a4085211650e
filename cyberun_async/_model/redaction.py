"""
What of a text may be shown: without credentials and presigned links, escaped, cut.

Storage libraries write whole requests into their errors, and the service passes these on
as its own words. So everything that shows or pickles such a text goes through here.
"""

import copy
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, SupportsIndex, cast

import attrs


SHOWN_CHARACTERS = 60
_LONGEST_INTEGER_BITS = 200

# A hyphenated word such as "task-one" must not pass for a key, so the prefix has to stand
# at the beginning of a word. The escapes of JSON, of `repr` and of URLs end in letters and
# digits, and are no part of the word behind them.
_KEY = re.compile(
    r"(?:(?<![A-Za-z0-9])|(?<=\\[abfnrtv])|(?<=\\u[0-9A-Fa-f]{4})|(?<=\\x[0-9A-Fa-f]{2})"
    r"|(?<=%[0-9A-Fa-f]{2}))"
    r"(sk-|dk-|ak-|whsec_|eyJ|AKIA|ASIA|hf_|gh[opsu]_|github_pat_|glpat-|xox[abprs]-)"
    r"[A-Za-z0-9_~+/=-][A-Za-z0-9_.~+/=-]*"
)

# What can hold a link: a run of characters without blanks, quotes and angle brackets.
_TOKEN = re.compile(r"""[^\s"'<>]+""")
_SCHEME = re.compile(r"(?i)https?:(?:\\?/){2}")
# JSON may write the question mark as an escape, and one link may be a part of another.
_MARK = re.compile(r"(?i)\?|%3f|\\u003f")
_GIVEAWAY = (
    r"(?:x-(?:amz|goog|oss|cos)-(?:signature|credential|security-token)"
    r"|signature|credential|awsaccesskeyid|googleaccessid|key-pair-id|access_token|sig)"
)
_BEFORE = r"(?:(?<![a-z-])|(?<=%[0-9a-f]{2})|(?<=\\u[0-9a-f]{4}))"
_SIGNED = re.compile(rf"(?i){_BEFORE}{_GIVEAWAY}(?:=|%3d)")
_PARAMETER = re.compile(
    rf"""(?i){_BEFORE}((?:{_GIVEAWAY}["']?(?:=|%3d)|x-(?:amz|goog)-[a-z-]+["']?:\s*)["']?)(?!<red)[^\s&;,"'<>]+"""
)
# What configuration files, connection strings and headers call a secret.
_NAMED = re.compile(
    r"""(?i)(?<![a-z])((?:[a-z]{1,20}[-_])?(?:secret[-_]?(?:access[-_]?)?key|(?:session|security)[-_]?token"""
    r"""|(?:account|api|private)[-_]?key|client[-_]?secret|password|passwd|(?:set-)?cookie)"""
    r"""\\?["']?\s{0,4}[:=]\s{0,4}\\?["']?)(?!<red)[^\s&;,"'<>\\]+"""
)
_SHARED_KEY = re.compile(r"""(?i)(\bsharedkey(?:lite)?\s+[^\s:"'<>]{1,100}:)[^\s"'<>]+""")
_PRIVATE_KEY = re.compile(r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[^-]+")
# An XML error of an object store repeats what was signed.
_ELEMENT = re.compile(
    r"(?i)<(awsaccesskeyid|signature\w*|stringtosign\w*|canonicalrequest\w*)>[^<]+"
)
_USERINFO = re.compile(r"""(?i)(\b[a-z][a-z0-9+.-]{1,20}:(?:\\?/){2})[^\s/@"'<>\\?#]+@""")
_AUTHORIZATION = re.compile(
    r"""(?i)((?:authorization["']?\s*[:=,]\s*b?["']?(?:[a-z]+\s+)?)|\bbearer\s+)[^\s"'<>,;)]{8,}"""
)

# What may follow the first 200 characters of a text cannot bring back what was cut.
_REDACTED_SPAN = 4096


def looks_secret(text: str) -> bool:
    """Return whether a credential seems to be in *text*."""
    return _KEY.search(text) is not None


def scrubbed(text: str) -> str:
    """Return *text* without credentials and the queries of links; once more changes nothing."""
    if "//" in text or "/\\/" in text or _SIGNED.search(text):
        text = _TOKEN.sub(_without_query, text)
    text = _ELEMENT.sub(r"<\1><redacted>", text)
    for pattern in (_PARAMETER, _NAMED, _SHARED_KEY, _PRIVATE_KEY):
        text = pattern.sub(r"\1<redacted>", text)
    text = _USERINFO.sub(r"\1<redacted>@", text)
    text = _KEY.sub(r"\1<redacted>", text)
    return _AUTHORIZATION.sub(r"\1<redacted>", text)


def _without_query(found: re.Match[str]) -> str:
    """Leave the query of a link out: it is the whole of what a presigned one grants."""
    token = found[0]
    scheme = _SCHEME.search(token)
    if scheme is not None:
        mark = _MARK.search(token, scheme.end())
    elif (signed := _SIGNED.search(token)) is not None:
        # HTTP libraries name the path and the query without the host.
        mark = _MARK.search(token, 0, signed.start())
    else:
        return token
    if mark is None or mark.end() == len(token):
        return token
    return f"{token[: mark.start()]}?<redacted>"


def redacted(text: str) -> str:
    """Return the beginning of *text*, as :func:`scrubbed`."""
    return scrubbed(text[:_REDACTED_SPAN])


def words(text: str | None) -> str | None:
    """Return the service's own words as they may be shown, whole; None as it is."""
    return scrubbed(text) if text else text


def scrubbed_values(value: Any) -> Any:
    """Return *value*, out of a JSON decoder, with all texts in it scrubbed."""
    if isinstance(value, str):
        return scrubbed(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {scrubbed_values(name): scrubbed_values(item) for name, item in items}
    if isinstance(value, list | tuple):
        kind = cast("type[Any]", type(cast("object", value)))
        return kind(scrubbed_values(item) for item in cast("list[Any]", value))
    return scrubbed_bytes(value) if isinstance(value, bytes) else value


def scrubbed_bytes(body: bytes) -> bytes:
    """Return the body of a reply, scrubbed; as it is if there is nothing to hide in it."""
    try:
        value = json.loads(body)
        clean = scrubbed_values(value)
    except (ValueError, RecursionError):
        text = body.decode("utf-8", "replace")
        clean = scrubbed(text)
        return body if clean == text else clean.encode()
    # `repr`, as NaN does not equal itself.
    return body if repr(clean) == repr(value) else json.dumps(clean).encode()


class Described:
    """
    A value out of the service's words, which its ``repr`` and its pickles do not repeat.

    In both, credentials and the queries of links are left out of all texts, and in a pickle
    of :attr:`raw`, too. What is data rather than words goes into a pickle whole: output,
    and the fields that :attr:`_whole` names. A copy is whole.
    """

    __slots__ = ()

    _whole: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        shown_fields = (field for field in self._attributes() if field.repr)
        texts = (f"{field.name}={getattr(self, field.name)!r}" for field in shown_fields)
        return scrubbed(f"{type(self).__name__}({', '.join(texts)})")

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[Any, ...]:
        reduced = super().__reduce_ex__(protocol)
        return (*reduced[:2], self._fields(self._pickled))

    def __copy__(self) -> "Described":
        return self._made(lambda _, value: value)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Described":
        return self._made(lambda _, value: copy.deepcopy(value, memo))

    def _attributes(self) -> tuple["attrs.Attribute[Any]", ...]:
        fields: tuple[attrs.Attribute[Any], ...]
        fields = attrs.fields(cast("type[attrs.AttrsInstance]", type(self)))
        return fields

    def _pickled(self, name: str, value: Any) -> Any:
        if name in self._whole:
            return value
        given: Any = value
        is_text = isinstance(given, str | bytes | tuple) or name == "raw"
        return scrubbed_values(value) if is_text else value

    def _fields(self, change: Callable[[str, Any], Any]) -> dict[str, Any]:
        names = (field.name for field in self._attributes())
        return {name: change(name, getattr(self, name)) for name in names}

    def _made(self, change: Callable[[str, Any], Any]) -> "Described":
        made = object.__new__(type(self))
        for name, value in self._fields(change).items():
            object.__setattr__(made, name, value)
        return made


@attrs.frozen(kw_only=True, repr=False)
class FromReply(Described):
    """A value out of a reply of the service."""

    raw: bytes = attrs.field(default=b"", repr=False, eq=False)

    def raw_json(self) -> Any:
        """Return the reply this was read from, decoded anew; ``None`` without one."""
        return json.loads(self.raw) if self.raw else None


def quoted(value: object) -> str:
    """Return *value*, given where something else was wanted, as a message may name it."""
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, int) and value.bit_length() > _LONGEST_INTEGER_BITS:
        # Python refuses to print integers of thousands of digits.
        return "a number so large"
    if value is None or isinstance(value, int | float):
        return repr(value)
    return f"a {type(value).__name__}"


def shown(text: str) -> str:
    """Return *text* as a message may quote it: escaped, cut, or not at all if it looks secret."""
    if looks_secret(text):
        return "(not shown, as it looks like a credential)"
    cut = text[:SHOWN_CHARACTERS]
    return ascii(cut) + ("..." if len(text) > SHOWN_CHARACTERS else "")
