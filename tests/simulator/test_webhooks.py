"""Webhooks: their management and their delivery."""

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping

import anyio
import httpx
import pytest

from cyberun_async.testing import Behaviour, Simulator, TaskPlan, VirtualClockLoop

from . import samples
from .samples import shape


BODY = {
    "display_name": "Ours",
    "webhook_url": "https://example.test/hook",
    "webhook_events": ["task.completed"],
}


@pytest.fixture
def manager(sim: Simulator) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {sim.jwt}", "X-Team-ID": sim.team_id}
    with httpx.Client(base_url=sim.url, headers=headers, trust_env=False, verify=False) as client:
        yield client


def test_a_webhook_is_written_as_documented(manager: httpx.Client) -> None:
    """Creating answers the id, reading everything with the secret."""
    created = manager.post("/webhooks", json=BODY).json()
    view = manager.get(f"/webhooks/{created['id']}").json()

    assert {"id"} == set(created)
    assert shape(samples.WEBHOOK) == shape(view)
    assert view["webhook_secret"].startswith("whsec_")


def test_a_webhook_can_be_changed_rotated_and_removed(manager: httpx.Client) -> None:
    """Changes keep the rest, rotation replaces the secret, removal is final."""
    path = "/webhooks/" + manager.post("/webhooks", json=BODY).json()["id"]
    before = manager.get(path).json()
    manager.put(path, json={"display_name": "Theirs"})
    secret = manager.post(path + "/rotate-secret").json()["webhook_secret"]
    after = manager.get(path).json()

    assert {**before, "display_name": "Theirs", "webhook_secret": secret} == after
    assert secret != before["webhook_secret"]
    assert len(manager.get("/webhooks").json()["webhook_list"]) == 1
    assert [manager.delete(path).status_code, manager.get(path).status_code] == [204, 404]


@pytest.mark.parametrize(
    "change",
    [
        {"webhook_url": "http://example.test/"},
        {"webhook_url": "https://x/" + "a" * 2048},
        {"webhook_events": []},
        {"webhook_events": ["task.cancelled"]},
        {"display_name": ""},
    ],
)
def test_a_webhook_has_rules(manager: httpx.Client, change: dict[str, object]) -> None:
    """Targets are https, events known and at least one, names not empty."""
    assert manager.post("/webhooks", json={**BODY, **change}).status_code == 400


def test_a_change_is_made_whole_or_not_at_all(manager: httpx.Client) -> None:
    """A refused change leaves the fields that would have been accepted as they were."""
    path = "/webhooks/" + manager.post("/webhooks", json=BODY).json()["id"]
    refused = manager.put(path, json={"display_name": "Theirs", "webhook_url": "http://a.test/"})

    assert refused.status_code == 400
    assert manager.get(path).json()["display_name"] == "Ours"


def test_creating_may_tell_the_secret(sim: Simulator, manager: httpx.Client) -> None:
    """With the switch on, the secret comes with the creation."""
    sim.behaviour = Behaviour(webhook_secret_on_create=True)

    assert "webhook_secret" in manager.post("/webhooks", json=BODY).json()


async def test_the_end_of_a_task_is_delivered_with_a_signature() -> None:
    """A real receiver gets the documented body, signed over its raw bytes."""
    got: list[bytes] = []
    secret = ""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)

        async def receive(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                request = b""
                while b"}" not in request:
                    request += await stream.receive()
                got.append(request)
                await stream.send(b"HTTP/1.1 204 No Content\r\n\r\n")

        async with Simulator() as sim, anyio.create_task_group() as group:
            group.start_soon(listener.serve, receive)
            secret = await hook(sim, f"http://127.0.0.1:{port}/hook?a=b")
            sim.create_task(manual=True).complete()
            with anyio.fail_after(5):
                while not sim.deliveries:
                    await anyio.sleep(0.01)
            group.cancel_scope.cancel()

    head, _, body = got[0].partition(b"\r\n\r\n")
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    assert head.startswith(b"POST /hook?a=b HTTP/1.1\r\n")
    assert f"X-Webhook-Signature-256: sha256={digest}".encode() in head
    assert shape(samples.WEBHOOK_COMPLETED) == shape(json.loads(body))
    assert sim.deliveries[0].status == 204


async def hook(sim: Simulator, url: str) -> str:
    headers = {"Authorization": f"Bearer {sim.device_key}"}
    async with httpx.AsyncClient(
        base_url=sim.url, headers=headers, trust_env=False, verify=False
    ) as client:
        body = {
            "display_name": "Ours",
            "webhook_url": url,
            "webhook_events": ["task.completed", "task.failed"],
        }
        created = (await client.post("/webhooks", json=body)).raise_for_status().json()
        view = (await client.get(f"/webhooks/{created['id']}")).json()
        secret: str = view["webhook_secret"]
        return secret


class TestInVirtualTime:
    """Deliveries by the clock of the documentation: at once, after 5, 30 and 120 seconds."""

    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, object]]:
        return "asyncio", {"loop_factory": VirtualClockLoop}

    async def test_deliveries_are_tried_four_times(self) -> None:
        """Anything but a 2xx is tried again, with the documented spacing."""
        # What a sender made of httpx raises is no OSError.
        answers: list[int | Exception] = [500, httpx.ConnectError("refused"), 302, 503]

        async def send(url: str, headers: Mapping[str, str], body: bytes) -> int:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        sim = Simulator(webhook_sender=send)
        await self.deliver(sim, TaskPlan(outcome="failed"))
        times = [one.at - sim.deliveries[0].at for one in sim.deliveries]

        assert [round(at) for at in times] == [0, 5, 35, 155]
        assert [one.status for one in sim.deliveries] == [500, None, 302, 503]
        assert shape(samples.WEBHOOK_FAILED) == shape(json.loads(sim.deliveries[0].body))

    @pytest.mark.parametrize("attempts", [1, 3, 4])
    async def test_deliveries_are_tried_as_often_as_the_switch_says(self, attempts: int) -> None:
        """The documentation names four attempts; a program may prepare for another number."""

        async def send(url: str, headers: Mapping[str, str], body: bytes) -> int:
            return 500

        sim = Simulator(webhook_sender=send, behaviour=Behaviour(webhook_attempts=attempts))
        await self.deliver(sim, TaskPlan())

        assert len(sim.deliveries) == attempts

    async def test_a_delivered_event_is_not_sent_again(self) -> None:
        """A 2xx ends the attempts; a cancelled task is asked to nobody."""

        async def send(url: str, headers: Mapping[str, str], body: bytes) -> int:
            return 200

        sim = Simulator(webhook_sender=send)
        await self.deliver(sim, TaskPlan(), TaskPlan(outcome="cancelled"))

        assert [one.event_type for one in sim.deliveries] == ["task.completed"]

    async def deliver(self, sim: Simulator, *plans: TaskPlan) -> None:
        from cyberun_async.testing import StreamingASGITransport

        headers = {"Authorization": f"Bearer {sim.device_key}"}
        async with (
            httpx.AsyncClient(
                transport=StreamingASGITransport(sim.app), base_url=sim.url, headers=headers
            ) as client,
            anyio.create_task_group() as group,
        ):
            body = {**BODY, "webhook_events": ["task.completed", "task.failed"]}
            (await client.post("/webhooks", json=body)).raise_for_status()
            for plan in plans:
                sim.create_task(plan)
            group.start_soon(sim.run_webhooks)
            await anyio.sleep(300)
            group.cancel_scope.cancel()
