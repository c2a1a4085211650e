"""What names a workflow."""

from .._model import InvalidInputError, Workflow
from .paths import WorkflowRef, workflow_ref


def reference_of(workflow: object, *, slug: bool | None = None) -> WorkflowRef:
    """
    Return which workflow is meant; one fetched with its version pinned stays pinned.

    Raises:
        InvalidInputError: It names none.
    """
    if slug is not None and not isinstance(slug, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInputError(f"slug must be True, False or None, not {type(slug).__name__}")
    if isinstance(workflow, WorkflowRef):
        return workflow
    if not isinstance(workflow, Workflow):
        return workflow_ref(workflow, slug)
    if workflow.pinned and workflow.slug is not None and workflow.version is not None:
        return workflow_ref(f"{workflow.slug}@{workflow.version}", slug=True)
    return workflow_ref(workflow.id, slug=False)
