"""How Sphinx builds the documentation: Markdown, furo, and every broken reference an error."""

from importlib.metadata import metadata


_metadata = metadata("cyberun_async")

project = "cyberun_async"
author = "cyberun_async contributors"
project_copyright = f"2026, {author}"
release = version = _metadata["Version"]

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
    (r"py:.*", r"(types|typing|uuid)\..*"),
    # Names of the standard library, as autodoc prints them.
    (r"py:class", r"(Any|Path|UUID|Callable|Awaitable|Mapping|Sequence|TracebackType|datetime)"),
    (
        r"py:(class|exc)",
        r"(bool|bytes|dict|float|frozenset|int|list|object|str|tuple|type|[A-Z]\w*(Error|Warning))",
    ),
]
suppress_warnings: list[str] = []

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist", "smartquotes"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"cyberun_async {release}"
html_show_sphinx = False
