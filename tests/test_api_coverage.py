"""The page on the interface's coverage is true: its requests, switches and tests exist."""

import re
from pathlib import Path
from typing import Final

import anyio
import attrs
import pytest
from starlette.routing import Route, Router

import cyberun_async.testing as kit
from cyberun_async.testing import Behaviour, Simulator

from .client.test_surface import FLOW, GOOD, HOOK, LEFT_OUT, answers, call, policies
from .fake_service import BASE, TASK
from .test_guarantees import names_in
from .whole.kit import virtual_backend


ROOT: Final = Path(__file__).parents[1]
PAGE: Final = (ROOT / "docs" / "api-coverage.md").read_text(encoding="utf-8")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return virtual_backend("virtual-asyncio")


def rows(title: str) -> list[list[str]]:
    """Return the cells of the table under a heading."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


REQUESTS: Final = {code(row[0])[0]: row for row in rows("Requests")}
POINTS: Final = [*rows("Contradictions"), *rows("Silences")]


def general(method: str, url: str) -> str:
    """Return a request as the page names it."""
    if not url.startswith(BASE):
        return "PUT <upload_url>" if method == "PUT" else "GET <download_url>"
    path = url.removeprefix(BASE).partition("?")[0]
    for known in (TASK, FLOW, HOOK):
        path = path.replace(known, "{id}")
    return f"{method} {path.replace('slug/text-to-image', 'slug/{slug}')}"


async def test_the_requests_are_those_that_the_methods_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every request that any public method makes is on the page, and no other."""
    monkeypatch.chdir(tmp_path)
    service = answers()
    async with service.client(**policies()) as client:
        for method, given in GOOD.items():
            if method not in {*LEFT_OUT, "client.aclose"}:
                with anyio.fail_after(3600):
                    await call(client, method, given)
        await client.workflows.get(FLOW)
        await client.submit(FLOW)
    made = {general(one.method, str(one.url)) for one in service.requests}

    assert set(REQUESTS) - {"POST <webhook_url>"} == made


def test_the_simulator_serves_every_request() -> None:
    """Each request of the page has a route."""
    app = Simulator().app
    assert isinstance(app, Router)
    served = {
        f"{method} {re.sub(r'{(?!slug)[^}]*}', '{id}', route.path.removeprefix('/api/v1'))}"
        for route in app.routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    wanted = {request for request in REQUESTS if "<" not in request}

    assert wanted - served == set()
    assert {"PUT /store/{id}", "GET /store/{id}"} <= served


def test_every_switch_of_the_simulator_is_on_the_page() -> None:
    """A switch is there because the documentation leaves something open."""
    named = {name for row in POINTS for name in code(row[1])}
    switches = {f"Behaviour.{field.name}" for field in attrs.fields(Behaviour)}

    assert {name for name in named if name.startswith("Behaviour.")} == switches


@pytest.mark.parametrize("row", POINTS, ids=lambda row: row[0][:50])
def test_a_point_has_something_that_plays_it(row: list[str]) -> None:
    """What is said to play either side exists."""
    for name in code(row[1]):
        found: object = kit
        for part in name.split("."):
            fields = getattr(found, "__attrs_attrs__", ())
            known = {field.name: field for field in fields}
            found = known[part] if part in known else getattr(found, part)
        assert found is not None


@pytest.mark.parametrize("row", [*REQUESTS.values(), *POINTS], ids=lambda row: row[0][:50])
def test_every_row_names_tests_that_exist(row: list[str]) -> None:
    """No row is without a test, and each test is there."""
    named = code(row[-1])

    assert named
    for test in named:
        path, _, name = test.partition("::")
        assert name in names_in(path), test
