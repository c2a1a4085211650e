"""What of a text a message may show: escaped, cut, without credentials and presigned links."""

import re


SHOWN_CHARACTERS = 60
_LONGEST_INTEGER_BITS = 200

# A hyphenated word such as "task-one" must not pass for a key, so the prefix has to
# stand at the beginning of a word.
_KEY = re.compile(r"(?<![A-Za-z0-9])(sk-|dk-|ak-|whsec_|eyJ)[A-Za-z0-9_.~+/=-]*")

# JSON may write the question mark as an escape. The query of a presigned link is the
# whole of its power, so all of it goes.
_QUERY = re.compile(
    r"""(https?:(?:\\?/){2}[^\s"'<>?\\]*+(?:\\/[^\s"'<>?\\]*+)*+)(?:\?|\\u003[fF])[^\s"'<>]*"""
)

# What may follow the first 200 characters of a text cannot bring back what was cut.
_REDACTED_SPAN = 4096


def looks_secret(text: str) -> bool:
    """Return whether a credential seems to be in *text*."""
    return _KEY.search(text) is not None


def redacted(text: str) -> str:
    """Return the beginning of *text* with credentials and the queries of links left out."""
    without_queries = _QUERY.sub(r"\1?<redacted>", text[:_REDACTED_SPAN])
    return _KEY.sub(r"\1<redacted>", without_queries)


def told(value: object) -> str:
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
