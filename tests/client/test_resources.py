"""Lists, single reads, webhooks and raw requests, against canned answers."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import anyio
import httpx
import pytest

from cyberun_async import (
    AuthenticationError,
    CyberunClient,
    InvalidInputError,
    ParameterDef,
    ParameterError,
    PermissionDeniedError,
    ServiceUnavailableError,
    UnexpectedResponseError,
    Workflow,
)

from ..fake_service import TASK, FakeService


HOOK = "0197b000-0000-7000-8000-000000000001"
FLOW = "0197c000-0000-7000-8000-000000000001"


def task_row(number: int, status: str = "running") -> dict[str, Any]:
    return {"id": f"task-{number}", "task_status": status}


def serve_pages(
    service: FakeService,
    pages: Sequence[Sequence[int]],
    total: int | None = None,
    *,
    meta: bool = True,
) -> None:
    """Let the task list answer with *pages*, and with empty ones after them."""

    def answer(request: httpx.Request) -> httpx.Response:
        number = int(request.url.params["current_page"])
        size = int(request.url.params["per_page"])
        rows = [task_row(n) for n in pages[number - 1]] if number <= len(pages) else []
        body: dict[str, Any] = {"task_list": rows}
        if meta:
            body["page_meta"] = {"current_page": number, "per_page": size, "total_count": total}
        return httpx.Response(200, json=body)

    service.on("GET", "/r/tasks", answer)


async def read_ids(client: CyberunClient, **arguments: Any) -> list[str]:
    return [task.id async for task in client.tasks.list(**arguments)]


@pytest.mark.parametrize(
    ("pages", "total", "asked"),
    [
        pytest.param([[1, 2], [3, 4]], 4, 2, id="total-reached"),
        pytest.param([[1, 2], [3]], None, 2, id="short-page"),
        pytest.param([[1, 2], [3, 4]], None, 3, id="empty-page"),
        pytest.param([[1, 2], [3]], 99, 2, id="total-too-large"),
        pytest.param([[]], None, 1, id="empty"),
    ],
)
async def test_a_list_ends_where_its_pages_do(
    pages: list[list[int]], total: int | None, asked: int
) -> None:
    """Reading stops at a short or empty page and at the total count, whichever is first."""
    service = FakeService()
    serve_pages(service, pages, total)

    async with service.client() as client:
        ids = await read_ids(client, per_page=2)

    assert ids == [f"task-{n}" for page in pages for n in page]
    assert len(service.requests) == asked


async def test_no_row_comes_twice() -> None:
    """A list that grows at its front while it is read repeats rows, which are left out."""
    service = FakeService()
    serve_pages(service, [[5, 4], [4, 3], [3, 2], [1]])

    async with service.client() as client:
        ids = await read_ids(client, per_page=2)

    assert ids == ["task-5", "task-4", "task-3", "task-2", "task-1"]


async def test_a_list_that_ignores_the_page_number_ends() -> None:
    """The same page again and again is given up, as no new row comes."""
    service = FakeService()
    serve_pages(service, [[1, 2]] * 50)

    async with service.client() as client:
        ids = await read_ids(client, per_page=2)

    assert ids == ["task-1", "task-2"]
    assert len(service.requests) < 10


async def test_pages_are_asked_for_when_wanted() -> None:
    """Nothing is asked before the first item is wanted, nor beyond the last one read."""
    service = FakeService()
    serve_pages(service, [[1, 2], [3, 4], [5, 6]])

    async with service.client() as client:
        listing = client.tasks.list(per_page=2)
        before = len(service.requests)
        first = [(await anext(listing)).id for _ in range(3)]

    assert (before, first) == (0, ["task-1", "task-2", "task-3"])
    assert len(service.requests) == 2


async def test_a_list_may_be_read_on_after_a_failure() -> None:
    """A page that failed is asked for again by the next step, and nothing is lost."""
    service = FakeService()
    serve_pages(service, [[1, 2], [3]])
    broken: list[httpx.Response] = [httpx.Response(400), httpx.Response(200, content=b"<html>")]

    async with service.client() as client:
        listing = client.tasks.list(per_page=2)
        ids = [(await anext(listing)).id, (await anext(listing)).id]
        good = service._routes["GET", "/r/tasks"]
        service.on("GET", "/r/tasks", lambda request: broken.pop())
        with pytest.raises(UnexpectedResponseError):
            await anext(listing)
        service.on("GET", "/r/tasks", good)
        ids += [task.id async for task in listing]

    assert ids == ["task-1", "task-2", "task-3"]


async def test_a_list_read_by_two_tasks_gives_each_row_once() -> None:
    """Two readers of one listing share its rows."""
    service = FakeService()
    serve_pages(service, [[1, 2], [3, 4], [5]])
    ids: list[str] = []

    async with service.client() as client:
        listing = client.tasks.list(per_page=2)

        async def read() -> None:
            async for task in listing:
                ids.append(task.id)
                await anyio.sleep(0)

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            group.start_soon(read)

    assert sorted(ids) == [f"task-{n}" for n in range(1, 6)]


async def test_the_filter_holds_even_where_the_service_ignores_it() -> None:
    """The status goes along as a filter, and rows of another status are left out."""
    service = FakeService()
    rows = [task_row(1), task_row(2, "failed")]
    service.on("GET", "/r/tasks", {"task_list": rows})

    async with service.client() as client:
        ids = await read_ids(client, status="failed")

    assert ids == ["task-2"]
    assert service.requests[0].url.params["status"] == "failed"


@pytest.mark.parametrize("size", [0, 101, -1, True, "20", None, 1.5])
async def test_a_page_size_is_checked(size: Any) -> None:
    """A page holds 1 to 100 rows."""
    async with FakeService().client() as client:
        for resource in (client.tasks, client.workflows, client.agents):
            with pytest.raises(InvalidInputError, match="per_page"):
                resource.list(per_page=size)


@pytest.mark.parametrize("body", [b"", b"[1]", b"{}", b'{"task_list": [{}]}', b"<html>", b"{"])
async def test_a_list_of_another_shape_is_unexpected(body: bytes) -> None:
    """What is not a list of tasks raises the one error for that."""
    service = FakeService()
    service.on("GET", "/r/tasks", body)

    async with service.client() as client:
        with pytest.raises(UnexpectedResponseError):
            await read_ids(client)


# Workflows


def flow(version: int = 3, **more: Any) -> dict[str, Any]:
    return {
        "id": FLOW,
        "workflow_slug": "text-to-image",
        "version": version,
        "parameters": [{"key": "prompt", "type": "string", "required": True}],
        **more,
    }


@pytest.mark.parametrize(
    ("name", "slug", "path"),
    [
        pytest.param("text-to-image", None, "/r/workflows/slug/text-to-image", id="slug"),
        pytest.param("text-to-image@2", None, "/r/workflows/slug/text-to-image@2", id="pinned"),
        pytest.param(FLOW, None, f"/r/workflows/{FLOW}", id="id"),
        pytest.param(UUID(FLOW), None, f"/r/workflows/{FLOW}", id="UUID"),
        pytest.param(FLOW, True, f"/r/workflows/slug/{FLOW}", id="forced-slug"),
        pytest.param(Workflow(id=FLOW), None, f"/r/workflows/{FLOW}", id="workflow"),
    ],
)
async def test_a_workflow_is_fetched_by_any_name(name: Any, slug: bool | None, path: str) -> None:
    """A slug, a pinned version, an id, and a workflow itself name a workflow."""
    service = FakeService()
    service.on("GET", path, flow())

    async with service.client() as client:
        found = await client.workflows.get(name, slug=slug)

    assert (found.id, found.slug) == (FLOW, "text-to-image")
    assert found.parameters == (ParameterDef(key="prompt", type="string", required=True),)


async def test_a_workflow_that_was_pinned_is_run_pinned() -> None:
    """A workflow runs by its id, and one fetched with a version in that version."""
    service = FakeService()
    service.on("GET", "/r/workflows/slug/text-to-image", flow())
    service.on("GET", "/r/workflows/slug/text-to-image@2", flow(2))
    service.on("POST", f"/r/workflows/{FLOW}/run", {"task_id": TASK}, 202)
    service.on("POST", "/r/workflows/slug/text-to-image@2/run", {"task_id": TASK}, 202)

    async with service.client() as client:
        await client.submit(await client.workflows.get("text-to-image"), {"prompt": "a"})
        await client.submit(await client.workflows.get("text-to-image@2"), {"prompt": "a"})

    assert [one.url.path.rpartition("/r/")[2] for one in service.asked("POST", "/run")] == [
        f"workflows/{FLOW}/run",
        "workflows/slug/text-to-image@2/run",
    ]


@pytest.mark.parametrize(
    ("workflow", "arguments", "is_refused", "asked"),
    [
        pytest.param("text-to-image", {}, False, 1, id="no-definition"),
        pytest.param("text-to-image", {"validate": True}, True, 1, id="fetched"),
        pytest.param(
            "text-to-image",
            {"definition": Workflow(id=FLOW, parameters=())},
            True,
            0,
            id="definition-given",
        ),
        pytest.param(Workflow(id=FLOW, parameters=()), {}, True, 0, id="workflow-itself"),
        pytest.param(
            Workflow(id=FLOW, parameters=()), {"validate": False}, False, 1, id="not-wanted"
        ),
        pytest.param(Workflow(id=FLOW), {"validate": True}, True, 1, id="workflow-without-any"),
    ],
)
async def test_parameters_are_checked_where_the_definition_is_at_hand(
    workflow: Any, arguments: dict[str, Any], is_refused: bool, asked: int
) -> None:
    """Nothing is submitted that a definition at hand, or one to be fetched, forbids."""
    service = FakeService()
    service.on("GET", "/r/workflows/slug/text-to-image", flow())
    service.on("GET", f"/r/workflows/{FLOW}", flow())
    service.on("POST", "/r/workflows/slug/text-to-image/run", {"task_id": TASK}, 202)
    service.on("POST", f"/r/workflows/{FLOW}/run", {"task_id": TASK}, 202)

    async with service.client() as client:
        try:
            await client.submit(workflow, {"promt": "a fox"}, **arguments)
        except ParameterError:
            assert is_refused

    assert len(service.asked("POST", "/run")) == (0 if is_refused else 1)
    assert len(service.requests) == asked


# Webhooks


async def test_the_secret_of_a_new_webhook_is_fetched_where_it_was_not_reported() -> None:
    """Creating answers the secret or not; the caller gets it either way."""
    service = FakeService()
    service.on("POST", "/webhooks", {"id": HOOK})
    service.on("GET", f"/webhooks/{HOOK}", {"id": HOOK, "webhook_secret": "whsec_a"})

    async with service.client() as client:
        fetched = await client.webhooks.create("mine", "https://example.test/hook")
        service.on("POST", "/webhooks", {"id": HOOK, "webhook_secret": "whsec_b"})
        created = await client.webhooks.create("mine", "https://example.test/hook")

    assert [fetched.secret, created.secret] == ["whsec_a", "whsec_b"]
    assert len(service.asked("GET", HOOK)) == 1


async def test_creating_a_webhook_is_not_repeated() -> None:
    """A lost answer is not asked for again, as two webhooks would deliver twice."""
    service = FakeService()
    service.on("POST", "/webhooks", {}, 503)

    async with service.client() as client:
        with pytest.raises(ServiceUnavailableError):
            await client.webhooks.create("mine", "https://example.test/hook")

    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("status", "kind"), [(401, AuthenticationError), (403, PermissionDeniedError)]
)
async def test_a_refused_key_gets_what_webhooks_need(status: int, kind: type[Exception]) -> None:
    """A refusal names the credentials that manage webhooks."""
    service = FakeService()
    service.on("GET", f"/webhooks/{HOOK}", {"error_message": "no"}, status)

    async with service.client() as client:
        with pytest.raises(kind, match="device key") as caught:
            await client.webhooks.get(HOOK)

    assert "no" in str(caught.value)


async def test_only_what_is_given_is_changed() -> None:
    """An update sends the fields given and no others."""
    service = FakeService()
    service.on("PUT", f"/webhooks/{HOOK}", {"id": HOOK})

    async with service.client() as client:
        changed = await client.webhooks.update(HOOK, status="disabled")
        with pytest.raises(InvalidInputError, match="nothing"):
            await client.webhooks.update(HOOK)

    assert changed == HOOK
    assert service.requests[0].content == b'{"webhook_status": "disabled"}'


# Raw requests


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda c: c.request("GET", "https://evil.test/"), id="whole-address"),
        pytest.param(lambda c: c.request("GET", "//evil.test/"), id="other-host"),
        pytest.param(lambda c: c.request("GET", "/r/../admin"), id="step-up"),
        pytest.param(lambda c: c.request("GET", "/r/%2e%2e/admin"), id="encoded-step-up"),
        pytest.param(lambda c: c.request("GET", "/r/x?y=1"), id="query"),
        pytest.param(lambda c: c.request("GET", "/r/x\r\nX: y"), id="line-end"),
        pytest.param(lambda c: c.request("GE T", "/r/x"), id="method"),
        pytest.param(lambda c: c.request("GET", None), id="no-path"),
        pytest.param(lambda c: c.request("GET", "/r/x", params={"a": {"b": 1}}), id="params"),
        pytest.param(lambda c: c.request("POST", "/r/x", json=object()), id="json"),
        pytest.param(lambda c: c.request("POST", "/r/x", json=float("nan")), id="nan"),
    ],
)
async def test_a_raw_request_stays_below_the_base_url(call: Callable[[CyberunClient], Any]) -> None:
    """What would lead elsewhere, or is no request, is refused and nothing is sent."""
    service = FakeService()

    async with service.client() as client:
        with pytest.raises(InvalidInputError):
            await call(client)

    assert service.requests == []


async def test_a_raw_request_has_key_query_and_body() -> None:
    """What is not wrapped yet is asked with the same key, and answered as sent."""
    service = FakeService()
    service.on("POST", "/r/invoke/fox", {"ok": True})

    async with service.client() as client:
        reply = await client.request("post", "/r/invoke/fox", params={"n": [1, 2]}, json={"a": 1})

    sent = service.requests[0]
    assert reply.body == b'{"ok": true}'
    assert sent.headers["authorization"].startswith("Bearer sk-")
    assert (sent.url.query, sent.content) == (b"n=1&n=2", b'{"a": 1}')
