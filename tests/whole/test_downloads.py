"""Files as the store gives them, over real sockets: whole, safely named, or not at all."""

import os
from pathlib import Path
from typing import Literal

import anyio
import pytest

from cyberun_async import Artifact, CyberunClient, TaskResult, TransferError
from cyberun_async.testing import Behaviour, Simulator, TaskPlan, faults


BIG = bytes(os.urandom(1024)) * 700


async def result_of(sim: Simulator, client: CyberunClient, plan: TaskPlan) -> TaskResult:
    """Return what a task of this plan made, at once."""
    live = sim.create_task(plan)
    sim.advance(60)
    return await client.result(live.id)


def made(**settings: object) -> TaskPlan:
    return TaskPlan(pending=0, waiting=0, queued=0, steps=1, step_seconds=0, **settings)  # type: ignore[arg-type]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("links", ["single", "many"])
@pytest.mark.parametrize("outputs", [1, 3])
async def test_both_styles_of_links_are_one_sequence(
    sim: Simulator,
    client: CyberunClient,
    tmp_path: Path,
    links: Literal["single", "many"],
    outputs: int,
) -> None:
    """One link or many, the files are a sequence of artifacts, whole and named."""
    result = await result_of(sim, client, made(links=links, outputs=outputs))
    count = outputs if links == "many" else 1
    paths = await result.download_to(tmp_path / "new" / "folder")

    assert len(result) == len(list(result)) == len(paths) == count
    assert all(isinstance(artifact, Artifact) for artifact in result)
    assert [path.name for path in paths] == [artifact.name for artifact in result]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    assert left_in(tmp_path / "new" / "folder") == sorted(path.name for path in paths)


@pytest.mark.parametrize("links", ["single", "many"])
async def test_an_expired_link_is_minted_anew(
    sim: Simulator, client: CyberunClient, tmp_path: Path, links: Literal["single", "many"]
) -> None:
    """A link that has expired since the result was asked for is replaced without a word."""
    result = await result_of(sim, client, made(links=links, file_content=BIG))
    sim.advance(2 * 3600)
    [path] = await result.download_to(tmp_path)

    assert path.read_bytes() == BIG
    assert len(sim.requests_to("result")) == 2


@pytest.mark.parametrize("cuts", [1, 2])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_broken_download_goes_on_where_it_broke(
    sim: Simulator, client: CyberunClient, tmp_path: Path, cuts: int, reset: bool
) -> None:
    """The rest of a file is asked for with `Range`, and the parts fit together."""
    sim.faults.add("download", faults.drop_after(bytes=300_000, reset=reset), times=cuts)
    result = await result_of(sim, client, made(file_content=BIG))
    [path] = await result.download_to(tmp_path)

    ranges = [request.headers.get("range") for request in sim.requests_to("download")]
    assert path.read_bytes() == BIG
    assert ranges[0] is None
    assert len(ranges) == cuts + 1
    assert all(asked is not None and asked.startswith("bytes=") for asked in ranges[1:])
    assert left_in(tmp_path) == [path.name]


async def test_a_link_that_expires_in_the_middle_is_no_obstacle(
    sim: Simulator, client: CyberunClient, tmp_path: Path
) -> None:
    """Broken and expired at once, the file still comes whole."""
    sim.faults.add("download", faults.drop_after(bytes=300_000))
    sim.faults.add("download", faults.refuse(403, body="<Error>Request has expired</Error>"))
    result = await result_of(sim, client, made(file_content=BIG))
    [path] = await result.download_to(tmp_path)

    assert path.read_bytes() == BIG


async def test_a_cut_file_never_appears(
    sim: Simulator, client: CyberunClient, tmp_path: Path
) -> None:
    """A file that cannot be had whole is an error and leaves nothing."""
    sim.faults.add("download", faults.drop_after(bytes=1000), times=None)
    result = await result_of(sim, client, made(file_content=BIG[:50_000]))
    with pytest.raises(TransferError, match="out_00001_"):
        with anyio.fail_after(30):
            await result.download_to(tmp_path)

    assert left_in(tmp_path) == []


@pytest.mark.parametrize("status", [403, 404, 410, 500])
async def test_a_store_that_refuses_is_an_error(
    sim: Simulator, client: CyberunClient, tmp_path: Path, status: int
) -> None:
    """Refused with a fresh link too, a file is an error that says the status."""
    sim.faults.add("download", faults.refuse(status), times=None)
    result = await result_of(sim, client, made())
    with pytest.raises(TransferError, match=str(status)) as caught:
        await result[0].download_to(tmp_path)

    assert "X-Amz" not in str(caught.value)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "..\\..\\win.png",
        "CON.png",
        "a:b\t.png",
        ".hidden",
        "x" * 400,
    ],
)
async def test_names_cannot_leave_the_folder(
    sim: Simulator, client: CyberunClient, tmp_path: Path, name: str
) -> None:
    """Whatever the service calls a file, it stays in the folder under a harmless name."""
    folder = tmp_path / "inside"
    result = await result_of(sim, client, made(file_names=(name,)))
    [path] = await result.download_to(folder)

    assert path.parent == folder
    assert path.is_file()
    assert not path.name.startswith(".")
    assert not {":", "\t", "\\"} & set(path.name)
    assert left_in(tmp_path) == sorted(["inside", path.name])


async def test_nothing_is_overwritten_unless_asked(
    sim: Simulator, client: CyberunClient, tmp_path: Path
) -> None:
    """A name that is taken is numbered; with `overwrite` the file is replaced."""
    result = await result_of(sim, client, made(file_content=b"new", file_names=("a.png",)))
    (tmp_path / "a.png").write_bytes(b"old")
    [numbered] = await result.download_to(tmp_path)
    before = (tmp_path / "a.png").read_bytes()
    [replaced] = await result.download_to(tmp_path, overwrite=True)

    assert (before, numbered.name, numbered.read_bytes()) == (b"old", "a (1).png", b"new")
    assert (replaced.name, replaced.read_bytes()) == ("a.png", b"new")


async def test_files_of_the_same_name_are_all_kept(
    sim: Simulator, client: CyberunClient, tmp_path: Path
) -> None:
    """Two outputs called alike do not replace each other."""
    plan = made(links="many", outputs=3, file_names=("a.png", "a.png", "A.PNG"))
    paths = await (await result_of(sim, client, plan)).download_to(tmp_path)

    assert len({path.name.casefold() for path in paths}) == 3


async def test_a_cancelled_download_leaves_nothing(
    sim: Simulator, client: CyberunClient, tmp_path: Path
) -> None:
    """Cancelled in the middle, neither the file nor a part of it remains."""
    result = await result_of(sim, client, made(file_content=BIG))
    begun = anyio.Event()

    async def download() -> None:
        await result[0].download_to(tmp_path, on_progress=lambda done, total: hold())

    async def hold() -> None:
        begun.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(download)
        await begun.wait()
        assert left_in(tmp_path) != []
        group.cancel_scope.cancel()

    assert left_in(tmp_path) == []


async def test_reading_is_limited(sim: Simulator, client: CyberunClient) -> None:
    """`read` holds no more than its limit in memory."""
    result = await result_of(sim, client, made(file_content=BIG))
    with pytest.raises(TransferError, match="limit"):
        await result[0].read(limit=len(BIG) - 1)

    assert await result[0].read(limit=len(BIG)) == BIG


async def test_bytes_can_be_passed_on(sim: Simulator, client: CyberunClient) -> None:
    """`aiter_bytes` gives the file piece by piece, and may be left early."""
    result = await result_of(sim, client, made(file_content=BIG))
    whole = b"".join([piece async for piece in result[0].aiter_bytes()])
    async with result[0].aiter_bytes() as pieces:
        piece = await anext(pieces)

    assert whole == BIG
    assert BIG.startswith(piece)


async def test_a_gone_result_is_a_clear_error(sim: Simulator, client: CyberunClient) -> None:
    """After the retention of outputs, the result says that it is gone."""
    sim.behaviour = Behaviour(result_retention=600.0)
    live = sim.create_task(made())
    sim.advance(3600)
    with pytest.raises(Exception, match="410"):
        await client.result(live.id)


async def test_an_empty_file_is_a_file(
    sim: Simulator, client: CyberunClient, tmp_path: Path
) -> None:
    """A file without a byte is downloaded like any other."""
    [path] = await (await result_of(sim, client, made(file_content=b""))).download_to(tmp_path)

    assert path.read_bytes() == b""
