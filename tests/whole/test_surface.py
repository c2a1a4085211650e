"""
Lists, files, webhooks and refusals against the simulator, on both sides of each silence.

Watching on both sides is in ``test_silences.py``; ``docs/api-coverage.md`` names all of these.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from cyberun_async import (
    ClientStateError,
    CompletedEvent,
    CyberunClient,
    Limits,
    NotFoundError,
    ParameterError,
    PermissionDeniedError,
    RateLimitedError,
    RequestRejectedError,
    TaskNotFoundError,
    TransferError,
    WaitTimeoutError,
)
from cyberun_async._model import WebhookEvent
from cyberun_async.testing import Behaviour, Simulator, StreamingASGITransport, TaskPlan, faults
from cyberun_async.webhooks._endpoint import WebhookEndpoint

from .kit import SLOW, VIRTUAL, ended_watch, virtual_backend, virtual_client


PROMPT: Final = {"prompt": "a fox"}
TARGET: Final = "https://hooks.test/cyberun"


@pytest.fixture(params=VIRTUAL)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return virtual_backend(request.param)


@pytest.fixture
def sim() -> Simulator:
    return Simulator(seed=7, default_plan=SLOW)


def behaving(sim: Simulator, **switches: Any) -> Simulator:
    sim.behaviour = Behaviour(**switches)
    return sim


# --- workflows ---------------------------------------------------------------------------


async def test_the_lists_of_the_service_are_read(sim: Simulator) -> None:
    """Workflows, tasks and agents come as values, page by page."""
    ids = {sim.create_task().id for _ in range(5)}
    async with virtual_client(sim) as client:
        slugs = {one.slug async for one in client.workflows.list(per_page=2)}
        tasks = {one.id async for one in client.tasks.list(per_page=2)}
        agents = [one async for one in client.agents.list()]

    assert "text-to-image" in slugs
    assert tasks == ids
    assert all(agent.id and agent.status for agent in agents)
    assert agents


async def test_a_workflow_is_had_by_every_name(sim: Simulator) -> None:
    """A slug, a pinned slug and an id lead to the same workflow."""
    async with virtual_client(sim) as client:
        by_slug = await client.workflows.get("text-to-image")
        by_id = await client.workflows.get(by_slug.id)
        pinned = await client.workflows.get(f"text-to-image@{by_slug.version}")

    assert by_slug == by_id
    assert (pinned.id, pinned.version, pinned.pinned) == (by_slug.id, by_slug.version, True)


async def test_a_definition_without_types_checks_what_it_says(sim: Simulator) -> None:
    """A parameter without a type takes anything; a whole number may be called either way."""
    sim.add_workflow(
        "odd-one", [{"key": "a", "required": True}, {"key": "b", "type": "integer", "max": 5}]
    )
    async with virtual_client(sim) as client:
        await client.submit("odd-one", {"a": [1, {"x": None}], "b": 5}, validate=True)
        with pytest.raises(ParameterError) as caught:
            await client.submit("odd-one", {"b": 6.5}, validate=True)

    assert len(caught.value.faults) == 2
    assert len(sim.submissions) == 1


async def test_a_slug_is_never_remembered_as_an_id(sim: Simulator) -> None:
    """Each submission names the slug, as another key's team may mean another workflow by it."""
    async with virtual_client(sim) as client:
        await client.workflows.get("text-to-image")
        for _ in range(2):
            await client.submit("text-to-image", PROMPT)

    assert [one.path.split("/r/")[1] for one in sim.requests_to("run")] == [
        "workflows/slug/text-to-image/run"
    ] * 2


@pytest.mark.parametrize("team", ["0197d000-0000-7000-8000-000000000001", "team_01HX"])
async def test_a_team_may_be_named_in_any_form(team: str) -> None:
    """The id of a team is passed on as it is."""
    sim = Simulator(seed=7, team_id=team)
    async with virtual_client(sim, sim.jwt, team_id=team) as client:
        await client.submit("text-to-image", PROMPT)

    assert sim.team_id == team
    assert sim.requests[-1].headers["x-team-id"] == team


# --- tasks -------------------------------------------------------------------------------


async def test_a_nerfstudio_task_tells_its_stages(sim: Simulator) -> None:
    """Tasks of the other tool are followed alike, and say in which stage they are."""
    sim.add_workflow("scan", [], tool_type="nerfstudio")
    async with virtual_client(sim) as client:
        task = await client.submit("scan", {})
        watched = await ended_watch(client, task)

    assert isinstance(watched.end, CompletedEvent)
    assert {"train"} <= {event.stage for event in watched.progress}


@pytest.mark.parametrize("state", ["waiting", "queued"])
async def test_a_task_that_no_agent_takes_is_given_up_when_asked_to(
    sim: Simulator, state: str
) -> None:
    """No cause is read into the state; the caller's own limit ends the wait."""
    sim.plan(TaskPlan(forever_waiting=True) if state == "waiting" else TaskPlan(queued=1e9))
    async with virtual_client(sim) as client:
        task = await client.submit("text-to-image", PROMPT)
        with pytest.raises(WaitTimeoutError) as caught:
            await client.wait(task, start_timeout=600)

    assert caught.value.snapshot is not None
    assert caught.value.snapshot.status == state


@pytest.mark.parametrize("early", ["nulls", "conflict"])
async def test_a_result_asked_for_early_is_nothing_or_refused(
    sim: Simulator, early: Literal["nulls", "conflict"]
) -> None:
    """A record without output, or the service's refusal."""
    behaving(sim, early_result=early)
    live = sim.create_task(manual=True)
    async with virtual_client(sim) as client:
        if early == "nulls":
            record = await client.raw_result(live.id)
            assert (record.output, record.links) == (None, ())
        else:
            with pytest.raises(RequestRejectedError) as caught:
                await client.raw_result(live.id)
            assert caught.value.status == 409


@pytest.mark.parametrize("status", [403, 404])
async def test_another_teams_task_is_a_typed_error(sim: Simulator, status: int) -> None:
    """Whether the service hides it or refuses it, the error says which."""
    live = sim.create_task(manual=True)
    sim.faults.add("task", faults.refuse(status), times=None)
    sim.faults.add("events", faults.refuse(status), times=None)
    expected = TaskNotFoundError if status == 404 else PermissionDeniedError
    async with virtual_client(sim) as client:
        with pytest.raises(expected):
            await client.tasks.get(live.id)
        with pytest.raises(expected):
            await client.wait(live.id)
        watched = await ended_watch(client, live.id)

    assert type(watched.error) is expected


LIST_SIDES: Final = [
    *({"list_order": order} for order in ("newest", "oldest", "shuffled")),
    *({"total_count_error": error} for error in (0, 5)),
    *({"row_shift": shift} for shift in (0, 3)),
]


@pytest.mark.parametrize("side", LIST_SIDES, ids=str)
async def test_a_list_has_each_task_once(sim: Simulator, side: dict[str, Any]) -> None:
    """Whatever the order and the count; rows that move while it is read are not reported twice."""
    behaving(sim, **side)
    ids = [sim.create_task().id for _ in range(25)]
    async with virtual_client(sim) as client:
        listed = [one.id async for one in client.tasks.list(per_page=10)]

    assert len(listed) == len(set(listed))
    assert set(listed) <= set(ids)
    if side.get("list_order") != "shuffled" and not side.get("row_shift"):
        assert len(listed) == len(ids)


@pytest.mark.parametrize("ignored", [True, False])
async def test_a_filter_holds_on_every_side(sim: Simulator, ignored: bool) -> None:
    """A filter the service ignores is applied here; one it refuses is a typed error."""
    behaving(sim, filter_ignored=ignored, refused_filters=frozenset({"waiting"}))
    live = sim.create_task(manual=True)
    live.status("running")
    sim.create_task(manual=True)
    async with virtual_client(sim) as client:
        running = [one.id async for one in client.tasks.list(status="running")]
        with pytest.raises(RequestRejectedError):
            _ = [one async for one in client.tasks.list(status="waiting")]

    assert running == [live.id]


async def test_a_run_that_is_not_wanted_is_a_typed_error(sim: Simulator) -> None:
    """A disabled workflow, a quota used up: status and words of the service are reported."""
    sim.add_workflow("retired", [], status="disabled")
    async with virtual_client(sim) as client:
        with pytest.raises(RequestRejectedError, match="disabled"):
            await client.submit("retired", {})
        sim.faults.add("run", faults.refuse(403, "task quota exceeded"))
        with pytest.raises(PermissionDeniedError, match="quota"):
            await client.submit("text-to-image", PROMPT)
        sim.faults.add("run", faults.refuse(429, "slow down", retry_after=9999))
        with pytest.raises(RateLimitedError) as caught:
            await client.submit("text-to-image", PROMPT)
        with pytest.raises(NotFoundError):
            await client.submit("no-such-workflow", {})

    assert caught.value.retry_after == 9999
    assert sim.submissions == []


# --- files -------------------------------------------------------------------------------


@pytest.mark.parametrize("signed", ["documented", "none"])
async def test_a_file_arrives_whatever_headers_are_signed(
    sim: Simulator, signed: Literal["documented", "none"]
) -> None:
    """Exactly the headers that came back are sent, and the length always."""
    behaving(sim, upload_headers=signed)
    async with virtual_client(sim) as client:
        uploaded = await client.files.upload(b"\x89PNG" * 1000, name="fox.png")

    sent = sim.requests_to("upload")[-1].headers
    assert sim.uploads[uploaded.key].content == b"\x89PNG" * 1000
    assert sent.get("if-none-match") == ("*" if signed == "documented" else None)
    assert sent["content-length"] == "4000"
    assert "authorization" not in sent
    asked = json.loads(sim.requests_to("presign")[-1].body)
    assert asked == {"file_name": "fox.png", "file_size": 4000, "content_type": "image/png"}


async def test_an_upload_whose_address_expired_is_presigned_once_more(sim: Simulator) -> None:
    """The store refuses the address; another is asked for, once."""
    sim.faults.add("upload", faults.refuse(403, body="<Error>expired</Error>"))
    async with virtual_client(sim) as client:
        uploaded = await client.files.upload(b"abc", name="a.png")
        sim.faults.add("upload", faults.refuse(403), times=2)
        with pytest.raises(TransferError, match="403"):
            await client.files.upload(b"abc", name="b.png")

    assert sim.uploads[uploaded.key].content == b"abc"
    assert len(sim.requests_to("presign")) == 4


async def test_a_file_above_the_limit_is_refused_here_or_there() -> None:
    """Above the setting nothing is sent; above the service's own limit its words are reported."""
    sim = Simulator(seed=7, max_file_size=10)
    async with virtual_client(sim, limits=Limits(max_upload_bytes=100)) as client:
        with pytest.raises(TransferError, match="multipart"):
            await client.files.upload(bytes(101), name="a.bin")
        assert sim.requests == []
        with pytest.raises(RequestRejectedError, match="exceeds"):
            await client.files.upload(bytes(11), name="a.bin")


# --- webhooks ----------------------------------------------------------------------------


@pytest.mark.parametrize("reported", [True, False], ids=["reported", "not-reported"])
@pytest.mark.parametrize("kind", ["dk", "jwt"])
async def test_a_webhook_lives_its_life(sim: Simulator, reported: bool, kind: str) -> None:
    """Created, read, changed and rotated, whether or not creating tells the secret."""
    behaving(sim, webhook_secret_on_create=reported)
    key: dict[str, Any] = {"api_key": sim.device_key}
    if kind == "jwt":
        key = {"api_key": sim.jwt, "team_id": sim.team_id}
    async with virtual_client(sim, **key) as client:
        created = await client.webhooks.create("mine", TARGET)
        read = await client.webhooks.get(created.id)
        assert read.secret == created.secret
        assert await client.webhooks.update(created.id, display_name="ours") == created.id
        rotated = await client.webhooks.rotate_secret(created.id)
        assert rotated != created.secret
        read = await client.webhooks.get(created.id)

    assert (read.display_name, read.secret, read.url) == ("ours", rotated, TARGET)
    assert read.raw_json()["display_name"] == "ours"


@pytest.mark.parametrize("takes", [True, False])
async def test_an_integration_key_may_manage_webhooks_or_gets_what_may(
    sim: Simulator, takes: bool
) -> None:
    """It is tried; a refusal says which key is needed."""
    behaving(sim, management_takes_integration_keys=takes)
    async with virtual_client(sim) as client:
        if takes:
            assert (await client.webhooks.create("mine", TARGET)).secret
        else:
            with pytest.raises(RequestRejectedError, match="device key"):
                await client.webhooks.create("mine", TARGET)


def receiver(application: Starlette) -> Any:
    """Return what posts deliveries to *application*, in process."""

    async def send(url: str, headers: Mapping[str, str], body: bytes) -> int:
        transport = StreamingASGITransport(application)
        async with httpx.AsyncClient(transport=transport) as http:
            return (await http.post(url, headers=dict(headers), content=body)).status_code

    return send


async def deliveries(fails: int) -> tuple[Simulator, list[WebhookEvent]]:
    """Let a task end whose event the callback takes after *fails* failures."""
    taken: list[WebhookEvent] = []
    secrets: list[str] = []
    left = [fails]

    async def take(event: WebhookEvent) -> None:
        if left[0]:
            left[0] -= 1
            raise RuntimeError("not now")
        taken.append(event)

    async def send(url: str, headers: Mapping[str, str], body: bytes) -> int:
        # Ages are checked elsewhere: the service's clock is virtual, the endpoint's is not.
        endpoint = WebhookEndpoint(secrets[0], take, tolerance=None)
        application = Starlette(routes=[Route("/cyberun", endpoint)])
        status: int = await receiver(application)(url, headers, body)
        return status

    sim = Simulator(seed=7, default_plan=SLOW, webhook_sender=send)
    async with virtual_client(sim, sim.device_key) as client, anyio.create_task_group() as group:
        created = await client.webhooks.create("mine", TARGET)
        secrets.append(created.secret or "")
        group.start_soon(sim.run_webhooks)
        await client.wait(await client.submit("text-to-image", PROMPT))
        await anyio.sleep(200)
        group.cancel_scope.cancel()
    return sim, taken


async def test_a_delivery_of_the_service_reaches_a_starlette_application() -> None:
    """What the service signs is verified by the mounted endpoint, and taken once."""
    sim, taken = await deliveries(fails=0)

    assert [event.event_type for event in taken] == ["task.completed"]
    assert [one.status for one in sim.deliveries] == [200]
    assert taken[0].task_output is not None


async def test_a_delivery_that_failed_is_taken_when_it_comes_again() -> None:
    """A callback that fails is answered with 500, and asked again by the next attempt."""
    sim, taken = await deliveries(fails=2)

    assert [event.event_type for event in taken] == ["task.completed"]
    assert [one.status for one in sim.deliveries] == [500, 500, 200]


# --- clients of the user's own -----------------------------------------------------------


async def test_an_injected_client_serves_plain_requests_only(sim: Simulator) -> None:
    """Requests of the API go through it, hooks and all; streams and files do not, nor its ways."""
    hooked: list[str] = []

    async def hook(request: httpx.Request) -> None:
        hooked.append(request.url.path.partition("/r/")[2].split("/")[0])
        assert request.headers.get("x-mine") is None
        assert "cookie" not in request.headers
        assert request.headers["authorization"].startswith("Bearer sk-")

    transport = StreamingASGITransport(sim.app)
    http = httpx.AsyncClient(
        transport=transport,
        headers={"X-Mine": "1"},
        cookies={"a": "b"},
        auth=("me", "s3cret"),
        event_hooks={"request": [hook]},
    )
    async with http:
        async with virtual_client(sim, http_client=http) as client:
            task = await client.submit("text-to-image", PROMPT)
            await ended_watch(client, task)
            await (await client.result(task))[0].read()
        assert not http.is_closed

    endpoints = {one.endpoint for one in sim.requests}
    assert {"events", "download"} <= endpoints
    plain = [one for one in sim.requests if one.endpoint not in {"events", "download"}]
    assert len(hooked) == len(plain)


def _hooked_client(sim: Simulator, hook: Callable[[httpx.Response], Any]) -> httpx.AsyncClient:
    transport = StreamingASGITransport(sim.app)
    return httpx.AsyncClient(transport=transport, event_hooks={"response": [hook]})


async def _raise_for_status(response: httpx.Response) -> None:
    response.raise_for_status()


async def _read(response: httpx.Response) -> None:
    await response.aread()


async def _read_and_raise(response: httpx.Response) -> None:
    await response.aread()
    response.raise_for_status()


@pytest.mark.parametrize("hook", [_raise_for_status, _read, _read_and_raise])
@pytest.mark.parametrize("endpoint", ["task", "result"])
async def test_hooks_that_raise_or_read_change_no_answer(
    sim: Simulator, hook: Callable[[httpx.Response], Any], endpoint: faults.Endpoint
) -> None:
    """A status that a hook raises for means what it says, and what it read is read again."""
    sim.faults.add("events", faults.refuse(405), times=None)
    sim.faults.add(endpoint, faults.refuse(503), times=1)
    live = sim.create_task(SLOW)
    async with _hooked_client(sim, hook) as http, virtual_client(sim, http_client=http) as client:
        with anyio.fail_after(600):
            watched = await ended_watch(client, live.id)
            with pytest.raises(TaskNotFoundError):
                await client.tasks.get("0197a000-0000-7000-8000-00000000dead")

    assert isinstance(watched.end, CompletedEvent)
    assert watched.end.output is not None


async def test_a_hook_that_fails_ends_the_watch_with_its_error(sim: Simulator) -> None:
    """What a hook raises is asked to who waits for that task; the client lives on."""

    async def faulty(response: httpx.Response) -> None:
        if response.request.url.path.endswith(broken.id):
            raise LookupError("mine")

    broken, other = sim.create_task(SLOW), sim.create_task(SLOW)
    async with _hooked_client(sim, faulty) as http, virtual_client(sim, http_client=http) as client:
        with anyio.fail_after(600):
            with pytest.raises(ClientStateError, match="mine") as caught:
                await client.wait(broken.id)
            snapshot = await client.wait(other.id)

    assert isinstance(caught.value.__cause__, LookupError)
    assert snapshot.status == "completed"


async def test_an_injected_client_that_was_closed_is_named(sim: Simulator) -> None:
    """Requests after its end say what to do, and nobody waits for an answer."""
    live = sim.create_task(SLOW)
    http = httpx.AsyncClient(transport=StreamingASGITransport(sim.app))
    async with virtual_client(sim, http_client=http) as client:
        await http.aclose()
        with anyio.fail_after(600):
            with pytest.raises(ClientStateError, match="http_client"):
                await client.tasks.get(live.id)
            with pytest.raises(ClientStateError, match="http_client"):
                await client.wait(live.id)


async def test_the_second_name_of_the_key_in_the_environment_will_do(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`CYBERUN_KEY` is read where `CYBERUN_API_KEY` is not set, or empty."""
    monkeypatch.setenv("CYBERUN_API_KEY", "")
    monkeypatch.setenv("CYBERUN_KEY", sim.key)
    monkeypatch.setenv("CYBERUN_BASE_URL", sim.url)
    client = CyberunClient(transport_factory=lambda: StreamingASGITransport(sim.app))
    async with client:
        await client.submit("text-to-image", PROMPT)

    assert sim.requests[-1].headers["authorization"] == f"Bearer {sim.key}"
