"""Sending files to a store of canned answers that breaks, expires and refuses."""

import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from cyberun_async import (
    InvalidInputError,
    Limits,
    ParameterDef,
    ParameterError,
    RequestRejectedError,
    TransferError,
    UnexpectedResponseError,
    Upload,
    UploadedFile,
    Workflow,
)

from ..fake_service import TASK, FakeService


STORE = "https://store.test/put"
CONTENT = bytes(range(256)) * 4000


class Bucket:
    """An object store that takes each key once, and does what the script says first."""

    def __init__(self) -> None:
        self.script: list[Any] = []
        self.requests: list[httpx.Request] = []
        self.stored: dict[str, bytes] = {}
        self.presigned: list[dict[str, Any]] = []
        self.headers: dict[str, str] | None = None

    def presign(self, request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)
        self.presigned.append(asked)
        number = len(self.presigned)
        headers = self.headers
        if headers is None:
            headers = {"Content-Length": str(asked["file_size"]), "If-None-Match": "*"}
        body = {
            "file_key": f"inputs/{number}",
            "upload_url": f"{STORE}?key={number}&signature=s3cret",
            "upload_headers": headers,
        }
        return httpx.Response(200, json=body)

    def put(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = self.script.pop(0) if self.script else None
        if isinstance(step, httpx.Response):
            return step
        if step == "refused":
            raise httpx.ConnectError("refused")
        key = request.url.params["key"]
        if step != "lost":
            if key in self.stored:
                return httpx.Response(412)
            self.stored[key] = request.content
        if step in {"lost", "landed"}:
            raise httpx.ReadError("reset")
        return httpx.Response(200)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


@pytest.fixture
def service(bucket: Bucket) -> FakeService:
    fake = FakeService()
    fake.on("POST", "/r/files/presign", bucket.presign)
    fake.on_url("PUT", STORE, bucket.put)
    fake.on("POST", "/r/workflows/slug/image-to-image/run", {"task_id": TASK}, 202)
    return fake


async def pieces_of(content: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def in_a_file(folder: Path) -> Any:
    path = folder / "fox.png"
    path.write_bytes(CONTENT)
    return path


SOURCES = [
    pytest.param(in_a_file, {}, id="path"),
    pytest.param(lambda folder: str(in_a_file(folder)), {}, id="text"),
    pytest.param(lambda folder: CONTENT, {"name": "fox.png"}, id="bytes"),
    pytest.param(lambda folder: memoryview(CONTENT), {"name": "fox.png"}, id="memoryview"),
    pytest.param(
        lambda folder: pieces_of(CONTENT),
        {"name": "fox.png", "size": len(CONTENT)},
        id="iterator",
    ),
    pytest.param(
        lambda folder: Upload(CONTENT, name="fox.png", content_type="image/png"), {}, id="upload"
    ),
]


@pytest.mark.parametrize(("source", "arguments"), SOURCES)
async def test_a_file_arrives_as_it_is(
    bucket: Bucket,
    service: FakeService,
    tmp_path: Path,
    source: Callable[[Path], Any],
    arguments: dict[str, Any],
) -> None:
    """Whatever it is given as, the store gets the bytes, in one piece and without a key."""
    async with service.client() as client:
        file = await client.files.upload(source(tmp_path), **arguments)

    assert file == UploadedFile(
        key="inputs/1", name="fox.png", size=len(CONTENT), content_type="image/png"
    )
    assert bucket.presigned == [
        {"file_name": "fox.png", "file_size": len(CONTENT), "content_type": "image/png"}
    ]
    [sent] = bucket.requests
    assert sent.content == CONTENT
    assert sent.headers["content-length"] == str(len(CONTENT))
    assert sent.headers["if-none-match"] == "*"
    assert {"authorization", "transfer-encoding", "x-team-id", "content-type"}.isdisjoint(
        sent.headers
    )


async def test_an_empty_file_is_a_file(bucket: Bucket, service: FakeService) -> None:
    """Nothing at all can be uploaded too, with its length."""
    async with service.client() as client:
        file = await client.files.upload(b"", name="empty.txt")

    assert (file.size, bucket.requests[0].headers["content-length"]) == (0, "0")
    assert bucket.stored == {"1": b""}


@pytest.mark.parametrize(
    "headers", [{}, {"x-amz-tagging": "a=b", "content-length": str(len(CONTENT))}]
)
async def test_signed_headers_go_as_they_came(
    bucket: Bucket, service: FakeService, headers: dict[str, str]
) -> None:
    """Every signed header is sent, and the length even where none was signed."""
    bucket.headers = headers

    async with service.client() as client:
        await client.files.upload(CONTENT)

    [sent] = bucket.requests
    assert {name: sent.headers[name] for name in headers} == headers
    assert sent.headers.get_list("content-length") == [str(len(CONTENT))]


@pytest.mark.parametrize(
    ("script", "presigned", "puts"),
    [
        pytest.param(["refused"], 1, 2, id="not-connected"),
        pytest.param(["lost"], 1, 2, id="lost"),
        pytest.param(["landed"], 1, 2, id="arrived-without-answer"),
        pytest.param([httpx.Response(503), httpx.Response(429)], 1, 3, id="busy"),
        pytest.param([httpx.Response(403)], 2, 2, id="expired"),
        pytest.param([httpx.Response(412)], 2, 2, id="key-taken"),
        pytest.param(["lost", httpx.Response(403), "landed"], 2, 4, id="all-at-once"),
    ],
)
@pytest.mark.parametrize("from_disk", [True, False], ids=["path", "bytes"])
async def test_an_upload_gets_through(
    bucket: Bucket,
    service: FakeService,
    tmp_path: Path,
    script: list[Any],
    presigned: int,
    puts: int,
    from_disk: bool,
) -> None:
    """Broken connections and expired links are fixed, and the own first attempt is recognised."""
    bucket.script = list(script)
    source = in_a_file(tmp_path) if from_disk else CONTENT

    async with service.client() as client:
        file = await client.files.upload(source)

    assert bucket.stored == {file.key.removeprefix("inputs/"): CONTENT}
    assert (len(bucket.presigned), len(bucket.requests)) == (presigned, puts)


@pytest.mark.parametrize(
    ("script", "match"),
    [
        pytest.param([httpx.Response(403)] * 2, "403", id="refused-anew"),
        pytest.param([httpx.Response(412)] * 2, "412", id="taken-anew"),
        pytest.param([httpx.Response(413)], "413", id="too-large-for-the-store"),
        pytest.param(["lost"] * 4, "could not be uploaded", id="always-lost"),
        pytest.param([httpx.Response(500)] * 4, "500", id="always-busy"),
        pytest.param([httpx.Response(301, headers={"Location": "/"})], "redirect", id="astray"),
    ],
)
async def test_an_upload_that_fails_is_a_typed_error(
    bucket: Bucket, service: FakeService, script: list[Any], match: str
) -> None:
    """Giving up is one error, without the link's signature in it."""
    bucket.script = list(script)

    async with service.client() as client:
        with pytest.raises(TransferError, match=match) as caught:
            await client.files.upload(CONTENT)

    assert "s3cret" not in repr(caught.value) + str(caught.value)


async def test_an_iterator_is_sent_once(bucket: Bucket, service: FakeService) -> None:
    """What was read from an iterator cannot be sent again; before that a try is free."""
    async with service.client() as client:
        bucket.script = ["lost"]
        with pytest.raises(TransferError, match="second time"):
            await client.files.upload(pieces_of(CONTENT), size=len(CONTENT))


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
async def test_a_wrong_size_is_noticed(bucket: Bucket, service: FakeService, size: int) -> None:
    """An iterator that holds more or less than was said is an error, not a cut file."""
    async with service.client() as client:
        with pytest.raises(TransferError, match="Content-Length"):
            await client.files.upload(pieces_of(CONTENT), size=size)

    assert bucket.stored == {}


async def test_what_an_iterator_raises_comes_out(service: FakeService) -> None:
    """An error of the caller's own is not taken for one of the network."""

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionError("mine")

    async def texts() -> AsyncIterator[Any]:
        yield "x"

    async with service.client() as client:
        with pytest.raises(ConnectionError, match="mine"):
            await client.files.upload(broken(), size=2)
        with pytest.raises(InvalidInputError, match="bytes"):
            await client.files.upload(texts(), size=1)


async def test_progress_is_reported_up_to_the_end(service: FakeService, tmp_path: Path) -> None:
    """The callback sees growing numbers that end at the whole; a coroutine function is awaited."""
    seen: list[tuple[int, int]] = []
    awaited: list[int] = []

    async def note(sent: int, total: int) -> None:
        await anyio.lowlevel.checkpoint()
        awaited.append(sent)

    async with service.client() as client:
        await client.files.upload(
            in_a_file(tmp_path), on_progress=lambda sent, total: seen.append((sent, total))
        )
        await client.files.upload(CONTENT, on_progress=note)

    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [sent for sent, _ in seen] == sorted({sent for sent, _ in seen})
    assert len(seen) > 2
    assert awaited[-1] == len(CONTENT)


async def test_what_the_callback_raises_ends_the_upload(
    bucket: Bucket, service: FakeService
) -> None:
    """An error of the callback comes out as it is."""

    def fail(sent: int, total: int) -> None:
        raise KeyError("mine")

    async with service.client() as client:
        with pytest.raises(KeyError, match="mine"):
            await client.files.upload(CONTENT, on_progress=fail)

    assert bucket.stored == {}


async def test_a_file_above_the_limit_is_refused_here(bucket: Bucket, service: FakeService) -> None:
    """Nothing is sent of a file that is too large, and the error says why there is no other way."""
    async with service.client(limits=Limits(max_upload_bytes=len(CONTENT))) as client:
        await client.files.upload(CONTENT)
        with pytest.raises(TransferError, match=r"multipart.*sk-"):
            await client.files.upload(CONTENT + b"x")

    assert len(bucket.presigned) == 1


async def test_the_service_may_refuse_a_file(bucket: Bucket, service: FakeService) -> None:
    """What the service says about a file is the error's message."""
    service.on("POST", "/r/files/presign", {"error_message": "file_size exceeds"}, 413)

    async with service.client() as client:
        with pytest.raises(RequestRejectedError, match="file_size exceeds"):
            await client.files.upload(CONTENT)

    assert bucket.requests == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"file_key": "a"},
        {"file_key": "a", "upload_url": "ftp://x"},
        {"file_key": "a", "upload_url": STORE, "upload_headers": {"a\r\nb": "c"}},
        {"file_key": "a", "upload_url": STORE, "upload_headers": []},
    ],
)
async def test_a_presign_that_makes_no_sense_is_unexpected(
    service: FakeService, body: dict[str, Any]
) -> None:
    """An answer without a usable place to put the file is the one error for that."""
    service.on("POST", "/r/files/presign", body)

    async with service.client() as client:
        with pytest.raises(UnexpectedResponseError):
            await client.files.upload(CONTENT)


async def test_nothing_is_sent_to_a_store_in_the_clear(service: FakeService) -> None:
    """An API on https gives no file away over http."""
    body = {"file_key": "a", "upload_url": "http://store.test/put", "upload_headers": {}}
    service.on("POST", "/r/files/presign", body)

    async with service.client() as client:
        with pytest.raises(TransferError, match="https"):
            await client.files.upload(CONTENT)

    assert [request.method for request in service.requests] == ["POST"]


async def test_another_signed_size_is_not_tried(bucket: Bucket, service: FakeService) -> None:
    """A link signed for another size than the file's cannot work."""
    bucket.headers = {"Content-Length": "7"}

    async with service.client() as client:
        with pytest.raises(TransferError, match="signed '7'"):
            await client.files.upload(CONTENT)

    assert bucket.requests == []


def _missing(folder: Path) -> Any:
    return folder / "missing.png"


@pytest.mark.parametrize(
    ("source", "arguments", "kind"),
    [
        pytest.param(_missing, {}, TransferError, id="missing"),
        pytest.param(lambda folder: folder, {}, InvalidInputError, id="folder"),
        pytest.param(lambda folder: "/dev/zero", {}, InvalidInputError, id="device"),
        pytest.param(lambda folder: "", {}, InvalidInputError, id="empty-path"),
        pytest.param(lambda folder: "a\0b", {}, InvalidInputError, id="nul"),
        pytest.param(lambda folder: None, {}, InvalidInputError, id="none"),
        pytest.param(lambda folder: 7, {}, InvalidInputError, id="number"),
        pytest.param(lambda folder: [b"x"], {}, InvalidInputError, id="list"),
        pytest.param(lambda folder: pieces_of(b"x"), {}, InvalidInputError, id="no-size"),
        pytest.param(
            lambda folder: pieces_of(b"x"), {"size": -1}, InvalidInputError, id="negative"
        ),
        pytest.param(lambda folder: b"x", {"size": 2}, InvalidInputError, id="other-size"),
        pytest.param(lambda folder: b"x", {"size": True}, InvalidInputError, id="bool-size"),
        pytest.param(lambda folder: b"x", {"name": ""}, InvalidInputError, id="no-name"),
        pytest.param(lambda folder: b"x", {"name": 7}, InvalidInputError, id="number-name"),
        pytest.param(
            lambda folder: b"x", {"content_type": "png"}, InvalidInputError, id="bad-type"
        ),
        pytest.param(
            lambda folder: b"x",
            {"content_type": "image/png\r\nX: y"},
            InvalidInputError,
            id="line-end",
        ),
    ],
)
async def test_what_is_no_file_is_refused(
    service: FakeService,
    tmp_path: Path,
    source: Callable[[Path], Any],
    arguments: dict[str, Any],
    kind: type[Exception],
) -> None:
    """What cannot be sent is a typed error before anything is asked."""
    async with service.client() as client:
        with pytest.raises(kind):
            await client.files.upload(source(tmp_path), **arguments)

    assert service.requests == []


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\fox.png", "fox.png"),
        ("a\r\nb.png", "ab.png"),
        ("füchse 狐.png", "füchse 狐.png"),
        ("a" * 5000 + ".png", "a" * 196 + ".png"),
    ],
)
async def test_names_are_made_safe(
    bucket: Bucket, service: FakeService, name: str, sent: str
) -> None:
    """The service receives the last part of a name, without controls, at a sensible length."""
    async with service.client() as client:
        await client.files.upload(b"x", name=name)

    assert bucket.presigned[0]["file_name"] == sent


# Along with a run


async def test_files_are_uploaded_on_the_way(
    bucket: Bucket, service: FakeService, tmp_path: Path
) -> None:
    """Paths and uploads anywhere in the parameters become keys; equal ones are sent once."""
    path = in_a_file(tmp_path)
    mask = Upload(b"mask", name="mask.png")
    known = UploadedFile(key="inputs/known", name="x", size=1, content_type="a/b")
    parameters = {
        "image": path,
        "again": Path(os.fspath(path)),
        "more": [mask, {"inner": mask}],
        "known": known,
        "text": "fox.png",
    }

    async with service.client() as client:
        task = await client.submit("image-to-image", parameters)

    sent = json.loads(service.requests[-1].content)["parameters"]
    assert task.id == TASK
    assert sent["image"] == sent["again"]
    assert sent["more"][0] == sent["more"][1]["inner"]
    assert (sent["known"], sent["text"]) == ("inputs/known", "fox.png")
    keys = {sent["image"], sent["more"][0]}
    assert {key.removeprefix("inputs/") for key in keys} == set(bucket.stored)
    assert sorted(bucket.stored.values(), key=len) == [b"mask", CONTENT]


async def test_nothing_is_submitted_when_an_upload_fails(
    bucket: Bucket, service: FakeService, tmp_path: Path
) -> None:
    """One file that cannot be had ends the submission before it costs anything."""
    async with service.client() as client:
        with pytest.raises(TransferError, match="missing"):
            await client.submit(
                "image-to-image", {"a": in_a_file(tmp_path), "b": tmp_path / "missing.png"}
            )

    assert service.asked("POST", "/run") == []


async def test_nothing_is_uploaded_for_parameters_that_do_not_fit(
    bucket: Bucket, service: FakeService, tmp_path: Path
) -> None:
    """The definition is looked at before files are sent."""
    image = ParameterDef(key="image", type="file")
    prompt = ParameterDef(key="prompt", type="string")
    definition = Workflow(id=TASK, parameters=(image, prompt))

    async with service.client() as client:
        with pytest.raises(ParameterError, match="prompt"):
            await client.submit(
                "image-to-image", {"prompt": in_a_file(tmp_path)}, definition=definition
            )
        for fine in (in_a_file(tmp_path), Upload(b"x"), await client.files.upload(b"y")):
            await client.submit("image-to-image", {"image": fine}, definition=definition)

    assert len(service.asked("POST", "/run")) == 3


async def test_uploads_of_a_run_are_several_but_bounded(service: FakeService) -> None:
    """Files of one run go in parallel, no more than the limit at once."""
    running = 0
    peak = 0

    async def slow(content: bytes) -> AsyncIterator[bytes]:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await anyio.sleep(0.01)
        running -= 1
        yield content

    files = {str(n): Upload(slow(b"x"), size=1) for n in range(9)}
    async with service.client(limits=Limits(parallel_transfers=3)) as client:
        await client.submit("image-to-image", files)

    assert peak == 3


async def test_a_cancelled_upload_leaves_no_connection(
    service: FakeService, tmp_path: Path
) -> None:
    """Cancelled midway, connection and file are closed."""

    async def stuck() -> AsyncGenerator[bytes]:
        yield b"x"
        await anyio.sleep_forever()

    source = stuck()
    async with service.client() as client:
        with anyio.move_on_after(0.05) as scope:
            await client.submit(
                "image-to-image", {"a": Upload(source, size=9), "b": in_a_file(tmp_path)}
            )
        network = client._session.opened.transport.statistics()
    await source.aclose()

    assert scope.cancelled_caught
    assert network.open_fetches == 0
    assert service.asked("POST", "/run") == []
