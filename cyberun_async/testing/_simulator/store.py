"""Files: the presign endpoint, and an object store in the manner of S3."""

import hashlib
import re
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response

from .api import json_object
from .errors import ServiceError, StoreError
from .files import StoredFile, input_key
from .gate import Call
from .world import World


class StoreApi:
    """Handlers of presigning, uploading and downloading."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def presign(self, call: Call) -> Response:
        """Answer with a link under which a file of exactly this size can be put."""
        fields = json_object(call.body)
        name = _text(fields, "file_name")
        kind = _text(fields, "content_type")
        size = self._size(fields.get("file_size"))
        key = input_key(self._world.new_id(), kind, name)
        signs = self._world.behaviour.upload_headers == "documented"
        headers = {"Content-Length": str(size), "If-None-Match": "*"} if signs else {}
        lifetime = self._world.behaviour.link_lifetime
        link = self._world.signer.link(self._world.store_base, "PUT", key, lifetime, headers)
        return JSONResponse({"file_key": key, "upload_url": link, "upload_headers": headers})

    async def upload(self, call: Call) -> Response:
        """Store a file, once and in the size that was signed."""
        headers, key = call.request.headers, call.path["key"]
        _refuse_credentials(headers)
        if "transfer-encoding" in headers:
            message = "A header you provided implies functionality that is not implemented"
            raise StoreError(501, "NotImplemented", message)
        self._world.signer.check("PUT", key, dict(call.request.query_params), headers)
        _refuse_unsigned(headers)
        if key in self._world.files.uploads:
            message = "At least one of the pre-conditions you specified did not hold"
            raise StoreError(412, "PreconditionFailed", message)
        kind = headers.get("content-type", "application/octet-stream")
        self._world.files.uploads[key] = StoredFile(call.body, kind)
        return Response(headers={"ETag": _tag(call.body)})

    async def download(self, call: Call) -> Response:
        """Answer with a file, or the part of it that is asked for."""
        headers, key = call.request.headers, call.path["key"]
        _refuse_credentials(headers)
        self._world.signer.check("GET", key, dict(call.request.query_params), headers)
        file = self._find(key)
        common = {"ETag": _tag(file.content), "Accept-Ranges": "bytes"}
        span = _asked_span(headers, len(file.content), common["ETag"])
        if span is None:
            return Response(file.content, 200, common, file.content_type)
        start, stop = span
        common["Content-Range"] = f"bytes {start}-{stop - 1}/{len(file.content)}"
        return Response(file.content[start:stop], 206, common, file.content_type)

    def _size(self, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ServiceError(400, "file_size must be a number of bytes")
        if value > self._world.max_file_size:
            raise ServiceError(413, f"file_size exceeds {self._world.max_file_size} bytes")
        return value

    def _find(self, key: str) -> StoredFile:
        _, _, rest = key.partition("tasks/")
        task = self._world.tasks.get(rest.partition("/")[0])
        made = None if task is None else self._world.files.made_by(task, key)
        file = made or self._world.files.uploads.get(key)
        if file is None:
            raise StoreError(404, "NoSuchKey", "The specified key does not exist")
        return file


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise ServiceError(400, f"{name} is required")
    return value


def _refuse_credentials(headers: Headers) -> None:
    if "authorization" in headers:
        message = "Only one auth mechanism allowed"
        raise StoreError(400, "InvalidArgument", message)


def _refuse_unsigned(headers: Headers) -> None:
    if any(name.startswith("x-amz-") for name in headers):
        message = "There were headers present in the request which were not signed"
        raise StoreError(403, "AccessDenied", message)


def _tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


def _asked_span(headers: Headers, size: int, tag: str) -> tuple[int, int] | None:
    """Return the bytes asked for as start and stop, or None for the whole file."""
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
    if asked is None or asked[0] == "bytes=-" or headers.get("if-range", tag) != tag:
        return None
    first, last = asked.groups()
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= size or stop <= start:
        raise StoreError(416, "InvalidRange", "The requested range is not satisfiable")
    return start, stop
