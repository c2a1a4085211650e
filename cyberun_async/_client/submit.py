"""Submitting a run."""

import logging
from collections.abc import Mapping
from typing import Any, TypedDict
from uuid import UUID

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
from .._transfer import upload_all
from .._validation import WorkflowRef, file_parameters_of, reference_of, workflow_path
from .background import Errand
from .handle import TaskHandle
from .resources import Workflows
from .session import Session


logger = logging.getLogger("cyberun_async")

_LONGEST_OPTION = 200


class RunOptions(TypedDict, total=False):
    """What a run may be given besides a workflow and parameters; None is as if left out."""

    slug: bool | None
    validate: bool | None
    definition: Workflow | None
    dispatch_target: str | None
    target_pool: str | None
    submitter_region: str | None
    tool_type: str | None


class Run:
    """One run on its way to the service, for its caller and for whoever stops waiting."""

    def __init__(
        self,
        session: Session,
        workflow: str | UUID | Workflow,
        parameters: Mapping[str, Any] | None,
        *,
        retry: bool = True,
        slug: bool | None = None,
        validate: bool | None = None,
        definition: Workflow | None = None,
        dispatch_target: str | None = None,
        target_pool: str | None = None,
        submitter_region: str | None = None,
        tool_type: str | None = None,
    ) -> None:
        session.check_open()
        options = {
            "dispatch_target": dispatch_target,
            "target_pool": target_pool,
            "submitter_region": submitter_region,
            "tool_type": tool_type,
        }
        self._options = {
            name: _option(name, value) for name, value in options.items() if value is not None
        }
        self._session = session
        self._ref: WorkflowRef = reference_of(workflow, slug=slug)
        self._workflow = workflow
        self._parameters = parameters
        self._validate = validate
        self._definition = definition
        self._retry = retry
        self._sent: Mapping[str, Any] = {}
        self._sent_at = utc_now()
        self._departure = Departure()

    async def submit(self) -> TaskHandle:
        """
        Check the parameters, upload their files, and submit the run.

        Raises:
            SubmissionUncertainError: No answer was read that says whether it was accepted.
            CyberunError: It was certainly not accepted.
        """
        session = self._session
        values = file_parameters_of(self._parameters)
        await self._check(values)
        with session.followers.submitting(self._ref.text) as report:
            self._sent = await upload_all(session.files, values)
            self._sent_at = utc_now()
            report.task_id = task_id = await self._send()
        return TaskHandle(task_id, self._sent_at, session=session)

    async def submit_in_time(
        self, seconds: float, *, cancel_on_timeout: bool, cancel_on_exit: bool = False
    ) -> TaskHandle:
        """
        Return the handle of a run that is accepted within *seconds*.

        What may have left by then is waited for on the side, while the client is open: when it
        is accepted after all, its id is logged, and its cancellation requested if that is wanted.
        So it is when this call is cancelled, with *cancel_on_exit*.

        Raises:
            SubmissionTimeoutError: It may have left, and was not answered in time.
            WaitTimeoutError: It did not leave in time, and will not.
        """
        has_timed_out = False

        async def accepted_late(task: TaskHandle) -> None:
            why = "timed out" if has_timed_out else "was cancelled"
            logger.warning("a run that %s was accepted after all, as task %s", why, task.id)
            if cancel_on_timeout if has_timed_out else cancel_on_exit:
                await self._session.request_cancel(task.id)

        def goes_on() -> bool:
            return cancel_on_exit and self._departure.maybe_sent

        errand = Errand(self.submit, accepted_late, goes_on)
        self._session.opened.runtime.spawn(errand.run)
        found = await errand.outcome(seconds)
        if found is not None:
            return found[0]
        has_timed_out = True
        if not self._departure.maybe_sent:
            errand.stop()
            raise WaitTimeoutError(task_id=None, timeout=seconds, what="leave")
        raise SubmissionTimeoutError(
            workflow=self._ref.text,
            parameters=self._sent,
            sent_at=self._sent_at,
            timeout=seconds,
        )

    async def _check(self, values: Mapping[str, Any]) -> None:
        """Check *values* against the definition, fetched if that is wanted and need be."""
        definition = self._definition
        if definition is not None and not isinstance(definition, Workflow):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(definition).__name__
            raise InvalidInputError(f"definition must be a Workflow, not {kind}")
        if definition is None and isinstance(self._workflow, Workflow):
            definition = self._workflow
        if self._validate and (definition is None or definition.parameters is None):
            definition = await Workflows(self._session).get(self._ref)
        if definition is not None and self._validate is not False:
            definition.validate(values)

    async def _send(self) -> str:
        try:
            reply = await self._session.caller.call(
                "POST",
                workflow_path(self._ref, "run"),
                json_body={"parameters": self._sent, **self._options},
                is_submission=True,
                repeatable=self._retry,
                departure=self._departure,
            )
            return decode_submission(reply)
        except (ServiceUnavailableError, UnexpectedResponseError, RequestRejectedError) as error:
            if _proves_nothing_began(error):
                raise
            raise SubmissionUncertainError(
                workflow=self._ref.text,
                parameters=self._sent,
                sent_at=self._sent_at,
                reason=str(error),
            ) from error


def _proves_nothing_began(error: CyberunError) -> bool:
    if isinstance(error, RequestRejectedError):
        return error.from_service
    return isinstance(error, ServiceUnavailableError) and not error.maybe_begun


def _option(name: str, value: object) -> str:
    is_short = isinstance(value, str) and 1 <= len(value) <= _LONGEST_OPTION
    if not is_short or not str(value).isprintable():
        raise InvalidInputError(f"{name} must be a string of 1 to {_LONGEST_OPTION} characters")
    return str(value)
