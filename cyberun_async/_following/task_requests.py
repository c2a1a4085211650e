"""The requests that followers make: status, list, output, event stream and cancellation."""

import logging
from collections.abc import Mapping
from typing import Any

import anyio
import attrs

from .._http import Caller, EventConnection, Secret, Transport, Usage, retry_after_of
from .._model import (
    CyberunError,
    RawResult,
    TaskSnapshot,
    Timeouts,
    WatchPolicy,
)
from .._protocol import (
    ExchangeFailedError,
    Page,
    Response,
    TaskRow,
    decode_result,
    decode_task,
    decode_task_rows,
    rejection,
    unexpected,
    without_locals,
)
from .._validation import path_for
from .list_polling import PAGE_SIZE
from .notifier import Notifier
from .results import ResultReading


logger = logging.getLogger("cyberun_async")

# So many tries that hang have room in the time for an output.
_OUTPUT_TRIES = 3


@attrs.frozen(kw_only=True, eq=False)
class TaskRequests:
    """What followers ask of the service, with the headers of the observer."""

    _transport: Transport = attrs.field(alias="transport")
    _caller: Caller = attrs.field(alias="caller")
    _policy: WatchPolicy = attrs.field(alias="policy")
    _timeouts: Timeouts = attrs.field(alias="timeouts")
    _usage: Usage = attrs.field(alias="usage")
    _notifier: Notifier = attrs.field(alias="notifier")

    async def status(self, task_id: str) -> TaskSnapshot:
        """Return the task's state. Not retried here, but by the watch, at the client's rate."""
        path, headers = path_for("tasks", task_id), self._notifier.headers(task_id)
        call = self._caller.call(
            "GET", path, headers=headers, task=True, is_check=True, repeatable=False
        )
        return decode_task(await call)

    @property
    def suspicion(self) -> str | None:
        """What to say of a 404 for as long as nothing else was ever answered."""
        return self._caller.suspicion

    async def list_page(self, state: str, number: int) -> Page[TaskRow]:
        """Return one page of the team's tasks in *state*."""
        params = {"status": str(state), "current_page": number, "per_page": PAGE_SIZE}
        call = self._caller.call(
            "GET", path_for("tasks"), params=params, is_check=True, repeatable=False
        )
        return decode_task_rows(await call)

    async def cancel(self, task_id: str) -> None:
        """Ask the service to cancel the task."""
        await self._caller.call("POST", path_for("tasks", task_id, "cancel"), task=True)

    async def try_to_cancel(self, task_id: str) -> bool:
        """
        Ask the service to cancel the task, shielded and within ``Timeouts.cancel`` seconds.

        Return whether it took the request.
        """
        with anyio.move_on_after(self._timeouts.cancel, shield=True):
            try:
                await self.cancel(task_id)
            except CyberunError as error:
                logger.warning("task %s could not be cancelled: %s", task_id, type(error).__name__)
                return False
            return True
        logger.warning("task %s could not be cancelled: no answer in time", task_id)
        return False

    async def output(self, task_id: str) -> tuple[Mapping[str, Any] | None, str | None]:
        """Return the output of a completed task, or why it cannot be read (in time)."""
        path, headers = path_for("tasks", task_id, "result"), self._notifier.headers(task_id)
        seconds = self._policy.output_timeout

        async def ask() -> RawResult:
            # One try that hangs leaves time for others.
            total = seconds / _OUTPUT_TRIES
            call = self._caller.call("GET", path, headers=headers, task=True, total=total)
            return decode_result(await call)

        reading = ResultReading(ask, self._policy)
        with anyio.move_on_after(seconds):
            try:
                output = (await reading.read()).output
            except CyberunError as error:
                return None, str(error)
            return output, None if output is not None else "the service's result holds no output"
        last = f"; the last answer: {reading.failure}" if reading.failure is not None else ""
        return None, f"the result was not answered within {seconds:g} s{last}"

    async def open_stream(self, task_id: str, last_event_id: str | None) -> EventConnection:
        """
        Open the task's event stream; a key that is refused is replaced once.

        Raises:
            ExchangeFailedError: There were no headers.
            CyberunError: There is no key, or the client is closed.
        """
        path = path_for("tasks", task_id, "events")
        refused: Secret | None = None
        while True:
            key, headers = await self._caller.headers(refused)
            headers = {**headers, **self._notifier.headers(task_id)}
            if last_event_id:
                headers["Last-Event-ID"] = last_event_id
            with without_locals():
                connection = await self._transport.open_stream(
                    path,
                    headers=headers,
                    open_timeout=self._policy.open_timeout,
                    timeouts=self._timeouts,
                    usage=self._usage,
                )
            if connection.status != 401 or refused is not None or not self._caller.can_refresh:
                return connection
            refused = key
            with anyio.CancelScope(shield=True):
                await connection.aclose()


async def refusal_of(
    connection: EventConnection, task_id: str, suspicion: str | None = None
) -> tuple[CyberunError, float | None]:
    """Return the error that an answer without events stands for, and what to wait for."""
    try:
        body = await connection.read_body()
    except ExchangeFailedError:
        body = b""
    reply = Response(
        status=connection.status,
        headers=connection.headers,
        body=body,
        path=f"/r/tasks/{task_id}/events",
    )
    if 200 <= reply.status < 300:
        error = unexpected(reply, "the event stream was answered with something else")
        return error, retry_after_of(reply.headers)
    return rejection(reply, task=True, suspicion=suspicion), retry_after_of(reply.headers)
