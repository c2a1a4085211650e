"""Files: presigned uploads and downloads, and an object store that is as strict as S3."""

import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from cyberun_async.testing import Behaviour, Simulator, TaskPlan

from .conftest import Reader


PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def store() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, verify=False, timeout=10) as client:
        yield client


def presign(http: httpx.Client, size: int = 3, name: str = "fox.png") -> dict[str, Any]:
    body = {"file_name": name, "file_size": size, "content_type": "image/png"}
    answer: dict[str, Any] = http.post("/r/files/presign", json=body).raise_for_status().json()
    return answer


def put(store: httpx.Client, signed: dict[str, Any], content: bytes, **extra: str) -> int:
    headers = {**signed["upload_headers"], **extra}
    return store.put(signed["upload_url"], content=content, headers=headers).status_code


def test_an_upload_can_be_run_with(sim: Simulator, reader: Reader, store: httpx.Client) -> None:
    """A file put under its link is stored once and accepted as a parameter."""
    signed = presign(reader.http)
    stored = put(store, signed, b"fox")
    task_id = reader.run("image-to-image", input_image=signed["file_key"])

    assert (stored, sim.uploads[signed["file_key"]].content) == (200, b"fox")
    assert sim.task(task_id).parameters["input_image"] == signed["file_key"]


def test_a_file_that_was_not_uploaded_is_no_parameter(http: httpx.Client) -> None:
    """A file parameter must name an uploaded file."""
    body = {"parameters": {"prompt": "a", "input_image": presign(http)["file_key"]}}

    assert http.post("/r/workflows/slug/image-to-image/run", json=body).status_code == 400


def test_a_second_upload_finds_the_key_taken(http: httpx.Client, store: httpx.Client) -> None:
    """`If-None-Match: *` makes the second PUT fail with 412."""
    signed = presign(http)

    assert [put(store, signed, b"fox") for _ in range(2)] == [200, 412]


def test_signed_headers_must_come_verbatim(http: httpx.Client, store: httpx.Client) -> None:
    """A missing or altered signed header, or another size, is 403."""
    signed = presign(http)
    link = signed["upload_url"]
    size_only = {"Content-Length": "3"}

    assert store.put(link, content=b"fox", headers=size_only).status_code == 403
    assert put(store, signed, b"fox", **{"If-None-Match": "tag"}) == 403
    four = store.put(link, content=b"foxy", headers={"If-None-Match": "*"})
    assert four.status_code == 403


def test_an_altered_link_is_refused(http: httpx.Client, store: httpx.Client) -> None:
    """A link grants one key and one method only, and only as it was minted."""
    signed = presign(http)
    link = signed["upload_url"]
    renamed = {**signed, "upload_url": link.replace("fox.png", "ox.png")}
    longer = {**signed, "upload_url": link.replace("Expires=3600", "Expires=9999")}

    assert [put(store, one, b"fox") for one in (renamed, longer)] == [403, 403]
    assert store.get(link).status_code == 403


def test_unsigned_headers_and_credentials_are_refused(
    sim: Simulator, http: httpx.Client, store: httpx.Client
) -> None:
    """S3 refuses a second auth mechanism and `x-amz-` headers that were not signed."""
    signed = presign(http)

    assert put(store, signed, b"fox", Authorization=f"Bearer {sim.key}") == 400
    assert put(store, signed, b"fox", **{"x-amz-meta-a": "b"}) == 403


def test_a_chunked_upload_is_refused(http: httpx.Client, store: httpx.Client) -> None:
    """A body without a length is not implemented."""
    signed = presign(http)
    headers = {"If-None-Match": "*"}
    answer = store.put(signed["upload_url"], content=iter([b"fox"]), headers=headers)

    assert (answer.status_code, answer.headers["content-type"]) == (501, "application/xml")


def test_an_upload_link_expires(sim: Simulator, http: httpx.Client, store: httpx.Client) -> None:
    """After its lifetime a link is refused."""
    sim.behaviour = Behaviour(link_lifetime=60.0)
    signed = presign(http)
    sim.advance(61)

    assert put(store, signed, b"fox") == 403


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"file_name": "a.png", "file_size": 3}, 400),
        ({"file_size": 3, "content_type": "image/png"}, 400),
        ({"file_name": "a.png", "content_type": "image/png"}, 400),
        ({"file_name": "a.png", "content_type": "image/png", "file_size": -1}, 400),
        ({"file_name": "a.png", "content_type": "image/png", "file_size": 500_000_001}, 413),
    ],
)
def test_presigning_needs_its_three_fields(
    http: httpx.Client, body: dict[str, object], code: int
) -> None:
    """Name, type and a size within the limit are required."""
    assert http.post("/r/files/presign", json=body).status_code == code


@pytest.mark.parametrize("name", ["fuchs äöü.png", "a b+c%20.png", "../../etc/passwd"])
def test_names_of_uploads_may_be_anything(
    sim: Simulator, http: httpx.Client, store: httpx.Client, name: str
) -> None:
    """Any name makes a link that works; folders in it are dropped."""
    signed = presign(http, name=name)

    assert put(store, signed, b"fox") == 200
    assert list(sim.uploads) == [signed["file_key"]]
    assert signed["file_key"].endswith("/" + name.rpartition("/")[2])


def made(sim: Simulator, reader: Reader, plan: TaskPlan | None = None) -> Any:
    live = sim.create_task(plan or TaskPlan(), parameters={"prompt": "an owl"})
    sim.advance(60)
    return reader.get(f"/r/tasks/{live.id}/result")


def test_an_output_is_a_real_picture(sim: Simulator, reader: Reader, store: httpx.Client) -> None:
    """The file behind the link is a whole PNG, the same at each download."""
    link = made(sim, reader)["download_url"]
    answer = store.get(link)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    assert answer.content.startswith(PNG)
    assert len(pixels(answer.content)) == 256 * (1 + 3 * 256)
    assert answer.content == store.get(link).content


def test_links_are_minted_anew(sim: Simulator, reader: Reader, store: httpx.Client) -> None:
    """Each call of the result gives other links, all of which work."""
    live = sim.create_task(TaskPlan(links="many", outputs=2))
    sim.advance(60)
    links = [
        link
        for _ in range(2)
        for link in reader.get(f"/r/tasks/{live.id}/result")["download_urls"].values()
    ]

    assert len(set(links)) == 4
    assert {200} == {store.get(link).status_code for link in links}


def test_a_download_link_expires(sim: Simulator, reader: Reader, store: httpx.Client) -> None:
    """A link works until its lifetime is over, a new one after that."""
    live = sim.create_task(TaskPlan())
    sim.advance(60)
    old = reader.get(f"/r/tasks/{live.id}/result")["download_url"]
    before = store.get(old).status_code
    sim.advance(3601)
    new = reader.get(f"/r/tasks/{live.id}/result")["download_url"]

    assert [before, store.get(old).status_code, store.get(new).status_code] == [200, 403, 200]


def test_a_download_refuses_credentials(
    sim: Simulator, reader: Reader, store: httpx.Client
) -> None:
    """The object store refuses an `Authorization` header, and lives at another origin."""
    link = made(sim, reader)["download_url"]
    answer = store.get(link, headers={"Authorization": f"Bearer {sim.key}"})

    assert (answer.status_code, "Only one auth mechanism" in answer.text) == (400, True)
    assert link.startswith(sim.store_url)
    assert not sim.url.startswith(sim.store_url)


@pytest.mark.parametrize(
    ("asked", "code", "expected"),
    [
        ("bytes=0-2", 206, b"012"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=4-99", 206, b"456789"),
        ("bytes=-", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
        ("bytes=10-", 416, None),
        ("bytes=5-4", 416, None),
    ],
)
def test_parts_can_be_downloaded(
    sim: Simulator,
    reader: Reader,
    store: httpx.Client,
    asked: str,
    code: int,
    expected: bytes | None,
) -> None:
    """`Range` is honoured as far as it makes sense."""
    link = made(sim, reader, TaskPlan(file_content=b"0123456789"))["download_url"]
    answer = store.get(link, headers={"Range": asked})

    assert code == answer.status_code
    assert expected is None or expected == answer.content
    assert (code == 206) == ("content-range" in answer.headers)


def test_a_part_of_another_file_is_not_given(
    sim: Simulator, reader: Reader, store: httpx.Client
) -> None:
    """With an `If-Range` that no longer holds, the whole file comes."""
    link = made(sim, reader, TaskPlan(file_content=b"0123456789"))["download_url"]
    tag = store.get(link).headers["etag"]
    codes = [
        store.get(link, headers={"Range": "bytes=1-", "If-Range": one}).status_code
        for one in (tag, '"other"')
    ]

    assert codes == [206, 200]


@pytest.mark.parametrize("name", ["../../etc/passwd", "a b.png", "ä.png", "CON", "x/../y"])
def test_outputs_may_have_evil_names(
    sim: Simulator, reader: Reader, store: httpx.Client, name: str
) -> None:
    """Names of outputs are of the test's choice and reach the client as they are."""
    result = made(sim, reader, TaskPlan(file_names=(name,), file_content=b"x"))

    assert result["task_output"]["storage_key"].endswith(name)


def test_an_unknown_file_is_missing(sim: Simulator, store: httpx.Client) -> None:
    """Without a valid link there is nothing to see."""
    assert store.get(f"{sim.store_url}/store/tasks/none/x.png").status_code == 403


@pytest.mark.parametrize(
    ("early", "code"),
    [pytest.param("nulls", 200, id="nulls"), pytest.param("conflict", 409, id="409")],
)
def test_an_early_result_is_a_switch(
    sim: Simulator, http: httpx.Client, early: Any, code: int
) -> None:
    """Before the end a result is all nulls, or refused."""
    sim.behaviour = Behaviour(early_result=early)

    assert http.get(f"/r/tasks/{sim.create_task().id}/result").status_code == code


def test_a_result_may_be_kept_for_a_time_only(sim: Simulator, http: httpx.Client) -> None:
    """After the retention the result is gone while the task still tells its end."""
    sim.behaviour = Behaviour(result_retention=100.0)
    live = sim.create_task()
    codes: list[int] = []
    for seconds in (60, 100):
        sim.advance(seconds)
        codes.append(http.get(f"/r/tasks/{live.id}/result").status_code)

    assert codes == [200, 410]
    assert http.get(f"/r/tasks/{live.id}").json()["task_status"] == "completed"


def pixels(png: bytes) -> bytes:
    """Check the chunks of a PNG and return what its data unpack to."""
    data, rest = b"", png.removeprefix(PNG)
    while rest:
        length = int.from_bytes(rest[:4], "big")
        name, body, checksum = rest[4:8], rest[8 : 8 + length], rest[8 + length : 12 + length]
        assert zlib.crc32(name + body).to_bytes(4, "big") == checksum
        data += body if name == b"IDAT" else b""
        rest = rest[12 + length :]
    return zlib.decompress(data)
