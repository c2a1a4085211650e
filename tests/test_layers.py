"""
Who may import whom: the layers of the design as a table, compared with every import.

A module imports from layers above its own, or from its own as long as no circle arises.
A new module has to be put into a layer first; a test fails until that is done.
"""

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import attrs
import pytest


ROOT = "cyberun_async"
PACKAGE = Path(__file__).parents[1] / ROOT

# Standard modules without input, output, clock or chance.
VALUES = frozenset(
    {
        *("abc", "base64", "binascii", "collections", "contextlib", "copy", "datetime"),
        *("decimal", "difflib", "email", "enum", "fractions", "functools", "hashlib", "heapq"),
        *("hmac", "inspect", "ipaddress", "itertools", "json", "keyword", "math"),
        *("numbers", "operator", "posixpath", "re", "reprlib", "string", "textwrap", "types"),
        *("typing", "unicodedata", "urllib", "uuid", "warnings"),
    }
)
# What only the runtime module may know: the event loop, the clock and chance.
LOOP = frozenset({"asyncio", "random", "sched", "sniffio", "time", "trio", "uvloop"})
# What only the network layer, batches, the command line and the testing kit have a use for.
SYSTEM = frozenset(
    {"multiprocessing", "select", "signal", "socket", "sqlite3", "ssl", "subprocess"}
)
STDLIB = frozenset(sys.stdlib_module_names)
SHELL = (STDLIB - LOOP - SYSTEM) | {"anyio", "attrs"}
PURE = VALUES | {"attrs"}


@attrs.frozen
class Layer:
    """Modules of one kind: their names as patterns, and what they import from outside."""

    name: str
    modules: tuple[str, ...]
    outside: frozenset[str]
    above: tuple[str, ...] = ()

    def holds(self, module: str) -> bool:
        """Return whether *module* belongs to this layer."""
        return any(fnmatchcase(module, pattern) for pattern in self.modules)


def _surface(name: str, *outside: str, above: tuple[str, ...] = ()) -> Layer:
    """Return a layer written like a user's program: against the public surface only."""
    return Layer(name, (name, f"{name}.*"), SHELL | set(outside), above=("package", *above))


VALUE_LAYERS = ("values", "decisions")
INNER_LAYERS = (*VALUE_LAYERS, "runtime", "network", "loops", "facade")

LAYERS = (
    Layer(
        "values",
        (
            *("_credentials", "_errors", "_events", "_exchange", "_filenames", "_inputs"),
            "_content_types",
            *("_choices", "_json_values", "_models", "_observer", "_options", "_pages"),
            *("_redaction", "_statistics", "_tokens", "_tracebacks"),
            "_webhook_models",
        ),
        PURE,
    ),
    Layer(
        "decisions",
        (
            *("_backoff", "_codec", "_fields", "_framing", "_progress", "_rejection", "_sse_codec"),
            "_ticks",
            *(
                "_asks",
                "_order",
                "_parameters",
                "_plan",
                "_steps",
                "_verdict",
                "_upload_models",
                "_watch",
                "_watch_*",
                "_webhook_verify",
                "_workflow",
            ),
        ),
        # A parameter may be a path of the file system.
        PURE | {"os"},
        above=("values",),
    ),
    Layer("version", ("_version",), frozenset({"importlib"})),
    Layer("runtime", ("_runtime", "_fair"), SHELL | LOOP, above=("values",)),
    Layer(
        "network",
        ("_transport", "_transport_*"),
        SHELL | SYSTEM | {"httpx", "httpx_sse"} | {"aiohttp", "httpx_aiohttp", "msgspec", "yarl"},
        above=(*VALUE_LAYERS, "runtime"),
    ),
    Layer(
        "loops",
        (
            *(
                "_caller",
                "_due",
                "_errand",
                "_facts",
                "_feed",
                "_hub",
                "_opening",
                "_pace",
                "_reader",
            ),
            *("_places", "_roster", "_slots", "_sweep", "_told"),
        ),
        SHELL,
        above=(*VALUE_LAYERS, "runtime", "network"),
    ),
    Layer(
        "facade",
        (
            *(
                "_client",
                "_client_base",
                "_client_following",
                "_client_settings",
                "_downloads",
                "_files",
                "_group",
                "_handle",
                "_held",
                "_progress_view",
                "_pump",
                "_resources",
                "_submitting",
                "_waiting",
            ),
            *("_results", "_session", "_stream", "_uploads", "_webhook_asgi", "_webhook_admin"),
        ),
        SHELL,
        above=(*VALUE_LAYERS, "runtime", "network", "loops", "version"),
    ),
    Layer("package", ("__init__", "_public"), VALUES, above=(*INNER_LAYERS, "version")),
    Layer("webhooks", ("webhooks",), VALUES, above=(*VALUE_LAYERS, "facade")),
    Layer(
        "relay decisions",
        ("relay._history", "relay._liveness", "relay._wire"),
        PURE,
        above=("package",),
    ),
    _surface("relay", "starlette", "signal", above=("relay decisions",)),
    _surface("otel", "opentelemetry"),
    _surface("batch", "sqlite3"),
    _surface("cluster", "distributed", "sqlite3", above=("batch",)),
    Layer(
        "cli",
        ("__main__", "cli", "cli.*"),
        SHELL | {"click", "rich", "signal"},
        above=("package",),
    ),
    Layer("pytest plugin", ("testing.plugin",), SHELL | {"pytest"}, above=("package", "testing")),
    # The service's side knows nothing of the client: one misreading must not pass both.
    Layer(
        "testing",
        ("testing", "testing.*"),
        STDLIB | {"anyio", "attrs", "httpx", "starlette", "trio", "uvicorn"},
    ),
)

# A layer's pure decisions hold no `await` and read no clock.
DECISIONS = [layer for layer in LAYERS if layer.name in {"decisions", "relay decisions"}]
CLOCK_READERS = frozenset({"now", "today", "utcnow"})

# Modules that the surface layers may use beyond the table: (importer, imported) -> reason.
SHARED: dict[tuple[str, str], str] = {
    ("batch._jobs", "_json_values"): "jobs and runs refuse a value in the same words",
    ("cli._exits", "batch"): "the errors of a batch have exit codes of their own",
    ("cli._batch", "batch"): "the command that runs batches",
    ("cli._jobs_file", "batch"): "the command that runs batches reads their jobs",
    ("cli._local", "testing"): "the command that starts the simulator",
}

# Packages that one module uses beyond its layer: (importer, package) -> reason.
SIGNATURES = {
    ("_tracebacks", "sys"): "what is being handled is left alone",
    ("_client_base", "ssl"): "a TLS context may be given as `verify`",
    ("_webhook_asgi", "starlette"): "once a route of it calls the endpoint",
    ("_stream", "typing_extensions"): "for checkers alone: a type variable with a default",
}


@attrs.frozen
class Import:
    """One imported module: its full dotted name, and whether a type checker alone sees it."""

    target: str
    line: int
    for_checkers: bool = False


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts if parts == ("__init__",) else (p for p in parts if p != "__init__"))


@cache
def _paths() -> dict[str, Path]:
    return {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _layer_of(module: str) -> Layer | None:
    return next((layer for layer in LAYERS if layer.holds(module)), None)


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_paths()[module].read_text(encoding="utf-8"))


@cache
def _imports(module: str) -> tuple[Import, ...]:
    tree = _tree(module)
    hidden = {id(node) for block in _checker_blocks(tree) for node in ast.walk(block)}
    return tuple(
        Import(target, node.lineno, id(node) in hidden)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for target in _targets(module, node)
    )


def _checker_blocks(tree: ast.Module) -> Iterator[ast.stmt]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from node.body


def _targets(module: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = _base(module, node)
    for alias in node.names:
        submodule = f"{base}.{alias.name}"
        yield submodule if _ours(submodule) in _paths() else base


def _base(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    is_package = _paths()[module].name == "__init__.py"
    inside = [] if module == "__init__" else module.split(".")
    package = [ROOT, *inside] if is_package else [ROOT, *inside][:-1]
    kept = package[: len(package) - node.level + 1]
    return ".".join([*kept, node.module] if node.module else kept)


def _ours(target: str) -> str | None:
    """Return *target* as a module of this package, or None for somebody else's."""
    if target == ROOT:
        return "__init__"
    return target.removeprefix(f"{ROOT}.") if target.startswith(f"{ROOT}.") else None


def _may_import(module: str, layer: Layer, imported: str) -> bool:
    other = _layer_of(imported)
    if other is None or (module, imported) in SHARED:
        return other is not None
    return other is layer or other.name in layer.above


def _offences(module: str) -> Iterator[str]:
    layer = _layer_of(module)
    if layer is None:
        return
    for found in _imports(module):
        imported = _ours(found.target)
        if imported is None:
            package = found.target.partition(".")[0]
            allowed = package in layer.outside or (module, package) in SIGNATURES
        else:
            allowed = _may_import(module, layer, imported)
        if not allowed:
            yield f"{module}:{found.line} ({layer.name}) imports {found.target}"


def test_every_module_belongs_to_a_layer() -> None:
    """A new module is put into the table, so that nobody forgets what it may import."""
    assert [module for module in _paths() if _layer_of(module) is None] == []


@pytest.mark.parametrize("module", _paths())
def test_imports_follow_the_table(module: str) -> None:
    """A module imports only what its layer allows, from this package and from others."""
    assert list(_offences(module)) == []


def test_no_module_is_imported_in_a_circle() -> None:
    """Imports inside the package, those for checkers aside, form no circle."""
    graph = {
        module: {
            imported
            for found in _imports(module)
            if not found.for_checkers
            and (imported := _ours(found.target)) not in {None, module, "__init__"}
        }
        for module in _paths()
    }

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    "module", [module for module in _paths() if any(each.holds(module) for each in DECISIONS)]
)
def test_decisions_neither_wait_nor_look_at_a_clock(module: str) -> None:
    """The decision core is plain functions of the facts it is given."""
    nodes = list(ast.walk(_tree(module)))

    assert [n.lineno for n in nodes if isinstance(n, ast.AsyncFunctionDef | ast.Await)] == []
    assert [n.lineno for n in nodes if isinstance(n, ast.Call) and _reads_clock(n)] == []


def _reads_clock(call: ast.Call) -> bool:
    match call.func:
        case ast.Attribute(value=ast.Name(id="datetime" | "date"), attr=attr):
            return attr in CLOCK_READERS
        case _:
            return False


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        pytest.param("_watch", "import asyncio", ["asyncio"], id="plain"),
        pytest.param("_watch", "from ._models import A", [f"{ROOT}._models"], id="relative"),
        pytest.param("_watch", "from . import _models", [f"{ROOT}._models"], id="submodule"),
        pytest.param("_watch", "from . import Client", [ROOT], id="root"),
        pytest.param("testing", "from . import faults", [f"{ROOT}.testing.faults"], id="package"),
        pytest.param("testing.faults", "from .. import Client", [ROOT], id="two-up"),
        pytest.param("testing.faults", "from .._watch import A", [f"{ROOT}._watch"], id="inner"),
        pytest.param("__init__", "from ._watch import A", [f"{ROOT}._watch"], id="init"),
    ],
)
def test_imports_are_read_as_python_reads_them(
    module: str, source: str, expected: list[str]
) -> None:
    """The reader of this test resolves relative imports, names of the root and submodules."""
    [node] = ast.parse(source).body
    assert isinstance(node, ast.Import | ast.ImportFrom)

    assert list(_targets(module, node)) == expected


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        pytest.param("_watch", "_feed", id="decision-imports-loop"),
        pytest.param("_models", "_options_of_tomorrow", id="unknown-module"),
        pytest.param("testing.simulator", "_models", id="service-imports-client"),
        pytest.param("testing.simulator", "__init__", id="service-imports-surface"),
        pytest.param("batch", "_errors", id="surface-user-imports-private"),
        pytest.param("cli", "batch", id="surface-users-import-each-other"),
    ],
)
def test_the_table_forbids(module: str, imported: str) -> None:
    """What the layers are for is really refused, so the table is not a list of all that is."""
    layer = _layer_of(module)

    assert layer is not None
    assert not _may_import(module, layer, imported)
