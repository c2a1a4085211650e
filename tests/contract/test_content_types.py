"""The content type of an upload comes from the library's table, whatever the machine believes."""

import json
import mimetypes
from typing import Any, Final

import pytest

from cyberun_async import CyberunClient
from cyberun_async.testing import Simulator


TYPES: Final = {
    "a.png": "image/png",
    "a.JPG": "image/jpeg",
    "a.webp": "image/webp",
    "a.avif": "image/avif",
    "a.heic": "image/heic",
    "a.exr": "image/x-exr",
    "a.mp4": "video/mp4",
    "a.mkv": "video/matroska",
    "a.mov": "video/quicktime",
    "a.webm": "video/webm",
    "a.mp3": "audio/mpeg",
    "a.flac": "audio/flac",
    "a.m4a": "audio/mp4",
    "a.wav": "audio/wav",
    "a.opus": "audio/opus",
    "a.glb": "model/gltf-binary",
    "a.gltf": "model/gltf+json",
    "a.usdz": "model/vnd.usdz+zip",
    "a.ply": "model/ply",
    "a.obj": "model/obj",
    "a.stl": "model/stl",
    "a.json": "application/json",
    "archive.tar.gz": "application/gzip",
    "a.safetensors": "application/octet-stream",
    "png": "application/octet-stream",
    "a.b c": "application/octet-stream",
}


def presigned(sim: Simulator) -> list[dict[str, Any]]:
    """Return what was asked for, in order."""
    return [json.loads(request.body) for request in sim.requests_to("presign")]


@pytest.fixture(name="lying_tables")
def _lying_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's tables hold nonsense."""
    monkeypatch.setattr(mimetypes, "guess_type", lambda *_, **__: ("text/nonsense", None))


@pytest.mark.usefixtures("lying_tables")
async def test_the_type_of_an_upload_is_the_tables(sim: Simulator, client: CyberunClient) -> None:
    """Pictures, video, sound and 3D by their ends, whatever the case; the rest is bytes."""
    sent = {name: await client.files.upload(b"x", name=name) for name in TYPES}
    assert {name: file.content_type for name, file in sent.items()} == TYPES
    assert [asked["content_type"] for asked in presigned(sim)] == list(TYPES.values())


async def test_a_type_that_is_given_goes_before_the_table(
    sim: Simulator, client: CyberunClient
) -> None:
    """The name says nothing then."""
    await client.files.upload(b"x", name="a.png", content_type="image/x-mine")
    assert [asked["content_type"] for asked in presigned(sim)] == ["image/x-mine"]
