"""
Count the package's lines of code: no docstrings, no comments, no blank lines.

``python tests/house/code_lines.py [FOLDER]`` prints a row a package and the sum.
"""

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path


NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


def code_lines(source: str) -> int:
    """Return how many lines of *source* hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstring_lines(source))


def docstring_lines(source: str) -> set[int]:
    """Return the lines of *source* that belong to docstrings, of attributes too."""
    return {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else "cyberun_async")
    counts: Counter[str] = Counter()
    for path in root.rglob("*.py"):
        folders = path.relative_to(root).parts[:-1]
        counts[folders[0] if folders else "."] += code_lines(path.read_text(encoding="utf-8"))
    for folder, count in sorted(counts.items()):
        print(f"{folder:14} {count:6}")
    print(f"{'in all':14} {sum(counts.values()):6}")


if __name__ == "__main__":
    main()
