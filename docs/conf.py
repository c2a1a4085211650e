"""How Sphinx builds the documentation: Markdown, furo, and every broken reference an error."""

import importlib
import inspect
import re
from importlib.metadata import metadata

from sphinx.application import Sphinx


_metadata = metadata("cyberun_async")

project = "cyberun_async"
author = "cyberun_async contributors"
project_copyright = f"2026, {author}"
release = version = _metadata["Version"]

# Names are documented, and referred to, where users import them from.
for _name in (
    *(
        "cyberun_async.testing",
        "cyberun_async.webhooks",
        "cyberun_async.batch",
        "cyberun_async.cluster",
        "cyberun_async.relay",
    ),
    "cyberun_async",
):
    _module = importlib.import_module(_name)
    for _public in _module.__all__:
        _value = getattr(_module, _public)
        if inspect.isclass(_value) or inspect.isfunction(_value):
            _value.__module__ = _name

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build", "README.md"]
source_suffix = {".md": "markdown"}

nitpicky = True
nitpick_ignore_regex = [
    # Nothing is fetched while building, so other projects' inventories are not at hand.
    (r"py:.*", r"(anyio|asyncio|attrs?|collections|datetime|enum|httpx|os|pathlib|ssl)\..*"),
    (r"py:.*", r"(starlette|types|typing|uuid)\..*"),
    (r"py:.*", r"(_asyncio|concurrent|opentelemetry|time)\..*"),
    # What only the library itself makes or passes on: type variables, and private types.
    (r"py:(class|obj)", r"(cyberun_async(\.\w+)*\._\w+(\.\w+)+|TaskRef|Ts?)"),
    # The actions that functions of `faults` return, to be passed on as they are.
    (r"py:class", r"cyberun_async\.testing\.faults\.\w+"),
    # Attributes are described within their class; few have targets of their own.
    (r"py:attr", r"[\w.]+"),
    # Private modules refer to their neighbours.
    (r"py:class", r"Pager|Upload"),
    # Names of the standard library, as autodoc prints them.
    (r"py:class", r"(Any|Path|UUID|Callable|Awaitable|Mapping|Sequence|TracebackType|datetime)"),
    (
        r"py:(class|exc)",
        r"(bool|bytes|dict|float|frozenset|int|list|object|str|tuple|type|[A-Z]\w*(Error|Warning))",
    ),
]
suppress_warnings: list[str] = []

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist", "smartquotes"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"cyberun_async {release}"
html_show_sphinx = False


def split_names(
    _app: object, _what: str, _name: str, _obj: object, _options: object, lines: list[str]
) -> None:
    """Repeat an entry for several arguments ("backoff_base, backoff_cap:") for each of them."""
    text = "\n".join(lines)
    entry = re.compile(r"^( +)(\w+(?:, \w+)+):((?:.*\n?)(?:\1 .*\n?|\n(?=\1 ))*)", re.MULTILINE)

    def each(found: re.Match[str]) -> str:
        indent, names, rest = found.groups()
        return "".join(f"{indent}{name}:{rest.rstrip()}\n" for name in names.split(", "))

    lines[:] = entry.sub(each, text).split("\n")


def setup(app: Sphinx) -> None:
    """Rewrite docstrings before Napoleon reads them."""
    app.connect("autodoc-process-docstring", split_names, priority=100)
