"""The service over HTTPS: handshakes that fail or never end hold up nothing."""

import socket
import ssl
from collections.abc import Iterator

import httpx
import pytest
import trustme

from cyberun_async.testing import Simulator, TaskPlan, faults

from .conftest import Reader
from .test_stream import wait_until


@pytest.fixture(scope="module", name="authority")
def _authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(name="trusting")
def _trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def sim(authority: trustme.CA) -> Iterator[Simulator]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Simulator(speed=50, seed=7, tls=context) as sim:
        yield sim


@pytest.fixture
def http(sim: Simulator, trusting: ssl.SSLContext) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {sim.key}"}
    with httpx.Client(base_url=sim.url, headers=headers, trust_env=False, verify=trusting) as http:
        yield http


def address_of(sim: Simulator) -> tuple[str, int]:
    url = httpx.URL(sim.url)
    assert url.port is not None
    return url.host, url.port


def test_everything_is_served_over_https(
    sim: Simulator, reader: Reader, trusting: ssl.SSLContext
) -> None:
    """Requests, streams and files alike; links lead to HTTPS, too."""
    task = reader.run(steps=1)

    assert reader.read(task)[-1][0] == "completed"
    link = reader.get(f"/r/tasks/{task}/result")["download_url"]
    assert link.startswith("https://127.0.0.1:")
    assert link.startswith(sim.store_url)
    picture = httpx.get(link, verify=trusting, trust_env=False)
    assert picture.content.startswith(b"\x89PNG")


def test_without_trust_there_is_no_answer(sim: Simulator) -> None:
    """A client that does not know the authority gets nowhere."""
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{sim.url}/r/tasks", trust_env=False)
    assert sim.requests == []
    wait_until(lambda: sim.open_connections == 0)


def test_faults_cut_within_tls(sim: Simulator, reader: Reader) -> None:
    """A dropped stream ends without TLS's own farewell, as a lost connection does."""
    live = sim.create_task(TaskPlan(steps=3000, faults=(faults.drop_after(events=2),)))

    reader.read(live.id)

    assert isinstance(reader.error, httpx.TransportError)
    assert reader.read(live.id)[-1][0] == "completed"


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_handshake_that_does_not_happen_is_counted_and_cut(
    sim: Simulator, reader: Reader, first: bytes
) -> None:
    """Who says nothing, half a hello or no TLS at all holds up neither others nor the end."""
    with socket.create_connection(address_of(sim), timeout=5) as line:
        line.sendall(first)
        if not first.startswith(b"GET"):
            wait_until(lambda: sim.open_connections >= 1)
        assert "task_list" in reader.get("/r/tasks")
        sim.kill()
        try:
            while line.recv(4096):
                pass
        except ConnectionResetError:
            pass
    assert sim.open_connections == 0


def test_a_client_that_leaves_in_the_handshake_is_forgotten(sim: Simulator) -> None:
    """Its connection is counted no longer."""
    for _ in range(20):
        with socket.create_connection(address_of(sim), timeout=5) as line:
            line.sendall(b"\x16\x03")
    wait_until(lambda: len(sim.accepts_per_window(60)) > 0 and sim.open_connections == 0)


def test_requests_sent_with_the_handshake_are_read(
    sim: Simulator, trusting: ssl.SSLContext
) -> None:
    """The last of the handshake and the first of the request may come in one piece."""
    request = f"GET /api/v1/r/tasks HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sim.key}\r\n\r\n"
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secure = trusting.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(address_of(sim), timeout=5) as line:
        while True:
            try:
                secure.do_handshake()
                break
            except ssl.SSLWantReadError:
                line.sendall(outgoing.read())
                incoming.write(line.recv(65536))
        secure.write(request.encode())
        line.sendall(outgoing.read())
        answer = b""
        while b"task_list" not in answer:
            try:
                answer += secure.read(65536)
            except ssl.SSLWantReadError:
                incoming.write(line.recv(65536))
    assert answer.startswith(b"HTTP/1.1 200")


def test_over_https_the_service_comes_back_as_well(sim: Simulator, reader: Reader) -> None:
    """After a restart the same port serves the same tasks with the same certificate."""
    task, url = reader.run(steps=1), sim.url
    sim.kill()
    with pytest.raises(httpx.TransportError):
        reader.get(f"/r/tasks/{task}")
    sim.restart()

    assert sim.url == url
    assert reader.get(f"/r/tasks/{task}")["id"] == task
