"""Sending a run: its parameters checked first, and what is unknown afterwards said."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from ._caller import Caller
from ._codec import decode_submission
from ._errors import (
    InvalidInputError,
    ServiceUnavailableError,
    SubmissionUncertainError,
    UnexpectedResponseError,
)
from ._inputs import WorkflowRef, workflow_path
from ._resources import Workflows
from ._workflow import Workflow


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


async def send_run(
    caller: Caller, ref: WorkflowRef, body: Mapping[str, Any], *, sent_at: datetime, repeat: bool
) -> str:
    """
    Submit a run and return its task's id.

    Raises:
        SubmissionUncertainError: No answer was read that says whether it was accepted.
        CyberunError: It was certainly not accepted.
    """
    try:
        reply = await caller.call(
            "POST",
            workflow_path(ref, "run"),
            json_body=body,
            is_submission=True,
            repeatable=repeat,
        )
        return decode_submission(reply)
    except (ServiceUnavailableError, UnexpectedResponseError) as error:
        if isinstance(error, ServiceUnavailableError) and not error.maybe_begun:
            raise
        raise SubmissionUncertainError(
            workflow=ref.text,
            parameters=body["parameters"],
            sent_at=sent_at,
            reason=str(error),
        ) from error
