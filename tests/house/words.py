"""
Check that the code speaks the field's language: no word that only this project once used.

``python tests/house/words.py`` reads names, comments and strings of the package and its tests
and prints each place with an old word and what to say instead. A word that is right where it
stands is allowed file by file, with the reason.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path


ROOT = Path(__file__).parents[2]
FOLDERS = ("cyberun_async", "tests")

# A pattern of the old word, and the word of the field.
OLD = {
    r"ticks?|ticked": "progress event",
    r"told|untold": "reported, notified, delivered, explained",
    r"hear of|heard of": "is notified of",
    r"roster": "poller",
    r"feeds?|hubs?": "follower, followers",
    r"sweeps?|sweeping": "list polling",
    r"lanes?": "connection",
    r"stock": "connection pool",
    r"benched|bench(?=\()": "stream revoked",
    r"invited?": "stream granted",
    r"taught": "merge token",
    r"hinted": "retry hint",
    r"fears?": "note failure",
    r"heed": "apply",
    r"surroundings": "environment",
    r"sitting": "run marker",
    r"neighbours?": "other ledgers",
    r"tally": "counts",
    r"mend(?:s|ed)?": "fix",
    r"for ever": "forever",
    r"time-outs?": "timeout",
    r"(?<!there )(?-i:is none)": "there is none",
    r"goes on, and is paid for": "keeps running and will be billed",
    r"unknown fates?": "unconfirmed submission",
}
WORDS = {re.compile(rf"(?i)(?<![a-z])(?:{old})(?![a-z])"): instead for old, instead in OLD.items()}

# (file or folder, word) -> why it is the right one there.
ALLOWED: dict[tuple[str, str], str] = {
    ("tests/house/words.py", "*"): "the list itself",
    ("tests/benchmarks", "bench"): "a benchmark's own name",
    ("tests/benchmarks", "tick"): "the clock of its service ticks, and each tick sends one event",
    ("tests/benchmarks", "ticks"): "as above",
    ("cyberun_async/_http/event_stream.py", "feed"): "bytes are fed to a parser",
    ("tests/contract/test_site_over_tls.py", "feed"): "bytes are fed to a parser",
    ("tests/protocol/test_sse.py", "feed"): "as above",
    ("tests/cli/terminal.py", "feed"): "as above",
    ("cyberun_async/_protocol/sse.py", "feed"): "as above",
    ("tests/bots/test_telegram_bot.py", "feed"): "a method of aiogram",
}


def places(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, word and what to say instead, for each old word of a file."""
    name = path.relative_to(ROOT).as_posix()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        # The parts of a name are words, too.
        text = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", line.replace("_", " "))
        for pattern, instead in WORDS.items():
            for found in pattern.finditer(text):
                if not is_allowed(name, found[0].lower()):
                    yield number, found[0], instead


def is_allowed(name: str, word: str) -> bool:
    """Return whether *word* is the right one in this file."""
    return any(name.startswith(place) and allowed in {"*", word} for place, allowed in ALLOWED)


def main() -> int:
    count = 0
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for number, word, instead in places(path):
                count += 1
                print(f"{path.relative_to(ROOT)}:{number}: '{word}': say {instead}")
    if count:
        print(f"{count} old words")
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main())
