"""Submitting a run."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs

from .._http import Caller
from .._model import (
    CyberunError,
    InvalidInputError,
    RequestRejectedError,
    ServiceUnavailableError,
    SubmissionTimeoutError,
    SubmissionUncertainError,
    UnexpectedResponseError,
    WaitTimeoutError,
    Workflow,
)
from .._protocol import Departure, decode_submission
from .._runtime import utc_now
from .._validation import WorkflowRef, workflow_path
from .background import Errand
from .handle import TaskHandle
from .resources import MAX_OPTION, Workflows
from .session import Session


logger = logging.getLogger("cyberun_async")


async def check_parameters(
    parameters: Mapping[str, Any],
    workflows: Workflows,
    ref: WorkflowRef,
    *,
    workflow: str | UUID | Workflow,
    definition: Workflow | None,
    wanted: bool | None,
) -> None:
    """
    Check *parameters* against the definition, fetched if that is *wanted* and need be.

    Raises:
        ParameterError: They do not fit.
        InvalidInputError: *definition* is none.
    """
    if definition is not None and not isinstance(definition, Workflow):  # pyright: ignore[reportUnnecessaryIsInstance]
        kind = type(definition).__name__
        raise InvalidInputError(f"definition must be a Workflow, not {kind}")
    if definition is None and isinstance(workflow, Workflow):
        definition = workflow
    if wanted and (definition is None or definition.parameters is None):
        definition = await workflows.get(ref)
    if definition is not None and wanted is not False:
        definition.validate(parameters)


@attrs.define
class Sending:
    """
    A submission on its way, for whoever stops waiting for it.

    Attributes:
        ref: The workflow.
        body: What is sent.
        sent_at: Aware moment just before that.
        departure: Whether it may have left.
    """

    ref: WorkflowRef
    body: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    sent_at: datetime = attrs.field(factory=utc_now)
    departure: Departure = attrs.field(factory=Departure)

    def timed_out(self, seconds: float) -> WaitTimeoutError:
        """Return the error of a run whose time is up, as far as this has come."""
        if not self.departure.maybe_sent:
            return WaitTimeoutError(task_id=None, timeout=seconds, what="leave")
        return SubmissionTimeoutError(
            workflow=self.ref.text,
            parameters=self.body["parameters"],
            sent_at=self.sent_at,
            timeout=seconds,
        )


async def submit_in_time(
    session: Session,
    sending: Sending,
    submit: Callable[[], Awaitable[TaskHandle]],
    *,
    seconds: float,
    cancel_on_timeout: bool,
) -> TaskHandle:
    """
    Return the handle of a run that is accepted within *seconds*.

    What may have left by then is waited for on the side, while the client is open: when it
    is accepted after all, its id is logged, and its cancellation asked for if that is wanted.

    Raises:
        SubmissionTimeoutError: It may have left, and was not answered in time.
        WaitTimeoutError: It did not leave in time, and will not.
    """

    async def accepted_late(task: TaskHandle) -> None:
        logger.warning("a run that timed out was accepted after all, as task %s", task.id)
        if cancel_on_timeout:
            await session.request_cancel(task.id)

    errand = Errand(submit, accepted_late)
    session.opened.runtime.spawn(errand.run)
    found = await errand.outcome(seconds)
    if found is not None:
        return found[0]
    error = sending.timed_out(seconds)
    if not isinstance(error, SubmissionTimeoutError):
        errand.stop()
    raise error


async def send_run(caller: Caller, sending: Sending, *, retry: bool) -> str:
    """
    Submit a run and return its task's id.

    Raises:
        SubmissionUncertainError: No answer was read that says whether it was accepted.
        CyberunError: It was certainly not accepted.
    """
    ref, body = sending.ref, sending.body
    try:
        reply = await caller.call(
            "POST",
            workflow_path(ref, "run"),
            json_body=body,
            is_submission=True,
            repeatable=retry,
            departure=sending.departure,
        )
        return decode_submission(reply)
    except (ServiceUnavailableError, UnexpectedResponseError, RequestRejectedError) as error:
        if _proves_nothing_began(error):
            raise
        raise SubmissionUncertainError(
            workflow=ref.text,
            parameters=body["parameters"],
            sent_at=sending.sent_at,
            reason=str(error),
        ) from error


def _proves_nothing_began(error: CyberunError) -> bool:
    if isinstance(error, RequestRejectedError):
        return error.from_service
    return isinstance(error, ServiceUnavailableError) and not error.maybe_begun


def run_options(**options: object) -> dict[str, str]:
    """
    Return the optional fields of a run that are given.

    Raises:
        InvalidInputError: One is not a short text.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if (
            not isinstance(value, str)
            or not 1 <= len(value) <= MAX_OPTION
            or not value.isprintable()
        ):
            raise InvalidInputError(f"{name} must be a string of 1 to {MAX_OPTION} characters")
    return {name: str(value) for name, value in given.items()}
