"""Fetching files against a store of canned answers that breaks, expires and lies."""

import errno
import gzip
import os
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from cyberun_async import (
    ClientStateError,
    CyberunClient,
    InvalidInputError,
    RequestRejectedError,
    TaskResult,
    TransferError,
)
from cyberun_async._transfer import allows_http, may_fetch

from ..fake_service import QUICK, TASK, FakeService


STORE = "https://store.test/out.png"
CONTENT = bytes(range(256)) * 1000


class Body(httpx.AsyncByteStream):
    """Pieces, and then an end in good order, a break, or nothing at all."""

    def __init__(
        self, content: bytes, *, breaks: bool = False, hangs: bool = False, size: int = 10_000
    ) -> None:
        self._pieces = iter([content[n : n + size] for n in range(0, len(content), size)])
        self._breaks = breaks
        self._hangs = hangs

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        for piece in self._pieces:
            return piece
        if self._breaks:
            raise httpx.ReadError("reset")
        if self._hangs:
            await anyio.sleep_forever()
        raise StopAsyncIteration


class Store:
    """One file, and for each request what goes wrong with it."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.tag = '"a"'
        self.ranges = True
        self.script: list[Any] = []
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, httpx.Response):
            return step
        start = self._start(request)
        rest = self.content[start:]
        headers = {"Content-Length": str(len(rest)), "ETag": self.tag}
        if start:
            size = len(self.content)
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        sent = rest if step is None else rest[:step]
        return httpx.Response(
            206 if start else 200, headers=headers, stream=Body(sent, breaks=step is not None)
        )

    def _start(self, request: httpx.Request) -> int:
        asked = request.headers.get("range", "")
        return int(asked[6:-1]) if asked and self.ranges else 0

    @property
    def ranges_asked(self) -> list[str | None]:
        return [request.headers.get("range") for request in self.requests]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def service(store: Store) -> FakeService:
    fake = FakeService()
    minted = iter(range(1, 1000))
    fake.on(
        "GET",
        f"/r/tasks/{TASK}/result",
        lambda request: httpx.Response(
            200,
            json={
                "id": TASK,
                "task_status": "completed",
                "task_output": {"storage_key": f"tasks/{TASK}/out.png"},
                "download_url": f"{STORE}?signature={next(minted)}",
            },
        ),
    )
    fake.on_url("GET", STORE, store)
    return fake


async def result_of(client: CyberunClient) -> TaskResult:
    return TaskResult(client._session, await client.raw_result(TASK), retries=QUICK)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Reading on


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no-ranges"])
@pytest.mark.parametrize(
    "script",
    [
        pytest.param([], id="whole"),
        pytest.param([0], id="dropped-at-once"),
        pytest.param([100_000], id="dropped-midway"),
        pytest.param([70_000] * 3, id="dropped-again-and-again"),
        pytest.param([len(CONTENT)], id="dropped-after-the-last-byte"),
        pytest.param([httpx.Response(403)], id="link-expired"),
        pytest.param([100_000, httpx.Response(403)], id="link-expired-midway"),
        pytest.param([100_000, httpx.Response(503), 70_000], id="busy-midway"),
        pytest.param([httpx.Response(429, headers={"Retry-After": "0"})], id="too-many"),
    ],
)
async def test_a_file_comes_whole(
    store: Store, service: FakeService, tmp_path: Path, script: list[Any], ranges: bool
) -> None:
    """Whatever breaks on the way, the file is what the store holds, byte for byte."""
    store.script = list(script)
    store.ranges = ranges

    async with service.client() as client:
        [path] = await (await result_of(client)).download_to(tmp_path)

    assert path.read_bytes() == CONTENT
    assert left_in(tmp_path) == ["out.png"]
    assert store.script == []


async def test_reading_goes_on_where_it_stopped(store: Store, service: FakeService) -> None:
    """After a drop only the rest is asked for, without any credential."""
    store.script = [100_000]

    async with service.client() as client:
        await (await result_of(client))[0].read()

    assert store.ranges_asked == [None, "bytes=100000-"]
    assert all("authorization" not in request.headers for request in store.requests)
    assert all("x-team-id" not in request.headers for request in store.requests)


async def test_files_that_expire_together_are_renewed_together(
    store: Store, service: FakeService, tmp_path: Path
) -> None:
    """One new answer of the service brings all links anew."""
    minted = iter(range(1, 100))

    def result(request: httpx.Request) -> httpx.Response:
        number = next(minted)
        urls = {f"9.images.{n}": f"{STORE}?n={n}&v={number}" for n in range(4)}
        return httpx.Response(
            200, json={"id": TASK, "task_status": "completed", "download_urls": urls}
        )

    def expiring(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403) if request.url.params["v"] == "1" else store(request)

    service.on("GET", f"/r/tasks/{TASK}/result", result)
    service.on_url("GET", STORE, expiring)
    async with service.client() as client:
        paths = await (await result_of(client)).download_to(tmp_path)

    assert [path.name for path in paths] == ["out.png", *(f"out ({n}).png" for n in (1, 2, 3))]
    assert len(service.asked("GET", "/result")) == 2


# Giving up


@pytest.mark.parametrize(
    ("script", "match"),
    [
        pytest.param([httpx.Response(403)] * 2, "fresh link", id="fresh-link-refused"),
        pytest.param([httpx.Response(404)] * 2, "removed", id="gone"),
        pytest.param([httpx.Response(418)], "418", id="strange"),
        pytest.param([httpx.Response(204)], "204", id="no-content"),
        pytest.param([httpx.Response(206, content=b"x")], "206", id="part-not-asked-for"),
        pytest.param([0] * 4, "0 of 256000", id="never-a-byte"),
        pytest.param([10] * 4, "40 of 256000", id="a-few-bytes-a-time"),
        pytest.param([httpx.Response(500)] * 4, "500", id="busy"),
        pytest.param(
            [httpx.Response(302, headers={"Location": "ftp://x"})], "redirect", id="astray"
        ),
        pytest.param(
            [httpx.Response(200, headers={"Content-Encoding": "br"})], "br", id="packed-strangely"
        ),
    ],
)
async def test_what_cannot_be_had_leaves_nothing(
    store: Store, service: FakeService, tmp_path: Path, script: list[Any], match: str
) -> None:
    """A file that cannot be had whole is one typed error, and nothing is left of it."""
    store.script = list(script)

    async with service.client() as client:
        with pytest.raises(TransferError, match=match):
            await (await result_of(client)).download_to(tmp_path)

    assert left_in(tmp_path) == []


async def test_a_file_that_changes_midway_is_refused(store: Store, service: FakeService) -> None:
    """Two halves of different files are never put together."""
    store.script = [100_000]

    async with service.client() as client:
        stream = (await result_of(client))[0].aiter_bytes()
        await anext(stream)
        store.tag = '"b"'
        with pytest.raises(TransferError, match="changed"):
            async for _ in stream:
                pass


@pytest.mark.parametrize("answer", ["bytes 5-9/10", "bytes 100000-255999/7", "nonsense", None])
async def test_a_wrong_range_is_not_taken(
    store: Store, service: FakeService, answer: str | None
) -> None:
    """A part that is not the one asked for is thrown away, or ends the download."""
    headers = {} if answer is None else {"Content-Range": answer}
    store.script = [100_000, httpx.Response(206, headers=headers, content=b"x" * 5)]

    async with service.client() as client:
        try:
            content = await (await result_of(client))[0].read()
        except TransferError as error:
            content = CONTENT if "changed" in str(error) else b""

    assert content == CONTENT


async def test_a_removed_result_is_reported_as_such(store: Store, service: FakeService) -> None:
    """Where links cannot be renewed, the service's refusal is the error."""
    store.script = [httpx.Response(403)]

    async with service.client() as client:
        result = await result_of(client)
        service.on("GET", f"/r/tasks/{TASK}/result", {"error_message": "expired"}, 410)
        with pytest.raises(RequestRejectedError, match="expired"):
            await result[0].read()


async def test_a_link_in_the_clear_is_not_followed(service: FakeService) -> None:
    """An API on https gets no file over http."""
    url = "http://store.test/out.png"
    body = {"id": TASK, "task_status": "completed", "download_url": url}
    service.on("GET", f"/r/tasks/{TASK}/result", body)

    async with service.client() as client:
        with pytest.raises(TransferError, match="https"):
            await (await result_of(client))[0].read()

    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("base", "url", "allowed"),
    [
        ("https://api.test/v1", "https://store.test/a", True),
        ("https://api.test/v1", "http://store.test/a", False),
        ("https://api.test/v1", "http://127.0.0.1/a", False),
        ("http://api.test/v1", "http://store.test/a", True),
        ("https://127.0.0.1/v1", "http://store.test/a", True),
        ("http://api.test/v1", "file:///etc/passwd", False),
        ("http://api.test/v1", "ftp://store.test/a", False),
        ("http://api.test/v1", "https://", False),
        ("http://api.test/v1", "https://[", False),
    ],
)
def test_http_is_for_where_the_api_is(base: str, url: str, allowed: bool) -> None:
    """A store without TLS is allowed only where the API has none or is this machine."""
    assert may_fetch(url, insecure=allows_http(base)) is allowed


# Limits


@pytest.mark.parametrize("length", [True, False], ids=["announced", "not-announced"])
async def test_a_file_that_is_too_large_is_refused(
    service: FakeService, tmp_path: Path, length: bool
) -> None:
    """A size limit holds whether the size is announced or only found out."""

    def answer(request: httpx.Request) -> httpx.Response:
        headers = {"Content-Length": str(len(CONTENT))} if length else {}
        return httpx.Response(200, headers=headers, stream=Body(CONTENT))

    service.on_url("GET", STORE, answer)
    async with service.client() as client:
        result = await result_of(client)
        for call in (
            result.download_to(tmp_path, max_bytes=1000),
            result[0].download_to(tmp_path, max_bytes=1000),
            result[0].read(limit=1000),
        ):
            with pytest.raises(TransferError, match="larger than the limit of 1000"):
                await call
        exact = await result[0].read(limit=len(CONTENT))

    assert exact == CONTENT
    assert left_in(tmp_path) == []


def packed_store(packed: bytes, encoding: str = "gzip", cut: int | None = None) -> Any:
    cuts = iter([cut])

    def answer(request: httpx.Request) -> httpx.Response:
        headers = {"Content-Encoding": encoding, "Content-Length": str(len(packed))}
        stop = next(cuts, None)
        return httpx.Response(
            200, headers=headers, stream=Body(packed[:stop], breaks=stop is not None)
        )

    return answer


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        pytest.param(gzip.compress(CONTENT), "gzip", id="gzip"),
        pytest.param(gzip.compress(CONTENT[:999]) + gzip.compress(CONTENT[999:]), "gzip", id="two"),
        pytest.param(zlib.compress(CONTENT), "deflate", id="deflate"),
        pytest.param(gzip.compress(os.urandom(9) * 60_000, 1), "gzip", id="dense"),
    ],
)
@pytest.mark.parametrize("cut", [None, 500], ids=["whole", "dropped"])
async def test_a_packed_file_is_unpacked(
    service: FakeService, packed: bytes, encoding: str, cut: int | None
) -> None:
    """What the store keeps compressed arrives as it was, also across a drop."""
    service.on_url("GET", STORE, packed_store(packed, encoding, cut))

    async with service.client() as client:
        content = await (await result_of(client))[0].read()

    assert content == (gzip.decompress(packed) if encoding == "gzip" else CONTENT)


@pytest.mark.parametrize(
    ("packed", "match"),
    [
        pytest.param(gzip.compress(bytes(50_000_000)), "200 times", id="bomb"),
        pytest.param(b"no gzip", "not compressed", id="lie"),
        pytest.param(gzip.compress(CONTENT)[:-9], "cut", id="cut"),
    ],
)
async def test_a_packed_file_must_be_sound(
    service: FakeService, tmp_path: Path, packed: bytes, match: str
) -> None:
    """A little that unpacks to a lot, to nothing or to half is refused."""
    service.on_url("GET", STORE, packed_store(packed))

    async with service.client() as client:
        with pytest.raises(TransferError, match=match):
            await (await result_of(client)).download_to(tmp_path)

    assert left_in(tmp_path) == []


# Passing on


async def test_bytes_can_be_passed_on_and_left_early(service: FakeService) -> None:
    """A stream read to its end closes itself; left early it gives its connection back."""
    async with service.client() as client:
        artifact = (await result_of(client))[0]
        whole = b"".join([piece async for piece in artifact.aiter_bytes()])
        async with artifact.aiter_bytes() as stream:
            first = await anext(stream)
        with pytest.raises(ClientStateError, match="closed"):
            await anext(stream)
        fetches = client._session.opened.transport.statistics().open_fetches

    assert whole == CONTENT
    assert CONTENT.startswith(first)
    assert fetches == 0


async def test_a_stream_that_was_cancelled_may_be_read_on(
    store: Store, service: FakeService
) -> None:
    """Cancelled while the store is silent, the stream continues with the next step."""
    headers = {"Content-Length": str(len(CONTENT)), "ETag": '"a"'}
    silent = httpx.Response(200, headers=headers, stream=Body(CONTENT[:20_000], hangs=True))
    store.script = [silent]
    read: list[bytes] = []

    async with service.client() as client, (await result_of(client))[0].aiter_bytes() as stream:
        with anyio.move_on_after(0.05):
            while True:
                read.append(await anext(stream))
        read += [piece async for piece in stream]

    assert b"".join(read) == CONTENT
    assert store.ranges_asked == [None, "bytes=20000-"]


async def test_progress_is_reported(store: Store, service: FakeService, tmp_path: Path) -> None:
    """Bytes so far only grow and end at the whole, across drops and for coroutine functions."""
    store.script = [100_000]
    seen: list[tuple[int, int | None]] = []
    awaited: list[int] = []

    async def note(artifact: Any, done: int, total: int | None) -> None:
        await anyio.lowlevel.checkpoint()
        awaited.append(done)

    async with service.client() as client:
        result = await result_of(client)
        await result[0].download_to(tmp_path, on_progress=lambda *progress: seen.append(progress))
        await result.download_to(tmp_path, on_progress=note)

    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert awaited[-1] == len(CONTENT)


async def test_what_the_callback_raises_ends_the_download(
    service: FakeService, tmp_path: Path
) -> None:
    """An error of the caller's own comes out as it is, and nothing is left."""

    def fail(*progress: Any) -> None:
        raise KeyError("mine")

    async with service.client() as client:
        result = await result_of(client)
        with pytest.raises(KeyError, match="mine"):
            await result.download_to(tmp_path, on_progress=fail)

    assert left_in(tmp_path) == []


# Names and folders


async def test_nothing_is_overwritten_unless_asked(service: FakeService, tmp_path: Path) -> None:
    """A name that is taken is numbered, or replaced where that is asked for."""
    (tmp_path / "out.png").write_bytes(b"old")

    async with service.client() as client:
        result = await result_of(client)
        numbered = await result.download_to(tmp_path)
        replaced = await result.download_to(tmp_path, overwrite=True)

    assert [path.name for path in numbered + replaced] == ["out (1).png", "out.png"]
    assert left_in(tmp_path) == ["out (1).png", "out.png"]
    assert (tmp_path / "out.png").read_bytes() == CONTENT


def serve_names(service: FakeService, names: list[str]) -> None:
    body = {
        "id": TASK,
        "task_status": "completed",
        "task_output": {str(n): {"s3_key": name} for n, name in enumerate(names)},
        "download_urls": {str(n): STORE for n in range(len(names))},
    }
    service.on("GET", f"/r/tasks/{TASK}/result", body)


async def test_equal_names_never_replace_each_other(service: FakeService, tmp_path: Path) -> None:
    """Artifacts of one name are numbered among themselves, also where overwriting is asked for."""
    serve_names(service, ["a/x.png", "b/x.png", "c/X.PNG", "x (1).png"])

    async with service.client() as client:
        paths = await (await result_of(client)).download_to(tmp_path, overwrite=True)

    assert len({path.name.casefold() for path in paths}) == 4
    assert len(left_in(tmp_path)) == 4


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.png",
        "/etc/passwd",
        "..\\..\\evil.png",
        "C:\\evil.png",
        "..",
        ".",
        "a/..",
        "CON.png",
        ".bashrc",
        "x\0y.png",
        "x\r\ny.png",
        "\u202egnp.exe",
        "é" * 300 + ".png",
        "a" * 5000,
        "\ud800.png",
    ],
)
async def test_a_name_cannot_leave_the_folder(
    service: FakeService, tmp_path: Path, name: str
) -> None:
    """Whatever the service calls a file, it lies in the folder and can be read."""
    serve_names(service, [name])
    folder = tmp_path / "out"

    async with service.client() as client:
        [path] = await (await result_of(client)).download_to(folder)

    assert path.parent == folder
    assert [one.name for one in folder.iterdir()] == [path.name]
    assert path.read_bytes() == CONTENT
    assert left_in(tmp_path) == ["out"]


@pytest.mark.parametrize("overwrite", [True, False])
async def test_links_in_the_folder_are_not_followed(
    service: FakeService, tmp_path: Path, overwrite: bool
) -> None:
    """A symbolic link under the file's name is replaced or stepped aside, never written through."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "out.png").symlink_to(outside)

    async with service.client() as client:
        await (await result_of(client)).download_to(folder, overwrite=overwrite)

    assert outside.read_bytes() == b"precious"


async def test_a_folder_without_hard_links_will_do(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system has no hard links, names are numbered all the same."""

    def refuse(*paths: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    async with service.client() as client:
        result = await result_of(client)
        for _ in range(3):
            await result.download_to(tmp_path)

    assert left_in(tmp_path) == ["out (1).png", "out (2).png", "out.png"]
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {CONTENT}


def _file_in_the_way(folder: Path) -> Path:
    (folder / "file").write_bytes(b"")
    return folder / "file"


def _directory_in_the_way(folder: Path) -> Path:
    (folder / "out" / "out.png" / "x").mkdir(parents=True)
    return folder / "out"


@pytest.mark.parametrize("arrange", [_file_in_the_way, _directory_in_the_way])
async def test_what_the_disk_refuses_is_a_typed_error(
    service: FakeService, tmp_path: Path, arrange: Callable[[Path], Path]
) -> None:
    """A folder that is a file, or a name that is a folder, is a `TransferError`."""
    folder = arrange(tmp_path)

    async with service.client() as client:
        with pytest.raises(TransferError, match="cannot be"):
            await (await result_of(client)).download_to(folder, overwrite=True)

    assert list(tmp_path.rglob("*.part")) == []


async def test_a_cancelled_download_leaves_nothing(
    store: Store, service: FakeService, tmp_path: Path
) -> None:
    """Cancelled midway, there is neither a file nor a part of one."""
    headers = {"Content-Length": str(len(CONTENT))}
    store.script = [httpx.Response(200, headers=headers, stream=Body(CONTENT[:99_999], hangs=True))]

    async with service.client() as client:
        with anyio.move_on_after(0.1) as scope:
            await (await result_of(client)).download_to(tmp_path)
        fetches = client._session.opened.transport.statistics().open_fetches

    assert scope.cancelled_caught
    assert left_in(tmp_path) == []
    assert fetches == 0


async def test_one_failure_among_many_keeps_the_others(
    store: Store, service: FakeService, tmp_path: Path
) -> None:
    """What was complete stays; the first failure is raised and names the others."""
    serve_names(service, ["a.png", "b.png", "c.png"])
    store.script = [httpx.Response(418), None, httpx.Response(418)]

    async with service.client(limits=None) as client:
        result = TaskResult(
            client._session, await client.raw_result(TASK), parallel=1, retries=QUICK
        )
        with pytest.raises(TransferError, match="418") as caught:
            await result.download_to(tmp_path)

    # Which of them was the second depends on the event loop.
    assert len(left_in(tmp_path)) == 1
    assert len(caught.value.__notes__) == 1


async def test_only_so_many_files_are_fetched_at_once(
    store: Store, service: FakeService, tmp_path: Path
) -> None:
    """Downloads of one call share the bound on transfers."""
    serve_names(service, [f"{n}.png" for n in range(10)])
    seen: list[int] = []

    async with service.client() as client:
        network = client._session.opened.transport
        result = TaskResult(client._session, await client.raw_result(TASK), parallel=3)

        def note(*progress: Any) -> None:
            seen.append(network.statistics().open_fetches)

        await result.download_to(tmp_path, on_progress=note)

    assert max(seen) <= 3
    assert len(left_in(tmp_path)) == 10


async def test_a_result_is_a_sequence_and_shows_no_link(service: FakeService) -> None:
    """Artifacts can be counted, indexed and sliced; no link or signature shows."""
    serve_names(service, ["a.png", "b.png"])

    async with service.client() as client:
        result = await result_of(client)

    assert (len(result), result[0].name, [one.name for one in result[1:]]) == (
        2,
        "a.png",
        ["b.png"],
    )
    assert "store.test" not in repr(result) + repr(list(result))


@pytest.mark.parametrize("size", [-1, 1.5, "1", True, b""])
async def test_sizes_are_checked(service: FakeService, tmp_path: Path, size: Any) -> None:
    """A limit that is no number of bytes is refused before anything is fetched."""
    async with service.client() as client:
        result = await result_of(client)
        before = len(service.requests)
        with pytest.raises(InvalidInputError):
            await result[0].read(limit=size)
        with pytest.raises(InvalidInputError):
            result[0].aiter_bytes(max_bytes=size)
        with pytest.raises(InvalidInputError):
            await result.download_to(tmp_path, max_bytes=size)

    assert len(service.requests) == before
