"""
Runs of Cyberun Cloud as tasks of Apache Airflow 3.3 or newer.

Put this file where the workers and the triggerer import from, such as the plugins folder.
The key is the password of an Airflow connection or `CYBERUN_API_KEY`; it is read where it is
needed, and stands in no argument of an operator or a trigger.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

from airflow.sdk import BaseHook, BaseOperator, Connection
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.execution_time.context import NEVER_EXPIRE
from airflow.triggers.base import BaseTrigger, TriggerEvent

from cyberun_async import (
    CancelledEvent,
    CompletedEvent,
    ConfigurationError,
    CyberunClient,
    CyberunError,
    Event,
    FailedEvent,
    InvalidInputError,
    Notice,
    ProgressEvent,
    RateLimitedError,
    RequestRejectedError,
    StatusEvent,
    SubmissionUncertainError,
    TaskResult,
)


# Trying again would be answered in the same way.
POINTLESS = (ConfigurationError, InvalidInputError, RequestRejectedError)


# Who may use the service, and one client for all who may


@dataclass(frozen=True)
class Access:
    """What makes a client. None is what the environment says."""

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    team_id: str | None = None

    @classmethod
    def of(cls, connection: Connection | None) -> "Access":
        """Password: the key; host: another base URL; `team_id` in the extras, for a JWT."""
        if connection is None:
            return cls()
        team_id = connection.extra_dejson.get("team_id")
        return cls(connection.password, connection.host or None, team_id)

    def client(self) -> CyberunClient:
        return CyberunClient(self.api_key, base_url=self.base_url, team_id=self.team_id)


def cyberun_client(conn_id: str | None) -> CyberunClient:
    """Return a client for a task of your own, to be used with `async with`."""
    return Access.of(BaseHook.get_connection(conn_id) if conn_id else None).client()


class SharedClients:
    """One client for all triggers of an event loop that have the same access."""

    def __init__(self) -> None:
        self._opening = asyncio.Lock()
        self._clients: dict[Access, tuple[CyberunClient, int]] = {}

    @asynccontextmanager
    async def client(self, access: Access) -> AsyncIterator[CyberunClient]:
        async with self._opening:
            client, users = self._clients.get(access) or (await access.client().__aenter__(), 0)
            self._clients[access] = client, users + 1
        try:
            yield client
        finally:
            await self._leave(access)

    async def _leave(self, access: Access) -> None:
        client, users = self._clients.pop(access)
        if users > 1:
            self._clients[access] = client, users - 1
        else:
            await client.aclose()


CLIENTS: WeakKeyDictionary[asyncio.AbstractEventLoop, SharedClients] = WeakKeyDictionary()


# Following


class CyberunTrigger(BaseTrigger):
    """
    Follows a task to its end, in the triggerer.

    Its state is a resume token: a trigger made again from what `serialize` returned goes on
    following. It submits nothing, and to stop it leaves the task alone, unless a person ends
    the Airflow task and *cancel_on_kill* was asked for.
    """

    def __init__(
        self, token: str, conn_id: str | None = None, *, cancel_on_kill: bool = False
    ) -> None:
        super().__init__()
        self.token = token
        self.conn_id = conn_id
        self.cancel_on_kill = cancel_on_kill
        self._tenths = -1

    def serialize(self) -> tuple[str, dict[str, Any]]:
        state = {
            "token": self.token,
            "conn_id": self.conn_id,
            "cancel_on_kill": self.cancel_on_kill,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", state

    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            end = await self._follow()
        except CyberunError as error:
            # The task may well go on: the next try follows it further.
            end = {"status": "unknown", "error": str(error)}
        yield TriggerEvent(end)

    async def on_kill(self) -> None:
        if self.cancel_on_kill:
            async with self._client() as client:
                await client.cancel(self.token)

    async def _follow(self) -> dict[str, Any]:
        async with self._client() as client, client.watch(self.token) as events:
            async for event in events:
                self.token = events.token().dumps()
                match event:
                    case CompletedEvent():
                        return {"status": "completed", "error": None}
                    case FailedEvent(error=error):
                        return {"status": "failed", "error": error}
                    case CancelledEvent():
                        return {"status": "was cancelled", "error": None}
                    case _:
                        self._tell(event)
        raise AssertionError("a watch ends with the end of its task or with an error")

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[CyberunClient]:
        connection = await BaseHook.aget_connection(self.conn_id) if self.conn_id else None
        shared = CLIENTS.setdefault(asyncio.get_running_loop(), SharedClients())
        async with shared.client(Access.of(connection)) as client:
            yield client

    def _tell(self, event: Event | Notice) -> None:
        """Log each state, and progress in tenths."""
        match event:
            case StatusEvent(status=status, attempt=attempt):
                self._tenths = -1
                self.log.info("task %s is %s (attempt %s)", event.task_id, status, attempt)
            case ProgressEvent(progress=float(progress)) if int(progress * 10) > self._tenths:
                self._tenths = int(progress * 10)
                self.log.info("task %s: %.0f %%", event.task_id, progress * 100)
            case _:
                pass


# Submitting, and what comes of it


class Ledger:
    """
    What this task instance has paid for, kept by Airflow across its tries.

    `cyberun_sent_at` is written before a run is sent, `cyberun_task` when the service has
    answered. The first without the second says that a run may exist that nobody knows of.
    """

    def __init__(self, context: Any) -> None:
        self._store: Any = context["task_state_store"]

    @property
    def task(self) -> str | None:
        """The id or the resume token of the run."""
        task: str | None = self._store.get("cyberun_task")
        return task

    @property
    def sent_at(self) -> str | None:
        sent_at: str | None = self._store.get("cyberun_sent_at")
        return sent_at

    def begin(self) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._store.set("cyberun_sent_at", now, retention=NEVER_EXPIRE)

    def keep(self, token: str) -> None:
        self._store.set("cyberun_task", token, retention=NEVER_EXPIRE)

    def forget(self) -> None:
        """Let the next try submit."""
        self._store.delete("cyberun_task")
        self._store.delete("cyberun_sent_at")


class CyberunOperator(BaseOperator):
    """
    Submits one run, waits for its end without a worker, and returns what it made.

    A further try goes on with the run of the one before; it submits another only where that
    one failed, was cancelled, or was certainly not accepted. Where it is not known whether a
    run was accepted, the task fails for good, and says where to look.

    Args:
        workflow: A slug, `slug@version` or an id. A template.
        parameters: Values by parameter key. Templates.
        conn_id: The connection whose password is the key; None reads the environment.
        cancel_on_kill: Whether the run is cancelled when a person ends the Airflow task.
        timeout: How long to follow it before the try fails; the next goes on with it.
    """

    template_fields = ("workflow", "parameters")

    def __init__(
        self,
        *,
        workflow: str,
        parameters: dict[str, Any] | None = None,
        conn_id: str | None = None,
        cancel_on_kill: bool = False,
        timeout: timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.workflow = workflow
        self.parameters = parameters
        self.conn_id = conn_id
        self.cancel_on_kill = cancel_on_kill
        self.timeout = timeout
        self._is_killed = False

    # First on a worker

    def execute(self, context: Any) -> NoReturn:
        ledger = Ledger(context)
        token = ledger.task
        if token is None:
            token = self._submit_once(ledger)
        else:
            self.log.info("going on with the run of an earlier try: %s", token)
        self.defer(
            trigger=CyberunTrigger(token, self.conn_id, self.cancel_on_kill),
            method_name="finish",
            timeout=self.timeout,
        )

    def _submit_once(self, ledger: Ledger) -> str:
        if ledger.sent_at is not None:
            raise AirflowFailException(_whether_accepted(ledger.sent_at, "a try ended meanwhile"))
        access = Access.of(BaseHook.get_connection(self.conn_id) if self.conn_id else None)
        ledger.begin()
        # What else is raised, also by a kill, leaves it open whether the run was accepted.
        try:
            token = asyncio.run(self._submit(access))
        except SubmissionUncertainError as error:
            raise AirflowFailException(
                _whether_accepted(error.sent_at.isoformat(timespec="seconds"), error.reason)
            ) from error
        except CyberunError as error:
            ledger.forget()
            raise _failure(error) from error
        # Before anything else is asked for: from here on the run is known, and paid for.
        ledger.keep(token)
        if self._is_killed and self.cancel_on_kill:
            asyncio.run(self._cancel(access, token))
        return token

    async def _submit(self, access: Access) -> str:
        async with access.client() as client:
            task = await client.submit(self.workflow, self.parameters)
            self.log.info("submitted %s as task %s", self.workflow, task.id)
            return client.watch(task).token().dumps()

    async def _cancel(self, access: Access, token: str) -> None:
        try:
            async with access.client() as client:
                await client.cancel(token)
        except CyberunError as error:
            self.log.warning("the run goes on, it could not be cancelled: %s", error)

    def on_kill(self) -> None:
        # The signal may come amid the submission: then only its answer says what to cancel.
        # A task that is deferred already is the trigger's to cancel.
        self._is_killed = True

    # Then on a worker again

    def finish(self, context: Any, event: dict[str, Any]) -> dict[str, Any]:
        ledger = Ledger(context)
        match event["status"]:
            case "completed":
                return asyncio.run(self._collect(cyberun_client(self.conn_id), str(ledger.task)))
            case "unknown":
                raise AirflowException(f"lost sight of the run: {event['error']}")
            case status:
                # It has been paid for, and has nothing to go on with.
                ledger.forget()
                said = f": {event['error']}" if event["error"] else ""
                raise AirflowException(f"the run {status}{said}")

    async def _collect(self, client: CyberunClient, token: str) -> dict[str, Any]:
        async with client:
            try:
                return summary_of(await client.result(token))
            except CyberunError as error:
                raise _failure(error) from error


def summary_of(result: TaskResult) -> dict[str, Any]:
    """Return what later tasks need; links are short-lived, and good for whoever has them."""
    links = {link.output_id: link.url for link in result.record.links}
    expires_at = result.expires_at
    return {
        "task_id": result.task_id,
        "artifacts": [
            {"name": one.name, "output_id": one.output_id, "url": links[one.output_id]}
            for one in result
        ],
        "links_expire_at": None if expires_at is None else expires_at.isoformat(),
    }


def _failure(error: CyberunError) -> AirflowException:
    is_pointless = isinstance(error, POINTLESS) and not isinstance(error, RateLimitedError)
    return (AirflowFailException if is_pointless else AirflowException)(str(error))


def _whether_accepted(sent_at: str, reason: str) -> str:
    return (
        f"it is not known whether the run sent at {sent_at} was accepted ({reason}). Look for "
        "it among the tasks created since (`cyberun-async tasks`). If it is there, store its "
        "id as `cyberun_task` in this task's state store; if not, delete `cyberun_sent_at` "
        "there. Then clear this task"
    )
