"""Files on their way to the service: by themselves, and along with the parameters of a run."""

import os
from collections.abc import Callable, Mapping
from typing import Any, cast

import anyio

from .._model import Limits, RetryPolicy, Source, Upload, UploadedFile
from .._validation import callable_of
from .downloads import Transfers
from .uploads import OnSent, parcel_of, send


class Files:
    """Files for the inputs of runs: ``client.files``."""

    def __init__(self, client: Transfers, *, limits: Limits, retries: RetryPolicy) -> None:
        self._client = client
        self.limits: Limits = limits
        self._retries = retries

    async def upload(
        self,
        source: Source | Upload,
        *,
        name: str | None = None,
        content_type: str | None = None,
        size: int | None = None,
        on_progress: OnSent | None = None,
    ) -> UploadedFile:
        """
        Send a file to the service; pass what is returned as a parameter of a run.

        The service keeps it for about a day. Sent again where the connection breaks;
        cancelled, the store has the whole file or nothing.

        Args:
            source: A path, bytes, or an asynchronous iterator of bytes.
            name: What the service calls it; None takes the path's last part.
            content_type: None takes it from the end of the name, by a table of the library.
            size: In bytes; needed with an iterator, which can be sent only once.

            on_progress:
                Called with the bytes sent and those of the whole file; may be a coroutine
                function. A second try begins at nothing. What it raises ends the upload.

        Raises:
            TransferError: The file cannot be read, is too large, or was not taken.
            RequestRejectedError: The service did not want it.
            InvalidInputError: An argument is malformed.
        """
        callable_of("on_progress", on_progress)
        if not isinstance(source, Upload):
            source = Upload(source, name=name, content_type=content_type, size=size)
        parcel = await parcel_of(source, max_bytes=self.limits.max_upload_bytes)
        return await send(self._client, parcel, retries=self._retries, on_sent=on_progress)


async def upload_all(files: Files, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """
    Upload every path and :class:`Upload` in *parameters* and put its key in its place.

    What stands in several places is sent once. Cancelled, nothing is submitted, and
    what was sent is dropped by the service after about a day.

    Raises:
        TransferError: One could not be uploaded; the others were cancelled.
    """
    wanted: dict[object, Upload] = {}
    _replaced(parameters, lambda value: wanted.setdefault(_identity(value), _upload(value)))
    keys: dict[object, str] = {}
    failures: list[Exception] = []
    limiter = anyio.CapacityLimiter(files.limits.parallel_transfers)

    async def upload(identity: object, one: Upload) -> None:
        async with limiter:
            try:
                keys[identity] = (await files.upload(one)).key
            except Exception as error:  # noqa: BLE001 - raised below, without a group around it
                failures.append(error)
                group.cancel_scope.cancel()

    if wanted:
        async with anyio.create_task_group() as group:
            for identity, one in wanted.items():
                group.start_soon(upload, identity, one)
    if failures:
        raise failures[0]
    replaced: dict[str, Any] = _replaced(parameters, lambda value: keys[_identity(value)])
    return replaced


def _upload(value: Upload | os.PathLike[str]) -> Upload:
    return value if isinstance(value, Upload) else Upload(value)


def _identity(value: object) -> object:
    return id(value) if isinstance(value, Upload) else os.fspath(cast("os.PathLike[str]", value))


def _replaced(value: Any, replace: Callable[[Any], object]) -> Any:
    if isinstance(value, UploadedFile):
        return value.key
    if isinstance(value, Upload | os.PathLike):
        return replace(value)
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {key: _replaced(one, replace) for key, one in items}
    if isinstance(value, list):
        return [_replaced(one, replace) for one in cast("list[object]", value)]
    return value
