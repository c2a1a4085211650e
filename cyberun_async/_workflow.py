"""A workflow as the service describes it, which checks the parameters of its runs."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from ._errors import InvalidInputError
from ._models import ParameterDef
from ._parameters import check
from ._redaction import Described


@attrs.frozen(kw_only=True, repr=False)
class Workflow(Described):
    """
    A workflow and the parameters it takes.

    *pinned* says that it was fetched as ``slug@version``, so that running it runs
    that version and not the newest.
    """

    id: str
    slug: str | None = None
    display_name: str | None = None
    version: int | None = None
    status: str | None = None
    description: str | None = None
    parameters: tuple[ParameterDef, ...] | None = None
    required_labels: tuple[str, ...] = ()
    required_models: tuple[str, ...] = ()
    task_timeout: int | None = None
    max_retries: int | None = None
    preferred_gpu: str | None = None
    min_vram_gb: int | None = None
    default_dispatch_target: str | None = None
    tool_type: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    pinned: bool = False
    raw: bytes = attrs.field(default=b"", repr=False, eq=False)

    def validate(self, parameters: Mapping[str, Any]) -> None:
        """
        Check *parameters* for a run of this workflow; nothing is sent.

        All faults are told at once: what is required and missing, a value of another
        type, out of its bounds or not among its options, and a key that is not known,
        with the one that was probably meant. For a parameter of type ``file``, a path,
        an :class:`Upload`, an :class:`UploadedFile` or its key will do. What the
        definition leaves open is left to the service, and so is everything where
        :attr:`parameters` is None, since the service did not tell.

        :meth:`CyberunClient.submit` does this by itself when it is given the workflow.

        Args:
            parameters: Values by parameter key.

        Raises:
            ParameterError: They do not fit; ``faults`` lists all that was found.
            InvalidInputError: They are no mapping.
        """
        check(self.parameters, parameters, workflow=self.slug or self.id)

    def raw_json(self) -> Any:
        """Return the reply this was read from, decoded anew; ``None`` when there is none."""
        return json.loads(self.raw) if self.raw else None


def validate(workflow: Workflow, parameters: Mapping[str, Any]) -> None:
    """
    Check *parameters* for a run of *workflow*, as :meth:`Workflow.validate` does.

    Args:
        workflow: As ``client.workflows`` returned it.
        parameters: Values by parameter key.

    Raises:
        ParameterError: They do not fit; ``faults`` lists all that was found.
        InvalidInputError: They are no mapping, or *workflow* is no :class:`Workflow`.
    """
    if not isinstance(workflow, Workflow):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"workflow must be a Workflow, not {type(workflow).__name__}")
    workflow.validate(parameters)
